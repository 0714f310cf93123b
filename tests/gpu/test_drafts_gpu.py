"""Several tokens per sequence on a device: kernels against plain forms, eager and in a graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ssmprof_kernels.conv import reference as conv
from ssmprof_kernels.conv.drafts import causal_conv1d_drafts
from ssmprof_kernels.state_update import reference
from ssmprof_kernels.state_update.drafts import selective_state_drafts

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SLOTS = {
    "slots": {"state_indices": [3, -1, 0], "new_indices": [5, 6, -1]},
    "packed": {"state_indices": [4, 2, 9], "cu_seqlens": [0, 2, 2, 3]},
    "accepted": {
        "state_indices": [[0, 1], [2, 3], [4, 5]], "new_indices": [[6, 7], [8, -1], [9, 10]],
        "cu_seqlens": [0, 1, 3, 3], "accepted": [2, 0, 1],
    },
}  # fmt: skip


def ints(kind: str) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(v, dtype=torch.int32) for name, v in SLOTS[kind].items()}


def there(arguments: dict[str, Any]) -> dict[str, Any]:
    """The same on the device."""
    return {n: v.cuda() if isinstance(v, torch.Tensor) else v for n, v in arguments.items()}


def agree(call: Any, plain: Any, state: str, arguments: dict[str, Any]) -> None:
    """y and the state of an eager call and of a replayed graph are those of the plain form."""
    mine = there(arguments)
    start = mine[state].clone()
    want = plain(**arguments)
    for turn in ("eager", "graph"):
        mine[state].copy_(start)
        if turn == "eager":
            got = call(**mine)
        else:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                got = call(**mine)
            mine[state].copy_(start)
            graph.replay()
        torch.testing.assert_close(got.cpu(), want, rtol=2e-2, atol=2e-2, msg=turn)
        torch.testing.assert_close(mine[state].cpu(), arguments[state], rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("kind", SLOTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [False, True])
def test_states_of_drafts_agree_with_the_plain_form(kind, dtype, tied):
    torch.manual_seed(0)
    H, P, N, rows = 8, 64, 128, 3
    dt, A, skip = torch.randn(rows, H, P), -torch.rand(H, P, N), torch.randn(H, P)
    if tied:
        dt, A = dt[..., :1].expand(rows, H, P), A[:, :1, :1].expand(H, P, N)
        skip = skip[:, :1].expand(H, P)
    given = {
        "state": torch.randn(12, H, P, N).to(dtype), "x": torch.randn(rows, H, P).to(dtype),
        "dt": dt, "A": A, "B": torch.randn(rows, 2, N), "C": torch.randn(rows, 2, N) / N**0.5,
        "D": skip, "dt_bias": skip, "dt_softplus": True, "z": torch.randn(rows, H, P),
    }  # fmt: skip
    agree(selective_state_drafts, reference.selective_state_drafts, "state", given | ints(kind))


@pytest.mark.parametrize("kind", SLOTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inputs_of_drafts_agree_with_the_plain_form(kind, dtype):
    torch.manual_seed(0)
    D, more = 300, ints(kind)
    for name in ("state_indices", "new_indices"):
        if name in more and more[name].ndim == 2:
            more[name] = more[name][:, 0]
    given = {
        "x": torch.randn(3, D) if "cu_seqlens" in more else torch.randn(3, 2, D),
        "conv_state": torch.randn(12, D, 5), "weight": torch.randn(D, 4), "bias": torch.randn(D),
    }  # fmt: skip
    given = {name: t.to(dtype) for name, t in given.items()} | {"activation": "silu"}
    agree(causal_conv1d_drafts, conv.causal_conv1d_drafts, "conv_state", given | more)
