"""The loop that really runs: every sequence is made as if alone, by the simulator's rules."""

from __future__ import annotations

import math

import pytest
import torch
from engine.alone import alone

from ssmprof.engine.calls import Calls, served
from ssmprof.engine.loop import Loop
from ssmprof.engine.slots import Slots
from ssmprof.errors import ConfigError
from ssmprof.models.build.model import Model
from ssmprof.models.recipe import Recipe
from ssmprof.planning import scenario
from ssmprof.serving.requests import Request

TEXT = """
[sweep]
contexts = [64]
dtype = "float32"

[[blocks]]
name = "transformer"
layers = "(attention mlp)*2"
d_model = 32
vocab = 97
attention = { heads = 4, kv_heads = 2, head_dim = 16 }
mlp = { d_ff = 48 }

[[blocks]]
name = "hybrid"
layers = "mamba2 attention mlp mamba1"
d_model = 32
vocab = 97
attention = { heads = 4, kv_heads = 2, head_dim = 16 }
mamba2 = { d_inner = 64, d_state = 16, headdim = 16 }
mamba1 = { d_inner = 64, d_state = 8, dt_rank = 4 }
mlp = { d_ff = 48 }

[[blocks]]
name = "latent"
layers = "mla mlp"
d_model = 32
vocab = 97
mla = { heads = 4, kv_lora_rank = 16, qk_nope_head_dim = 8, qk_rope_head_dim = 8, v_head_dim = 8 }
mlp = { d_ff = 48 }

[[blocks]]
name = "windowed"
layers = "attention mlp"
d_model = 32
attention = { heads = 4, kv_heads = 2, head_dim = 16, window = 8 }
mlp = { d_ff = 48 }

[[blocks]]
name = "sinks"
layers = "attention mlp"
d_model = 32
vocab = 97
attention = { heads = 4, kv_heads = 2, head_dim = 16, sinks = true }
mlp = { d_ff = 48 }
"""
BLOCKS = {one.name: one for one in scenario.parse(TEXT, "test").blocks}
REQUESTS = [
    Request(0.0, 40, 9), Request(0.0, 17, 30), Request(0.0, 64, 1), Request(0.001, 8, 12),
    Request(0.002, 33, 5), Request(0.01, 50, 20),
]  # fmt: skip


def model(name: str) -> Model:
    block = BLOCKS[name]
    assert isinstance(block, Recipe)
    return served(block, "cpu", "float32", 3, "last")


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny calls on a busy machine: threads that wait for each other take longer than the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["transformer", "hybrid", "latent", "sinks"])
@pytest.mark.parametrize(("slots", "chunk", "grid"), [(1, 64, 1), (3, 24, 8), (4, 200, 1)])
def test_a_sequence_is_made_as_if_it_were_alone(
    name: str, slots: int, chunk: int, grid: int
) -> None:
    made = model(name)
    draw = torch.Generator().manual_seed(1)
    prompts = [torch.randint(97, (one.prompt_tokens,), generator=draw) for one in REQUESTS]
    loop = Loop(Calls(made, Slots(made, slots, 128)), chunk_tokens=chunk, grid_tokens=grid)
    came = loop.serve(REQUESTS, prompts)
    for one, prompt, tokens in zip(REQUESTS, prompts, came.made, strict=True):
        assert tokens == alone(made, prompt, one.output_tokens, 128)
    assert came.largest_batch <= slots
    assert all(time > 0 for time in came.ttft_s)
    assert [math.isnan(time) for time in came.tpot_s] == [o.output_tokens == 1 for o in REQUESTS]
    assert len(came.wall_s) == came.iterations


def test_windows_are_refused() -> None:
    block = BLOCKS["windowed"]
    assert isinstance(block, Recipe)
    made = served(block, "cpu", "float32")
    with pytest.raises(ConfigError, match="windows cannot be served"):
        Slots(made, 2, 64)
