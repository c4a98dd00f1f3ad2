"""What the card of the comparison shows: a report of each model, then finding by finding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rad3d.core.encoders import ENCODERS, SHIPPED_ENCODER
from rad3d.core.errors import some
from rad3d.core.types import (
    Diagnosis,
    DiagnosisEvent,
    DoneEvent,
    FailedEvent,
    Novelty,
    Report,
    StageEvent,
    TextEvent,
    VariantEvent,
)
from rad3d.core.variant_ids import split_variant_id, variant_id
from rad3d.evaluation.figures.style import count
from rad3d.metrics.side_by_side import SideBySide
from rad3d.reports.export import edits_text
from rad3d.reports.sections import split_report
from rad3d.service.service import MAX_COMPARED
from rad3d.ui.html import comparison_html
from rad3d.ui.page_state import PageState, Values
from rad3d.ui.report import html

if TYPE_CHECKING:
    from rad3d.model.catalogue import VariantStatus

NOTHING: dict[str, Any] = {"scan": "", "picked": [], "asked": 0, "running": False, "html": ""}
"""The value of the card before a scan is open; see ``static/compare.js``."""


def offered(statuses: Sequence[VariantStatus]) -> list[dict[str, Any]]:
    """Return the models that can be picked: each language model with its ready modes."""
    models: dict[str, dict[str, Any]] = {}
    for status in statuses:
        if status.ready:
            llm, mode = split_variant_id(status.id)
            row = models.setdefault(llm.id, {"name": llm.name, "modes": []})
            row["modes"].append({"id": status.id, "name": mode.name.split(" (")[0]})
    return list(models.values())


def first_picks(statuses: Sequence[VariantStatus], llm: str | None, mode: str | None) -> list[str]:
    """Return what is picked at first: the chosen variant, its V-1 (or V-3), and Text."""
    if not llm or not mode:
        return []
    wanted = dict.fromkeys(variant_id(llm, each) for each in (mode, "v1", "v3", "text"))
    ready = {status.id for status in statuses if status.ready}
    return [each for each in wanted if each in ready][:3]


def linked_picks(asked: str, statuses: Sequence[VariantStatus]) -> tuple[list[str], str]:
    """Return the variants that a link names, and a sentence about those that cannot be picked.

    Args:
        asked: ids, separated by commas.
        statuses: of all variants.
    """
    names = list(dict.fromkeys(name.strip() for name in asked.split(",") if name.strip()))
    ready = {status.id for status in statuses if status.ready}
    left_out = [name[:40] for name in names if name not in ready]
    picked = [name for name in names if name in ready]
    left_out += picked[MAX_COMPARED:]
    text = f"The link also names {some(left_out, 3)}, which cannot be picked here."
    return picked[:MAX_COMPARED], text if left_out else ""


@dataclass
class Column:
    """One variant in the card.

    Attributes:
        variant: its id.
        stage, fraction: what it does now, and how far it is.
        text: written so far.
        report: once it has ended.
        failure: why it writes none.
    """

    variant: str
    stage: str = "waiting"
    fraction: float = 0.0
    text: str = ""
    report: Report | None = None
    failure: str = ""

    @property
    def name(self) -> str:
        """Shown to people."""
        llm, mode = split_variant_id(self.variant)
        return f"{llm.name} · {mode.name.split(' (')[0]}"


@dataclass
class Comparison:
    """A comparison, from the first event to the last.

    Attributes:
        columns: by variant, in the order in which they were picked.
        reference: the report that is true of the scan; empty where none is known.
        trained: variant -> parameters that its training changed, where that is known.
        ended: whether nothing more will come.
        notice: why it ended early, as HTML.
        stage: of all of them, while they wait.
        diagnosis, novelty: of the scan, once they are known.
    """

    columns: dict[str, Column]
    reference: str = ""
    trained: Mapping[str, int] = field(default_factory=dict)
    ended: bool = False
    notice: str = ""
    stage: str = ""
    diagnosis: Diagnosis | None = None
    novelty: Novelty | None = None

    def take(self, told: VariantEvent | StageEvent) -> bool:
        """Take an event in; True where it is worth showing at once."""
        if isinstance(told, StageEvent):
            self.stage = told.stage
            return True
        column, event = self.columns[told.variant_id], told.event
        self.stage = ""
        if isinstance(event, StageEvent):
            column.stage, column.fraction = event.stage, event.fraction
        elif isinstance(event, DiagnosisEvent):
            column.stage, column.fraction = "waiting for the first word", 0.5
            self.diagnosis = self.diagnosis or event.diagnosis
            self.novelty = self.novelty or event.novelty
        elif isinstance(event, TextEvent):
            column.text, column.stage = event.text, f"writing, {event.n_tokens} tokens"
            return False
        elif isinstance(event, DoneEvent):
            column.report, column.fraction = event.report, 1.0
        elif isinstance(event, FailedEvent):
            column.failure, column.fraction = event.reason, 1.0
        return True

    def end(self, notice: str = "", level: str = "error") -> None:
        """Nothing more will come, for the reason in a sentence."""
        self.ended, self.notice = True, self.notice or html.notice(notice, level)

    def html(self) -> str:
        """Return the columns and, once it has ended, the findings."""
        done = [c for c in self.columns.values() if c.report and c.report.text]
        aligned = None
        if self.ended and self.diagnosis and done:
            aligned = SideBySide(tuple(c.text for c in done), self.diagnosis, self.reference)
        places = {column.variant: place for place, column in enumerate(done)}
        return comparison_html(
            "comparison",
            columns=[
                self._column(column, aligned, places.get(column.variant))
                for column in self.columns.values()
            ],
            progress="" if self.ended else self._progress(),
            notice=self.notice,
            verdicts=html.verdicts(self.novelty, self._trained_on()),
            edits=edits_text(self.diagnosis) if self.diagnosis else "",
            table=self._table(aligned, done) if aligned and len(done) > 1 else None,
            same=len(done) > 1 and self.ended and len({column.text for column in done}) == 1,
            writing=not self.ended,
        )

    def _progress(self) -> str:
        share = sum(column.fraction for column in self.columns.values()) / len(self.columns)
        return html.progress(self.stage or "Writing the reports", share)

    def _trained_on(self) -> str:
        source = self.diagnosis.source if self.diagnosis else ""
        return ENCODERS.get(source, ENCODERS[SHIPPED_ENCODER]).trained_on

    def _column(
        self, column: Column, aligned: SideBySide | None, place: int | None
    ) -> dict[str, Any]:
        """Return what the template shows of a column."""
        alone: Sequence[tuple[int, int]] = ()
        if aligned and place is not None and len(aligned.texts) > 1:
            alone = aligned.alone(place)
        parts = split_report(column.text)
        sections = [
            (name, list(marked(column.text, body, alone)))
            for name, body in (("Findings", parts.findings), ("Impression", parts.impression))
            if body
        ]
        report = column.report
        stopped = "cancelled: this text is incomplete" if column.text else "not written"
        resting = stopped if self.ended else column.stage
        return {
            "variant": column.variant,
            "name": column.name,
            "status": html.report_end(report) if report else resting,
            "failure": column.failure,
            "sections": sections,
            "writing": not self.ended and report is None and not column.failure,
            "notes": [n.text for n in report.notes if n.code == "not_listening"] if report else [],
            "facts": self._facts(report, aligned, place) if report else {},
        }

    def _facts(
        self, report: Report, aligned: SideBySide | None, place: int | None
    ) -> dict[str, str]:
        """Return what it costs and, once all have ended, how it agrees."""
        facts = {}
        if aligned is not None and place is not None:
            likely, stated, unlikely = aligned.stated(place)
            facts["Likely findings stated"] = f"{stated} of {likely}"
            facts["Unlikely ones stated"] = str(unlikely)
            if aligned.reference:
                n = aligned.outcomes(place)
                true = sum(n.values()) - n["hallucinated"]
                facts["Right, by the truth"] = f"{n['matched']} of {true}"
                facts["Wrong place or size"] = str(n["wrong_place"] + n["wrong_size"])
                facts["Omitted or denied"] = str(n["omitted"] + n["contradictory"])
                facts["Invented"] = str(n["hallucinated"])
        if trained := self.trained.get(report.variant_id):
            facts["Trained parameters"] = count(trained)
        elif report.variant_id in self.trained:
            facts["Trained parameters"] = "none"
        if "writing" in report.timings_s:
            facts["Writing"] = f"{report.timings_s['writing']:.1f} s"
        return facts

    def _table(self, aligned: SideBySide, done: Sequence[Column]) -> dict[str, Any]:
        """Return the findings by organ, and what each report says of them."""
        organs: dict[str, list[Any]] = {}
        for row in aligned.rows:
            organs.setdefault(row.organ, []).append(row)
        return {
            "names": [column.name for column in done],
            "organs": organs,
            "known": bool(aligned.reference),
        }


def marked(text: str, body: str, spans: Iterable[tuple[int, int]]) -> Iterable[tuple[str, bool]]:
    """Yield the body of a section in pieces, and whether each is one of the spans.

    Args:
        text: of the report.
        body: a part of it.
        spans: of the text, in order.
    """
    offset = text.find(body)
    at = 0
    for start, end in ((a - offset, b - offset) for a, b in spans):
        if at <= start and end <= len(body):
            yield body[at:start], False
            yield body[start:end], True
            at = end
    yield body[at:], False


def begun(variants: Sequence[str], reference: str, statuses: Sequence[VariantStatus]) -> Comparison:
    """Return a comparison of which nothing is known yet."""
    trained = {s.id: s.trainable for s in statuses if s.id in variants}
    return Comparison({each: Column(each) for each in variants}, reference, trained)


def card(now: Values, **changed: Any) -> Values:
    """Return the card's value with some of it changed.

    Args:
        now: what the page shows.
        changed: parts of :data:`NOTHING`.
    """
    return {"compare": {**NOTHING, **now.get("compare", {}), **changed}}


def pick(page: PageState, picked: Sequence[str], told: str = "") -> None:
    """Open the card with these variants picked.

    Args:
        page: of the tab.
        picked: ready variants; where there are none, those that are picked at first.
        told: a sentence to show in the card.
    """
    asked, text = PageState.now(), html.notice(told, "info")
    page.write(lambda now: {"linked": picked, **card(now, picked=picked, asked=asked, html=text)})
