"""The claims of the paper, held one by one against what an evaluation measured.

Sentences are made from the statistics alone. A claim that the models at hand cannot speak of is
said to be untested, whatever their figures look like; where nothing significant was found, the
smallest difference that would have been is told.

Source of the claims: arXiv 2606.17213.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rad3d.core.language_models import FREEZE_FROM_PARAMETERS
from rad3d.core.modes import MODES
from rad3d.evaluation.figures.scaling import Contrast
from rad3d.evaluation.figures.style import count
from rad3d.evaluation.leaderboard import StudyView
from rad3d.evaluation.summary_text import lowered, where
from rad3d.evaluation.system_names import System, mode_name
from rad3d.metrics.bootstrap import Estimate, span
from rad3d.metrics.compare import corrected
from rad3d.metrics.registry import metric_row

HEADLINE = ("f1_macro", "factuality")
"""What a claim of quality is tested in: the labels, and all that is said of the findings."""

REDUNDANT = 0.99
"""R² from which the logits count as a linear function of the embedding."""

OTHERS = {"r2gengpt": "R2GenGPT"}
"""Methods that are no mode here."""

JUDGEMENT = "right_against"

SEEN, PARTLY, NOT_SEEN, OPPOSITE = "seen", "seen in part", "not seen", "the opposite was seen"
UNTESTED = "cannot be tested here"


@dataclass(frozen=True)
class Claim:
    """One claim and what became of it.

    Attributes:
        text: the claim.
        verdict: :data:`SEEN`, :data:`PARTLY`, :data:`NOT_SEEN`, :data:`OPPOSITE` or
            :data:`UNTESTED`.
        words: why, with figures.
    """

    text: str
    verdict: str
    words: str


def claims(view: StudyView) -> tuple[Claim, ...]:
    """Every claim; none where no variant was evaluated."""
    if not any(system.is_variant for system in view.systems.values()):
        return ()
    return (
        _prior(view),
        _tuned(view),
        _frozen(view),
        _judges(view),
        _modes(view, "The linear projector is better than R2GenGPT.", "r2gengpt", "linear"),
        _modes(view, "RAD3D-Prefix (V-3) is better than R2GenGPT.", "r2gengpt", "v3"),
        Claim(
            "Two clinicians prefer the reports of V-3.",
            UNTESTED,
            "No person rates reports here, and the scans are no patients'.",
        ),
    )


def _prior(view: StudyView) -> Claim:
    text = "A diagnostic prior improves the reports (V-3 over V-2)."
    claim = _modes(view, text, "v2", "v3")
    redundancy = view.facts.get("redundancy") or {}
    known = {name: r2 for name, r2 in redundancy.items() if r2 >= REDUNDANT}
    if not known or claim.verdict == UNTESTED:
        return claim
    told = "; ".join(f"{name}: R² {r2:.3f}" for name, r2 in known.items())
    words = (
        f"{claim.words} The logits are a linear function of the embedding ({told}), so they can "
        "add nothing there that it does not hold."
    )
    everywhere = len(known) == len(redundancy) and claim.verdict == NOT_SEEN
    return replace(claim, verdict=UNTESTED if everywhere else claim.verdict, words=words)


def _tuned(view: StudyView) -> Claim:
    return _modes(
        view,
        "Below about 1B parameters, fine-tuning the language model (V-1) beats freezing it (V-3).",
        "v3",
        "v1",
        below=True,
    )


def _frozen(view: StudyView) -> Claim:
    return _modes(
        view,
        "From about 1B parameters on, freezing it wins, in quality and out of domain.",
        "v1",
        "v3",
        below=False,
    )


def _modes(view: StudyView, text: str, base: str, mode: str, below: bool | None = None) -> Claim:
    """A claim that one mode is better than another.

    Args:
        view: the evaluation.
        text: the claim.
        base, mode: keys of the modes.
        below: only language models below (True) or from (False) about 1B parameters on.
    """
    lacking = [m for m in (base, mode) if not any(s.mode == m for s in view.systems.values())]
    if lacking:
        names = " and ".join(mode_name(m) if m in MODES else OTHERS.get(m, m) for m in lacking)
        return Claim(text, UNTESTED, f"Not evaluated here: {names}.")
    found = [c for metric in HEADLINE for c in view.contrasts(base, mode, metric)]
    if below is not None:
        sizes = {c.system.parameters for c in found}
        found = [c for c in found if (c.system.parameters < FREEZE_FROM_PARAMETERS) == below]
        if not found and sizes:
            shown = " to ".join(dict.fromkeys((count(min(sizes)), count(max(sizes)))))
            models = "language models here have" if len(sizes) > 1 else "language model here has"
            return Claim(text, UNTESTED, f"The {models} {shown} parameters.")
    if not found:
        return Claim(text, UNTESTED, "The two were not evaluated on the same cases.")
    return Claim(text, *_verdict(view, found))


def _verdict(view: StudyView, found: Sequence[Contrast]) -> tuple[str, str]:
    """What the contrasts say together, corrected for their number."""
    tests = corrected([c.difference for c in found])
    tested = [replace(c, difference=d) for c, d in zip(found, tests, strict=True)]
    better = [c for c in tested if c.difference.better == c.difference.b]
    worse = [c for c in tested if c.difference.better == c.difference.a]
    total = len(tested)
    parts = []
    if better:
        parts.append(f"Better in {len(better)} of {total} comparisons: {_largest(view, better)}.")
    if worse:
        parts.append(f"Worse in {len(worse)} of {total}: {_largest(view, worse)}.")
    if len(better) + len(worse) < total:
        parts.append(_undecided(total, [c for c in tested if c not in better and c not in worse]))
    verdict = (
        (PARTLY if worse or len(better) < total else SEEN)
        if better
        else OPPOSITE if worse else NOT_SEEN
    )  # fmt: skip
    return verdict, " ".join(parts)


def _undecided(total: int, found: Sequence[Contrast]) -> str:
    """Contrasts that are not significant: how far apart, and what would have been found."""
    rest = "" if len(found) == total else " in the rest"
    spans = []
    for metric in HEADLINE:
        same = [c.difference for c in found if c.difference.metric == metric]
        if same:
            low, high = min(d.value for d in same), max(d.value for d in same)
            least = max(d.detectable for d in same)
            span = f"{low:+.3f}" if low == high else f"{low:+.3f} to {high:+.3f}"
            name = lowered(metric_row(metric).name)
            spans.append(f"{name} {span}, where {least:.3f} would have been found")
    return f"No significant difference{rest}: {'; '.join(spans)} (at 80% power)."


def _largest(view: StudyView, found: Sequence[Contrast]) -> str:
    """The largest of some differences, in words."""
    c = max(found, key=lambda each: abs(each.difference.value))
    d = c.difference
    place = where(view.set_facts(c.sample_set)).lower()
    return (
        f"{'at most ' if len(found) > 1 else ''}{d.value:+.3f} {span(d.low, d.high, '+.3f')} "
        f"{lowered(metric_row(d.metric).name)} for {c.system.llm}"
        f"{f', {c.system.pairs:,} pairs' if c.system.pairs else ''}, {place}"
    )


def _judges(view: StudyView) -> Claim:
    """Whether the reports of V-3 are right where they depart from their prior."""
    text = "The report does not follow its classifier blindly: it leaves out false positives."
    shares: list[tuple[System, Estimate]] = [
        (view.systems[card.name], card.estimates[JUDGEMENT])
        for facts in view.sets
        for card in view.on(facts.id, controls=False)
        if view.systems[card.name].mode == "v3"
        and JUDGEMENT in card.estimates
        and not math.isnan(card.estimates[JUDGEMENT].value)
    ]
    if not shares:
        return Claim(text, UNTESTED, "V-3 was not scored against its prior here.")
    low, high = (pick(e.value for _, e in shares) for pick in (min, max))
    above = sum(e.low > 0.5 for _, e in shares)
    below = sum(e.high < 0.5 for _, e in shares)
    span = f"{low:.0%}" if f"{low:.0%}" == f"{high:.0%}" else f"{low:.0%} to {high:.0%}"
    words = (
        f"Where report and prior differ on a label, the report is right in {span}; more than half "
        f"in {above} and less than half in {below} of {len(shares)} comparisons, by their "
        "intervals."
    )
    if below and not above:
        return Claim(text, OPPOSITE, f"{words} What departs from the prior is mostly lost.")
    return Claim(text, SEEN if above == len(shares) else PARTLY if above else NOT_SEEN, words)
