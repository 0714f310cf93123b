"""Our blocks are the published models: equal weights give equal logits, prompt and steps.

`transformers` has the models; it needs Python 3.11. All in float32 on the CPU, tiny.
"""

from __future__ import annotations

import inspect
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from models.tiny_cast import CAST
from models.tiny_models import MODELS
from torch import Tensor

from ssmprof.models import cost
from ssmprof.models.build import build
from ssmprof.models.build.load import load
from ssmprof.models.build.model import Model
from ssmprof.models.config import reader

transformers = pytest.importorskip(
    "transformers", "5.24", reason="no transformers 5.24 (the dev extra has it from Python 3.11)"
)
safetensors = pytest.importorskip("safetensors.torch")

PROMPT, STEPS, BATCH = 20, 8, 2
# Tensors that a class makes of its configuration, and files have all the same.
MADE_AGAIN = ("slope_rate", "query_decay", "key_decay", "diagonal_decay")
BOUND = 1e-4  # of the largest logit
TINY = {family: MODELS.get(family, {}) | CAST.get(family, {}) for family in MODELS | CAST}
CASES = [(family, variant) for family, variants in TINY.items() for variant in variants]
each = pytest.mark.parametrize(("family", "variant"), CASES)


def published(family: str, variant: str) -> Any:
    """The model of transformers with weights of which none is one or zero."""
    torch.manual_seed(7)
    config = transformers.AutoConfig.for_model(family, **TINY[family][variant])
    model = transformers.AutoModelForCausalLM.from_config(config).eval().float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_random(name, parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("correction_bias"):
                buffer.uniform_(-0.3, 0.3)
    model.tie_weights()
    return model


def _random(name: str, parameter: Tensor) -> Tensor:
    kind = name.split(".")[-1]
    if kind == "A_log":
        return torch.empty_like(parameter).uniform_(-1.0, 2.0)
    if kind == "recurrent_param":
        return torch.empty_like(parameter).uniform_(-6.0, -2.0)
    if kind in ("dt_bias", "D") or "dt_proj.bias" in name:
        return torch.empty_like(parameter).uniform_(-2.0, 0.5)
    if parameter.dim() == 1:  # norms around one, biases around zero
        return torch.empty_like(parameter).uniform_(0.4, 1.6) - float(kind == "bias")
    # Taps of a convolution, or the last of an expert's two sides.
    fan_in = parameter.shape[-1]
    return torch.randn_like(parameter) / math.sqrt(fan_in)


def saved(model: Any, folder: Path) -> dict[str, Tensor]:
    """The tensors as a published folder has them, with its config.json beside."""
    model.save_pretrained(folder)
    found: dict[str, Tensor] = safetensors.load_file(folder / "model.safetensors")
    return found


def ours(folder: Path, tensors: dict[str, Tensor]) -> tuple[Model, list[str]]:
    """Our model of a published folder, its weights loaded, and the tensors nothing took."""
    model = build(reader.read(folder), "cpu", "float32")
    assert isinstance(model, Model)
    values = json.loads((folder / "config.json").read_text("utf-8"))
    return model, load(model, tensors, reader.weight_names(values, "config.json"))


def logits_of_theirs(model: Any, tokens: Tensor) -> Tensor:
    """Logits of every token: those of the prompt at once, then one by one.

    Positions are given as `generate` gives them: some classes count from 0 in every call.
    """
    rows, cache = [], {}
    if model.config.model_type == "recurrent_gemma":  # keeps states in its modules, returns none
        cache = {"cache": transformers.DynamicCache(config=model.config)}
    positioned = "position_ids" in inspect.signature(model.forward).parameters
    with torch.no_grad():
        for start, end in pairwise((0, *range(PROMPT, PROMPT + STEPS + 1))):
            places = {"position_ids": torch.arange(start, end)[None]} if positioned else {}
            out = model(tokens[:, start:end], use_cache=True, **cache, **places)
            rows.append(out.logits)
            cache = {"cache": getattr(out, "cache", cache.get("cache"))}
    return torch.cat(rows, 1)


def logits_of_ours(model: Model, tokens: Tensor) -> Tensor:
    cache = model.new_cache(BATCH, PROMPT + STEPS)
    rows = [model.prefill(tokens[:, :PROMPT], cache, "all")]
    cache.advance(PROMPT)
    for at in range(PROMPT, PROMPT + STEPS):
        rows.append(model.step(tokens[:, at], cache, "last")[:, None])
        cache.advance()
    return torch.cat(rows, 1)


@each
def test_logits_equal_those_of_the_published_model(family: str, variant: str, tmp_path: Path):
    theirs = published(family, variant)
    model, left = ours(tmp_path, saved(theirs, tmp_path))
    assert [name for name in left if name.split(".")[-1] not in MADE_AGAIN] == []
    wanted = sum(parameter.numel() for parameter in theirs.parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) == wanted
    assert cost.parameters(model.recipe) == wanted
    tokens = torch.randint(1, model.recipe.vocab, (BATCH, PROMPT + STEPS))
    expected, found = logits_of_theirs(theirs, tokens), logits_of_ours(model, tokens)
    assert expected.std() > 1e-2
    error = (found - expected).abs().amax((0, 2)) / expected.abs().max()
    assert error.max() < BOUND, f"prompt {error[:PROMPT].max():.1e}, steps {error[PROMPT:]}"


@each
def test_every_parameter_moves_the_logits_that_are_compared(
    family: str, variant: str, tmp_path: Path
):
    model, _ = ours(tmp_path, saved(published(family, variant), tmp_path))
    tokens = model.example(BATCH, PROMPT)
    before = model.prefill(tokens, None, "all")
    for name, parameter in model.named_parameters():
        kept = parameter.clone()
        parameter.copy_(kept * (1.5 + torch.rand_like(kept)))
        change = (model.prefill(tokens, None, "all") - before).abs().max() / before.abs().max()
        assert change > 2 * BOUND, name
        parameter.copy_(kept)
