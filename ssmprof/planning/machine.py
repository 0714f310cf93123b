"""What an estimate needs to know of a machine, by the table of chips."""

from __future__ import annotations

from dataclasses import dataclass

from ssmprof.chips import chips, find_chip

# A launch from Python through the code of a model: eager calls of the committed runs took 26 to
# 55 us per kernel where a sub-layer calls ops of its own. In a plain loop nothing but torch is
# called: 8 to 34 us on the hosts of those runs. A CPU runs it at once.
HOST_S = {"cuda": 25e-6, "cpu": 6e-6}
LOOP_S = {"cuda": 15e-6, "cpu": 6e-6}
# A kernel of a graph beside its work: decode steps of the committed runs took 2.3 to 3.3 us per
# kernel more than their bytes at the ceiling, on an H100 and on an H200.
NODE_S = {"cuda": 3e-6, "cpu": 0.0}


@dataclass(frozen=True)
class Machine:
    """Rates in bytes/s, FLOP/s and results/s; watts, bytes."""

    name: str
    kind: str
    bytes_per_s: float
    flops: float
    exps_per_s: float
    memory_bytes: int | None = None
    power_w: float | None = None
    hopper: bool = False

    @property
    def host_s(self) -> float:
        """Seconds of a launch from Python."""
        return HOST_S[self.kind]

    @property
    def loop_s(self) -> float:
        """Seconds of a launch of a plain form's loop."""
        return LOOP_S[self.kind]

    @property
    def node_s(self) -> float:
        """Seconds of a kernel of a graph that does nothing."""
        return NODE_S[self.kind]

    @classmethod
    def of_device(cls, name: str, kind: str, memory_bytes: int | None = None) -> Machine:
        """By the table of chips; an unknown GPU is taken for a small one, a CPU for two cores."""
        key = find_chip(name) if kind == "cuda" else None
        if key is None:
            unknown_gpu = kind == "cuda"
            return cls(
                name=name,
                kind=kind,
                bytes_per_s=3e11 if unknown_gpu else 3e10,
                flops=3e13 if unknown_gpu else 1.6e11,
                exps_per_s=5e11 if unknown_gpu else 1.2e9,
                memory_bytes=memory_bytes,
            )
        chip = chips()[key]
        tensor = chip.bf16_dense_flops or chip.fp16_dense_flops or chip.fp32_flops
        visible = chip.memory_visible_bytes or chip.memory_bytes
        return cls(
            name=name,
            kind=kind,
            bytes_per_s=chip.mem_bandwidth_bytes_per_s.value,
            flops=tensor.value,
            exps_per_s=chip.exp_per_s,
            memory_bytes=memory_bytes or int(visible.value),
            power_w=chip.tdp_w.value if chip.tdp_w else None,
            hopper=float(chip.compute_capability) >= 9.0,
        )
