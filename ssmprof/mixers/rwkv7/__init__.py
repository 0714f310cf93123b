"""RWKV-7 (arXiv:2503.14456): time mix with a generalised delta rule, and its channel mix."""
