"""Every mixer: reading a prompt at once, in pieces or token by token gives the same."""

from __future__ import annotations

import re
from typing import Any

import make
import msgspec
import pytest
import torch
from models.cast import CAST
from models.options import LAYERS_ALONE, OPTIONS
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ssmprof.errors import ConfigError
from ssmprof.mixers import registry
from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.mamba2.block import Mamba2Block
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.models.build import build, workload
from ssmprof.models.build.model import Model
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe

MIXERS = [
    name for name, part in registry.parts().items() if part.memory != "none" and registry.runs(name)
]
BATCH, TOKENS = 2, 21
FEW = Attention(heads=6, kv_heads=2, head_dim=8, qkv_bias=True)
GROUPS = Mamba2(d_inner=96, d_state=12, headdim=24, ngroups=2, gated_norm=False)
NARROW = Mamba1(d_inner=96, d_state=12)


def spec(name: str, layers: str, **changes: object) -> Recipe:
    return make.block(name, layers=layers, depth=2, **({"vocab": 60} | changes))


BLOCKS = [
    *(spec(name, name) for name in MIXERS),
    *(spec(f"{name}-grouped", name, attention=FEW, mamba1=NARROW, mamba2=GROUPS)
      for name in MIXERS),
    spec("window", "attention", attention=Attention(
        heads=4, kv_heads=2, head_dim=8, window=5)),
    spec("window-one", "attention", attention=Attention(
        heads=4, kv_heads=4, head_dim=8, window=1)),
    spec("window-wide", "attention", attention=Attention(
        heads=4, kv_heads=4, head_dim=8, window=99)),
    spec("no-position", "attention", attention=Attention(
        heads=4, kv_heads=4, head_dim=8, rope_theta=None)),
    spec("interleaved", "mamba2 mlp attention mlp"),
    spec("side-by-side", "[attention mamba2] mlp"),
    spec("three-abreast", "[mamba1 attention mamba2]", tie_embeddings=False),
    *CAST,
    *OPTIONS,
]  # fmt: skip
each = pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)


def built(block: Recipe) -> tuple[Model, Tensor]:
    model = build(block, "cpu", "float32", seed=3)
    return model, model.example(BATCH, TOKENS)


def by_steps(model: Model, tokens: Tensor, read: int = 0) -> Tensor:
    """Logits of every token after the first `read`, which are read at once."""
    cache = model.new_cache(BATCH, TOKENS)
    rows = []
    if read:
        rows = list(model.prefill(tokens[:, :read], cache, "all").unbind(1))
        cache.advance(read)
    for index in range(read, tokens.shape[1]):
        rows.append(model.step(tokens[:, index], cache, "last"))
        cache.advance()
    return torch.stack(rows, 1)


class Unseen(TorchDispatchMode):
    """No value may be looked at on the host, and no shape may depend on one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        looks = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero")
        assert func.overloadpacket.__name__ not in looks, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


@each
def test_plain_forms_look_at_no_value_so_that_a_graph_can_hold_them(block: Recipe):
    model, tokens = built(block)
    cache = model.new_cache(BATCH, TOKENS)
    model.prefill(tokens[:, :1], cache, "last")  # what is made once may look
    cache.advance()
    model.step(tokens[:, 1], cache, "last")
    cache.seek(0)
    with Unseen():
        model.prefill(tokens[:, :-1], cache, "last")
    cache.advance(TOKENS - 1)
    with Unseen():
        model.step(tokens[:, -1], cache, "last")


@each
def test_prefill_equals_decode_token_by_token(block: Recipe):
    model, tokens = built(block)
    whole = model.prefill(tokens, model.new_cache(BATCH, TOKENS), "all")
    assert whole.std() > 0.1
    torch.testing.assert_close(by_steps(model, tokens), whole, rtol=1e-4, atol=1e-4)


@each
@pytest.mark.parametrize("read", [1, 2, 4, 16])
def test_decode_goes_on_where_prefill_stopped(block: Recipe, read: int):
    model, tokens = built(block)
    whole = model.prefill(tokens, None, "all")
    torch.testing.assert_close(by_steps(model, tokens, read), whole, rtol=1e-4, atol=1e-4)


@each
@pytest.mark.parametrize("first", [1, 3, 8, 17])
def test_a_prompt_read_in_two_pieces_equals_one(block: Recipe, first: int):
    model, tokens = built(block)
    cache = model.new_cache(BATCH, TOKENS)
    head = model.prefill(tokens[:, :first], cache, "all")
    cache.advance(first)
    tail = model.prefill(tokens[:, first:], cache, "all")
    whole = model.prefill(tokens, model.new_cache(BATCH, TOKENS), "all")
    torch.testing.assert_close(torch.cat([head, tail], 1), whole, rtol=1e-4, atol=1e-4)


@each
def test_a_cache_started_anew_forgets_the_sequence_before(block: Recipe):
    model, tokens = built(block)
    used = model.new_cache(BATCH, TOKENS)
    used.randomize(None)
    model.prefill(tokens.flip(1), used, "last")
    used.seek(0)
    again = model.prefill(tokens, used, "all")
    fresh = model.prefill(tokens, model.new_cache(BATCH, TOKENS), "all")
    torch.testing.assert_close(again, fresh)


@each
def test_later_tokens_do_not_change_earlier_ones(block: Recipe):
    model, tokens = built(block)
    other = tokens.clone()
    other[:, 12:] = (other[:, 12:] + 1) % 60
    one, two = (model.prefill(t, None, "all") for t in (tokens, other))
    torch.testing.assert_close(one[:, :12], two[:, :12])
    assert (one[:, 12:] - two[:, 12:]).abs().max() > 0.01


def test_the_last_tokens_logits_are_the_last_row_of_all():
    model, tokens = built(BLOCKS[0])
    everything = model.prefill(tokens, None, "all")
    torch.testing.assert_close(model.prefill(tokens, None, "last"), everything[:, -1:])


@pytest.mark.parametrize(
    "block", [make.block("hybrid"), *LAYERS_ALONE], ids=lambda block: block.name
)
def test_layers_alone_read_and_return_hidden_states_and_leave_their_input_alone(block: Recipe):
    model = build(block, "cpu", "float32")
    hidden = model.example(BATCH, TOKENS)
    before = hidden.clone()
    assert model.prefill(hidden).shape == hidden.shape
    torch.testing.assert_close(hidden, before)
    with pytest.raises(ConfigError, match="no vocabulary"):
        model.prefill(hidden, logits="last")


def test_one_seed_gives_one_block_and_another_seed_another():
    one, same, other = (build(BLOCKS[0], "cpu", "float32", seed=seed) for seed in (1, 1, 2))
    tokens = one.example(1, 8)
    torch.testing.assert_close(one.prefill(tokens), same.prefill(tokens))
    assert not torch.equal(one.prefill(tokens), other.prefill(tokens))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"providers": {"ssd_scam": "reference"}}, 'did you mean "ssd_scan"'),
        ({"providers": {"ssd_scan": "refrence"}}, 'did you mean "reference"'),
        ({"providers": {"ssd_scan": "mamba_ssm"}}, "cannot run on cpu"),
    ],
)  # fmt: skip
def test_a_spec_that_cannot_be_built_says_what_is_wrong(changes: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        build(make.block("mamba2", **changes), "cpu", "float32")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"v_head_dim": 16}, "v_head_dim"),
        ({"score_cap": 50.0}, "score_cap"),
        ({"d_conv": 4}, "d_conv"),
        ({"prefix": 3}, "prefix"),
        ({"kv_from": "shared", "window": 5}, "a window on shared keys"),
    ],
)
def test_what_is_only_counted_says_so(options: dict[str, Any], message: str):
    part = Attention(heads=4, kv_heads=4, head_dim=8, **options)
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(spec("counted", "attention", attention=part), "cpu", "float32")


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        (Attention(heads=4, kv_heads=2, head_dim=8, window=5), "keys and values of a window"),
        (Attention(heads=4, kv_heads=4, head_dim=8), "4 heads of 8, but 2 of 8 are read"),
        (None, "before a layer has any"),
    ],
)
def test_keys_that_cannot_be_read_are_refused(owner: Attention | None, message: str):
    reader = Attention(heads=4, kv_heads=2, head_dim=8, kv_from="shared")
    first = "owner" if owner else "mamba2"
    parts = {"reader": reader} | ({"owner": owner} if owner else {})
    model, tokens = built(spec("borrowing", f"{first} reader", **parts))
    with pytest.raises(ConfigError, match=message):
        model.prefill(tokens, None, "all")


def test_a_prefill_of_4096_tokens_takes_seconds_on_a_cpu():
    for name in MIXERS:
        model = build(make.block(name, layers=name), "cpu", "float32")
        work = workload(model, make.point(name, context=4096))
        assert torch.isfinite(work.call()).all()


@pytest.mark.parametrize(("provider", "overlap"), [("reference", False), ("ssmprof", True)])
def test_a_mamba2_step_overlaps_a_convolution_of_ours_only(provider: str, overlap: bool) -> None:
    forced = {"causal_conv1d_update": provider}
    model, tokens = built(msgspec.structs.replace(spec("mamba2", "mamba2"), providers=forced))
    cache = model.new_cache(BATCH, TOKENS)
    mixer = next(module for module in model.modules() if isinstance(module, Mamba2Block))
    seen = []

    def update(*args: Tensor, **options: object) -> Tensor:
        seen.append(options["overlap"])
        return real(*args, **options)

    real, mixer.update_op = mixer.update_op, update
    model.step(tokens[:, 0], cache, "last")
    assert seen == [overlap]


def test_an_epsilon_of_its_own_reaches_the_gated_norm():
    part = Mamba2(d_inner=64, d_state=8, headdim=16)
    scan = recipe("m", 32, "mamba2", {"mamba2": msgspec.structs.replace(part, norm_eps=0.25)})
    norms = [module for module in build(scan, "meta").modules() if hasattr(module, "eps")]
    assert sorted(norm.eps for norm in norms) == [1e-5, 0.25]
