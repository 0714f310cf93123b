"""RWKV-7's rule: over a prompt `op.rwkv7`, for one token `step.rwkv7_step`."""
