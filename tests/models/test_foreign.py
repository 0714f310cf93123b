"""Models that are not ours: found by name, fed, called; and clear errors where that fails."""

from __future__ import annotations

import json
from pathlib import Path

import make
import pytest
import torch

from ssmprof.errors import ConfigError
from ssmprof.models.build import build, workload
from ssmprof.models.build.foreign import cache_bytes
from ssmprof.spec import ForeignSpec

SOURCE = """
import torch
from torch import nn

def ids():
    return nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 3))

def fed():
    def example(batch, context):
        return {"input": torch.ones(batch, context, 4)}
    return nn.Linear(4, 2), example

def no_example():
    return nn.Linear(4, 2)

def text():
    return "no module"
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "users_model.py"
    file.write_text(SOURCE, encoding="utf-8")
    return file


def foreign(factory: str) -> ForeignSpec:
    return ForeignSpec(name="theirs", factory=factory)


def test_a_module_that_takes_token_ids_is_called_as_it_is(source: Path):
    model = build(foreign(f"{source}:ids"), "cpu", "float32")
    work = workload(model, make.point("theirs", 7, batch=2))
    assert work.call().shape == (2, 7, 3)
    assert work.weights_bytes == (11 * 8 + 8 * 3 + 3) * 4
    assert work.module is not None
    assert work.providers() == {"model": "torch"}


def test_a_function_may_bring_its_own_input(source: Path):
    model = build(foreign(f"{source}:fed"), "cpu", "float32")
    assert workload(model, make.point("theirs", 7)).call().shape == (1, 7, 2)


def test_a_function_may_be_named_by_its_module(source: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(source.parent))
    model = build(foreign("users_model:ids"), "cpu", "bfloat16")
    work = workload(model, make.point("theirs", 5, dtype="bfloat16"))
    assert work.call().dtype == torch.bfloat16


def test_a_plain_module_cannot_decode(source: Path):
    model = build(foreign(f"{source}:ids"), "cpu", "float32")
    with pytest.raises(NotImplementedError, match="no cache"):
        workload(model, make.point("theirs", 7, phase="decode"))


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("{source}:nothing", "has no function nothing"),
        ("{source}:text", "returned str, expected a torch.nn.Module"),
        ("{source}:no_example", "takes no token ids"),
        ("/nowhere/at_all.py:make", "cannot import /nowhere/at_all.py"),
        ("no_such_package.module:make", "cannot import no_such_package.module"),
        ("hf:/nowhere/config.json", "hf:/nowhere/config.json"),
    ],
)
def test_what_cannot_be_built_says_why(factory: str, message: str, source: Path):
    with pytest.raises(ConfigError) as caught:
        build(foreign(factory.format(source=source)), "cpu", "float32")
    assert message in str(caught.value)


def test_a_cache_is_weighed_by_the_names_of_its_tensors():
    class Layer:
        def __init__(self) -> None:
            self.keys = torch.zeros(2, 3)
            self.conv_states = {0: torch.zeros(5)}
            self.recurrent_states = [torch.zeros(7, dtype=torch.float64)]

    class Cache:
        def __init__(self) -> None:
            self.layers = [Layer()]
            self.same = self.layers

    assert cache_bytes(Cache()) == {"kv": 24, "conv_state": 20, "ssm_state": 56}


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 60}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama", **SMALL, **HEADS},
        {"model_type": "mamba", "state_size": 8, **SMALL},
    ],
    ids=lambda config: config["model_type"],
)
def test_a_hugging_face_config_gives_a_model_that_prefills_and_decodes(
    config: dict[str, object], tmp_path: Path
):
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model = build(foreign(f"hf:{tmp_path}/config.json"), "cpu", "float32")
    prefill = workload(model, make.point("theirs", 9, batch=2, logits="all"))
    assert prefill.call().shape == (2, 9, 60)
    decode = workload(model, make.point("theirs", 9, batch=2, phase="decode"))
    held = decode.cache_bytes
    first = decode.call()
    assert first.shape == (2, 1, 60)
    if config["model_type"] == "llama":
        assert held == decode.kv_bytes == 2 * 2 * 2 * 9 * 2 * 8 * 4
        torch.testing.assert_close(decode.call(), first)  # the position is the same again
    else:
        assert decode.kv_bytes == 0 < decode.ssm_state_bytes
