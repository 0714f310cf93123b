"""The same random weights here and in transformers give the same logits: prefill and eight steps.

Runs where transformers is installed (a development extra); CPU, float32, models of a few layers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssmprof.models.build import build
from ssmprof.models.build.loading import assembled
from ssmprof.models.config.reader import of_values, weight_names

transformers = pytest.importorskip("transformers")

FOLDER = Path(__file__).parents[1] / "data" / "weight_names"
FAMILIES = (
    "bamba", "falcon_h1", "falcon_mamba", "gemma3_text", "granitemoehybrid", "llama", "mamba",
    "mamba2", "mistral", "nemotron_h", "phi3", "qwen2", "qwen3", "zamba2",
)  # fmt: skip
TOKENS, STEPS = 19, 8
CLOSE = 1e-4  # of the largest logit
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
LONGROPE = {
    "rope_type": "longrope", "short_factor": [1.0, 2.0], "long_factor": [3.0, 1.5],
    "original_max_position_embeddings": 16,
}  # fmt: skip
CASES: list[tuple[str, dict[str, Any]]] = [
    *((family, {}) for family in FAMILIES),
    ("llama", {"rope_scaling": LLAMA3}),
    ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 3.0}}),
    ("qwen3", {"rope_scaling": YARN}),
    ("qwen3", {"rope_scaling": YARN | {"truncate": False, "beta_fast": 3.0}}),
    ("phi3", {"rope_scaling": LONGROPE, "original_max_position_embeddings": 16}),
    ("phi3", {"rope_scaling": LONGROPE, "original_max_position_embeddings": 64}),
    ("mistral", {"sliding_window": 5}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    ("gemma3_text", {"sliding_window": 5, "num_hidden_layers": 2, "sliding_window_pattern": 2}),
    ("mamba", {"use_conv_bias": False, "conv_kernel": 5}),
    ("falcon_mamba", {"mixer_rms_eps": 0.01}),
    ("falcon_h1", {"mamba_norm_before_gate": True}),
    ("falcon_h1", {"mamba_rms_norm": False, "attention_bias": True}),
    ("granitemoehybrid", {"position_embedding_type": "rope"}),
    ("zamba2", {"rms_norm_eps": 0.01, "use_shared_attention_adapter": False}),
]


def theirs(values: dict[str, Any]) -> Any:
    """A small model of transformers, its weights random and none of them zero or one."""
    keys = json.loads(json.dumps({key: values[key] for key in values if key != "model_type"}))
    config = transformers.AutoConfig.for_model(values["model_type"], **keys)
    config._attn_implementation = "eager"
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "A_log" in name:
                parameter.uniform_(0.0, 1.0)
            elif "dt_bias" in name or "dt_proj.bias" in name:
                parameter.uniform_(-1.0, 1.0)
            elif "norm" in name:
                parameter.uniform_(0.2, 0.6)
            else:
                parameter.normal_(0.0, 0.25)
    return model


def ours(values: dict[str, Any], published: dict[str, Tensor]) -> Any:
    """Our model of the same keys, with the same weights under our names."""
    model = build(of_values(values, "model", "config.json"), "cpu", "float32", logits="all")
    sources = weight_names(values, "config.json")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(assembled(sources[name], published))
    return model


@pytest.mark.parametrize(("family", "changes"), CASES)
def test_prefill_and_eight_steps_give_the_logits_of_transformers(
    family: str, changes: dict[str, Any]
):
    values = json.loads((FOLDER / f"{family}.json").read_text("utf-8"))["config"] | changes
    reference = theirs(values)
    ids = torch.randint(values["vocab_size"], (2, TOKENS + STEPS))
    with torch.no_grad():
        wanted = reference(ids, use_cache=False).logits
    model = ours(values, reference.state_dict())
    cache = model.new_cache(2, TOKENS + STEPS)
    found = [model.prefill(ids[:, :TOKENS], cache, "all")]
    cache.advance(TOKENS)
    for place in range(TOKENS, TOKENS + STEPS):
        found.append(model.step(ids[:, place], cache, "all")[:, None])
        cache.advance()
    error = (torch.cat(found, dim=1) - wanted).abs().max() / wanted.abs().max()
    assert error < CLOSE
