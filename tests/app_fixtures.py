"""Fixtures of the tests on the app: tiny models, and an app on a stand-in for them.

They are loaded by ``tests/conftest.py``; torch and gradio are imported only where one is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from browser.fakes import FakeService

MAX_UPLOAD_MB = 4


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny random variants ``phantom-s/v3`` and ``phantom-s/v2``; read only."""
    from tiny_models import save_shipped

    folder = tmp_path_factory.mktemp("models")
    save_shipped(folder, modes=("v3", "v2"))
    return folder


@pytest.fixture(scope="module")
def fake_service(chest: Path) -> FakeService:
    """Writes a fixed report word by word; its gallery holds the sample ``one``."""
    from browser.fakes import FakeService, sample_card

    card = sample_card("one", "Sample one", "A chest", chest)
    return FakeService((card,), seconds_per_word=0.005)


@pytest.fixture(scope="module")
def address(fake_service: FakeService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An app on ``fake_service`` that takes uploads of up to ``MAX_UPLOAD_MB``."""
    from browser.launch import running_app

    folder = tmp_path_factory.mktemp("app")
    with running_app(fake_service, folder, max_upload_mb=MAX_UPLOAD_MB) as url:
        yield url
