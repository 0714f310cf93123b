"""Who lets one token look at the latents of all before it."""

from __future__ import annotations

from ssmprof.mixers.finding import Plain
from ssmprof.mixers.ops import Candidates

LAST = frozenset({"reference"})
OPS = {
    "latent_decode": Candidates(
        {"reference": Plain("reference.latent", "latent_decode")}, last=LAST
    )
}
