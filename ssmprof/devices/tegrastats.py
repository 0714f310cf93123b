"""Lines of NVIDIA's `tegrastats`, from L4T R32 to R39, as values in SI units.

`parse_line` never raises and never invents: what a line does not carry is None or absent, what it
carries in a form not known here lands in `unparsed`. Fields may come in any order. Two rules keep a
cut line from giving a wrong number: a number that nothing closes (no unit, no bracket) is trusted
only if something follows it on the line, and a value in an unknown unit is not a value.

Formats (recordings under `jetson/tegrastats/`): R32 has no time stamp, upper-case sensors and rails
without a unit; R35 adds both and `NC` rails; R36 has lower-case sensors and leaves gated ones out;
R38 (Thor) has clocks without utilisation; R39 prints `cur/max` temperatures, `cur/avg/max` power.
`MB` and `kB` are binary (a board with MemTotal 7,802,640 kB prints 7620MB).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

_MEGA = 1e6
_MEMORY_UNITS = {"kB": 2**10, "MB": 2**20}
# A power-gated sensor reads -256 (R32 to R35); nothing on a board is colder than this.
_COLDEST_C = -200.0
# PMIC is no sensor on these boards: it prints a constant 50 (Nano) or 100 (TX2).
_PMIC_PLACEHOLDERS = (50.0, 100.0)
_ELISION = "..."


class CpuCore(Struct, frozen=True, kw_only=True):
    """One CPU core. `load` is a ratio; both are None for a core that is offline."""

    online: bool
    load: float | None = None
    clock_hz: float | None = None


class Engine(Struct, frozen=True, kw_only=True):
    """One hardware engine (NVENC, VIC, APE ...). `on` is None where the line says neither."""

    on: bool | None = None
    load: float | None = None
    clock_hz: float | None = None


class TegrastatsSample(Struct, frozen=True, kw_only=True):
    """What one line of tegrastats carries. Bytes, hertz, watts, degrees Celsius, ratios.

    `gpu_load` and `emc_load` are relative to the clock of the moment, not to the highest one:
    99 % at 306 MHz is not a busy GPU. `rails_w` holds the momentary power of each rail; the running
    mean that tegrastats prints behind it is left out, since it starts wrong. `gated` names sensors
    that printed a placeholder. `elided` says that a person left something out of the line (`...`):
    of cores that are not all there is no list, since its length would be wrong.
    """

    time: str | None = None
    ram_used_bytes: int | None = None
    ram_total_bytes: int | None = None
    largest_free_blocks: int | None = None
    largest_free_block_bytes: int | None = None
    swap_used_bytes: int | None = None
    swap_total_bytes: int | None = None
    swap_cached_bytes: int | None = None
    iram_used_bytes: int | None = None
    iram_total_bytes: int | None = None
    cpu: tuple[CpuCore, ...] | None = None
    emc_load: float | None = None
    emc_hz: float | None = None
    gpu_load: float | None = None
    gpu_hz: tuple[float, ...] | None = None
    engines: dict[str, Engine] = {}
    temperatures_c: dict[str, float] = {}
    gated: tuple[str, ...] = ()
    rails_w: dict[str, float] = {}
    elided: bool = False
    unparsed: tuple[str, ...] = ()


class _Fields:
    """The sample while it is being read; `ended` says that nothing follows the match."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.engines: dict[str, Engine] = {}
        self.temperatures: dict[str, float] = {}
        self.gated: list[str] = []
        self.rails: dict[str, float] = {}
        self.unparsed: list[str] = []


_Reader = Callable[[re.Match[str], _Fields], bool]


def _ratio(percent: str | None) -> float | None:
    return None if percent is None else int(percent) / 100


def _hertz(mega: str | None) -> float | None:
    return None if mega is None else int(mega) * _MEGA


def _open_ended(match: re.Match[str]) -> bool:
    """Whether the match ends in a digit at the very end of the line, so that digits may be cut."""
    return match.end() == len(match.string) and match[0][-1].isdigit()


def _elision(_: re.Match[str], fields: _Fields) -> bool:
    fields.values["elided"] = True
    return True


def _time(match: re.Match[str], fields: _Fields) -> bool:
    fields.values["time"] = match[0]
    return True


def _ram(match: re.Match[str], fields: _Fields) -> bool:
    unit = _MEMORY_UNITS[match["unit"]]
    prefix = match["name"].lower()
    fields.values[f"{prefix}_used_bytes"] = int(match["used"]) * unit
    fields.values[f"{prefix}_total_bytes"] = int(match["total"]) * unit
    if match["blocks"] and prefix == "ram":
        fields.values["largest_free_blocks"] = int(match["blocks"])
        fields.values["largest_free_block_bytes"] = (
            int(match["block"]) * _MEMORY_UNITS[match["block_unit"]]
        )
    if match["cached"] and prefix == "swap":
        fields.values["swap_cached_bytes"] = (
            int(match["cached"]) * _MEMORY_UNITS[match["cached_unit"]]
        )
    return True


_CORE = re.compile(r"(?:(?P<load>100|\d{1,2})%(?:@(?P<clock>\d{1,9}))?|(?P<off>off))", re.ASCII)


def _cpu(match: re.Match[str], fields: _Fields) -> bool:
    if match["all"] and _open_ended(match):
        return False
    shared = _hertz(match["all"])
    cores: list[CpuCore] = []
    words = match["cores"].split(",")
    elided = len(words) > 1 and words[-1].strip() == _ELISION
    if elided:
        words.pop()
    for text in words:
        core = _CORE.fullmatch(text.strip())
        if core is None:
            return False
        if core["off"]:
            cores.append(CpuCore(online=False))
        else:
            clock = _hertz(core["clock"])
            cores.append(CpuCore(online=True, load=_ratio(core["load"]), clock_hz=clock or shared))
    fields.values |= {"elided": True} if elided else {"cpu": tuple(cores)}
    return True


def _gpu(match: re.Match[str], fields: _Fields) -> bool:
    if match["plain"] and _open_ended(match):
        return False
    if match["load"] is not None:
        fields.values["gpu_load"] = _ratio(match["load"])
    clocks = match["clocks"] or match["plain"]
    if clocks is not None:
        fields.values["gpu_hz"] = tuple(int(mega) * _MEGA for mega in clocks.split(","))
    return True


def _emc(match: re.Match[str], fields: _Fields) -> bool:
    if match["clock"] and _open_ended(match):
        return False
    if match["load"] is not None:
        fields.values["emc_load"] = _ratio(match["load"])
    if match["clock"] is not None:
        fields.values["emc_hz"] = _hertz(match["clock"])
    return True


def _temperature(match: re.Match[str], fields: _Fields) -> bool:
    name, value = match["name"], float(match["value"])
    placeholder = value < _COLDEST_C or (name == "PMIC" and value in _PMIC_PLACEHOLDERS)
    if placeholder:
        fields.gated.append(name)
    else:
        fields.temperatures[name] = value
    return True


def _rail(match: re.Match[str], fields: _Fields) -> bool:
    if match["unit"] not in ("", "mW"):
        return False
    if match["name"] != "NC":  # a channel of the power monitor that is wired to nothing
        fields.rails[match["name"]] = int(match["value"]) / 1000
    return True


def _engine(match: re.Match[str], fields: _Fields) -> bool:
    name = match["name"].removesuffix("_FREQ")
    if match["off"]:
        fields.engines[name] = Engine(on=False)
        return True
    clock = match["clock"] or match["bare"]
    if clock is not None and _open_ended(match):
        return False
    fields.engines[name] = Engine(
        on=True if match["load"] is not None else None,
        load=_ratio(match["load"]),
        clock_hz=_hertz(clock),
    )
    return True


_N = r"\d{1,9}"
_PERCENT = r"(?:(?P<load>100|\d{1,2})%)?"
_SIZE = rf"(?P<used>{_N})/(?P<total>{_N})(?P<unit>kB|MB)"
_LARGEST = rf"\s*\(lfb (?:(?P<blocks>{_N})x(?P<block>{_N})(?P<block_unit>kB|MB)|{_N}(?:kB|MB))\)"
_CACHED = rf"\s*\(cached (?P<cached>{_N})(?P<cached_unit>kB|MB)\)"
# Second and third number of a temperature (R39) or a rail: read over, also where they are cut.
_HIGHEST = r"(?:/[-\d.]*C?)?"
_MEANS = r"/[\w/]*"


def _field(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern + r"(?=\s|$)", re.ASCII)


# First match wins; what none of them takes is `unparsed`, one word at a time.
_READERS: tuple[tuple[re.Pattern[str], _Reader], ...] = (
    (_field(r"\d{2}-\d{2}-\d{4} \d{2}:\d{2}:\d{2}"), _time),
    (_field(r"\.\.\."), _elision),
    (_field(rf"(?P<name>RAM|SWAP|IRAM) {_SIZE}(?:{_LARGEST})?(?:{_CACHED})?"), _ram),
    (_field(rf"CPU \[(?P<cores>[^\]\[]*)\](?:@(?P<all>{_N}))?"), _cpu),
    (
        _field(
            rf"GR3D_FREQ (?=\d|@){_PERCENT}"
            rf"(?:@(?:\[(?P<clocks>{_N}(?:,{_N})*)\]|(?P<plain>{_N})))?"
        ),
        _gpu,
    ),
    (_field(rf"EMC_FREQ (?=\d|@){_PERCENT}(?:@(?P<clock>{_N}))?"), _emc),
    (_field(rf"(?P<name>[A-Za-z][\w-]*)@(?P<value>-?{_N}(?:\.{_N})?)C{_HIGHEST}"), _temperature),
    (
        # The first number is closed by its slash.
        _field(
            rf"(?!I?RAM|SWAP)(?P<name>[A-Z][A-Z0-9_]*) (?P<value>{_N})(?P<unit>[A-Za-z]*){_MEANS}"
        ),
        _rail,
    ),
    (
        _field(
            r"(?P<name>(?:NV[A-Z]+|VIC|OFA|PVA|APE|MSENC|SE)\d*(?:_FREQ)?) "
            rf"(?:(?P<off>off)|(?=\d+%|@){_PERCENT}(?:@(?P<clock>{_N}))?|(?P<bare>{_N}))"
        ),
        _engine,
    ),
)
_WORD = re.compile(r"\S+")


def parse_line(text: str) -> TegrastatsSample:
    """Read one line of tegrastats; on any input, including binary rubbish, without an exception."""
    line = text.strip()
    fields = _Fields()
    position = 0
    while position < len(line):
        if line[position].isspace():
            position += 1
            continue
        for pattern, read in _READERS:
            match = pattern.match(line, position)
            if match is not None and read(match, fields):
                position = match.end()
                break
        else:
            word = _WORD.match(line, position)
            assert word is not None, "a character that is no space starts a word"
            fields.unparsed.append(word[0])
            position = word.end()
    return TegrastatsSample(
        **fields.values,  # type: ignore[arg-type]
        engines=fields.engines,
        temperatures_c=fields.temperatures,
        gated=tuple(fields.gated),
        rails_w=fields.rails,
        unparsed=tuple(fields.unparsed),
    )
