"""Words that people try, and what they mean here: suggestions by meaning, not by spelling."""

from __future__ import annotations

from collections.abc import Sequence

_COMMANDS: dict[str, tuple[str, ...]] = {
    "doctor": ("check", "verify", "test", "diagnose", "health", "selftest"),
    "devices": ("gpu", "gpus", "device", "hardware", "info"),
    "scenarios": ("scenario", "examples", "list", "ls"),
    "models": ("model", "presets", "zoo"),
    "new": ("init", "create", "template", "scaffold"),
    "plan": ("estimate", "dry-run", "cost", "eta"),
    "sweep": ("run", "bench", "benchmark", "measure", "start", "go", "resume", "profile", "time"),
    "fit": ("max-context", "longest", "oom"),
    "memory": ("mem", "vram", "bytes", "footprint"),
    "trace": ("ops", "timeline", "chrome", "perfetto"),
    "report": ("html", "page", "show", "open", "view", "render", "plot", "summary"),
    "crossover": ("crossing", "cross", "winner", "verdict", "answer", "result", "latency"),
    "kernels": ("kernel", "hotspots", "breakdown", "top"),
    "decide": ("choose", "pick", "select", "recommend"),
    "advise": ("advice", "tips", "optimize", "optimise", "suggest"),
    "claims": ("papers", "published", "claim"),
    "project": ("predict", "extrapolate", "forecast"),
    "compare": ("diff", "regression", "gate", "versus", "vs"),
    "serving": ("serve", "vllm", "sglang", "replay", "capacity", "reuse"),
    "export": ("csv", "parquet", "sqlite", "save", "convert", "dump"),
    "import": ("load", "read", "ingest"),
    "schema": ("json-schema", "records", "types"),
    "config": ("settings", "options", "configure", "env"),
    "completion": ("complete", "autocomplete"),
    "help": ("man", "docs", "topics", "exit-codes"),
}
_OPTIONS: dict[str, tuple[str, ...]] = {
    "--contexts": ("--context", "--lengths", "--length", "--seqlen", "--seq-len", "--tokens"),
    "--context": ("--contexts", "--length", "--seqlen", "--seq-len", "--tokens", "--at"),
    "--batch": ("--batch-size", "--bs", "--batches"),
    "--cap": ("--memory", "--vram", "--limit", "--mem", "--max-memory"),
    "--memory": ("--cap", "--vram", "--limit-memory"),
    "--ttft": ("--latency", "--deadline", "--slo"),
    "--time-budget": ("--timeout", "--budget", "--minutes", "--duration", "--max-time"),
    "--device cuda": ("--gpu", "--cuda"),
    "--device cpu": ("--cpu", "--no-gpu"),
    "--json": ("--format", "--as-json", "--fmt"),
    "--to": ("--format", "--form", "--fmt"),
    "--output": ("--out", "--output-dir", "--out-dir", "--dir", "--outdir", "--save"),
    "--model": ("--block", "--contender", "--name", "--models"),
    "--rounds": ("--repeats", "--repeat", "--iterations", "--runs"),
    "--resume": ("--continue", "--restart"),
    "--dry-run": ("--plan", "--noop", "--pretend"),
    "--on": ("--chip", "--gpu", "--device-name"),
    "--gate": ("--threshold", "--tolerance", "--fail-over"),
    "--top": ("--limit", "--count", "--head"),
    "--pool": ("--kv-pool", "--cache"),
    "--force": ("--overwrite", "--yes"),
}


def command_meant(word: str) -> str | None:
    """The command that a word means, where it is none itself."""
    return next((name for name, words in _COMMANDS.items() if word.lower() in words), None)


def option_meant(option: str, known: Sequence[str]) -> str | None:
    """What to write instead of an option that this command does not have."""
    for mine, words in _OPTIONS.items():
        if option.lower() in words and mine.partition(" ")[0] in known:
            return mine
    return None
