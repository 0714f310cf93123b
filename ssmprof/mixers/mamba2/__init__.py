"""Mamba-2 (arXiv:2405.21060): a scan by matrix products, one decay per head."""
