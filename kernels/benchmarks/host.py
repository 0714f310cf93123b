"""What a call costs the host: `python kernels/benchmarks/host.py [--against KERNELS]`.

Promises: times eager calls of the everyday form at 512 tokens, batch 1, back to back and with no
wait for the device, the least of several repeats; with `--against` another checkout's `kernels`
folder in processes that alternate with ours, and the ratio. `--stub` launches nothing, so that
argument checks, plan and replay can be measured where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

HERE = pathlib.Path(__file__).resolve().parents[1]
#: Calls between two readings of the clock: fewer than a stream takes without waiting.
CALLS = 400
REPEATS = 9


def main() -> int:
    """Command line; 0 if everything was measured, 2 where nothing can be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ops", nargs="*", metavar="OP", help="operations; all")
    parser.add_argument("--against", type=pathlib.Path, help="another checkout's kernels folder")
    parser.add_argument("--stub", action="store_true", help="launch nothing; needs no GPU")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(_measured(args.stub, args.ops)))
        return 0
    folders = [HERE] if args.against is None else [args.against.resolve(), HERE]
    found: dict[pathlib.Path, list[dict[str, float]]] = {folder: [] for folder in folders}
    for _ in range(args.rounds):
        for folder, runs in found.items():
            child = _child(folder, args.stub, args.ops)
            if child.returncode:
                print(child.stderr.strip().splitlines()[-1], file=sys.stderr)
                return 2
            runs.append(json.loads(child.stdout))
    _print({folder: _least(runs) for folder, runs in found.items()}, folders)
    return 0


def _child(folder: pathlib.Path, stub: bool, ops: list[str]) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, PYTHONPATH=str(folder))
    environment.pop("TRITON_INTERPRET", None)
    if stub:
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, __file__, "--child", *(["--stub"] if stub else []), *ops]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def _least(runs: list[dict[str, float]]) -> dict[str, float]:
    return {op: min(run[op] for run in runs) for op in runs[0]}


def _print(times_us: dict[pathlib.Path, dict[str, float]], folders: list[pathlib.Path]) -> None:
    mine = times_us[folders[-1]]
    other = times_us[folders[0]] if len(folders) == 2 else None
    print(
        f"{'us per call, host':<26}{'this':>8}" + ("" if other is None else f"{'other':>8}  ratio")
    )
    for op, us in mine.items():
        more = "" if other is None else f"{other[op]:8.2f}{us / other[op]:7.2f}"
        print(f"{op:<26}{us:8.2f}{more}")


def _measured(stub: bool, ops: list[str]) -> dict[str, float]:
    """Microseconds per call by operation, in this process."""
    import torch

    if stub:
        _launch_nothing()
    elif not torch.cuda.is_available():
        raise SystemExit("A CUDA device is needed, or --stub; this machine has none.")
    device = "cpu" if stub else "cuda"
    calls = _calls(device)
    return {op: _least_us(calls[op], device) for op in ops or calls}


def _least_us(call: Callable[[], Any], device: str) -> float:
    import torch

    # Without a device only this process counts, however busy the machine is.
    clock = time.perf_counter if device == "cuda" else time.process_time
    best = float("inf")
    for _ in range(REPEATS):
        for _ in range(3):
            call()
        if device == "cuda":
            torch.cuda.synchronize()
        start = clock()
        for _ in range(CALLS):
            call()
        best = min(best, clock() - start)
    return 1e6 * best / CALLS


def _launch_nothing() -> None:
    """Every recorded launch takes its arguments and does nothing."""
    try:
        from ssmprof_kernels.launch import replay
    except ImportError:
        from ssmprof_kernels import replay  # type: ignore[attr-defined, no-redef]

    class Nothing:
        def __init__(self, kernel: Any) -> None:
            self.arg_names = kernel.arg_names

        def __getitem__(self, grid: Any) -> Callable[..., Any]:
            return lambda *values, **named: self

    add = replay.Recording.add

    def stub(self: Any, kernel: Any, *rest: Any, **arguments: Any) -> None:
        add(self, Nothing(kernel), *rest, **arguments)

    replay.Recording.add = stub  # type: ignore[method-assign]


def _calls(device: str) -> dict[str, Callable[[], Any]]:
    import torch
    from ssmprof_kernels import OPS

    def t(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    def f(*shape: int) -> torch.Tensor:
        return t(*shape, dtype=torch.float32)

    L, H, P, N = 512, 24, 64, 128
    D, W = H * P, 4
    op = {name: entry.kernel for name, entry in OPS.items()}
    x, dt, BC = t(1, L, H, P), t(1, L, H), t(1, L, 1, N)
    A, skip, bias = f(H), f(H), f(H)
    u, bc, rates, skips = t(1, L, D), t(1, L, 16), f(D, 16), f(D)
    state, row, rows = t(1, H, P, N), t(1, H, P), t(1, H).unsqueeze(-1).expand(1, H, P)
    tied = A.view(H, 1, 1).expand(H, P, N)
    per_row, step = skip.unsqueeze(-1).expand(H, P), t(1, 1, N)
    weight, taps = t(D, W), t(1, D, W - 1)
    one, cache, lengths = t(1, 32, 128), t(1, L, 8, 128), torch.full((1,), L, device=device).int()
    gate, scale = t(1, L, D), t(D)
    return {
        "ssd_scan": lambda: op["ssd_scan"](
            x, dt, A, BC, BC, D=skip, dt_bias=bias, dt_softplus=True
        ),
        "selective_scan": lambda: op["selective_scan"](
            u, u, rates, bc, bc, D=skips, z=gate, dt_bias=skips, dt_softplus=True
        ),
        "selective_state_update": lambda: op["selective_state_update"](
            state, row, rows, tied, step, step, D=per_row, dt_bias=per_row, dt_softplus=True
        ),
        "causal_conv1d": lambda: op["causal_conv1d"](u, weight, scale, activation="silu"),
        "causal_conv1d_update": lambda: op["causal_conv1d_update"](
            u[:, 0], taps, weight, scale, activation="silu"
        ),
        "gated_rmsnorm": lambda: op["gated_rmsnorm"](u, scale, z=gate),
        "attention_decode": lambda: op["attention_decode"](one, cache, cache, lengths),
    }


if __name__ == "__main__":
    sys.exit(main())
