"""What is measured: `build(subject, ...)` makes a block, `workload(model, point)` a call of it.

Promises: weights are random and made on the device; every part runs inside a named scope; each op
runs the implementation chosen for the call, else the first that takes it; `model.providers()` names
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssmprof.scalars import Dtype, Logits
from ssmprof.spec import ForeignSpec, Subject

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from ssmprof.models.build.foreign import ForeignModel
    from ssmprof.models.build.model import Model
    from ssmprof.models.build.workloads import Workload
    from ssmprof.records import Point


def build(
    subject: Subject,
    device: str | torch.device,
    dtype: Dtype = "bfloat16",
    seed: int = 0,
    logits: Logits = "none",
) -> Model | ForeignModel:
    """Make a block of random weights on `device` ("cuda", "cpu" or "meta").

    Raises ConfigError where the spec is incomplete, a forced provider cannot run here, or a model
    that is not ours cannot be found.
    """
    import torch

    from ssmprof.models.build.model import Model

    place = torch.device(device)
    kind = getattr(torch, dtype)
    if isinstance(subject, ForeignSpec):
        from ssmprof.models.build import foreign

        return foreign.build(subject, place, kind, seed, logits)
    return Model(subject, place, kind, seed, logits)


def workload(
    model: Model | ForeignModel, point: Point, providers: Mapping[str, str] | None = None
) -> Workload:
    """The call of `point`, with its cache allocated: see `ssmprof.models.build.workloads`."""
    from ssmprof.models.build.workloads import workload as make

    return make(model, point, providers)
