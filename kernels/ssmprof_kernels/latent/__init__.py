"""Multi-head latent attention (arXiv:2405.04434, section 2.1): its step, and what comes before."""

from ssmprof_kernels.latent.op import latent_decode
from ssmprof_kernels.latent.rotary import latent_rotary

__all__ = ["latent_decode", "latent_rotary"]
