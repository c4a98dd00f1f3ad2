"""Shared fixtures, and which tests run where.

* ``slow`` tests, of over a quarter of a second, are skipped unless ``CI`` or ``RAD3D_TEST_SLOW=1``
  is set, or ``-m`` names them.
* ``weights`` tests read real weights, for minutes: they run where ``-m weights`` asks for them and
  the packages of requirements-weights.txt are installed.
* ``process`` tests start an app, a server or another interpreter; ``just test`` leaves them out.
* ``browser`` tests need Debian's chromium. Where it is absent they are skipped; with
  ``RAD3D_TEST_BROWSER=required`` (as in CI) they fail.
* Tests on shared data (``../shared``, or ``RAD3D_SHARED``) are skipped where it is absent.
"""

from __future__ import annotations

import gc
import locale
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from tabs import PATIENCE_S

pytest_plugins = ["browser.fixtures", "app_fixtures"]

ROOT = Path(__file__).resolve().parent.parent
LOCALE = locale.setlocale(locale.LC_ALL)
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")

# No test may reach out: whatever would download something fails at once instead.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# Threads that wait for each other at every product of a tiny model: on two busy cores a test of
# 0.8 s of one processor took 17 to 26 s of it with two threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nothing that a test writes has to outlive a power cut, and every flush waits for the disk.
setattr(os, "fsync", lambda _: None)  # noqa: B010

# A busy machine is slow, not wrong: neither a connection of httpx (and of gradio_client, which uses
# it) nor an example of hypothesis fails because it took longer than on an idle one.
for _step in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, _step, PATIENCE_S)
hypothesis_settings.register_profile(
    "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("patient")

# Nothing that a collection of tests imports becomes garbage; to search it takes half of its time.
gc.disable()


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "yes", "required")


def pytest_collection_finish() -> None:
    """From here on, garbage is collected among what the tests themselves make."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip slow tests in a quick run, and tests on real weights where nobody asked for them."""
    if "weights" not in config.option.markexpr:
        unasked = pytest.mark.skip(reason="weights: runs with -m weights")
        for item in items:
            if item.get_closest_marker("weights"):
                item.add_marker(unasked)
    if _is_on("CI") or _is_on("RAD3D_TEST_SLOW") or "slow" in config.option.markexpr:
        return
    quick = pytest.mark.skip(reason="slow: runs in CI and with RAD3D_TEST_SLOW=1")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(quick)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """The random numbers of a test, and of the fixtures made for it, hang on no earlier test."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _one_locale() -> Iterator[None]:
    """No test may switch the locale of the process, which decides how others read their files."""
    yield
    found = locale.setlocale(locale.LC_ALL)
    locale.setlocale(locale.LC_ALL, LOCALE)
    assert found == LOCALE, "the locale was switched"


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with real scans and other people's test files; skips where it is absent."""
    folder = Path(os.environ.get("RAD3D_SHARED", ROOT.parent / "shared")).resolve()
    if not (folder / "data").is_dir():
        pytest.skip(f"shared test data is not at {folder} (set RAD3D_SHARED)")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium that Playwright can drive; skips, or fails, where there is none."""
    for name in CHROMIUM_NAMES:
        if path := shutil.which(name):
            return path
    absent = "no chromium on this machine (Debian: apt-get install chromium)"
    if _is_on("RAD3D_TEST_BROWSER"):
        pytest.fail(f"{absent}, and RAD3D_TEST_BROWSER requires one")
    pytest.skip(absent)
