"""Tests of what stays of a person begin with an empty upload folder."""

from __future__ import annotations

import shutil

import pytest
from browser.launch import UPLOADS


@pytest.fixture(autouse=True)
def _no_earlier_uploads() -> None:
    """Delete what a test of another folder uploaded and never opened.

    The app keeps such a file for a quarter of an hour, and all apps of a test run share one folder.
    """
    for entry in UPLOADS.glob("*"):
        shutil.rmtree(entry, ignore_errors=True)
