"""What a person makes of a report, kept in their session beside the original."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from rad3d.core.errors import BadRequest
from rad3d.core.types import Report, Revision

if TYPE_CHECKING:
    from rad3d.service.service import Service
    from rad3d.service.sessions import Session

MAX_CHARACTERS = 20_000


def revise(service: Service, session: Session, of: str, text: str, seconds: float) -> Report:
    """Keep a revised text of the session's report.

    Args:
        service: finds what of the new text can be shown in the scan.
        session: the session with the report.
        of: :func:`report_key` of the report that was revised.
        text: the whole text; the original one takes the revision back.
        seconds: that the person has worked on it, in all.

    Returns:
        The report with its revision, which is the session's now.

    Raises:
        BadRequest: the session has ended or has another report by now, or the text is empty or too
            long.
    """
    service.sessions.check(session)
    text = text.replace("\r\n", "\n").strip()
    if not 0 < len(text) <= MAX_CHARACTERS:
        raise BadRequest(
            f"A report has 1 to {MAX_CHARACTERS:,} characters, and this text has {len(text):,}.",
            code="bad_revision",
        )
    if not (math.isfinite(seconds) and seconds >= 0):
        raise BadRequest("The time of a revision is a number of seconds.", code="bad_revision")
    report = session.report
    if report is not None and report_key(report) == of:
        revision = None if text == report.text else Revision(text, round(seconds, 1))
        revised = service.evidence.located(replace(report, revision=revision))
        if session.revise(report, revised):
            return revised
    raise BadRequest(
        "The report that you revised is not open any more.", "Revise the present one.",
        code="other_report",
    )  # fmt: skip


def report_key(report: Report) -> str:
    """Return what tells a report from every other one of the same session."""
    scan = report.provenance.get("volume_sha256", "")
    return f"{scan} {report.variant_id} {report.timings_s.get('total')}"
