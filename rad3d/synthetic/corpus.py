"""The synthetic radiology corpus on which the base language models are pretrained.

A base model that will be frozen must have learned to read what stands before its text. So most
examples have a continuation that is decided by their context: a summary of findings and its
report, findings and their impression, questions and answers, lists to copy or to sort. Chest CTs
are joined by other organs, modalities and styles. Nothing here mentions pulmonary embolism, which
the out-of-domain evaluation keeps unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.findings import LOBES, Finding
from rad3d.core.labels import LABELS
from rad3d.reports.sections import ReportText
from rad3d.synthetic import organs
from rad3d.synthetic.grammar.prose import in_report_order, prose_report, structured_report
from rad3d.synthetic.grammar.summary import NAMES, summary_item, summary_name, write_summary
from rad3d.synthetic.grammar.template import CANONICAL, FREE, MODERATE, PhraseSampler
from rad3d.synthetic.truth import draw_truth

STAGES: tuple[str, ...] = ("ordered", "varied")
FIRST_SEED = 10_000_000
"""Truths of the corpus have seeds from here on; paired sets stay below."""
_STRIDE = 50_000_000
_SUMMARY_STYLES = ("plain",) * 14 + ("terse",) * 4 + ("keyed", "short")
_ASKED = {**NAMES, "Medical material": "medical material"}


@dataclass(frozen=True)
class Example:
    """A context and the text that follows it; the loss is on the target.

    ``context`` may be empty (plain text); ``target`` begins with a space after a context.
    """

    context: str
    target: str
    task: str


@dataclass(frozen=True)
class Case:
    """The input of one example: the findings of one drawn truth, and the choices of wording."""

    findings: tuple[Finding, ...]
    pen: PhraseSampler
    seed: str
    varied: bool


def main_prompt(summary: str) -> str:
    """The context of the main task; a projector later puts its soft tokens for the summary."""
    return f"Summary: {summary}\nReport:"


def pretraining_examples(seed: int, n: int, stage: str = "ordered") -> Iterator[Example]:
    """``n`` examples; the same arguments give the same examples on any machine.

    Args:
        seed: 0 or more; different seeds share no truth while ``n`` is below 50 million.
        n: number of examples.
        stage: ``"ordered"`` (fixed order, plain wording, so that reading is learned fast) or
            ``"varied"`` (full variety, shuffled summaries).
    """
    if stage not in STAGES:
        raise UnknownName("corpus stage", stage, STAGES)
    if seed < 0 or n < 0:
        raise BadRequest("Seed and number of examples cannot be negative.", code="bad_corpus")
    tasks, thresholds = zip(*_cumulative(stage), strict=True)
    for i in range(n):
        number = FIRST_SEED + seed * _STRIDE + i
        pen = PhraseSampler(f"{stage} {number}", FREE)
        draw = pen.any_of(range(1000)) / 1000
        task = next(t for t, limit in zip(tasks, thresholds, strict=True) if draw < limit)
        findings = () if task in _WITHOUT_TRUTH else draw_truth(number, "in").findings
        yield TASKS[task](Case(findings, pen, f"{stage} {number}", stage == "varied"))


def _chest(case: Case, free: float = 0.3) -> ReportText:
    """A chest report; in the varied stage a share ``free`` has any wording and any order."""
    wanders = case.varied and case.pen.chance(free)
    plain = MODERATE if case.varied else CANONICAL
    return prose_report(case.findings, case.seed, FREE if wanders else plain, reorder=wanders)


def _summary(case: Case) -> str:
    if not case.varied:
        return write_summary(case.findings)
    style = case.pen.any_of(_SUMMARY_STYLES)
    return write_summary(case.findings, case.seed, style, _order(case))


def _order(case: Case) -> str:
    return "shuffled" if case.varied and case.pen.chance(0.7) else "fixed"


def _report(case: Case) -> Example:
    return Example(main_prompt(_summary(case)), f" {_chest(case, free=0.15).text}", "report")


def _structured(case: Case) -> Example:
    report = structured_report(case.findings, case.seed, MODERATE)
    context = f"Summary: {_summary(case)}\nStructured report:"
    return Example(context, f" {report.text}", "structured")


def _impression(case: Case) -> Example:
    report = _chest(case)
    return Example(
        f"Findings: {report.findings}\nImpression:", f" {report.impression}", "impression"
    )


def _reverse(case: Case) -> Example:
    report = _chest(case)
    return Example(
        f"Findings: {report.findings}\nSummary:", f" {write_summary(case.findings)}", "reverse"
    )


def _question(case: Case) -> Example:
    pen = case.pen
    by_label = {finding.label: finding for finding in case.findings}
    present = [name for name in LABELS if name in by_label]
    asked = pen.any_of(present if present and pen.chance(0.6) else LABELS)
    finding = by_label.get(asked)
    source = (
        f"Summary: {write_summary(case.findings, case.seed, order=_order(case))}"
        if pen.chance(0.6)
        else f"Findings: {_chest(case).findings}"
    )
    kind, answer = _answer(finding, pen)
    wording = kind.format(name=_ASKED[asked])
    return Example(f"{source}\nQuestion: {wording}\nAnswer:", f" {answer}", "question")


def _answer(finding: Finding | None, pen: PhraseSampler) -> tuple[str, str]:
    """A question with ``{name}`` in it, and its answer."""
    if finding is None:
        return "Is there {name}?", "No."
    questions = [("Is there {name}?", "Yes.")]
    if finding.side and not (finding.sites and finding.sites[0] in LOBES):
        questions.append(("On which side is the {name}?", f"{finding.side.capitalize()}."))
    if finding.size_mm:
        questions.append(("How large is the {name}?", f"{finding.size_mm} mm."))
    if finding.severity:
        questions.append(("How severe is the {name}?", f"{finding.severity.capitalize()}."))
    if finding.sites:
        questions.append(("Where is the {name}?", f"{', '.join(finding.sites).capitalize()}."))
    return pen.any_of(questions)


def _list(case: Case) -> Example:
    """Copying, reversing, sorting, counting or finding the first of a list."""
    pen = case.pen
    full = pen.chance(0.6)
    shuffled = pen.shuffled(case.findings)
    spell: Callable[[Finding], str] = summary_item if full else summary_name
    items = [spell(finding) for finding in shuffled] or ["no abnormality"]
    ordered = [spell(finding) for finding in in_report_order(case.findings)] or items
    job, target = pen.any_of(
        (
            ("Copy", "; ".join(items)),
            ("Reverse", "; ".join(reversed(items))),
            ("Sorted", "; ".join(ordered)),
            ("Sorted", "; ".join(ordered)),
            ("First", items[0]),
            ("Last", items[-1]),
            ("Number of items", str(len(items))),
        )
    )
    return Example(f"List: {'; '.join(items)}\n{job}:", f" {target}", "list")


def _plain(case: Case) -> Example:
    if case.varied and case.pen.chance(0.3):
        return Example("", structured_report(case.findings, case.seed, FREE).text, "plain")
    header = ""
    if case.varied and case.pen.chance(0.4):
        indication = case.pen.any_of(organs.INDICATIONS)
        header = f"Exam: chest CT\nIndication: {indication}.\nTechnique: "
        header += f"{case.pen.any_of(organs.TECHNIQUES)}.\n"
    return Example("", header + _chest(case).text, "plain")


def _other_organ(case: Case) -> Example:
    pen = case.pen
    exam, facts = organs.draw_exam(pen)
    report = organs.exam_report(facts, pen)
    if pen.chance(0.15):
        return Example(
            f"Exam: {exam}\nFindings: {report.findings}\nImpression:",
            f" {report.impression}",
            "organ",
        )
    if pen.chance(0.15):
        return Example("", f"Exam: {exam}\n{report.text}", "organ")
    said = (
        f"Summary: {organs.exam_summary(facts, pen)}"
        if pen.chance(0.5)
        else f"Keys: {organs.exam_keys(facts)}"
    )
    return Example(f"Exam: {exam}\n{said}\nReport:", f" {report.text}", "organ")


TASKS: dict[str, Callable[[Case], Example]] = {
    "report": _report,
    "impression": _impression,
    "question": _question,
    "list": _list,
    "reverse": _reverse,
    "organ": _other_organ,
    "plain": _plain,
    "structured": _structured,
}
_WITHOUT_TRUTH = ("organ",)
MIXTURE: dict[str, dict[str, float]] = {
    "ordered": {
        "report": 0.55,
        "impression": 0.09,
        "question": 0.10,
        "list": 0.08,
        "reverse": 0.06,
        "organ": 0.09,
        "plain": 0.03,
    },
    "varied": {
        "report": 0.45,
        "impression": 0.09,
        "question": 0.11,
        "list": 0.07,
        "reverse": 0.07,
        "organ": 0.12,
        "plain": 0.04,
        "structured": 0.05,
    },
}
"""Share of each task by stage; each adds up to 1."""


def _cumulative(stage: str) -> list[tuple[str, float]]:
    total, steps = 0.0, []
    for task, share in MIXTURE[stage].items():
        total += share
        steps.append((task, round(total, 6)))
    return steps
