"""Hymba's block (arXiv:2411.13676): attention and Mamba heads on one input, one output."""
