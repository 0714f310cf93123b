"""Mixture of experts (arXiv:1701.06538): a router sends each token to a few feed-forwards."""
