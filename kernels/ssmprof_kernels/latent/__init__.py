"""Decode of multi-head latent attention (arXiv:2405.04434, section 2.1.2)."""

from ssmprof_kernels.latent.op import latent_decode

__all__ = ["latent_decode"]
