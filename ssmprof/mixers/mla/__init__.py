"""Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434): a cache of one latent per token."""
