"""CT-RATE's metadata table in the app: what it changes, whose it is, and that nothing stays."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import nibabel as nib
import numpy as np
import pytest
from browser.fakes import FakeService
from browser.launch import running_app
from tabs import KEY, Tab
from volume_files import chest, image_of

from rad3d.core import text_lines
from rad3d.core.errors import BadRequest
from rad3d.server import uploads
from rad3d.volume.ctrate import MetadataTable

pytestmark = pytest.mark.process

NAME = "train_1_a_1.nii.gz"
HEAD = "VolumeName,RescaleIntercept,RescaleSlope,XYSpacing,ZSpacing"
HU = chest()


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As in CT-RATE's first release: stored values, spacing 1, no direction."""
    path = tmp_path_factory.mktemp("scans") / NAME
    nib.save(image_of((HU[::-1, ::-1] + 8192).astype(np.int16), np.eye(4)), path)
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "train_metadata.csv"
    rows = (f'{NAME},-8192,1,"[7.0, 7.0]",8.0', 'SECRET_PATIENT.nii.gz,0,1,"[1, 1]",1')
    path.write_text("\n".join([HEAD, *rows]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_app(FakeService(), tmp_path_factory.mktemp("app")) as url:
        yield url


@pytest.fixture
def tab(address: str) -> Iterator[Tab]:
    with Tab(address) as opened:
        yield opened


def opened(tab: Tab, *files: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The viewer's value and the notice after files were sent as the page sends them."""
    *_, last = tab.events("open_upload", list(files))
    assert last["success"], last
    shown = last["output"]["data"][0]["values"]
    return shown["viewer"], shown["notice"]


@pytest.fixture(autouse=True)
def _no_uploads_of_others() -> None:
    """The folder is the process's: another file's refused upload may wait in it for its sweep."""
    uploads.sweep(unread_seconds=0)


def left() -> list[Path]:
    """Files in the upload folder now."""
    return [path for path in uploads.folder().rglob("*") if path.is_file()]


def test_the_scan_is_scaled_and_placed_by_its_row_and_the_notes_say_so(
    tab: Tab, raw: Path, table: Path
) -> None:
    _, notice = opened(tab, tab.upload(raw))
    assert "not Hounsfield units" in notice, "without the table nobody knows"
    viewer, notice = opened(tab, tab.upload(raw), tab.upload(table))
    assert (viewer["scan"], notice) == (viewer["serial"], "")
    assert viewer["spacing_mm"] == [7.0, 7.0, 8.0]
    notes = tab.call("describe", None, None)["values"]["notes"]
    assert "slope 1 and intercept -8192 of the metadata table" in notes
    assert "mm from the metadata table; the header says 1 x 1 x 1 mm" in notes
    assert left() == []


def test_a_table_serves_the_scan_it_came_with_and_no_other(
    tab: Tab, address: str, raw: Path, table: Path
) -> None:
    given = tab.upload(table)
    with Tab(address) as stranger:
        opened(tab, tab.upload(raw), given)
        again, notice = opened(stranger, stranger.upload(raw), given)
        assert not again["id"]
        assert "not here any more" in notice
        _, notice = opened(stranger, stranger.upload(raw))
        assert "not Hounsfield units" in notice
    _, notice = opened(tab, tab.upload(raw))
    assert "not Hounsfield units" in notice, "nor does it stay for the next scan of the session"
    assert left() == []


def test_a_table_without_the_scan_is_refused_and_the_open_scan_stays(
    tab: Tab, raw: Path, table: Path
) -> None:
    before, _ = opened(tab, tab.upload(raw), tab.upload(table))
    after, notice = opened(tab, tab.upload(raw, "other.nii.gz"), tab.upload(table))
    assert "train_metadata.csv has no row for other.nii.gz" in notice
    assert (after["scan"], after["id"]) == (before["scan"], before["id"])
    assert after["serial"] > before["serial"]
    assert left() == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"VolumeName,Age\n", "lacks the columns RescaleSlope"),
        (b"\x1f\x8b\x08\x00\xff\xfe", "table.csv is not a table: it is a gzip file"),
        (f'{HEAD}\n{NAME},x,1,"[7, 7]",8'.encode(), "no number"),
        (b'"' + b"x" * (text_lines.MAX_LINE + 1), "more than 1,048,576 characters"),
        (b"", "table.csv is empty"),
    ],
)
def test_what_is_no_such_table_is_refused_in_a_sentence(
    content: bytes, message: str, tab: Tab, raw: Path, tmp_path: Path
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    viewer, notice = opened(tab, tab.upload(raw), tab.upload(path))
    assert not viewer["id"]
    assert message in notice
    assert "table.csv" in notice
    assert left() == []


def test_a_table_that_is_too_large_is_refused_unread(
    tab: Tab, raw: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_TABLE_MB", 0)
    _, notice = opened(tab, tab.upload(raw), tab.upload(table))
    assert "larger than the 0 MB" in notice
    assert left() == []


def test_of_a_strangers_table_one_row_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    rows = (f'scan{i}.nii.gz,0,1,"[1, 1]",1' for i in range(50_000))
    path.write_text("\n".join([HEAD, *rows]), encoding="utf-8")
    found = MetadataTable(path, only="scan49999.nii.gz")
    assert found.row("scan49999.nii.gz").spacing_mm == (1.0, 1.0, 1.0)
    assert "scan0.nii.gz" not in found


def test_neither_log_nor_answer_holds_the_table_or_its_name(
    tab: Tab, raw: Path, table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    *_, last = tab.events("open_upload", [tab.upload(raw), tab.upload(table, "DOE_JANE.csv")])
    volume = httpx.get(f"{tab.address}/rad3d/geometry", headers={KEY: tab.key()})
    for text in (caplog.text, str(last), volume.text):
        assert "SECRET_PATIENT" not in text
        assert "DOE_JANE" not in text


def test_the_files_of_a_call_must_be_uploads_wherever_they_stand(tab: Tab, raw: Path) -> None:
    forged = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    body = {
        "fn_index": tab.functions["open_upload"],
        "session_hash": tab.hash,
        "data": [[tab.upload(raw), forged]],
    }
    assert tab.client.post(f"{tab.api}/queue/join", json=body).status_code == 400
    with pytest.raises(BadRequest), uploads.taken("/etc/passwd"):
        pass
    uploads.sweep(unread_seconds=0)  # what was never read goes with the next sweep
    assert left() == []
