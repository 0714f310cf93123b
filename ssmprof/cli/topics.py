"""`ssmprof help TOPIC`: what no single command's help page can say."""

from __future__ import annotations

import click

from ssmprof.errors import nearest

TOPICS: dict[str, str] = {
    "exit-codes": """\
  0   done; out of memory and "does not fit" are results, not failures
  1   a finding: gate failed, claim refuted under --fail-on, doctor found an error
  2   usage or configuration
  3   no usable device or driver
  4   partial: time budget used up, a point crashed or timed out, a contender without measurement
  5   trust grade below --min-trust; verdict withheld
 70   internal error, a bug of ssmprof (--debug shows where)
 74   a result could not be kept: disk full or failing, run folder changed by something else
130   interrupted (Ctrl-C, SIGTERM, SIGHUP), data saved
--exit-zero turns all but 2, 3, 70, 74 and 130 into 0.""",
    "environment": """\
Every option has a variable SSMPROF_<COMMAND>_<OPTION>, such as SSMPROF_SWEEP_MIN_TRUST=B.
Precedence: flag, environment, ./ssmprof.toml or [tool.ssmprof] of ./pyproject.toml, the user's
own ssmprof.toml, the default. A file has a table per command: [sweep], then min_trust = "B".
ssmprof config show lists what is in force and where it comes from.
NO_COLOR turns colour off. SSMPROF_CHROMIUM names the browser that the tests use.""",
    "formats": """\
A run folder holds run.json (scenario), environments/, decisions.json (who runs which op),
outcomes.jsonl (one Measurement or Failure per line) and telemetry.jsonl. Lines are only appended,
with one sync per point: a run can be resumed and compared.
An outcome line begins with "crc", the CRC-32 of the same line without that field, in hex.
ssmprof schema RECORD prints the JSON Schema of each record. Times are seconds, sizes bytes,
energies joules; the unit is in the name. Tables also come as --json, --jsonl, --csv and --md.""",
    "scenarios": """\
A scenario is a TOML file: question, contenders, axes, budget. ssmprof scenarios lists those that
come along, ssmprof scenarios NAME prints one, ssmprof new FILE writes a commented one.
Contexts: 512-128K*2 (factor), 1K-9K+2K (step), 512,1K,4K; K and M are powers of two.
Layers: "(mamba2 mlp)*3 attention mlp", one residual step per word, [attention mamba2] side by
side; sizes stand under the name of each sub-layer, mamba2 = { d_inner = 2048, d_state = 128 }.
A model is a preset, a config.json, a folder with one, or an id of the Hugging Face hub; ssmprof
models tells what it weighs. NAME@8 is a slice, the first eight layers of a model: not the model,
and named so wherever it stands.""",
    "serving": """\
ssmprof serving capacity: how many sequences fit into a pool by the rules of vLLM and SGLang, as
read from their releases (--engine NAME@VERSION); "own pools" is what a pool for each cache holds.
ssmprof serving reuse: prompts of a trace, one after the other, through a cache of prefixes.
Policies: kv-only, last-block (a state at the end of every prompt), junctions (and where prompts
part), periodic (and every --interval tokens), every-block, marconi (keeps what saves most).
ssmprof serving replay: the same trace at a server with the step times of a run, or of a table of
model,phase,batch,context_tokens,time_s; it prints what it assumes.
Requests: lines of JSON with timestamp (ms), input_length, output_length and hash_ids (one per
block, equal ids for equal prefixes), or a table of TIMESTAMP,ContextTokens,GeneratedTokens; both
also packed with gzip. Or parameters of a trace to be made, such as sessions=200,turns=6,seed=1:
sessions, turns, systems, system_tokens, user_tokens, output_tokens, spread, branch,
sessions_per_s, think_s, block_tokens, seed. ssmprof serving trace tells what a trace is like.""",
}


@click.command("help", short_help="Exit codes, environment, formats, scenarios, serving.")
@click.argument("topic", required=False)
def command(topic: str | None) -> None:
    """Explain TOPIC: exit-codes, environment, formats, scenarios or serving."""
    if topic is None:
        click.echo("".join(f"ssmprof help {name}\n" for name in TOPICS), nl=False)
        return
    if topic not in TOPICS:
        raise click.UsageError(f'no topic is named "{topic}"{nearest(topic, TOPICS)}')
    click.echo(TOPICS[topic])
