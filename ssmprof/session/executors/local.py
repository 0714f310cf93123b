"""This machine's device: workers forked here, its readings beside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from ssmprof.devices import Device, Wanted, detect
from ssmprof.doctor import examination as doctor
from ssmprof.doctor.host import need_torch
from ssmprof.measure.environment import called
from ssmprof.measure.passes.telemetry import Telemetry
from ssmprof.measure.workers.client import Client
from ssmprof.session.executors.protocol import Desk, Kind

# A reading a second shows throttling and drift; faster ones would be seen in the measurement.
TELEMETRY_HZ = 1.0


class Local:
    """The first device of the wanted kind. Raises NoDeviceError where it or torch is missing."""

    def __init__(self, wanted: Wanted = "any") -> None:
        need_torch()
        self._device: Device = detect(wanted)

    @property
    def name(self) -> str:
        return called(self._device.name)

    @property
    def kind(self) -> Kind:
        return self._device.kind

    @property
    def memory_bytes(self) -> int | None:
        return self._device.memory_bytes()

    @contextmanager
    def open(self, desk: Desk) -> Iterator[Client]:
        """Examine the machine where that is asked for, and fork workers on demand."""
        calibration = doctor.in_child(self.kind) if desk.examine else None
        if calibration is not None:
            desk.examined(calibration)
        guard = self._device.onboard.guard() if self._device.onboard is not None else None
        client = Client(
            self.kind,
            known=desk.outcomes,
            decisions=desk.decisions,
            disabled=desk.disabled,
            on_disabled=desk.disable,
            on_environment=lambda found: desk.meet(replace(found, calibration=calibration)),
            watch=guard,
            room=guard.room_bytes if guard is not None else None,
            predict=desk.predict,
            folder=desk.folder,
        )
        beside = Telemetry(self._device, desk.telemetry, hz=TELEMETRY_HZ)
        with client, beside:
            yield client
        if beside.error is not None:
            desk.warned(f"readings beside the run ended after {beside.samples}: {beside.error}")

    def close(self) -> None:
        self._device.close()
