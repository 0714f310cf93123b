"""RMS norm over groups of channels, with or without a gate: `op.gated_rmsnorm`."""
