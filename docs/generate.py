"""Writes what the code and the committed runs can say themselves: `python docs/generate.py`.

Pages of docs/reference: commands from their help, scenario keys and records from the structs,
grades from the rules, Python from the docstrings. What runs say (`made`): the index of reports/,
the cast, and parts of pages between markers. A test holds all of it against `pages()`, so that it
cannot drift.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

import click
import msgspec
from click.testing import CliRunner
from made import cast, index, parts
from made.markdown import table
from made.runs import ROOT

import ssmprof
from ssmprof.analysis.decide.rules import RULES
from ssmprof.cli import COMMANDS, cli
from ssmprof.cli.topics import TOPICS
from ssmprof.mixers import registry
from ssmprof.models.recipe import Layer, Recipe, Shared
from ssmprof.spec import Budget, Passes, Refine, Scenario, Sweep
from ssmprof.store.schema import FORMAT, RECORDS

_MADE = "<!-- Written by docs/generate.py. -->\n\n"
_DOOR = 1000  # a bound beyond is there for broken files, not for people
_WIDTH = 80  # of help pages, whatever terminal or pipe this runs in


def pages() -> dict[str, str]:
    """Path below the checkout -> text of everything that is generated."""
    made = {
        "commands.md": _commands(),
        "topics.md": _topics(),
        "scenario.md": _scenario(),
        "sub-layers.md": _sub_layers(),
        "records.md": _records(),
        "grades.md": _grades(),
        "python.md": _python(),
        "cast.md": cast.page(),
    }
    made = {f"docs/reference/{name}": text for name, text in made.items()}
    made["reports/README.md"] = index.page()
    whole = {name: _MADE + text.rstrip() + "\n" for name, text in made.items()}
    return whole | parts.pages()


def _text(body: str) -> str:
    return f"```text\n{body.rstrip()}\n```\n"


def _help(*words: str) -> str:
    settings = {"terminal_width": _WIDTH, "max_content_width": _WIDTH}
    found = CliRunner().invoke(cli, [*words, "--help"], prog_name="ssmprof", **settings)
    return _text(found.output)


def _commands() -> str:
    lines = [
        "# Commands",
        "",
        "Data goes to stdout, talk to stderr. Where RUN is left out, the latest run below "
        "`reports/` or `runs/` is read. [Exit codes](topics.md#exit-codes) and "
        "[settings](topics.md#environment) are the same for all commands.",
        "",
        _help(),
    ]
    for group, names in COMMANDS.items():
        lines += [f"## {group}", ""]
        for name in names:
            lines += [f"### ssmprof {name}", "", _help(name)]
            below = cli.get_command(click.Context(cli), name)
            if isinstance(below, click.Group):
                for one in below.list_commands(click.Context(below)):
                    lines += [f"#### ssmprof {name} {one}", "", _help(name, one)]
    return "\n".join(lines)


def _topics() -> str:
    lines = ["# Topics", "", "What `ssmprof help TOPIC` prints.", ""]
    for name, text in TOPICS.items():
        lines += [f"## {name}", "", _text(text)]
    return "\n".join(lines)


def _values(schema: Mapping[str, Any]) -> str:
    """What a key may hold, in words, from its JSON Schema."""
    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[-1]
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_values(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{one}`" for one in schema["enum"])
    kind = schema.get("type", "anything")
    if kind == "array":
        fixed = schema.get("prefixItems")
        inner = ", ".join(map(_values, fixed)) if fixed else _values(schema.get("items") or {})
        return f"list of ({inner})" if " " in inner else f"list of {inner}"
    if kind == "object":
        inner = schema.get("additionalProperties")
        return f"table of {_values(inner)}" if isinstance(inner, dict) and inner else "table"
    return {"null": "nothing"}.get(kind, kind)


def _bounds(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return next((found for one in schema["anyOf"] if (found := _bounds(one))), "")
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    # Python keeps one of two annotations that are equal, 1 or 1.0, whichever was made first.
    found = [
        f"{sign} {schema[key]:g}" for key, sign in signs.items() if schema.get(key, _DOOR) < _DOOR
    ]
    return ", ".join(found)


def _default(schema: Mapping[str, Any], required: bool) -> str:
    if required:
        return "required"
    if schema.get("default") is None:
        return "–"
    return f"`{msgspec.json.encode(schema['default']).decode()}`"


def _keys(struct: type, skip: Iterable[str] = ()) -> str:
    """A struct's fields as a table of keys."""
    schema = msgspec.json.schema(struct)
    own = schema["$defs"][struct.__name__]
    required = set(own.get("required", ()))
    rows = [
        (
            f"`{name}`",
            _values(found) + (f" ({bounds})" if (bounds := _bounds(found)) else ""),
            _default(found, name in required),
        )
        for name, found in own["properties"].items()
        if name not in {"type", "kind", *skip}
    ]
    return table(("key", "value", "default"), rows) if rows else "No sizes.\n"


def _said(thing: object) -> str:
    """A docstring as Markdown: tables of plain text keep their columns."""
    text = inspect.getdoc(thing) or ""
    parts = text.split("\n\n")
    return "\n\n".join(
        _text(part).rstrip()
        if re.search(r"^(?:Args|Raises|Example):|^\S+ {3,}\S", part, re.M)
        else " ".join(part.split())
        for part in parts
    )


def _scenario() -> str:
    lines = [
        "# Scenario keys",
        "",
        "A scenario is a TOML file. `ssmprof new FILE` writes one with every key explained; "
        "[writing one](../guide/scenarios.md) says which to choose. A file that leaves `name` out "
        "is called as the file is; a question may be left out, too.",
        "",
    ]
    tables = {
        "top of the file": (Scenario, ("sweep", "budget", "passes", "blocks")),
        "[sweep]": (Sweep, ("refine",)),
        "[sweep.refine]": (Refine, ()),
        "[budget]": (Budget, ()),
        "[passes]": (Passes, ()),
    }
    for head, (struct, skip) in tables.items():
        lines += [f"## {head}", "", _said(struct), "", _keys(struct, skip)]
    lines += [
        "## [[blocks]]",
        "",
        "A contender: `preset = NAME` or `hf = FILE` with some keys changed, or written out. "
        "`layers` takes the short form of [topics](topics.md#scenarios), and the sizes of a part "
        "stand under its name ([sub-layers](sub-layers.md)).",
        "",
        _said(Recipe),
        "",
        _keys(Recipe, ("slice", "preset", "parts")),
        "### A layer written out",
        "",
        _said(Layer),
        "",
        _keys(Layer),
        "### Shared blocks",
        "",
        _said(Shared),
        "",
        _keys(Shared),
    ]
    return "\n".join(lines)


def _sub_layers() -> str:
    lines = [
        "# Sub-layers",
        "",
        "Every part that a model may hold, by the word that names it. What does not run here is "
        "counted and planned; a sweep of it is refused.",
        "",
    ]
    for name, struct in sorted(registry.parts().items()):
        runs = "Runs." if registry.runs(name) else "Counted only."
        lines += [f"## {name}", "", f"*{runs}* {_said(struct)}", "", _keys(struct)]
    return "\n".join(lines)


def _records() -> str:
    lines = [
        "# Records",
        "",
        f"What lies in a run folder (format {FORMAT}), record by record; what each file holds is "
        "in [topics](topics.md#formats), and `ssmprof schema RECORD` prints the JSON Schema.",
        "",
        "## History of the format",
        "",
        _text((import_module("ssmprof.store.schema").__doc__ or "").partition("History\n")[2]),
    ]
    for name, struct in sorted(RECORDS.items()):
        if inspect.isclass(struct):
            lines += [f"## {name}", "", _said(struct), "", _keys(struct)]
    return "\n".join(lines)


def _grades() -> str:
    rows = [(kind, rule.grade, rule.when, rule.fix or "–") for kind, rule in RULES.items()]
    return (
        "# Grades\n\n"
        "What limits an answer, from the gravest: D withholds the verdict, C widens zones or moves "
        "them, B is noted, A is none of these. [Trust](../how-it-works/trust.md) says why.\n\n"
        + table(("fact", "grade", "when", "what mends it"), rows)
    )


class _Some:
    """A default whose value is not worth reading."""

    def __repr__(self) -> str:
        return "..."


def _python() -> str:
    lines = [
        "# Python",
        "",
        "```python",
        "import ssmprof",
        "",
        'run = ssmprof.load("reports/2026-11-30-crossover-h200")',
        "for one in run.answer.crossings:",
        "    print(one.before, one.after, one.low_tokens, one.high_tokens, one.why)",
        "```",
        "",
        "What else the package holds is its own affair and changes without notice.",
        "",
    ]
    for name in (one for one in ssmprof.__all__ if one != "__version__"):
        found = getattr(ssmprof, name)
        if isinstance(found, type):
            lines += [f"## ssmprof.{name}", "", _said(found), "", *_members(found), ""]
            continue
        bare = [
            one.replace(
                annotation=one.empty,
                default=one.default if isinstance(one.default, bool | type) else _Some(),
            )
            for one in inspect.signature(found).parameters.values()
        ]
        lines += [f"## ssmprof.{name}", "", f"`{name}{inspect.Signature(bare)}`", ""]
        lines += [_said(found), ""]
    return "\n".join(lines)


def _members(found: type) -> list[str]:
    """A row per public member that the class itself adds, with the first line of what it says."""
    rows = [
        f"| `{name}` | {inspect.getdoc(member).splitlines()[0]} |"
        for name, member in vars(found).items()
        if not name.startswith("_") and inspect.getdoc(member)
    ]
    return ["| | |", "|---|---|", *rows]


if __name__ == "__main__":
    for file, text in pages().items():
        (ROOT / file).write_text(text, encoding="utf-8")
