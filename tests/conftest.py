"""What every test gets: kernels on Triton's interpreter where no GPU is, and a leak check."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings


def _has_gpu() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/nvhost-gpu").exists()


# Triton reads the variable when it is first imported, hence here and not in a fixture.
if not _has_gpu():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# No test is timed: a busy machine is no fault.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Sweeps of tests are ended by every signal, also where the tests themselves run under nohup.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the GPU and Jetson tiers unless `-m` asks for them."""
    asked = config.option.markexpr
    for item in items:
        for tier in ("gpu", "jetson"):
            if tier in item.keywords and tier not in asked:
                item.add_marker(pytest.mark.skip(reason=f"runs with -m {tier}"))


@pytest.fixture(autouse=True)
def _nothing_leaks() -> object:
    """No test leaves a worker process or an open scope behind."""
    yield
    pool = sys.modules.get("ssmprof.measure.workers.pool")
    scopes = sys.modules.get("ssmprof.scopes")
    workers = tuple(pool.living) if pool else ()
    assert not workers, f"workers left behind: {workers}"
    assert not (scopes and scopes.is_listening()), "a scope listener was left behind"
