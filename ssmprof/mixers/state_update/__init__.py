"""One step of a selective state, which Mamba-1 and Mamba-2 share."""
