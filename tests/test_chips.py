"""Peak rates: every figure has a source, and names of real drivers find their chip."""

import msgspec
import pytest

from ssmprof.chips import Figure, chips, find_chip


@pytest.mark.parametrize("key", sorted(chips()))
def test_every_figure_is_positive_and_has_a_source(key):
    figures = [v for v in msgspec.structs.asdict(chips()[key]).values() if isinstance(v, Figure)]
    assert len(figures) >= 6
    assert all(figure.value > 0 and figure.source for figure in figures)


@pytest.mark.parametrize("key", sorted(chips()))
def test_a_chip_is_found_by_its_own_name(key):
    assert find_chip(chips()[key].name) == key


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb-sxm"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb-pcie"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("Tesla T4", "t4"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA Jetson AGX Thor Developer Kit", "thor-t5000"),
    ],
)
def test_names_of_drivers_find_their_chip(name, key):
    assert find_chip(name) == key


@pytest.mark.parametrize(
    "name", ["NVIDIA A100-SXM4-40GB", "NVIDIA GeForce RTX 4090 D", "Intel(R) Xeon(R)", "NVIDIA L40"]
)
def test_a_relative_is_never_guessed(name):
    assert find_chip(name) is None


def test_exponentials_of_an_h100_match_the_published_rate():
    h100 = chips()["h100-sxm"]
    # 3.9e12 at the tensor clock of 1,830 MHz (arXiv:2407.08608)
    at_tensor_clock = h100.exp_per_s / h100.boost_clock_hz.value * 1.83e9
    assert at_tensor_clock == pytest.approx(3.9e12, rel=0.02)


def test_peaks_of_a_board_follow_the_caps_of_its_power_mode() -> None:
    module = chips()["orin-nano-8gb"]
    fifteen_watt = module.under_caps(612e6, 2133e6)
    assert fifteen_watt.fp16_dense_flops is not None
    assert fifteen_watt.fp16_dense_flops.value == pytest.approx(10.0e12, rel=0.005)
    assert fifteen_watt.mem_bandwidth_bytes_per_s.value == pytest.approx(68e9, rel=0.005)
    # The same module in the Super configuration: what the table says of that configuration.
    fast, table = module.under_caps(1020e6, 3199e6), chips()["orin-nano-8gb-super"]
    assert fast.fp16_dense_flops is not None
    assert table.fp16_dense_flops is not None
    assert fast.fp16_dense_flops.value == pytest.approx(table.fp16_dense_flops.value, rel=0.005)
    assert fast.mem_bandwidth_bytes_per_s.value == pytest.approx(102.4e9, rel=0.005)
    assert "live cap" in fast.mem_bandwidth_bytes_per_s.source
    assert module.under_caps(None, None) == module


def test_gated_multiprocessors_take_their_share_of_the_peak() -> None:
    whole = chips()["agx-orin-64gb"]
    thirty_watt = whole.under_caps(612e6, None, sm_count=8)
    assert thirty_watt.fp16_dense_flops is not None
    assert thirty_watt.fp16_dense_flops.value == pytest.approx(2 * 1024 * 8 * 612e6, rel=0.005)


def test_memory_clocks_and_bus_widths_give_the_bandwidth_of_the_table() -> None:
    bits = {"orin-nano-4gb": 64, "orin-nano": 128, "orin-nx": 128, "agx": 256, "thor": 256}
    for key, chip in chips().items():
        if chip.memory_clock_hz is None:
            assert not key.startswith(tuple(bits))
            continue
        width = next(value for name, value in bits.items() if key.startswith(name))
        expected = 2 * chip.memory_clock_hz.value * width / 8
        assert chip.mem_bandwidth_bytes_per_s.value == pytest.approx(expected, rel=0.005)
