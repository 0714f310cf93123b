"""Power has a scope: what a module drew and what a system drew never share an axis."""

from __future__ import annotations

import make
from msgspec.structs import replace

from ssmprof.records import Energy, Job, Measurement, Run
from ssmprof.report import to_html


def drawn(*scopes: str) -> Run:
    """A run whose rounds have energy of these scopes, in turn."""

    def measure(job: Job) -> Measurement:
        scope = scopes[job.round % len(scopes)]
        energy = Energy(
            energy_j=job.point.context * 1e-3, mean_power_w=8.0, window_s=5.0, calls=10,
            source=f"ina:{scope}", scope=scope,  # type: ignore[arg-type]
        )  # fmt: skip
        return make.measurement(point=job.point, round=job.round, energy=energy)

    asked = make.scenario(contexts=(512, 1024, 2048))
    asked = replace(asked, passes=replace(asked.passes, energy=True))
    return make.measured(asked, make.measured_by(measure))


def test_energy_is_drawn_with_its_scope() -> None:
    page = to_html(drawn("module"))
    assert "of the module, idle included; read from ina:module" in page
    assert "share no axis" not in page


def test_energies_of_two_scopes_are_not_drawn() -> None:
    page = to_html(drawn("module", "system"))
    assert "two scopes share no axis" in page
    assert "ina:module covers the module; ina:system covers the system" in page
    assert "energy per token" not in page
