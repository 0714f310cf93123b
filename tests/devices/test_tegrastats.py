"""Every recording parses to values read off it by hand; no mutation gives a wrong number."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmprof.devices.tegrastats import CpuCore, Engine, TegrastatsSample, parse_line

RECORDINGS = Path(__file__).parents[2] / "jetson" / "tegrastats"
MIB = 2**20
MHZ = 1e6


def lines(name: str) -> list[str]:
    text = (RECORDINGS / f"tegrastats_{name}.txt").read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


ALL_LINES = [
    line
    for path in sorted(RECORDINGS.glob("tegrastats_*.txt"))
    for line in lines(path.stem.removeprefix("tegrastats_"))
]


def test_every_recording_is_there() -> None:
    assert len(ALL_LINES) == 20


@pytest.mark.parametrize("line", ALL_LINES, ids=range(len(ALL_LINES)))
def test_nothing_on_a_recorded_line_is_left_unparsed(line: str) -> None:
    assert parse_line(line).elided == ("..." in line)
    assert parse_line(line).unparsed == ()


def test_what_a_person_left_out_of_a_line_is_told_and_nothing_is_made_up() -> None:
    (line,) = (line for line in ALL_LINES if "..." in line)
    found = parse_line(line)
    assert found.cpu is None
    assert found.temperatures_c == {"cpu": 35.25, "tj": 36.343}
    assert found.rails_w["VIN"] == 25.53
    whole = parse_line(line.replace(",...", ",3%@972").replace("... ", ""))
    assert len(whole.cpu or ()) == 2
    assert not whole.elided


@pytest.mark.parametrize(
    "text", ["CPU [...]", "CPU [,...]", "CPU [2%@972,..]", "CPU [..., 2%@972]"]
)
def test_other_dots_are_no_cores(text: str) -> None:
    found = parse_line(text)
    assert found.cpu is None
    assert found.unparsed


def test_agx_orin_r35_line_with_gated_sensors_and_unconnected_channels() -> None:
    sample = parse_line(lines("agx_orin_64gb_jp5_root")[0])
    assert sample.time == "04-11-2025 10:36:27"
    assert (sample.ram_used_bytes, sample.ram_total_bytes) == (4321 * MIB, 62801 * MIB)
    assert (sample.largest_free_blocks, sample.largest_free_block_bytes) == (1759, 4 * MIB)
    assert (sample.swap_used_bytes, sample.swap_total_bytes) == (19 * MIB, 31400 * MIB)
    assert sample.swap_cached_bytes == 0
    assert sample.cpu == (CpuCore(online=True, load=0.0, clock_hz=729 * MHZ),) * 12
    assert (sample.emc_load, sample.emc_hz) == (0.0, 2133 * MHZ)
    assert (sample.gpu_load, sample.gpu_hz) == (0.0, (0.0, 0.0))
    assert sample.engines == {"VIC": Engine(clock_hz=729 * MHZ), "APE": Engine(clock_hz=174 * MHZ)}
    assert sample.gated == ("CV0", "CV1", "GPU", "CV2")
    assert sample.temperatures_c == {
        "CPU": 44.562, "Tboard": 32.0, "SOC2": 40.093, "Tdiode": 33.0, "SOC0": 41.093,
        "tj": 44.343, "SOC1": 41.25,
    }  # fmt: skip
    assert sample.rails_w == {
        "VDD_GPU_SOC": 2.34, "VDD_CPU_CV": 0.39, "VIN_SYS_5V0": 4.025, "VDDQ_VDD2_1V8AO": 0.301,
    }  # fmt: skip


def test_agx_orin_r35_line_under_load() -> None:
    sample = parse_line(lines("agx_orin_64gb_r35_load")[0])
    assert (sample.gpu_load, sample.gpu_hz) == (0.14, (407 * MHZ, 407 * MHZ))
    assert sample.engines["NVDLA0"] == Engine(clock_hz=1600 * MHZ)
    assert sample.temperatures_c["CV0"] == 73.625
    assert sample.cpu is not None
    assert [core.load for core in sample.cpu] == [0.9] + [1.0] * 11
    assert sample.rails_w["VDD_CPU_CV"] == 14.312


def test_agx_orin_r36_leaves_gated_sensors_out() -> None:
    samples = [parse_line(line) for line in lines("agx_orin_64gb_r36.4.4")]
    assert [sample.rails_w["VIN_SYS_5V0"] for sample in samples] == [4.707, 4.607, 4.707]
    assert all("gpu" not in sample.temperatures_c and not sample.gated for sample in samples)
    assert samples[0].engines["NVENC"] == Engine(on=True, load=0.79, clock_hz=166 * MHZ)
    assert samples[0].engines["NVDEC"] == Engine(on=False)
    assert samples[2].temperatures_c["tj"] == 52.156


def test_orin_nano_without_root_carries_no_clock_of_memory_or_gpu() -> None:
    sample = parse_line(lines("orin_nano_8gb_r36_nonroot")[0])
    assert (sample.emc_load, sample.emc_hz, sample.gpu_hz) == (None, None, None)
    assert sample.gpu_load == 0.0
    assert sample.temperatures_c["soc0"] == 50.0
    assert sample.rails_w == {"VDD_IN": 4.824, "VDD_CPU_GPU_CV": 0.518, "VDD_SOC": 1.475}


def test_orin_nano_with_root() -> None:
    sample = parse_line(lines("orin_nano_8gb_r36_root")[0])
    assert (sample.emc_load, sample.emc_hz) == (0.43, 2133 * MHZ)
    assert (sample.gpu_load, sample.gpu_hz) == (0.63, (621 * MHZ,))
    assert sample.rails_w["VDD_IN"] == 12.479


def test_running_mean_of_power_is_not_taken_for_power() -> None:
    idle, busy = (parse_line(line) for line in lines("orin_nano_super_r36.4.3_root"))
    assert idle.rails_w == {"VDD_IN": 5.251, "VDD_CPU_GPU_CV": 0.512, "VDD_SOC": 2.72}
    assert busy.rails_w == {"VDD_IN": 16.321, "VDD_CPU_GPU_CV": 7.104, "VDD_SOC": 3.12}
    assert (busy.gpu_load, busy.gpu_hz, idle.emc_hz) == (0.99, (612 * MHZ,), 204 * MHZ)


def test_gpu_clock_without_brackets() -> None:
    first, second = (parse_line(line) for line in lines("orin_nano_super_r36_nonroot"))
    assert (first.gpu_load, first.gpu_hz) == (0.0, None)
    assert (second.gpu_load, second.gpu_hz) == (0.62, (612 * MHZ,))
    assert second.rails_w["VDD_SOC"] == 1.446


def test_thor_r38_has_clocks_but_no_utilisation() -> None:
    first, second, third = (parse_line(line) for line in lines("thor_t5000_r38.4.0"))
    assert (first.gpu_load, first.gpu_hz) == (None, (0.0, 0.0, 0.0))
    assert [s.rails_w["VDD_CPU_SOC_MSS"] for s in (first, second, third)] == [4.165, 4.923, 4.544]
    assert second.temperatures_c == {
        "cpu": 35.25, "tj": 36.031, "soc012": 36.062, "soc345": 34.5,
    }  # fmt: skip
    assert first.engines["NVENC0"] == Engine(clock_hz=0.0)
    assert first.cpu is not None
    assert len(first.cpu) == 14


def test_thor_with_a_system_rail_keeps_it_a_rail() -> None:
    first, second = (parse_line(line) for line in lines("thor_r38_vin"))
    assert first.rails_w["VIN"] == 26.686
    assert first.swap_total_bytes is None
    assert first.cpu is not None
    assert first.cpu[2] == CpuCore(online=False)
    assert second.cpu is None
    assert second.rails_w["VIN"] == 25.53


def test_thor_r39_prints_current_and_highest() -> None:
    first, second = (parse_line(line) for line in lines("thor_t5000_r39.2"))
    assert (first.temperatures_c["cpu"], second.temperatures_c["cpu"]) == (34.843, 34.312)
    assert first.rails_w["VDD_CPU_SOC_MSS"] == 8.71
    assert second.rails_w["VIN_SYS_5V0"] == 6.667
    assert (first.emc_load, first.emc_hz) == (0.07, 3200 * MHZ)
    assert first.gpu_hz == (314 * MHZ,) * 3


def test_nano_r32_has_rails_without_units_and_a_placeholder_pmic() -> None:
    sample = parse_line(lines("nano_r32.7")[0])
    assert sample.time is None
    assert sample.rails_w == {"POM_5V_IN": 1.75, "POM_5V_GPU": 0.0, "POM_5V_CPU": 0.366}
    assert (sample.iram_used_bytes, sample.iram_total_bytes) == (0, 252 * 1024)
    assert "PMIC" in sample.gated
    assert sample.gpu_hz == (76 * MHZ,)


def test_tx2_r32_without_root() -> None:
    sample = parse_line(lines("tx2_r32")[0])
    assert sample.rails_w["VDD_IN"] == 3.14
    assert (sample.gpu_load, sample.gpu_hz, sample.emc_load, sample.emc_hz) == (
        0.0,
        None,
        0.0,
        None,
    )
    assert sample.temperatures_c["thermal"] == 41.9


def test_one_clock_for_all_cores_behind_the_bracket() -> None:
    cpu = parse_line("CPU [9%,off,3%]@345 RAM 1/2MB").cpu
    assert cpu is not None
    assert [core.clock_hz for core in cpu] == [345 * MHZ, None, 345 * MHZ]


@pytest.mark.parametrize(
    "text",
    [
        "VDD_IN 4824W/4824W", "cpu@50.031F", "RAM 34/76GB", "GR3D_FREQ 630%@[621]",
        "VDD_IN 4824", "EMC_FREQ 43%@21", "GR3D_FREQ 63%@6", "RAM 3452/76", "APE 1", "",
    ],
)  # fmt: skip
def test_other_units_and_cut_numbers_give_no_value(text: str) -> None:
    sample = parse_line(text)
    assert carried(sample) == {}


def carried(sample: TegrastatsSample) -> dict[str, object]:
    """The fields that carry something, `unparsed` aside."""
    default = TegrastatsSample()
    return {
        name: getattr(sample, name)
        for name in sample.__struct_fields__
        if name != "unparsed" and getattr(sample, name) != getattr(default, name)
    }


def assert_no_new_values(whole: TegrastatsSample, part: TegrastatsSample) -> None:
    """Everything `part` carries, `whole` carries with the same value."""
    for name, value in carried(part).items():
        full = getattr(whole, name)
        if isinstance(value, dict):
            assert value.items() <= full.items(), name
        elif name == "gated":
            assert set(value) <= set(full)
        else:
            assert value == full, name


@settings(max_examples=150)
@given(line=st.sampled_from(ALL_LINES), data=st.data())
def test_a_line_cut_anywhere_gives_no_wrong_number(line: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(line)))
    whole, part = parse_line(line), parse_line(line[:cut])
    # `VIC 36%` cut off `VIC 36%@115` is the same engine with less known about it.
    engines = {
        name: engine
        for name, engine in part.engines.items()
        if not (engine.clock_hz is None and engine.load == whole.engines[name].load)
    }
    assert_no_new_values(whole, _replace(part, engines=engines))


def _replace(sample: TegrastatsSample, **values: object) -> TegrastatsSample:
    fields = {name: getattr(sample, name) for name in sample.__struct_fields__}
    return TegrastatsSample(**{**fields, **values})


@settings(max_examples=80)
@given(line=st.sampled_from([line for line in ALL_LINES if "..." not in line]), seed=st.randoms())
def test_fields_may_come_in_any_order(line: str, seed: random.Random) -> None:
    parts = re.findall(
        r"\d{2}-\d{2}-\d{4} \S+|(?:RAM|SWAP) \S+(?: \([^)]*\))*|IRAM \S+(?: [^()]*\))?"
        r"|\S+@-?[\d.]+C\S*|CPU \S+|[A-Z]\S* \S+",
        line,
    )
    assert " ".join(parts) == line
    seed.shuffle(parts)
    shuffled, straight = parse_line(" ".join(parts)), parse_line(line)
    # A bare number at the end of the line may be cut: it is left out, never guessed.
    assert_no_new_values(straight, _replace(shuffled, engines={}))
    missing = set(carried(straight)) - set(carried(shuffled))
    assert missing <= {"gpu_hz", "emc_hz", "gpu_load", "emc_load", "engines"}


@settings(max_examples=300)
@given(st.one_of(st.text(), st.binary().map(lambda b: b.decode("latin-1"))))
def test_rubbish_never_raises(text: str) -> None:
    parse_line(text)


@settings(max_examples=200)
@given(line=st.sampled_from(ALL_LINES), data=st.data())
def test_a_damaged_line_never_raises(line: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(line)))
    parse_line(line[:at] + data.draw(st.text(max_size=8)) + line[at + 3 :])


def test_a_number_of_thousands_of_digits_is_not_a_value() -> None:
    assert carried(parse_line(f"VDD_IN {'9' * 5000}mW/1mW RAM {'9' * 5000}/1MB")) == {}
