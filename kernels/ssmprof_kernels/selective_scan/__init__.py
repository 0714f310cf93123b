"""The Mamba-1 scan over a prompt: `op.selective_scan`."""
