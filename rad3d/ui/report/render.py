"""The page's own HTML: notes, progress, report, verdicts. Every text from outside is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from rad3d.core.errors import Rad3dError
from rad3d.core.types import Diagnosis, Note, Novelty, Report, Volume
from rad3d.reports.sections import split_report

if TYPE_CHECKING:
    from rad3d.reports.crosscheck import CrossCheck, Statement

_FINISHED = {
    "end": "finished",
    "length": "stopped at the length limit",
    "cancelled": "cancelled: this text is incomplete",
}
_HEADINGS = ("Findings", "Impression")
_VERBS = {"asserted": "asserts", "considered": "considers", "denied": "denies"}


def notice(text: str, level: str = "error") -> str:
    """One sentence for the person; empty for none."""
    if not text:
        return ""
    role = "alert" if level == "error" else "status"
    return f'<div class="r3-notice {level}" role="{role}">{escape(text)}</div>'


def troubles(errors: Iterable[Rad3dError]) -> str:
    """What keeps this server from writing reports, for every visitor to see; empty for nothing."""
    found = " ".join(dict.fromkeys(str(error) for error in errors))
    works = "Scans can be looked at and predictions files evaluated, but no report can be written."
    return notice(f"{works} {found}") if found else ""


def scan_notes(volume: Volume | None, done: Sequence[Note] = ()) -> str:
    """What was read from the file and what was done to it, warnings first.

    Args:
        volume: the open volume, or None.
        done: what the model grid added (resampling, crop, padding).
    """
    if volume is None:
        return ""
    facts = {
        "Scan": volume.name,
        "Voxels": " × ".join(str(n) for n in volume.shape),
        "Spacing": " × ".join(f"{s:.2f}" for s in volume.spacing_mm) + " mm",
        "Extent": " × ".join(f"{s / 10:.1f}" for s in volume.extent_mm) + " cm",
    }
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts.items()
    )
    return (
        '<section class="r3-card r3-read"><h2>What was read and done</h2>'
        f"<dl>{rows}</dl>{note_list((*volume.notes, *done))}</section>"
    )


def note_list(notes: Iterable[Note]) -> str:
    """Notes as a list without repetitions, warnings first."""
    unique = list(dict.fromkeys(notes))
    unique.sort(key=lambda note: note.level != "warning")
    items = "".join(
        f'<li class="{escape(note.level)}" data-code="{escape(note.code)}">{escape(note.text)}</li>'
        for note in unique
    )
    return f'<ul class="r3-notes">{items}</ul>' if items else ""


def folded_truth(truth: str) -> str:
    """The known findings of a sample, folded away until asked for; empty for other scans."""
    if not truth:
        return ""
    return (
        '<details class="r3-truth"><summary>Show what is in this sample</summary>'
        f"<p>{_lines(truth)}</p></details>"
    )


def progress(stage: str, fraction: float | None = None) -> str:
    """The running stage with a bar; empty stage for none."""
    if not stage:
        return ""
    share = "" if fraction is None else f' value="{min(max(fraction, 0.0), 1.0):.3f}"'
    return (
        f'<div class="r3-progress" role="status"><span>{escape(stage)}</span>'
        f'<progress max="1"{share} aria-label="{escape(stage)}"></progress></div>'
    )


def report_panel(
    text: str,
    status: str = "",
    said: Sequence[Statement] = (),
    writing: bool = False,
) -> str:
    """Findings and impression; words that speak of a label of the diagnosis are marked."""
    if not text and not writing:
        return (
            '<section class="r3-card r3-report empty"><h2>Report</h2>'
            "<p>Open a scan, choose a model and press Generate. The report is written here, "
            "beside what the classifier sees.</p></section>"
        )
    parts = split_report(text)
    bodies = (parts.findings, parts.impression)
    sections = "".join(
        f"<h3>{name}</h3><p>{_marked(text, body, said)}"
        f"{_caret(writing and body == _last(bodies))}</p>"
        for name, body in zip(_HEADINGS, bodies, strict=True)
        if body or (writing and name == "Findings")
    )
    buttons = "" if writing else _report_buttons()
    return (
        f'<section class="r3-card r3-report" aria-busy="{str(writing).lower()}">'
        f'<header><h2>Report</h2><span class="r3-status">{escape(status)}</span>{buttons}</header>'
        f'<div class="r3-text">{sections}</div>{_trace() if said else ""}'
        '<p class="r3-fine">Written by a language model. Measurements are generated, '
        "not measured.</p></section>"
    )


def report_status(report: Report) -> str:
    """Variant, tokens, time, how exactly it was computed and how it ended, in one line."""
    seconds = report.timings_s.get("total", sum(report.timings_s.values()))
    made = report.provenance
    exact = f"{made['precision']} on {made['device']} · " if "precision" in made else ""
    return (
        f"{report.variant_id} · {report.n_tokens} tokens · {seconds:.1f} s · {exact}"
        f"{_FINISHED[report.finish_reason]}"
    )


def _report_buttons() -> str:
    return (
        '<span class="r3-actions"><button type="button" data-report="copy">Copy</button>'
        '<button type="button" data-report="txt" title="Download as text">Text</button>'
        '<button type="button" data-report="json" title="Download as JSON, with provenance">JSON'
        "</button></span>"
    )


def _last(bodies: Sequence[str]) -> str:
    return next((body for body in reversed(bodies) if body), "")


def _caret(shown: bool) -> str:
    return '<span class="r3-caret" aria-hidden="true"></span>' if shown else ""


def _trace() -> str:
    """Where the script says which probability stands behind the words that are pointed at."""
    return (
        '<p class="r3-trace" role="status">Point at underlined words: what the classifier says '
        "about them.</p>"
    )


def _marked(text: str, body: str, said: Sequence[Statement]) -> str:
    """The body, escaped, with the spans of statements (offsets in the whole text) marked."""
    offset = text.find(body)
    pieces: list[str] = []
    at = 0
    for item in sorted(said, key=lambda s: s.start):
        start, end = item.start - offset, item.end - offset
        if start < at or end > len(body):
            continue
        pieces.append(_lines(body[at:start]))
        pieces.append(
            f'<mark class="{escape(item.kind)}" tabindex="0" data-label="{escape(item.label)}" '
            f'title="{escape(sentence_of(item), quote=True)}">{_lines(body[start:end])}</mark>'
        )
        at = end
    pieces.append(_lines(body[at:]))
    return "".join(pieces)


def _lines(text: str) -> str:
    return re.sub(r"\n+", "<br>", escape(text))


def sentence_of(item: Statement) -> str:
    """What the report says of a label beside what the classifier does."""
    verb = _VERBS[item.kind.split("_")[0]]
    return (
        f"The report {verb} {item.label.lower()}; "
        f"the classifier gives it {100 * item.probability:.0f} %."
    )


def verdicts(
    novelty: Novelty | None,
    trained_on: str,
    check: CrossCheck | None = None,
    notes: Sequence[Note] = (),
) -> str:
    """How far the scan lies from the training scans, and where report and diagnosis disagree.

    Args:
        novelty, trained_on: of the encoder.
        check: of the finished report; None before.
        notes: of the run; warnings are shown.
    """
    blocks = [_novelty(novelty, trained_on), _cross_check(check) if check else ""]
    warnings = note_list(
        note for note in notes if note.level == "warning" and note.code != "unlike_training"
    )
    return "".join(blocks) + warnings


def _cross_check(check: CrossCheck) -> str:
    """What contradicts, what is not mentioned, and agreement only where there is neither."""
    silent = [
        f"{item.label}: {100 * item.probability:.0f} % (threshold {100 * item.threshold:.0f} %)"
        for item in check.not_mentioned
    ]
    hedged = [sentence_of(item) for item in check.added if not item.contradicts]
    blocks = [
        _listed(
            "conflict", "Report and diagnosis disagree", map(sentence_of, check.contradictions)
        ),
        _listed("silent", "Above the threshold, not mentioned in the report", silent),
        _listed("silent", "Below the threshold, considered in the report", hedged),
    ]
    if not check.contradictions and not silent:
        n = len(check.seen)
        said = (
            "no finding reaches its threshold, and it states none."
            if n == 0
            else f"it mentions {'the one finding' if n == 1 else f'all {n} findings'} above "
            f"{'its' if n == 1 else 'their'} threshold."
        )
        blocks.append(
            '<div class="r3-notice agree" role="status">Nothing in the report contradicts the '
            f"diagnosis: {said}</div>"
        )
    return "".join(blocks)


def _listed(kind: str, title: str, sentences: Iterable[str]) -> str:
    """A box with a list, without repetitions; empty for an empty one."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in dict.fromkeys(sentences))
    if not items:
        return ""
    return (
        f'<div class="r3-notice {kind}" role="status"><strong>{title}</strong>'
        f"<ul>{items}</ul></div>"
    )


def _novelty(novelty: Novelty | None, trained_on: str) -> str:
    if novelty is None:
        return ""
    if novelty.is_novel:
        return (
            '<div class="r3-notice novel" role="alert"><strong>Unlike the training scans.</strong> '
            f"These models know only {escape(trained_on)}. This scan lies farther from them "
            f"({novelty.words}) than "
            f"{novelty.percentile:.0f} % of held-out ones: do not believe the report.</div>"
        )
    return (
        '<div class="r3-notice known" role="status">Within the range of the training scans, '
        f"{escape(trained_on)} ({novelty.words}).</div>"
    )


def diagnosis_table(diagnosis: Diagnosis) -> str:
    """The same 18 numbers as a table, for screen readers and for copying."""
    rows = "".join(
        f"<tr><th scope='row'>{escape(row['label'])}</th><td>{row['probability']:.3f}</td>"
        f"<td>{row['threshold']:.3f}</td><td>{row['logit']:+.2f}</td>"
        f"<td>{'yes' if row['present'] else 'no'}</td></tr>"
        for row in sorted(diagnosis.to_rows(), key=lambda row: -row["probability"])
    )
    head = "".join(
        f"<th scope='col'>{name}</th>"
        for name in ("Finding", "Probability", "Threshold", "Logit", "Present")
    )
    return (
        '<details class="r3-table"><summary>As a table</summary><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></details>"
    )
