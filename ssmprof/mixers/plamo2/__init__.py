"""PLaMo 2's Mamba (arXiv:2509.04897): Mamba-2's scan behind Mamba-1's projections."""
