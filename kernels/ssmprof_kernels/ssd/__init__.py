"""The Mamba-2 scan over a prompt: `op.ssd_scan`."""
