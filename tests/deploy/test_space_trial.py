"""The planned files, in a clean folder and a fresh environment, start and write a report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.slow
def test_the_space_starts_from_its_planned_files_alone_and_writes_a_report() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "try_space.py")], capture_output=True, text=True
    )
    if done.returncode == 3:
        pytest.skip("packages cannot be fetched here")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "report: " in done.stdout
    assert "left its files as they were" in done.stdout
