"""One decode step of Mamba-1 and Mamba-2: `op.selective_state_update`."""
