"""The real-gated linear recurrent unit of Griffin and RecurrentGemma (arXiv:2402.19427)."""
