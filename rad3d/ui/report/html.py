"""HTML of the report tab: notes, progress, report, verdicts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rad3d.core.encoders import ENCODERS, SHIPPED_ENCODER
from rad3d.core.errors import Rad3dError
from rad3d.core.types import Diagnosis, Note, Novelty, Report, Volume
from rad3d.reports.changes import Changes, differences
from rad3d.reports.sections import split_report
from rad3d.ui.html import report_html

if TYPE_CHECKING:
    from rad3d.evaluation.listening import Listening
    from rad3d.reports.crosscheck import CrossCheck, Statement

_FINISHED = {
    "end": "finished",
    "length": "stopped at the length limit",
    "cancelled": "cancelled: this text is incomplete",
}
_VERBS = {"asserted": "asserts", "considered": "considers", "denied": "denies"}


def notice(text: str, level: str = "error") -> str:
    """Return one sentence for the person; empty for none."""
    return report_html("notice", text=text, level=level)


def troubles(errors: Iterable[Rad3dError]) -> str:
    """Return what keeps this server from writing reports; empty for nothing."""
    text = " ".join(dict.fromkeys(str(error) for error in errors))
    works = "Scans can be looked at and predictions files evaluated, but no report can be written."
    return notice(f"{works} {text}") if text else ""


def scan_notes(volume: Volume | None, done: Sequence[Note] = ()) -> str:
    """Return what was read from the file and what was done to it, warnings first.

    Args:
        volume: the open volume, or None.
        done: notes of the model grid (resampling, crop, padding).
    """
    if volume is None:
        return ""
    facts = {"Scan": volume.name, **scan_facts(volume)}
    return report_html("scan_notes", facts=facts, notes=_sorted((*volume.notes, *done)))


def scan_facts(volume: Volume) -> dict[str, str]:
    """Return size and spacing of a scan by name."""
    return {
        "Voxels": " × ".join(str(n) for n in volume.shape),
        "Spacing": " × ".join(f"{s:.2f}" for s in volume.spacing_mm) + " mm",
        "Extent": " × ".join(f"{s / 10:.1f}" for s in volume.extent_mm) + " cm",
    }


def _sorted(notes: Iterable[Note]) -> list[Note]:
    """Return the notes without repetitions, warnings first."""
    return sorted(dict.fromkeys(notes), key=lambda note: note.level != "warning")


def folded_truth(truth: str) -> str:
    """Return the known findings of a sample, folded away; empty for other scans."""
    return report_html("folded_truth", truth=truth)


def progress(stage: str, fraction: float | None = None) -> str:
    """Return the running stage with a bar; an empty stage gives no bar."""
    share = None if fraction is None else min(max(fraction, 0.0), 1.0)
    return report_html("progress", stage=stage, share=share)


def example(sample: str, report: Report) -> str:
    """Return what a stored report is, and what to do next."""
    return notice(
        f"A finished example, stored with the app: {report.variant_id} wrote this report on the "
        f"sample “{sample}”. Press Generate to have it written now, or open another scan.",
        "info",
    )


def report_panel(
    text: str,
    status: str = "",
    statements: Sequence[Statement] = (),
    writing: bool = False,
    located: Collection[str] = (),
    changes: Changes | None = None,
) -> str:
    """Return findings and impression; words about a label of the diagnosis are marked.

    Those of a label in ``located`` can be pressed, unless they deny it.

    Args:
        text: the report.
        status: in one line.
        statements: what it says of the labels of the diagnosis.
        writing: it is being written.
        located: labels whose evidence can be shown in the scan.
        changes: what a person changed in it, see :func:`rad3d.reports.changes.changes_of`.
    """
    if not text and not writing:
        return report_html("no_report")
    return report_html(
        "report",
        sections=sections(text, statements, writing),
        status=status,
        traced=bool(statements),
        writing=writing,
        located=located,
        sentence_of=sentence_of,
        changes=changes,
    )


Sections = list[tuple[str, list[tuple[str, "Statement | None"]], bool]]
"""(name, pieces each with what it says of a label or None, whether it is being written)."""


def sections(text: str, statements: Sequence[Statement], writing: bool = False) -> Sections:
    """Return findings and impression in pieces; see :func:`report_panel` for the arguments."""
    parts = split_report(text)
    last = parts.impression or parts.findings
    return [
        (name, list(_pieces(text, body, statements)), writing and body == last)
        for name, body in (("Findings", parts.findings), ("Impression", parts.impression))
        if body or (writing and name == "Findings")
    ]


def report_status(report: Report) -> str:
    """Return variant, tokens, time, precision and how the report ended, in one line."""
    seconds = report.timings_s.get("total", sum(report.timings_s.values()))
    made = report.provenance
    parts = (
        "stored example" if made.get("stored") else "",
        report.variant_id,
        f"{report.n_tokens} tokens",
        f"{seconds:.1f} s" if report.timings_s else "",
        f"{made['precision']} on {made['device']}" if "precision" in made else "",
        _FINISHED[report.finish_reason],
    )
    return " · ".join(filter(None, parts))


def report_end(report: Report) -> str:
    """Return how long a report is and how it ended."""
    return f"{report.n_tokens} tokens · {_FINISHED[report.finish_reason]}"


def comparison(
    before: str,
    after: str,
    status: str,
    followed: Sequence[tuple[str, bool]] | None = None,
    unfinished: bool = True,
) -> str:
    """Return two reports beside each other, the words that differ marked.

    Args:
        before: from the classifier's diagnosis.
        after: from an edited one.
        status: of the second, in one line.
        followed: sentences on the edited findings, see :func:`followed`; None while it is written.
        unfinished: the second is being written, or was stopped before its end.
    """
    old, new = split_report(before), split_report(after)
    ends = {"Findings": unfinished and not new.impression, "Impression": unfinished}
    differ = {
        "Findings": differences(old.findings, new.findings, ends["Findings"]),
        "Impression": differences(old.impression, new.impression, ends["Impression"]),
    }
    count = sum(len(words.split()) for sides in differ.values() for words, tag in sides[1] if tag)
    lost = sum(len(words.split()) for sides in differ.values() for words, tag in sides[0] if tag)
    return report_html(
        "comparison",
        columns=[
            (
                "From the classifier’s diagnosis",
                [(name, sides[0]) for name, sides in differ.items()],
            ),
            ("From the edited diagnosis", [(name, sides[1]) for name, sides in differ.items()]),
        ],
        status=status,
        removed=lost,
        added=count,
        followed=followed,
        writing=followed is None,
    )


def followed(before: CrossCheck, after: CrossCheck, diagnosis: Diagnosis) -> list[tuple[str, bool]]:
    """Return for each edited label what two reports say of it, and whether the second follows.

    Args:
        before: of the report from the classifier's diagnosis.
        after: of the report from the edited diagnosis.
        diagnosis: the edited one.
    """
    found = []
    for row in diagnosis.to_rows():
        label = row["label"]
        if row["edited"] and label not in diagnosis.label_set.unread:
            old, new = _said(before, label), _said(after, label)
            now = f"still {new}" if old == new else f"{old} before, {new} now"
            given = f"{100 * row['classifier']:.0f} % → {100 * row['probability']:.0f} %"
            follows = (new in ("stated", "considered")) == row["present"]
            found.append((f"{label}, {given}: {now}", follows))
    return found


def listening(variant: str, found: Mapping[str, Listening]) -> str:
    """Return how often reports of a variant followed when one label of their prior was flipped.

    Args:
        variant: its id.
        found: label -> the shares, and ``""`` -> of all together; empty gives an empty text.
    """
    rows = sorted(
        ((label, each.followed) for label, each in found.items() if label),
        key=lambda row: -row[1].value,
    )
    return report_html("listening", variant=variant, all=found.get(""), rows=rows)


def _said(check: CrossCheck, label: str) -> str:
    """Return how a report treats a label; what it states counts most."""
    kinds = {item.kind.split("_")[0] for item in check.statements if item.label == label}
    words = {"asserted": "stated", "considered": "considered", "denied": "denied"}
    return next((word for kind, word in words.items() if kind in kinds), "not mentioned")


def _pieces(
    text: str, body: str, statements: Sequence[Statement]
) -> Iterator[tuple[str, Statement | None]]:
    """Yield the body in pieces, each with its statement or None; offsets count in ``text``."""
    offset = text.find(body)
    at = 0
    for item in sorted(statements, key=lambda s: s.start):
        start, end = item.start - offset, item.end - offset
        if at <= start and end <= len(body):
            yield body[at:start], None
            yield body[start:end], item
            at = end
    yield body[at:], None


def sentence_of(item: Statement) -> str:
    """Return what the report says about a label, and what the classifier says."""
    verb = _VERBS[item.kind.split("_")[0]]
    given = "it was set to" if item.edited else "the classifier gives it"
    return f"The report {verb} {item.label.lower()}; {given} {100 * item.probability:.0f} %."


def verdicts(
    novelty: Novelty | None,
    trained_on: str,
    check: CrossCheck | None = None,
    notes: Sequence[Note] = (),
    located: Collection[str] = (),
) -> str:
    """Return how unlike the training scans it is, and where report and diagnosis disagree.

    Args:
        novelty: how unlike the training scans it is; None where the encoder does not say.
        trained_on: what the encoder was trained on.
        check: cross-check of the finished report; None before.
        notes: notes of the run, of which warnings are shown.
        located: labels whose evidence can be shown in the scan.
    """
    return report_html(
        "verdicts",
        novelty=novelty,
        trained_on=trained_on,
        lists=_lists(check) if check else [],
        agreement=_agreement(check) if check else "",
        located=located,
        warnings=_sorted(
            note for note in notes if note.level == "warning" and note.code != "unlike_training"
        ),
    )


def trained_on(diagnosis: Diagnosis) -> str:
    """Return what the encoder behind a diagnosis was trained on."""
    return ENCODERS.get(diagnosis.source, ENCODERS[SHIPPED_ENCODER]).trained_on


def _lists(check: CrossCheck) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return (kind, title, (sentence, label)) of contradictions and of what only one states."""
    silent = [
        (
            f"{item.label}: {100 * item.probability:.0f} % "
            f"(threshold {100 * item.threshold:.0f} %)",
            item.label,
        )
        for item in check.not_mentioned
    ]
    hedged = [(sentence_of(item), item.label) for item in check.added if not item.contradicts]
    against = [(sentence_of(item), item.label) for item in check.contradictions]
    return [
        ("conflict", "Report and diagnosis disagree", against),
        ("silent", "Above the threshold, not mentioned in the report", silent),
        ("silent", "Below the threshold, considered in the report", hedged),
    ]


def _agreement(check: CrossCheck) -> str:
    """Return in what they agree; empty where the report contradicts or leaves something out."""
    if check.contradictions or check.not_mentioned:
        return ""
    n = len(check.seen)
    if n == 0:
        return "no finding reaches its threshold, and it states none."
    if n == 1:
        return "it mentions the one finding above its threshold."
    return f"it mentions all {n} findings above their threshold."


def diagnosis_table(diagnosis: Diagnosis, located: Collection[str] = ()) -> str:
    """Return the same numbers as a table, for screen readers and for copying.

    The names in ``located`` are buttons.
    """
    rows = [
        (
            row["label"],
            f"{row['probability']:.3f}"
            + (f" (edited; classifier {row['classifier']:.3f})" if row["edited"] else ""),
            f"{row['threshold']:.3f}",
            f"{row['logit']:+.2f}",
            "yes" if row["present"] else "no",
        )
        for row in sorted(diagnosis.to_rows(), key=lambda row: -row["probability"])
    ]
    return report_html("diagnosis_table", rows=rows, located=located)
