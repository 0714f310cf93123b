"""The gated memory unit of SambaY and Phi-4-mini-flash (arXiv:2507.06607)."""
