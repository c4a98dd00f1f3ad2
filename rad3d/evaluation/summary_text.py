"""The findings of an evaluation in plain sentences that are computed from its figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rad3d.core.words import joined
from rad3d.evaluation.leaderboard import SetFacts, StudyView
from rad3d.evaluation.system_names import LOOKUP, SHUFFLED
from rad3d.metrics.compare import Difference
from rad3d.metrics.registry import metric_row

PHANTOMS = (
    "Every scan here is a synthetic phantom: the figures show how the software measures, "
    "not how good a report on a patient would be."
)

_DOMAINS = {"in": "In domain", "out": "Out of domain"}


def finding_in_words(view: StudyView, metric: str = "f1_macro") -> tuple[str, ...]:
    """Return what fine-tuning changed, then a few sentences for each sample set.

    Args:
        view: the evaluation.
        metric: what the systems are ranked by.
    """
    sentences = _tuned_or_frozen(view, metric)
    for facts in view.sets:
        said = [*_leading(view, facts, metric), *_against_lookup(view, facts, metric)]
        said += _shuffled(view, facts, metric)
        if said:
            sentences.append(" ".join(said))
    return tuple(sentences)


def where(facts: SetFacts) -> str:
    """Return ``"In domain"`` or ``"Out of domain"``, or the set's own name."""
    return _DOMAINS.get(facts.domain, facts.name)


def _leading(view: StudyView, facts: SetFacts, metric: str) -> Iterator[str]:
    order = view.ranked(facts.id, metric)
    if not order:
        return
    names, best = view.names, order[0]
    name = lowered(metric_row(metric).name)
    start = f"{where(facts)} (n = {best.n}), {names[best.name]} has"
    figure = f"{name} of {best.estimates[metric]}"
    if len(order) == 1:
        yield f"{start} a {figure}."
        return
    yield f"{start} the {'highest' if metric_row(metric).higher_is_better else 'lowest'} {figure}."
    equal = [
        card.name
        for card in order[1:]
        if not _is_significant(view.difference(facts.id, metric, best.name, card.name))
    ]
    if not equal:
        yield "It is better than every other variant, also after correction."
    elif len(equal) == len(order) - 1:
        yield "No difference to another variant is significant after correction."
    else:
        many = "differences" if len(equal) > 1 else "difference"
        yield (
            f"Its {many} to {listed([names[name] for name in equal])} "
            f"{_is(equal)} not significant after correction."
        )


def _against_lookup(view: StudyView, facts: SetFacts, metric: str) -> Iterator[str]:
    """Name the systems that beat the template baseline, and those that are shown not to."""
    control = view.cards.get((LOOKUP, facts.id))
    order = view.ranked(facts.id, metric)
    if control is None or metric not in control.estimates or not order:
        return
    names = view.names
    differences = view.against_lookup(facts.id, metric)
    winners = {system: difference.better for system, difference in differences.items()}
    better = [c.name for c in order if winners.get(c.name) == c.name]
    worse = [c.name for c in order if winners.get(c.name) == LOOKUP]
    figure = control.estimates[metric]
    if len(better) == len(order):
        yield f"Every variant is significantly better than the template baseline ({figure})."
        return
    if len(worse) == len(order):
        yield f"Every variant is significantly worse than the template baseline ({figure})."
        return
    if better:
        yield (
            f"{listed([names[name] for name in better])} "
            f"{_is(better)} significantly better than the template baseline ({figure}); "
            f"the other {len(order) - len(better)} {_is(order[len(better) :])} not."
        )
    else:
        yield f"No variant is significantly better than the template baseline ({figure})."
    if worse:
        yield f"{listed([names[n] for n in worse])} {_is(worse)} significantly worse than it."


def _shuffled(view: StudyView, facts: SetFacts, metric: str) -> Iterator[str]:
    """Say what remains when the images are shuffled across cases."""
    values = [
        card.estimates[metric].value
        for card in view.on(facts.id)
        if view.systems[card.name].control == SHUFFLED and metric in card.estimates
    ]
    if values:
        span = f"{min(values):.2f}"
        if len(values) > 1 and f"{max(values):.2f}" != span:
            span += f" to {max(values):.2f}"
        yield f"With the images shuffled across cases it is {span}: that much needs no image."


def _tuned_or_frozen(view: StudyView, metric: str) -> list[str]:
    """Compare fine-tuning (V-1) with freezing with logits (V-3) for each language model."""
    outcomes: dict[str, list[str]] = {"better": [], "worse": [], "equal": []}
    for facts in view.sets:
        pairs = {
            (view.systems[c.name].llm, view.systems[c.name].mode): c.name
            for c in view.on(facts.id, controls=False)
        }
        for llm in dict.fromkeys(llm for llm, _ in pairs if llm):
            tuned, frozen = pairs.get((llm, "v1")), pairs.get((llm, "v3"))
            if tuned is None or frozen is None:
                continue
            difference = view.difference(facts.id, metric, tuned, frozen)
            if difference is None:
                continue
            winner = difference.better
            kind = "equal" if not winner else "better" if winner == tuned else "worse"
            outcomes[kind].append(f"{llm} {where(facts).lower()}")
    total = sum(len(names) for names in outcomes.values())
    if not total:
        return []
    equal = len(outcomes["equal"])
    start = "Fine-tuned (V-1) against frozen with logits (V-3)"
    if equal == total:
        return [f"{start}: no significant difference in {total} comparisons."]
    parts = [
        f"better for {listed(outcomes['better'])}" if outcomes["better"] else "",
        f"worse for {listed(outcomes['worse'])}" if outcomes["worse"] else "",
        f"no significant difference in the other {equal}" if equal else "",
    ]
    return [f"{start}: {'; '.join(filter(None, parts))}."]


def listed(names: Sequence[str]) -> str:
    """``"a, b and c"``; beyond four, the first three and how many more."""
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} others"
    return joined(names)


def lowered(name: str) -> str:
    """``"Macro F1" -> "macro F1"``, and ``"CRG"`` as it is."""
    return name if name[1:2].isupper() else name[:1].lower() + name[1:]


def _is(names: Sequence[object]) -> str:
    return "is" if len(names) == 1 else "are"


def _is_significant(difference: Difference | None) -> bool:
    return difference is not None and difference.significant
