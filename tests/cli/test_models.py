"""`ssmprof models`: presets, slices and files by the same columns, and what cannot run yet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssmprof.cli import main

QWEN = {
    "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "intermediate_size": 4864,
    "vocab_size": 151936, "tie_word_embeddings": True, "rope_theta": 1000000.0,
    "hidden_act": "silu", "sliding_window": 32768, "use_sliding_window": False,
}  # fmt: skip

Rows = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def rows(capsys: pytest.CaptureFixture[str]) -> Rows:
    def asked(*arguments: str) -> list[dict[str, Any]]:
        with pytest.raises(SystemExit) as end:
            main(["models", *arguments, "--json"])
        assert not end.value.code
        return json.loads(capsys.readouterr().out)

    return asked


def test_every_preset_is_listed_with_its_sizes_and_its_source(rows: Rows):
    every = rows()
    assert len(every) > 30
    assert all(row["source"] and row["params"] >= row["active_params"] > 0 for row in every)
    assert {row["name"] for row in rows("--family", "ssm")} < {row["name"] for row in every}


def test_a_file_and_its_folder_are_read_alike(rows: Rows, tmp_path: Path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(QWEN))
    (one,), (two,) = rows(str(file)), rows(str(tmp_path))
    assert one == two
    assert one["params"] == one["active_params"] == 494_032_768
    assert one["kv_bytes_per_token"] == 12_288
    assert one["state_bytes_per_sequence"] == 0
    assert one["layers"] == {"attention": 24, "mlp": 24}
    assert one["providers"]["attention_prefill"]


def test_a_state_is_told_apart_from_the_window_of_its_convolution(rows: Rows):
    (row,) = rows("mamba2-780m")
    assert row["recurrent_bytes_per_sequence"] == 48 * 3072 * 128 * 4
    assert row["conv_bytes_per_sequence"] == 48 * (3072 + 256) * 4 * 2
    both = row["recurrent_bytes_per_sequence"] + row["conv_bytes_per_sequence"]
    assert row["state_bytes_per_sequence"] == both


def test_a_slice_says_which_piece_of_which_model_it_is(rows: Rows):
    (row,) = rows("mamba2-780m@8")
    assert row["name"] == "mamba2-780m@8"
    assert row["slice"] == {"of": "mamba2-780m", "layers": 8, "whole": 48}
    assert row["layer_count"] == 8


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mamba2-780", 'did you mean "mamba2-780m"'),
        ("mamba2-780m@99", "the model has 48 layers"),
        ("mamba2-780m@x", "no number of layers"),
    ],
)
def test_a_wrong_name_is_one_clear_error(
    name: str, message: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as end:
        main(["models", name])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
