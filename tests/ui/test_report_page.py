"""The page to print: what it shows of a real report of the shipped models, and what it does not."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rad3d.cli import main
from rad3d.core.errors import BadRequest
from rad3d.core.settings import Settings
from rad3d.core.types import DoneEvent, GenerationOptions
from rad3d.service.revisions import report_key, revise
from rad3d.service.service import Service
from rad3d.service.sessions import Session
from rad3d.ui.report.page import report_page
from rad3d.ui.report.windows import window_of

SAMPLES = Path(__file__).parents[2] / "assets" / "samples"
SCAN = SAMPLES / "in-050023.nii.gz"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service() -> Service:
    return Service(Settings())


@pytest.fixture
def session(service: Service) -> Session:
    """One with a report on a sample that was opened under a patient's name."""
    made = service.sessions.new()
    service.open_path(made, SCAN, "JOHN DOE.nii.gz")
    *_, last = service.generate(made, "phantom-l/v3", GenerationOptions(), threading.Event())
    assert isinstance(last, DoneEvent)
    return made


def figures(page: str) -> list[tuple[np.ndarray, str]]:
    """The key slices, (rows, columns, 3), and what is said of each."""
    found = re.findall(r'base64,([^"]+)" alt="([^"]+)"', page)
    return [
        (np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), float), words)
        for data, words in found
    ]


def test_the_page_has_the_report_its_evidence_and_its_sources(
    service: Service, session: Session
) -> None:
    report = session.report
    assert report is not None
    page = report_page(service, session).decode()
    assert "do not rely on its reports" in page
    assert str(report.provenance["volume_sha256"]) in page
    assert "phantom-l/v3" in page
    for row in report.diagnosis.to_rows():
        assert row["label"] in page
    shown = figures(page)
    seen = {row["label"] for row in report.diagnosis.to_rows() if row["present"]}
    assert {words.split(".")[0] for _, words in shown} >= seen & report.located
    for picture, words in shown:
        label = words.split(".")[0]
        assert f"{window_of(label).name.lower()} window" in words
        tinted = picture[..., 0] - picture[..., 2] > 25
        assert 0 < tinted.mean() < 0.5, f"{label} is marked, and not everywhere"


def test_the_page_holds_no_name_and_loads_nothing(service: Service, session: Session) -> None:
    page = report_page(service, session).decode()
    assert "DOE" not in page
    assert not re.search(r"""(?:src|href)=["'](?!data:)|url\(|@import|<script""", page)
    assert "default-src 'none'" in page


def test_a_revised_report_is_printed_with_what_was_changed(
    service: Service, session: Session
) -> None:
    assert session.report is not None
    text = session.report.text + " <b>Pneumonia</b> was discussed."
    revise(service, session, report_key(session.report), text, 61)
    page = report_page(service, session).decode()
    assert "Revised by a person in 61 s" in page
    added = re.findall(r"<ins>(.*?)</ins>", page)
    assert any("&lt;b&gt;Pneumonia&lt;/b&gt; was discussed." in words for words in added)
    assert "<b>Pneumonia" not in page


def test_without_a_report_there_is_no_page(service: Service) -> None:
    session = service.sessions.new()
    service.open_path(session, SCAN, "scan.nii.gz")
    with pytest.raises(BadRequest, match="no report"):
        report_page(service, session)


def test_the_command_writes_page_and_resource_and_refuses_a_folder_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, resource = tmp_path / "report.html", tmp_path / "new" / "report.fhir.json"
    line = ["report", str(SCAN), "--variant", "phantom-s/v3"]
    assert main([*line, "--page", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "is a folder. Name the file to write." in said.err
    assert "Encoding" not in said.err, "nothing was computed in vain"
    assert main([*line, "--page", str(page), "--fhir", str(resource)]) == 0
    assert "Key slices" in page.read_text(encoding="utf-8")
    assert json.loads(resource.read_text(encoding="utf-8"))["status"] == "preliminary"
