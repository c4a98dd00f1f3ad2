"""Makes a study from reports that are written already: of a stored evaluation, or from files."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.words import counted
from rad3d.data.predictions import one_line
from rad3d.data.sample_sets import PHANTOM
from rad3d.data.samples import PredictionSet, Sample, SampleSet
from rad3d.evaluation.run_types import EvaluationRun
from rad3d.readers.types import Case, Design


def design_of_run(
    run: EvaluationRun, systems: Sequence[str], sample_set: str, **options: object
) -> Design:
    """Make a study of what some systems of a run wrote on one of its sets.

    Args:
        run: the run.
        systems: names, such as ``phantom-l/v3``.
        sample_set: id of the set; empty is the first one.
        options: the keywords of :func:`make_design`.
    """
    name = sample_set or next(iter(run.sample_sets))
    if name not in run.sample_sets:
        raise UnknownName("sample set", name, list(run.sample_sets))
    known = {system: p for (system, on), p in run.predictions.items() if on == name}
    for system in systems:
        if system not in known:
            raise UnknownName("system", system, list(known))
    source = {"run": run.id, "set": name, "revision": run.revision}
    written = [known[system] for system in systems]
    return make_design(run.sample_sets[name], written, source=source, **options)  # type: ignore[arg-type]


def make_design(
    samples: SampleSet,
    predictions: Sequence[PredictionSet],
    *,
    cases: int = 20,
    ids: Iterable[str] = (),
    per_case: int = 2,
    seed: int = 0,
    title: str = "",
    source: dict[str, object] | None = None,
    simulated: bool = False,
) -> Design:
    """Make a study of what systems wrote on cases.

    Args:
        samples: the cases.
        predictions: of each system.
        cases: at most so many, drawn from those on which every system has a report.
        ids: exactly these cases, in place of drawn ones.
        per_case, seed, title, source, simulated: see :class:`Design`.

    Raises:
        UnknownName: there is no such case.
        BadRequest: no case has a report of every system, or the design makes no sense.
    """
    texts = {each.name: {p.id: p.text for p in each.predictions} for each in predictions}
    whole = [s for s in samples.samples if all(by_id.get(s.id) for by_id in texts.values())]
    if not whole:
        raise BadRequest(
            "No case has a report of every system.",
            "Choose systems that were run on the same cases.",
            code="no_cases",
        )
    if cases < 1:
        raise BadRequest("A reader study needs a case.", "Ask for one or more.", code="bad_cases")
    known = {sample.id: sample for sample in whole}
    wanted = list(ids)
    for id_ in wanted:
        if id_ not in known:
            raise UnknownName("case with a report of every system", id_, list(known))
    if not wanted:
        drawn = random.Random(f"choice {seed}").sample(range(len(whole)), min(cases, len(whole)))
        wanted = [whole[i].id for i in sorted(drawn)]
    chosen = tuple(
        Case(id_, _place(known[id_]), known[id_].reference, {n: t[id_] for n, t in texts.items()})
        for id_ in dict.fromkeys(wanted)
    )
    return Design(
        one_line(title) or f"Reader study of {counted(len(chosen), 'case')}",
        tuple(texts),
        chosen,
        min(per_case, len(texts)),
        seed,
        {"set": samples.id, **(source or {})},
        simulated,
    )


def _place(sample: Sample) -> str:
    """Return where the scan is for a server that was started in another folder."""
    if not sample.scan or sample.scan.startswith(PHANTOM):
        return sample.scan
    return str(Path(sample.scan).expanduser().resolve())
