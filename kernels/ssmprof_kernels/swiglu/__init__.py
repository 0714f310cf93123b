"""The activation of a SwiGLU layer: `op.swiglu`."""
