"""The gated short convolution of LFM2 (arXiv:2511.23404)."""
