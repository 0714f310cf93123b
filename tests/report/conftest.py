"""One browser for every test of pages that needs one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = os.environ.get("SSMPROF_CHROMIUM") or shutil.which("chromium")


# Not for the session: playwright's loop runs in this thread until it ends, and whoever calls
# asyncio.run in a later folder would be refused.
@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """A Chromium without a window; tests open contexts of their own and close them."""
    if not CHROMIUM:
        pytest.skip("no Chromium here: apt install chromium, or set SSMPROF_CHROMIUM")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield started
        started.close()
