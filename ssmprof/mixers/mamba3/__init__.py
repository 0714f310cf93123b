"""Mamba-3 (arXiv:2603.15569): trapezoidal rule, complex-valued state, several inputs per head."""
