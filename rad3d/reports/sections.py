"""A report as findings and impression, and how to cut a text into the two.

The text of a report is ``"Findings: ...\\nImpression: ..."``. The split is tolerant because it is
also used on text that is still streaming and on text that a model or a person wrote.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FINDINGS = re.compile(r"\bfindings?\s*:", re.IGNORECASE)
_IMPRESSION = re.compile(r"\b(?:impressions?|conclusions?)\s*:", re.IGNORECASE)
_HEADINGS = ("findings:", "impression:")


@dataclass(frozen=True)
class ReportText:
    """Findings and impression, each without its heading."""

    findings: str
    impression: str

    @property
    def text(self) -> str:
        """The whole report as one text; a missing section leaves no heading behind."""
        parts = (("Findings", self.findings), ("Impression", self.impression))
        return "\n".join(f"{name}: {body}" for name, body in parts if body)


def split_report(text: str) -> ReportText:
    """Cut a report into findings and impression.

    Text before the first heading counts as findings. A heading that is only half written at the
    very end (``"...\\nImpres"``) is left out, so that a streaming report does not flicker.

    Args:
        text: a whole report, a part of one, or text without any heading.
    """
    impression = _IMPRESSION.search(text)
    head = text[: impression.start()] if impression else _drop_half_heading(text)
    tail = text[impression.end() :] if impression else ""
    findings = _FINDINGS.search(head)
    body = f"{head[: findings.start()].strip()} {head[findings.end() :]}" if findings else head
    return ReportText(findings=body.strip(), impression=tail.strip())


def _drop_half_heading(text: str) -> str:
    """The text without a last line that is the beginning of a heading."""
    start, last = _last_line(text)
    begun = last.strip().lower()
    if begun and any(heading.startswith(begun) for heading in _HEADINGS):
        return text[:start]
    return text


def _last_line(text: str) -> tuple[int, str]:
    start = text.rfind("\n") + 1
    return start, text[start:]
