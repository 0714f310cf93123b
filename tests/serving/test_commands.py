"""`ssmprof serving` on the command line: tables, figures, one sentence for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from serving.models import config

from ssmprof.cli import cli
from ssmprof.errors import ConfigError

RUN = Path(__file__).parents[2] / "reports" / "2026-11-22-crossover-h100-80gb-hbm3"


def ask(*words: object) -> Result:
    return CliRunner().invoke(cli, ["serving", *map(str, words)])


def refused(*words: object) -> str:
    found = ask(*words)
    assert isinstance(found.exception, ConfigError), found.output
    return str(found.exception)


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config("nemotron-3-nano-30b-a3b")))
    return file


def test_capacity_of_a_file_in_every_field(nano: Path) -> None:
    found = ask("capacity", nano, "--pool", "40GiB", "--json")
    rows = json.loads(found.stdout)
    assert [(row["engine"], row["sequences"]) for row in rows] == [
        ("vllm", 370), ("vllm", 277), ("vllm", 85),
        ("sglang", 82), ("sglang", 82), ("sglang", 57),
    ]  # fmt: skip
    assert list(rows[0])[:16] == [
        "model", "engine", "engine_version", "prefix_mode", "context_tokens", "block_tokens",
        "page_bytes", "groups", "blocks", "sequences", "waste_share",
        "recurrent_bytes_per_sequence", "conv_bytes_per_sequence", "state_bytes_per_sequence",
        "kv_bytes_per_token", "balanced_ratio",
    ]  # fmt: skip
    assert rows[0]["block_tokens"] == 2096


def test_capacity_of_models_beside_each_other() -> None:
    found = ask(
        "capacity", "nemotron-h-8b", "llama-3.1-8b", "mamba2-1.3b", "--pool", "8GiB", "--md"
    )
    assert "| nemotron-h-8b | vllm | 0.33.0 |" in found.stdout
    assert "llama-3.1-8b keeps no state" in found.stderr
    assert "mamba2-1.3b has no attention" in found.stderr
    assert "vllm 0.33.0, as in vllm/platforms/interface.py" in found.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--memory", "8GiB"), "nemotron-h-8b: 7.20 GiB of usable memory cannot hold its weights"),
        (
            ("--pool", "8GiB", "--engine", "vllm@0.9"),
            'unknown version "0.9" of vllm; known: 0.33.0',
        ),
        (("--pool", "8GiB", "--engine", "vlm"), 'unknown engine "vlm"; did you mean "vllm"?'),
        (("--pool", "8GiB", "--tp", "3"), "3 ranks cannot share out the 128 heads of mamba2"),
        ((), "give one of --pool and --memory"),
        (("--pool", "8GiB", "--memory", "80GiB"), "give one of --pool and --memory"),
    ],
)
def test_capacity_that_cannot_be(words: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused("capacity", "nemotron-h-8b", *words)


def test_memory_less_weights_is_the_pool() -> None:
    found = json.loads(ask("capacity", "mamba2-130m", "--memory", "10GiB", "--json").stdout)
    assert 0.9 * 10 * 2**30 - 300e6 < found[0]["pool_bytes"] < 0.9 * 10 * 2**30 - 200e6


MADE = "sessions=20,turns=4,block_tokens=64,seed=3"


def test_reuse_of_a_made_trace_and_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "made.jsonl"
    told = json.loads(ask("trace", MADE, "--write", file, "--json").stdout)
    words = ("--model", "nemotron-h-8b", "--pool", "20GiB", "--json")
    made = json.loads(ask("reuse", MADE, *words).stdout)
    read = json.loads(ask("reuse", file, "--block-tokens", 64, *words).stdout)
    assert made == read
    assert {row["policy"] for row in made} == {
        "kv-only", "last-block", "junctions", "periodic", "every-block", "marconi"
    }  # fmt: skip
    assert told[0]["requests"] == made[0]["requests"] == 80
    assert {"requests", "prompt_tokens", "reused_tokens", "reused_share", "states_kept",
            "evictions"} <= set(made[0])  # fmt: skip
    one = json.loads(ask("reuse", MADE, "--policy", "junctions", *words).stdout)
    assert [row["policy"] for row in one] == ["kv-only", "junctions"]
    assert one == [row for row in made if row["policy"] in ("kv-only", "junctions")]


def test_reuse_is_drawn_over_the_size_of_the_cache(tmp_path: Path) -> None:
    file = tmp_path / "reuse.svg"
    found = ask("reuse", MADE, "--model", "nemotron-h-8b", "--sizes", "1GiB,4GiB,16GiB", "--pool",
                "1GiB", "-o", file, "--jsonl")  # fmt: skip
    assert len(found.stdout.splitlines()) == 3 * 6
    drawn = file.read_text("utf-8")
    assert drawn.startswith("<svg")
    assert "every-block" in drawn


def test_a_bad_line_of_a_trace(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    ask("trace", MADE, "--write", file)
    file.write_text(file.read_text() + '{"timestamp": 1}\n')
    words = ("--model", "llama-3.1-8b", "--pool", "8GiB", "--block-tokens", 64)
    assert "line 81: Object missing required field" in refused("reuse", file, *words)
    found = ask("reuse", file, *words, "--skip-bad")
    assert "left out line 81" in found.stderr
    assert "llama-3.1-8b keeps no state" in found.stderr
    assert "no such file of requests" in refused("reuse", tmp_path / "none", *words)


def test_replay_of_a_run() -> None:
    words = ("replay", RUN, "--model", "mamba2", "--model", "transformer", "--requests")
    short = "sessions=50,turns=1,system_tokens=0,user_tokens=300"
    crowd = "sessions=50,turns=1,user_tokens=3000,sessions_per_s=100"
    assert "mamba2: a prefill of" in refused(*words, short)
    assert "mamba2: a decode of batch 2 was not measured (1 was)" in refused(*words, crowd)
    found = ask(*words, short, "--max-batch", 1, "--hold-ends", "--limit", "ttft=500ms", "--json")
    rows = json.loads(found.stdout)
    assert [row["model"] for row in rows] == ["mamba2", "transformer"]
    assert all(row["goodput_share"] == 1 and row["breaks_at_load"] > 1 for row in rows)
    assert "times outside of what was measured" in found.stderr
    assert "assumed: first come, first served" in found.stderr


def test_replay_of_a_table_within_a_pool(tmp_path: Path) -> None:
    table = tmp_path / "times.csv"
    rows = ["model,phase,batch,context_tokens,time_s"]
    for context in (1, 1_000_000):
        rows.append(f"nemotron-h-8b,prefill,1,{context},{1e-5 * context + 1e-3}")
        rows += [f"nemotron-h-8b,decode,{b},{context},{0.01 + b * 1e-5}" for b in (1, 512)]
    table.write_text("\n".join(rows) + "\n")
    words = ("replay", table, "--requests", MADE, "--model", "nemotron-h-8b", "--json")
    free = json.loads(ask(*words).stdout)[0]
    tight = json.loads(ask(*words, "--pool", "500MiB").stdout)[0]
    assert tight["largest_batch"] < free["largest_batch"]
    assert tight["ttft_s_p90"] > free["ttft_s_p90"]
    reused = json.loads(ask(*words, "--policy", "junctions").stdout)[0]
    assert reused["prompt_tokens"] + reused["reused_tokens"] == free["prompt_tokens"]
    crowd = json.loads(
        ask(*words, "--pool", "20GiB", "--engine", "sglang", "--load", "1,50").stdout
    )
    assert crowd[1]["ttft_s_p50"] > crowd[0]["ttft_s_p50"]
    none = ask(*words, "--pool", "1MiB")
    assert json.loads(none.stdout)[0]["rejected"] == 80
    assert "80 requests are too long for the pool" in none.stderr
