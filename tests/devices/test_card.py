"""Readings come from the card that torch measures, whatever NVML calls it, or from none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ssmprof.devices import Card, NullDevice, cuda, detect
from ssmprof.devices.nvml import NvmlDevice, handle_of
from ssmprof.errors import NoDeviceError
from ssmprof.measure import environment

sys.path.insert(0, str(Path(__file__).parent))
BLINDNESS = cuda.torch_is_blind
FakeNvml: Any = import_module("test_nvml").FakeNvml


class Mixed(FakeNvml):
    """A T4 at the lower PCI address and an A100 at the higher: CUDA calls the A100 device 0."""

    names = ("Tesla T4", "NVIDIA A100-SXM4-80GB")
    uuids = ("GPU-11111111-0000", "GPU-22222222-0000")
    pci = ("00000000:1b:00.0", "00000000:af:00.0")

    def nvmlDeviceGetName(self, handle: Any) -> str:
        return self.names[handle[1]]

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes) -> Any:
        return ("handle", self.uuids.index(uuid.decode()))

    def nvmlDeviceGetHandleByPciBusId(self, address: bytes) -> Any:
        return ("handle", self.pci.index(address.decode()))


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    asked = (cuda._cards, BLINDNESS)
    for one in asked:
        one.cache_clear()
    yield
    for one in asked:
        one.cache_clear()


@pytest.mark.parametrize(
    "card",
    [
        Card("GPU-22222222-0000", "00000000:af:00.0"),
        Card("GPU-22222222-0000", None),
        Card(None, "00000000:af:00.0"),
        Card("GPU-unknown-to-nvml", "00000000:af:00.0"),
    ],
)
def test_a_card_is_found_by_what_cuda_calls_it(card: Card) -> None:
    assert NvmlDevice(nvml=Mixed(), card=card).name == "NVIDIA A100-SXM4-80GB"


def test_a_slice_of_a_card_is_found_by_its_own_name() -> None:
    class Sliced(FakeNvml):
        def nvmlDeviceGetHandleByUUID(self, uuid: bytes) -> Any:
            if not uuid.startswith(b"MIG-"):
                raise LookupError(uuid)
            return ("mig", uuid)

    found = NvmlDevice(nvml=Sliced(), card=Card("GPU-5f0c7e9a", None))
    assert found._handle == ("mig", b"MIG-5f0c7e9a")


def test_a_card_that_nvml_does_not_know_is_refused() -> None:
    with pytest.raises(LookupError, match="GPU-33333333"):
        NvmlDevice(nvml=Mixed(), card=Card("GPU-33333333", "00000000:01:00.0"))


@pytest.mark.parametrize("visible", [None, "0", "1"])
def test_cards_of_several_kinds_need_an_order_where_the_driver_cannot_be_asked(
    visible: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(LookupError, match="CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        NvmlDevice(nvml=Mixed())
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert NvmlDevice(nvml=Mixed()).name == Mixed.names[int(visible or 0)]


@pytest.mark.parametrize(
    ("visible", "handle"),
    [
        ("0", ("handle", 0)),
        ("1", ("handle", 1)),
        (" 1 ,0", ("handle", 1)),
        ("1,,0", ("handle", 1)),
        ("GPU-bbbb", ("handle", 1)),
        ("GPU-b", ("handle", 1)),
        ("MIG-5f0c", ("uuid", b"MIG-5f0c")),
        ("MIG-GPU-aaaa/1/0", ("uuid", b"MIG-GPU-aaaa/1/0")),
    ],
)
def test_what_is_visible_is_renumbered(
    visible: str, handle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert handle_of(FakeNvml(), 0) == handle


@pytest.mark.parametrize("visible", ["", " ", ",1", "-1", "none", "x,0", "7", "²", "GPU-"])
def test_what_is_hidden_is_not_opened(visible: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    nvml = FakeNvml()
    nvml.nvmlDeviceGetHandleByUUID = lambda uuid: (_ for _ in ()).throw(LookupError(uuid))
    with pytest.raises(LookupError):
        NvmlDevice(nvml=nvml)


def test_the_beginning_of_two_names_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Alike(FakeNvml):
        uuids = ("GPU-aaaa1", "GPU-aaaa2")

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aaaa")
    with pytest.raises(LookupError, match="2 cards begin with"):
        handle_of(Alike(), 0)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine whose NVML and CUDA answer so; its torch can use CUDA."""

    def made(answer: object, nvml: Any = None) -> None:
        said = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        monkeypatch.setattr("ssmprof.devices.nvml.library", lambda: nvml or Mixed())
        monkeypatch.setattr(
            "ssmprof.devices.cuda.subprocess.run", lambda *_, **__: SimpleNamespace(stdout=said)
        )
        monkeypatch.setattr("ssmprof.devices.cuda.torch_is_blind", lambda: None)

    return made


A100 = {"uuid": "GPU-22222222-0000", "pci": "00000000:af:00.0"}


def test_the_parent_opens_the_card_that_cuda_calls_first(machine: Callable[..., None]) -> None:
    machine({"error": 0, "cards": [A100]})
    assert detect("cuda").name == "NVIDIA A100-SXM4-80GB"


def test_a_worker_opens_the_card_that_torch_names(machine: Callable[..., None]) -> None:
    machine({"error": 0, "cards": []})
    found = detect("cuda", Card("GPU-11111111-0000", None))
    assert found.name == "Tesla T4"


@pytest.mark.parametrize("answer", [{"error": 100, "cards": []}, {"error": 0, "cards": []}])
def test_without_a_visible_card_the_processor_is_what_there_is(
    answer: object, machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    machine(answer)
    with pytest.raises(NoDeviceError, match=r"CUDA sees no device \(CUDA_VISIBLE_DEVICES"):
        detect("cuda")
    assert detect("any").kind == "cpu"


@pytest.mark.parametrize("answer", [{"error": 999, "cards": []}, {"error": -1, "cards": []}, b""])
def test_where_cuda_gives_no_answer_the_rules_decide(
    answer: object, machine: Callable[..., None]
) -> None:
    machine(answer, FakeNvml())
    assert detect("cuda").name == "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize(
    ("text", "blind"),
    [
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", True),
        ("cuda = None\n", True),
        ("cuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n", False),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.3'\n", False),
        ("", False),
    ],
)
def test_a_torch_that_is_built_for_the_processor_measures_no_card(
    text: str, blind: bool, machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    machine({"error": 0, "cards": [A100]})
    monkeypatch.setattr("ssmprof.devices.cuda.torch_is_blind", BLINDNESS)
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").write_text(text)
    place = SimpleNamespace(origin=str(tmp_path / "torch" / "__init__.py"))
    monkeypatch.setattr("ssmprof.devices.cuda.find_spec", lambda _: place)
    if blind:
        with pytest.raises(NoDeviceError, match="built without CUDA"):
            detect("cuda")
        assert detect("any").kind == "cpu"
    else:
        assert detect("cuda").name == "NVIDIA A100-SXM4-80GB"


def test_a_torch_that_cannot_be_located_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def spec(_: str) -> None:
        raise ValueError("torch.__spec__ is None")

    monkeypatch.setattr("ssmprof.devices.cuda.find_spec", spec)
    assert cuda.torch_is_blind() is None
    monkeypatch.setattr("ssmprof.devices.cuda.find_spec", lambda _: None)
    assert cuda.torch_is_blind() is None


def test_the_question_is_a_program_that_answers_without_a_driver(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-I", str(cuda._QUERY)], capture_output=True, check=True, cwd=tmp_path
    )
    answer = json.loads(said.stdout)
    assert answer["error"] == -1 or isinstance(answer["cards"], list)


@pytest.mark.parametrize(
    "name", [b"NVIDIA H100", "NVIDIA H100", b"NVIDIA H100\0\0", "NVIDIA H100 "]
)
def test_a_name_in_bytes_is_a_name(name: str | bytes) -> None:
    assert NvmlDevice(nvml=FakeNvml(nvmlDeviceGetName=name)).name == "NVIDIA H100"


def test_a_name_that_is_no_text_does_not_end_the_device() -> None:
    assert NvmlDevice(nvml=FakeNvml(nvmlDeviceGetName=b"\xff\xfe")).name


@pytest.mark.parametrize(("answer", "driver"), [(b"580.65.06", "580.65.06"), (None, None)])
def test_the_driver_is_nvmls_answer_where_proc_has_none(
    answer: bytes | None, driver: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = FakeNvml(nvmlSystemGetDriverVersion=answer)
    if answer is None:
        nvml.refused.add("nvmlSystemGetDriverVersion")
    monkeypatch.setattr(environment, "detect", lambda kind: NvmlDevice(nvml=nvml))
    monkeypatch.setattr(environment, "_driver", lambda: None)
    found = environment.bare("cuda")
    assert found.driver == driver
    assert ("driver" in found.missing) == (driver is None)


def test_a_device_without_a_driver_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "detect", lambda kind: NullDevice("x", "no NVML", "cuda"))
    monkeypatch.setattr(environment, "_driver", lambda: None)
    assert environment.bare("cuda").missing == {"driver": "no NVML"}


@pytest.mark.parametrize("visible", ["", "1", "-1"])
def test_a_board_whose_gpu_is_hidden_is_not_opened(
    visible: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = NullDevice("Orin", "x", "cuda")
    monkeypatch.setattr("ssmprof.devices.jetson.device.detect", lambda: board)
    assert detect("cuda") is board
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(NoDeviceError, match="hides the board's only GPU"):
        detect("cuda")


@pytest.mark.parametrize(
    ("properties", "card"),
    [
        (
            {"uuid": "22222222-0000", "pci_bus_id": 0xAF, "pci_device_id": 0, "pci_domain_id": 0},
            Card("GPU-22222222-0000", "00000000:af:00.0"),
        ),
        ({"pci_bus_id": 0xAF}, Card(None, "00000000:af:00.0")),
        ({"uuid": "22222222-0000"}, Card("GPU-22222222-0000", None)),
        ({}, None),
    ],
)
def test_torch_names_the_card_it_measures(
    properties: dict[str, Any], card: Card | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    from ssmprof.measure.point import measured_card

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert measured_card() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(**properties)
    )
    assert measured_card() == card
    if card is not None:
        assert NvmlDevice(nvml=Mixed(), card=card).name == "NVIDIA A100-SXM4-80GB"
