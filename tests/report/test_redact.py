"""No string of a run tells whose it is: markers in every field of every record, by their types."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import make
import msgspec
import pytest
from msgspec import inspect
from msgspec.structs import replace

from report import pages
from ssmprof import private
from ssmprof.private import at_home, redact, without_own
from ssmprof.records import Calibration, Environment, Failure, Measurement, Run
from ssmprof.report import to_html
from ssmprof.report.embed import compact, encoded
from ssmprof.report.html import unpack
from ssmprof.report.redact import cleaned, plain, recorded, recorded_scenario, redacted
from ssmprof.spec import ForeignSpec

# What must not be found, and the text that holds it.
MARKERS = {
    "kowalski": "/home/kowalski/private/model.py:tiny",
    "szymborska": "failed in /Users/szymborska/x, twice",
    "lem.stanislaw": "C:\\Users\\lem.stanislaw\\model",
    "skłodowska": "/scratch/skłodowska/data",
    "gombrowicz@": "mail gombrowicz@example.org now",
    "5f0c7e9a-1b2c": "GPU-5f0c7e9a-1b2c-4d3e-8f90-0123456789ab",
    "5f0c7e9a1b2c4d3e8f900123456789ab": "id 5f0c7e9a1b2c4d3e8f900123456789ab",
    "192.168.17.4": "connect to 192.168.17.4:8080",
    "2001:db8:": "from 2001:db8::ff00:42:8329",
    "a4:bf:01": "a4:bf:01:3e:22:9c",
    "1652822000001": "Serial Number: 1652822000001",
}


class Planter:
    """Builds a value of any type with a marker in every string that may be free text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.planted = 0

    def of(self, kind: Any) -> Any:
        if isinstance(kind, inspect.StrType):
            self.planted += 1
            return f"{self.text} {self.planted}"
        if isinstance(kind, inspect.StructType):
            found = {field.encode_name: self.of(field.type) for field in kind.fields}
            return found | ({kind.tag_field: kind.tag} if kind.tag_field else {})
        if isinstance(kind, inspect.LiteralType):
            return kind.values[0]
        if isinstance(kind, inspect.UnionType):
            return self.of(next(k for k in kind.types if not isinstance(k, inspect.NoneType)))
        if isinstance(kind, inspect.VarTupleType):
            return self._each(kind.item_type)
        if isinstance(kind, inspect.DictType):
            return {self.of(kind.key_type): self.of(kind.value_type)}
        return self._number(kind)

    def _each(self, kind: Any) -> list[Any]:
        """One item of every kind that a tuple may hold."""
        kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
        return [self.of(one) for one in kinds]

    def _number(self, kind: Any) -> Any:
        if isinstance(kind, inspect.BoolType):
            return True
        number = 2 if not kind.ge or kind.ge <= 2 else kind.ge
        top = kind.lt if kind.lt is not None else kind.le
        number = number if top is None or number < top else top / 2
        return number if isinstance(kind, inspect.FloatType) else int(number)


def planted(text: str) -> tuple[Run, int]:
    """A run with the text in every string, except where its words are a closed list."""
    planter = Planter(text)
    plain = planter.of(inspect.type_info(Run))
    (machine,) = plain["environments"].values()
    found = msgspec.convert(plain, Run)
    environment = msgspec.convert(machine, Environment)
    return (
        replace(
            found,
            environments={environment.fingerprint: environment},
            outcomes=tuple(
                replace(one, environment=environment.fingerprint) for one in found.outcomes
            ),
        ),
        planter.planted,
    )


def strings(value: Any) -> Iterator[str]:
    """Every string in a value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from strings(getattr(value, name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (*strings(key), *strings(item))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from strings(item)


def test_the_planter_reaches_every_record_of_a_run() -> None:
    run, count = planted("a marker")
    assert count > 60
    assert {type(one) for one in run.outcomes} == {Measurement, Failure}
    assert sum("a marker" in text for text in strings(run)) > 50


@pytest.mark.parametrize(
    "text", ["qwen3-next@8", "Use qwen2.5-0.5b@4.", "a@4 against b@16: a@4 is faster"]
)
def test_a_slice_of_a_model_is_no_address(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("text", ["me@10.0.0.8", "me@4host", "me@12.org", "me@host.12"])
def test_a_host_that_begins_or_ends_with_a_number_is(text: str) -> None:
    assert redact(text) == "<e-mail>"


@pytest.mark.parametrize("mark", MARKERS)
def test_no_marker_is_left_in_what_a_page_carries(mark: str) -> None:
    run, _ = planted(MARKERS[mark])
    clean = redacted(run)
    assert not [text for text in strings(clean) if mark in text]
    assert redacted(clean) == clean, "cleaning twice changes nothing"
    data = encoded(compact(redacted(run)))
    assert mark not in data.decode()
    assert mark in encoded(compact(plain(run))).decode().replace("\\\\", "\\")


def laid(run: Run, text: str) -> Run:
    """The text in every free string of a run that can be analysed."""

    def put(value: str) -> str:
        return f"{text} {value}"

    def outcome(one: Any) -> Any:
        point = replace(one.point, block=put(one.point.block))
        return replace(cleaned(one, put), point=point, environment=one.environment)

    machines = {
        name: replace(
            cleaned(machine, put),
            calibration=cleaned(machine.calibration or Calibration(), put),
        )
        for name, machine in run.environments.items()
    }
    names = {name: machine.fingerprint for name, machine in machines.items()}
    blocks = tuple(replace(block, name=put(block.name)) for block in run.scenario.blocks)
    scenario = replace(run.scenario, name=put("name"), question=put("question"), blocks=blocks)
    return replace(
        run,
        scenario=scenario,
        command=put("ssmprof"),
        source=put("source"),
        environments={machine.fingerprint: machine for machine in machines.values()},
        outcomes=tuple(
            replace(outcome(one), environment=names[one.environment]) for one in run.outcomes
        ),
    )


@pytest.mark.parametrize("mark", MARKERS)
def test_no_marker_is_left_in_a_page(mark: str) -> None:
    page = to_html(laid(pages.rich((512, 8192), phase=("prefill",)), MARKERS[mark]))
    places = [html.unescape(page)]
    places += [
        unpack(text).decode() for text in re.findall(r'gzip\+b64" id="[^"]+">([\w+/=]+)<', page)
    ]
    assert len(places) > 3
    for place in places:
        assert mark not in place


@pytest.mark.parametrize("identifiers", [True, False])
def test_control_characters_of_a_run_are_in_no_page(identifiers: bool) -> None:
    run = laid(pages.rich((512, 8192), phase=("prefill",)), "\x1b[31m\x00\u202e\ufffex")
    page = to_html(run, identifiers=identifiers)
    assert not set("\x1b\x00\u202e\ufffe") & set(page)
    assert "x attention" in page
    assert not [text for text in strings(plain(run)) if "\x00" in text]


def test_what_refers_to_something_still_does() -> None:
    run = laid(make.measured(make.scenario(), make.power_law(attention=(1, 2), mamba2=(9, 1))), "x")
    one, two = run.scenario.blocks
    alike = {one.name: "/home/kowalski/m.py", two.name: "/home/szymborska/m.py"}
    run = replace(
        run,
        scenario=replace(
            run.scenario,
            blocks=tuple(replace(block, name=alike[block.name]) for block in (one, two)),
        ),
        outcomes=tuple(
            replace(outcome, point=replace(outcome.point, block=alike[outcome.point.block]))
            for outcome in run.outcomes
        ),
    )
    clean = redacted(run)
    names = [block.name for block in clean.scenario.blocks]
    assert names == ["~/…/m.py", "~/…/m.py 2"]
    assert {outcome.point.block for outcome in clean.outcomes} == set(names)
    assert {outcome.environment for outcome in clean.outcomes} == set(clean.environments)


@pytest.mark.parametrize(
    "text",
    [
        "at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<c10::BFloat16>>",
        "c10::add", "layers.*.mixer.in_proj", "aten::_scaled_dot_product_attention/math",
        "driver 580.65.06", "cudnn 9.1.0.70", "torch 2.11.0+cu130", "12:30:45", "arXiv:2507.12442",
        "/usr/lib/libcuda.so", "/dev/nvhost-prof-gpu", "/sys/class/hwmon/*/name", "tokens/s",
        "https://github.com/state-spaces/mamba", "serialization failed at once", "0 % / 5 %",
        "sudo nvidia-smi -lgc 1980", "128x128x64", "a 12 hex digest 47c8efbf8bf9", "127.0.0.1",
    ],
)  # fmt: skip
def test_what_names_nobody_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@pytest.fixture
def kowalski(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine is Jan Kowalski's."""
    monkeypatch.setattr(private, "_user", lambda: "kowalski")
    monkeypatch.setattr(private, "_full_name", lambda: "Jan Kowalski")
    monkeypatch.setattr(private, "_hosts", lambda: {"zubrowka.lab.example.org"})
    monkeypatch.setattr(private, "_home", lambda: Path("/scratch/people/kowalski"))
    private._own.cache_clear()
    yield
    private._own.cache_clear()


OWN = ["kowalski", "Jan Kowalski", "zubrowka", "ZUBROWKA.lab.example.org", "/scratch/people"]


@pytest.mark.usefixtures("kowalski")
@pytest.mark.parametrize("name", OWN)
def test_what_is_recorded_does_not_hold_the_names_of_its_recorder(name: str) -> None:
    text = f"error on {name}: {name}/x" if "/" not in name else f"in {name}/kowalski/m.py"
    run, _ = planted(text)
    for outcome in run.outcomes:
        point = outcome.point
        kept = recorded(outcome)
        assert kept.point == point
        left = [found for found in strings(replace(kept, point=make.point())) if name in found]
        assert not left
    scenario = recorded_scenario(run.scenario)
    for block in scenario.blocks:
        assert name not in block.name
    assert name not in scenario.question + scenario.name


@pytest.mark.usefixtures("kowalski")
def test_own_code_is_kept_below_the_home_so_that_it_is_found_again() -> None:
    spec = ForeignSpec(name="mine", factory="/scratch/people/kowalski/m.py:tiny")
    asked = replace(make.scenario(), blocks=(spec,))
    (block,) = recorded_scenario(asked).blocks
    assert isinstance(block, ForeignSpec)
    assert block.factory == "~/m.py:tiny"
    assert at_home("hf:/scratch/people/kowalski/model") == "hf:~/model"
    assert at_home("/scratch/people/kowalski2/m.py:f") == "/scratch/people/kowalski2/m.py:f"


@pytest.mark.usefixtures("kowalski")
def test_the_environment_and_ordinary_words_stay() -> None:
    assert without_own("kowalskis and unkowalski") == "kowalskis and unkowalski"
    assert recorded(make.measurement()) == make.measurement()


def test_names_that_half_the_world_has_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "_user", lambda: "root")
    monkeypatch.setattr(private, "_hosts", lambda: {"localhost", "abc"})
    monkeypatch.setattr(private, "_home", lambda: Path("/root"))
    monkeypatch.setattr(private, "_full_name", lambda: "")
    private._own.cache_clear()
    try:
        assert (
            without_own("this needs root on localhost (abc)")
            == "this needs root on localhost (abc)"
        )
        assert without_own("/root/secret/x") == "~/secret/x"
        assert without_own("/root_interval") == "/root_interval"
    finally:
        private._own.cache_clear()
