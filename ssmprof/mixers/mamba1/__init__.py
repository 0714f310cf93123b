"""Mamba-1 (arXiv:2312.00752): a selective scan over a diagonal state."""
