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
