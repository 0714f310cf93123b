"""reports/README.md: what each committed run and table asks, what it answers, and its bars."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from made.markdown import table
from made.runs import REPORTS, Told, folders, read
from ssmprof.units import three_digits

# What a folder of tables answers, by how its name begins.
QUESTIONS = {
    "accuracy": "How true is each kind of number, against an instrument that did not make it?",
    "estimates": "How near do estimates come to what sweeps took?",
    "faults": "What is lost where processes die, disks fail, and inputs are broken?",
    "fleet": "Does a fleet lose or double a point, answer as one device does, and grow?",
    "install": "What does an installation weigh?",
    "kernels": "How fast are the kernels against their peers and against the card's ceilings?",
    "recipes": "Did blocks keep their speed when they became recipes?",
    "scale": "What do report, crossover and export take for runs of up to 100,000 outcomes?",
    "serving": "How far is the simulator of a server off one that runs?",
    "truth": "How true are the answers, against dense references of the same device?",
}
_BARS = "floor", "aim"  # the two bars of a total of kernels
_SHOWN = 6  # runs of a folder that are named


class Quantity(NamedTuple):
    """One number with its bar; `value` None was not measured."""

    name: str
    value: float | None
    bar: float
    met: bool
    unit: str
    reason: str


def page(reports: Path = REPORTS) -> str:
    """The whole index."""
    lines = [
        "# Reports",
        "",
        "What was measured, with its environment. A folder with `run.json` is a run: `ssmprof "
        "report RUN` makes its page again, and the sentences below are those of `ssmprof crossover "
        "RUN`. [Trust](../docs/how-it-works/trust.md) explains the grades. The others hold tables: "
        "a quantity meets its bar where its value is not above it. By system, not by run: [the "
        "cast](../docs/reference/cast.md).",
        "",
        "## Runs",
        "",
    ]
    runs = folders(reports)
    for path in runs:
        lines += [*_run(read(path)), ""]
    lines += ["## Tables", ""]
    for path in sorted(one for one in reports.iterdir() if one.is_dir() and one not in runs):
        lines += [*_tables(path), ""]
    return "\n".join(lines)


def _run(told: Told) -> list[str]:
    scenario = told.run.scenario
    shown = [f"[{word}]({told.name}/{file})" for word, file in _files(told.path)]
    rows = [
        (one.conditions.label(), *([one.conditions.device] if len(told.devices) > 1 else []),
         told.verdicts[one.key].sentence, one.grade)
        for one in told.analysis.latencies
    ]  # fmt: skip
    heads = ("conditions", *(["device"] if len(told.devices) > 1 else []), "answer", "trust")
    return [
        f"### {told.name}",
        "",
        f"*{scenario.question}* Scenario `{scenario.name}`, {', '.join(told.devices)}, "
        f"{told.date}: {', '.join(shown)}.",
        "",
        table(heads, rows).rstrip(),
    ]


def _files(path: Path) -> Iterable[tuple[str, str]]:
    """What a person opens of a run, as far as it is there."""
    known = (("page", "report.html"), ("picture", "picture.svg"), ("run", "run.json"))
    return [(word, file) for word, file in known if (path / file).is_file()]


def question(name: str) -> str | None:
    """What a folder of tables answers; None where nobody has said it."""
    return next((told for head, told in QUESTIONS.items() if name.split("-")[0] == head), None)


def _tables(path: Path) -> list[str]:
    lines = [f"### {path.name}", "", f"{question(path.name) or ''} ([files]({path.name}))"]
    readme = f" ([why]({path.name}/README.md))" if (path / "README.md").is_file() else ""
    counted = [_counted(file, found, readme) for file, found in _with_bars(path)]
    if not counted:
        lines[-1] += f" No bars are set for it{readme}."
    for one in counted:
        lines += ["", *one]
    inside = sorted(file.parent.relative_to(path) for file in path.rglob("run.json"))
    if inside:
        links = ", ".join(f"[{one}]({path.name}/{one})" for one in inside[:_SHOWN])
        more = f" and {len(inside) - _SHOWN} more" if len(inside) > _SHOWN else ""
        lines += ["", f"Runs in it: {links}{more}."]
    return lines


def _with_bars(path: Path) -> list[tuple[Path, list[Quantity]]]:
    return [(file, found) for file in sorted(path.glob("*.json")) if (found := quantities(file))]


def quantities(file: Path) -> list[Quantity]:
    """The quantities of a file of tables; none where it has another form (raw data)."""
    data = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(data, dict) and "quantities" in data:
        return [_quantity(one) for one in data["quantities"]]
    if isinstance(data, list) and data and isinstance(data[0], dict) and "floor_met" in data[0]:
        return [one for row in data for one in _totals(row)]
    return []


def _table(file: Path) -> dict[str, Any]:
    """What a file of tables says beside its quantities."""
    data = json.loads(file.read_text(encoding="utf-8"))
    return data if isinstance(data, dict) else {}


def _quantity(row: dict[str, Any]) -> Quantity:
    value, bar = row["value"], row["bar"]
    met = value is not None and value <= bar
    return Quantity(row["name"], value, bar, met, row["unit"], row.get("reason") or "")


def _totals(row: dict[str, Any]) -> Iterable[Quantity]:
    """A total of kernels has two bars from below; the file says itself which it meets."""
    where = ", ".join(f"{key} {value}" for key, value in row["where"].items())
    name = f"{row['op']} against {row['against']}, {row['mode']}" + (f", {where}" if where else "")
    for bar in _BARS:
        if row.get(bar):  # a floor of 0 is no bar
            reached, met = row["reached"], bool(row[f"{bar}_met"])
            yield Quantity(f"{name}: {bar}", reached, row[bar], met, "at least", "")


def _counted(file: Path, found: list[Quantity], readme: str) -> list[str]:
    """How many meet their bar; those that do not, and those that nobody measured, with reasons."""
    measured = [one for one in found if one.value is not None]
    missed = [one for one in measured if not one.met]
    where = _table(file).get("device")
    lines = [
        f"`{file.name}`{f' ({where})' if where else ''}: "
        f"**{len(measured) - len(missed)} of {len(measured)}** measured quantities meet their bar."
    ]
    unsaid = f"not in the file{readme}"
    if missed:
        rows = [
            (one.name, _number(one.value or 0.0), _bar(one), one.reason or unsaid) for one in missed
        ]
        lines += ["", table(("missed", "value", "bar", "reason"), rows).rstrip()]
    absent: dict[str, list[str]] = {}
    for one in found:
        if one.value is None:
            absent.setdefault(one.reason or unsaid, []).append(one.name)
    if later := _table(file).get("missing"):
        absent.setdefault("its time ended before", []).extend(map(str, later))
    if absent:
        rows = [
            (f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}", reason)
            for reason, names in absent.items()
        ]
        lines += ["", table(("not measured", "reason"), rows).rstrip()]
    return lines


def _number(value: float) -> str:
    """Whole numbers whole, others with three digits."""
    return f"{value:,.0f}" if float(value).is_integer() else three_digits(value)


def _bar(one: Quantity) -> str:
    if one.unit == "at least":
        return f"at least {_number(one.bar)}"
    return f"{_number(one.bar)} {one.unit}"
