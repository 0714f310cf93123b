"""Peak rates of known devices, read from chips.toml, each figure with its source.

A chip answers what a data sheet promises; what the machine reaches is measured by `doctor` and
wins over this table wherever both exist. Rates are dense, with fp32 accumulation.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

import msgspec
from msgspec import Struct, structs

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore


class Figure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number with its origin; `verified` False means from memory or derived."""

    value: float
    source: str
    verified: bool
    note: str | None = None


class Chip(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Peaks of one device in FLOP/s, bytes/s, bytes, hertz and watts (chips.toml says which)."""

    name: str
    compute_capability: str
    fp32_flops: Figure
    mem_bandwidth_bytes_per_s: Figure
    memory_bytes: Figure
    sm_count: Figure
    boost_clock_hz: Figure
    exp_per_clk_per_sm: Figure
    bf16_dense_flops: Figure | None = None
    fp16_dense_flops: Figure | None = None
    memory_visible_bytes: Figure | None = None
    l2_bytes: Figure | None = None
    tdp_w: Figure | None = None
    memory_clock_hz: Figure | None = None
    power_mode_max_w: Figure | None = None
    tensor_clock_hz: Figure | None = None
    measured_matmul_bf16_flops: Figure | None = None
    measured_copy_bytes_per_s: Figure | None = None
    measured_read_bytes_per_s: Figure | None = None
    measured_write_bytes_per_s: Figure | None = None

    @property
    def exp_per_s(self) -> float:
        """Exponentials per second at the boost clock."""
        return self.exp_per_clk_per_sm.value * self.sm_count.value * self.boost_clock_hz.value

    def under_caps(
        self, sm_cap_hz: float | None, memory_cap_hz: float | None, sm_count: int | None = None
    ) -> Chip:
        """The peaks at the clocks and SMs a board's power mode allows: rates scale with both.

        Hertz; None leaves a rate as it is. Clocks above the table's count as well: the same module
        runs faster in a newer configuration.
        """
        changed: dict[str, Figure | None] = {}
        if sm_cap_hz:
            clock = sm_cap_hz / self.boost_clock_hz.value
            share = clock * (sm_count or self.sm_count.value) / self.sm_count.value
            for name in ("bf16_dense_flops", "fp16_dense_flops", "fp32_flops"):
                changed[name] = _scaled(getattr(self, name), share, sm_cap_hz)
            changed["boost_clock_hz"] = _scaled(self.boost_clock_hz, clock, sm_cap_hz)
            if sm_count:
                changed["sm_count"] = structs.replace(self.sm_count, value=sm_count, source="torch")
        if memory_cap_hz and self.memory_clock_hz:
            share = memory_cap_hz / self.memory_clock_hz.value
            for name in ("mem_bandwidth_bytes_per_s", "memory_clock_hz"):
                changed[name] = _scaled(getattr(self, name), share, memory_cap_hz)
        return structs.replace(self, **changed)


def _scaled(figure: Figure | None, share: float, cap_hz: float) -> Figure | None:
    if figure is None:
        return None
    source = f"{figure.source}; scaled to the live cap of {cap_hz / 1e6:.0f} MHz"
    return structs.replace(figure, value=figure.value * share, source=source, verified=False)


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    devices: dict[str, Chip]


@cache
def chips() -> dict[str, Chip]:
    """All known chips by key (`h100-sxm`, `orin-nano-8gb`, ...)."""
    text = Path(__file__).with_name("chips.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _File).devices  # pyright: ignore[reportUnknownMemberType]


# How drivers and device trees call them; the first match wins, so variants stand first.
_NAMES: tuple[tuple[str, str], ...] = (
    (r"GH200", "gh200"),
    (r"H200", "h200"),
    (r"H100.*PCIe", "h100-pcie"),
    (r"H100", "h100-sxm"),
    (r"A100.*80.*PCIe|A100.*PCIe.*80", "a100-80gb-pcie"),
    (r"A100.*SXM.*80", "a100-80gb-sxm"),
    (r"B200", "b200"),
    (r"\bA10\b", "a10"),
    (r"\bL40S\b", "l40s"),
    (r"\bL4\b", "l4"),
    (r"RTX 3090(?! Ti)", "rtx-3090"),
    (r"RTX 4090(?! D)", "rtx-4090"),
    (r"RTX 5090(?! D)", "rtx-5090"),
    (r"\bT4\b", "t4"),
    (r"AGX Orin.*Industrial", "agx-orin-industrial"),
    (r"AGX Orin.*32", "agx-orin-32gb"),
    (r"AGX Orin", "agx-orin-64gb"),
    (r"Orin NX.*16.*Super", "orin-nx-16gb-super"),
    (r"Orin NX.*8.*Super", "orin-nx-8gb-super"),
    (r"Orin NX.*16", "orin-nx-16gb"),
    (r"Orin NX.*8", "orin-nx-8gb"),
    (r"Orin Nano.*4", "orin-nano-4gb"),
    (r"Orin Nano.*Super", "orin-nano-8gb-super"),
    (r"Orin Nano", "orin-nano-8gb"),
    (r"\bThor\b|T5000", "thor-t5000"),
)


def find_chip(device: str) -> str | None:
    """Key of the chip behind a device name as the driver or device tree prints it, or None.

    A card that is not in the table has no peaks; a near relative is never guessed.
    """
    return next((key for pattern, key in _NAMES if re.search(pattern, device, re.I)), None)
