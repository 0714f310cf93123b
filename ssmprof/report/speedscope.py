"""Times per kernel for speedscope.app: a profile per point, a stack of family, place and kernel.

Weights are medians over replays, laid end to end: durations are measured, starts are not. The page
of speedscope can be used offline, and a file opened there stays on the machine.
"""

from __future__ import annotations

from typing import Any

from ssmprof import __version__
from ssmprof.records import Measurement, Run, median
from ssmprof.report.kernels import place

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"


def speedscope(run: Run) -> dict[str, Any]:
    """The first round of every point with times per kernel."""
    frames: dict[str, int] = {}
    profiles: list[dict[str, Any]] = []
    seen: set[str] = set()
    for one in run.measurements():
        if one.attribution is None or one.point.key in seen:
            continue
        seen.add(one.point.key)
        profiles.append(_profile(one, frames))
    return {
        "$schema": _SCHEMA,
        "exporter": f"ssmprof {__version__}",
        "name": run.scenario.name,
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": name} for name in frames]},
        "profiles": profiles,
    }


def _profile(one: Measurement, frames: dict[str, int]) -> dict[str, Any]:
    assert one.attribution is not None, "only points with times per kernel have a profile"
    samples: list[list[int]] = []
    weights: list[float] = []
    for kernel in one.attribution.kernels:
        stack = dict.fromkeys(
            name for name in (kernel.family, place(kernel), kernel.kernel) if name
        )
        samples.append([frames.setdefault(name, len(frames)) for name in stack])
        weights.append(median(kernel.times_s))
    if one.attribution.gap_s:
        samples.append([frames.setdefault("launch-gap", len(frames))])
        weights.append(one.attribution.gap_s)
    return {
        "type": "sampled",
        "name": one.point.label(),
        "unit": "seconds",
        "startValue": 0,
        "endValue": sum(weights),
        "samples": samples,
        "weights": weights,
    }
