"""The findings of an evaluation in plain sentences that are computed from its figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rad3d.core.encoders import SHIPPED_ENCODER
from rad3d.core.words import joined
from rad3d.evaluation.leaderboard import SetFacts, StudyView
from rad3d.evaluation.system_names import LOOKUP, SHUFFLED
from rad3d.metrics.compare import Difference
from rad3d.metrics.registry import metric_row

_MEANING = "the figures show how the software measures, not how good a report on a patient would be"

SECOND = "factuality"
"""The headline beside the main metric: place, size and severity as well as presence."""

_DOMAINS = {"in": "In domain", "out": "Out of domain"}


def finding_in_words(view: StudyView, metric: str = "f1_macro") -> tuple[str, ...]:
    """Return a few sentences for each sample set.

    Args:
        view: the evaluation.
        metric: what the systems are ranked by.
    """
    sentences = []
    for facts in view.sets:
        for each in dict.fromkeys((metric, SECOND)):
            said = [*_leading(view, facts, each), *_against_lookup(view, facts, each)]
            said += _shuffled(view, facts, each) if each == metric else ()
            if said:
                sentences.append(" ".join(said))
    return tuple(sentences)


def standing(view: StudyView) -> str:
    """Return what the figures on phantoms stand for; empty where no scan is one."""
    phantoms = [facts for facts in view.sets if facts.domain]
    if not phantoms:
        return ""
    if len(phantoms) == len(view.sets):
        return f"Every scan here is a synthetic phantom: {_MEANING}."
    names = joined([where(facts).lower() for facts in phantoms])
    return f"The scans {names} are synthetic phantoms: {_MEANING}."


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
    """Name the systems that beat the template baseline, and those that are shown not to.

    Each is held against the one that is made from the diagnosis of its own encoder.
    """
    order = view.ranked(facts.id, metric)
    encoders = sorted({view.systems[card.name].encoder for card in order})
    for encoder in encoders:
        lookup = f"{LOOKUP} ({encoder})" if encoder else LOOKUP
        control = view.cards.get((lookup, facts.id))
        if control is None or metric not in control.estimates:
            continue
        differences = {d.b: d for d in view.differences(facts.id, metric, lookup)}
        own = [c.name for c in order if view.systems[c.name].encoder == encoder]
        compared = [name for name in own if name in differences]
        with_encoder = f" with {encoder or SHIPPED_ENCODER}" if len(encoders) > 1 else ""
        baseline = f"the template baseline{with_encoder} ({control.estimates[metric]})"
        better = [name for name in compared if differences[name].better == name]
        worse = [name for name in compared if differences[name].better == lookup]
        if not better and len(worse) < len(compared):
            yield f"No variant{with_encoder} is significantly better than {baseline}."
            baseline = "it"
        for word, names in (("better", better), ("worse", worse)):
            if names:
                every = len(names) == len(compared)
                who = listed([view.names[name] for name in names])
                who = f"Every variant{with_encoder} is" if every else f"{who} {_is(names)}"
                yield f"{who} significantly {word} than {baseline}."
                baseline = "it"


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
