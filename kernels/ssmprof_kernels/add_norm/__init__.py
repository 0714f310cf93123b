"""Residual addition and the norm behind it: `op.add_rms_norm`."""
