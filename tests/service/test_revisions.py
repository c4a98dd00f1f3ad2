"""What a person makes of a report stays theirs, beside the original, until another report comes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tiny_models import CountingEncoder, FakeEncoderStore, volume

from rad3d.core.errors import BadRequest
from rad3d.core.settings import Settings
from rad3d.core.types import DoneEvent, GenerationOptions, Report, Volume
from rad3d.service.revisions import MAX_CHARACTERS, report_key, revise
from rad3d.service.service import Service
from rad3d.service.sessions import Session

TEXT = "Findings: There is a 9 mm nodule in the left upper lobe.\nImpression: Nodule."


@pytest.fixture
def service(models: Path, tmp_path: Path) -> Service:
    settings = Settings(models_dir=models)
    return Service(settings, FakeEncoderStore(settings, CountingEncoder()), tmp_path)


def write(service: Service, session: Session, seed: int = 1) -> Report:
    options = GenerationOptions(max_new_tokens=10)
    service.open(session, lambda: opened(seed))
    *_, last = service.generate(session, "phantom-s/v3", options, threading.Event())
    assert isinstance(last, DoneEvent)
    return last.report


def opened(seed: int) -> Volume:
    return volume(seed)


def test_a_revision_is_kept_beside_the_original_and_taken_back_by_it(service: Service) -> None:
    session = service.sessions.new()
    report = write(service, session)
    revised = revise(service, session, report_key(report), f" {TEXT}\r\n", 12.34)
    assert session.report is revised
    assert (revised.text, revised.final_text) == (report.text, TEXT)
    assert revised.revision is not None
    assert revised.revision.seconds == 12.3
    again = revise(service, session, report_key(revised), TEXT + " Other.", 20)
    assert again.text == report.text
    back = revise(service, session, report_key(again), report.text, 25)
    assert back.revision is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 1), (" \n ", 1), ("x" * (MAX_CHARACTERS + 1), 1), (TEXT, -1), (TEXT, float("nan"))],
)
def test_what_is_no_revision_changes_nothing(service: Service, text: str, seconds: float) -> None:
    session = service.sessions.new()
    report = write(service, session)
    with pytest.raises(BadRequest):
        revise(service, session, report_key(report), text, seconds)
    assert session.report is report


def test_a_draft_of_an_earlier_report_never_lands_on_a_later_one(service: Service) -> None:
    session = service.sessions.new()
    first = write(service, session)
    second = write(service, session, seed=2)
    with pytest.raises(BadRequest, match="not open any more"):
        revise(service, session, report_key(first), TEXT, 1)
    assert session.report is second


def test_an_ended_session_and_another_visitors_report_cannot_be_revised(service: Service) -> None:
    mine, yours = service.sessions.new(), service.sessions.new()
    report, other = write(service, mine), write(service, yours, seed=2)
    with pytest.raises(BadRequest):
        revise(service, yours, report_key(report), TEXT, 1)
    assert yours.report is other
    service.sessions.end(mine)
    with pytest.raises(BadRequest, match="session has ended"):
        revise(service, mine, report_key(report), TEXT, 1)
    assert mine.report is None
