"""A compiled kernel's machine code: what it holds, its longest loop, how many programs fit.

Promises: reads what `cuobjdump` prints, which Triton ships; counts, never predicts.
"""

from __future__ import annotations

import re
import subprocess
import tempfile

from triton import knobs

from ssmprof_kernels import launch

#: Threads a multiprocessor holds, where it is not 2,048 (CUDA C++ Programming Guide, 16.2).
_THREADS = {86: 1536, 87: 1536, 89: 1536, 120: 1536, 121: 1536, 110: 1536}
_REGISTERS = 65536

#: Instruction name prefixes by kind, tried in order.
KINDS = (
    ("MMA", ("HMMA", "HGMMA", "QGMMA", "IMMA", "WGMMA", "UTCHMMA", "UTCQMMA")),
    ("MUFU", ("MUFU",)),
    ("FMA", ("FFMA", "HFMA2")),
    ("FP", ("FADD", "FMUL", "FMNMX", "FSEL", "FSETP", "F2F", "F2I", "I2F", "HADD2", "HMUL2")),
    ("LDS/STS", ("LDS", "STS", "LDSM", "STSM", "ATOMS")),
    ("LDG/STG", ("LDGSTS", "LDG", "STG", "UTMA", "LDGDEPBAR", "UBLKCP")),
    ("local", ("LDL", "STL")),
    ("SHFL", ("SHFL",)),
    ("BAR", ("BAR", "SYNCS", "WARPSYNC", "DEPBAR")),
)
LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P[0-9T]+\s+)?([A-Z0-9_]+)([^;]*);")


def dump(cubin: bytes, what: str) -> str:
    """What cuobjdump prints of a compiled kernel: `-sass` or `--dump-resource-usage`."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as handle:
        handle.write(cubin)
        handle.flush()
        command = [knobs.nvidia.cuobjdump.path, what, handle.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def kind(name: str) -> str:
    """The kind of an instruction, one of `KINDS` or 'other'."""
    for kind, prefixes in KINDS:
        if name.startswith(prefixes):
            return kind
    return "other"


def longest_loop(lines: list[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    """Instructions between a backward branch and its target; all of them where nothing loops."""
    best: list[tuple[int, str, str]] = []
    for address, name, rest in lines:
        target = re.search(r"0x([0-9a-f]+)", rest) if name == "BRA" else None
        # The branch to itself behind the end of every kernel is padding, no loop.
        if target and int(target[1], 16) < address:
            body = [line for line in lines if int(target[1], 16) <= line[0] <= address]
            best = max(best, body, key=len)
    return best or lines


def programs_per_sm(sm: int, warps: int, registers: int, shared: int) -> int:
    """Programs that a multiprocessor of capability `sm` holds at once."""
    # Registers are given to a warp in units of 256.
    per_warp = -(-max(registers, 1) * 32 // 256) * 256
    by_registers = _REGISTERS // (per_warp * warps)
    by_threads = _THREADS.get(sm, 2048) // (32 * warps)
    room = launch.SHARED_BYTES.get(sm, 101_376) + 1024
    by_shared = room // (shared + 1024)
    return min(by_registers, by_threads, by_shared, 32)
