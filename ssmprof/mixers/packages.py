"""Packages whose kernels may be chosen, and whose version can change a number."""

from __future__ import annotations

# Distribution -> the module it installs.
PACKAGES = {
    "flash-linear-attention": "fla",
    "mamba-ssm": "mamba_ssm",
    "causal-conv1d": "causal_conv1d",
    "transformers": "transformers",
    "flash-attn": "flash_attn",
}
