"""The work behind ``rad3d eval run|runs|compare|report|features``."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rad3d.commands import print_json, print_table, say
from rad3d.commands.eval_score import (
    BELOW_REQUIRED,
    DIFFERENCE_HEAD,
    INCOMPLETE,
    difference_cells,
    estimate_cell,
)
from rad3d.commands.options import generation_options
from rad3d.core.errors import BadRequest
from rad3d.core.labels import LabelSet
from rad3d.core.language_models import LANGUAGE_MODELS
from rad3d.core.plain import to_plain
from rad3d.core.settings import Settings
from rad3d.data.predictions import Columns
from rad3d.data.spec import SetSpec
from rad3d.evaluation.run_types import (
    EvaluationEvent,
    EvaluationRequest,
    EvaluationRun,
    Events,
    written_with,
)
from rad3d.evaluation.system_names import CONTROLS
from rad3d.metrics.compare import Difference
from rad3d.metrics.registry import PRIMARY, metric_row

if TYPE_CHECKING:
    from rad3d.evaluation.evaluations import Evaluations

LATEST = "latest"
SAY_EVERY = 20
"""Scans between two lines of progress."""
_SHOWN = (*PRIMARY, "side", "hf_bleu", "hf_rouge_l")


def open_evaluations(settings: Settings | None = None) -> Evaluations:
    """An evaluation service for one person at a terminal, who may read any path."""
    from rad3d.evaluation.evaluations import Evaluations
    from rad3d.service.service import Service

    settings = settings or Settings.from_env()
    return Evaluations(Service(settings), settings, trusted=True)


def run(args: argparse.Namespace) -> int:
    """Evaluate, tell the progress on stderr, print the figures."""
    evaluations = open_evaluations()
    cancel = threading.Event()
    if args.resume:
        run_id = _run_id(evaluations, args.resume)
        events = evaluations.resume(run_id, cancel)
    else:
        events = evaluations.start(_request(args, evaluations), cancel)
    return finish(follow(events, cancel), args)


def finish(finished: EvaluationRun, args: argparse.Namespace) -> int:
    """Write a run where ``--out`` says, print its figures, and return the exit status."""
    if args.out:
        from rad3d.evaluation.storage import copy_run

        copy_run(finished, args.out)
        say(f"also written to {args.out}")
    if args.json:
        print_json(_summary(finished))
    else:
        _print_run(finished)
    for system, reason in finished.failed.items():
        say(f"{system} is missing: {reason}")
    return INCOMPLETE if finished.status == "failures" else 0


def _request(args: argparse.Namespace, evaluations: Evaluations) -> EvaluationRequest:
    """The request that the options describe; an option that is not given means all that apply."""
    columns = Columns(label_set=LabelSet.find(args.label_set))
    sets = tuple(replace(SetSpec.parse(text), columns=columns) for text in args.sets)
    files_alone = all(spec.source == "predictions" for spec in sets)
    variants = args.variants
    if variants is None:
        variants = [] if files_alone else _shipped(evaluations)
    controls = chosen_controls(args, variants=bool(variants), cases=not files_alone)
    return EvaluationRequest(
        sets=sets,
        variants=tuple(variants),
        controls=controls,
        metrics=tuple(args.metric) if args.metric else None,
        options=written_with(generation_options(args), args.seed),
        limit=args.limit,
        draws=args.resamples,
        seed=args.seed,
        title=args.title,
        features=tuple(args.features),
        bank=replace(SetSpec.parse(args.reference_set), columns=columns)
        if args.reference_set
        else None,
    )


def chosen_controls(args: argparse.Namespace, *, variants: bool, cases: bool) -> tuple[str, ...]:
    """The given ablations and baselines; where none are given, all that apply.

    Args:
        args: of the command line.
        variants: there are some, for which ablations are made.
        cases: baselines can be made on them.
    """
    chosen: list[str] = []
    for given, of_variants, apply in (
        (args.ablations, True, variants),
        (args.baselines, False, cases),
    ):
        rows = [row.id for row in CONTROLS.values() if row.per_variant == of_variants]
        chosen += (rows if apply else []) if given is None else given
    return tuple(dict.fromkeys(chosen))


def _shipped(evaluations: Evaluations) -> list[str]:
    return [
        status.id
        for status in evaluations.variants()
        if status.ready and LANGUAGE_MODELS[status.id.rpartition("/")[0]].shipped
    ]


def follow(events: Events, cancel: threading.Event) -> EvaluationRun:
    """Tell the steps; an interrupt saves the run before it is passed on."""
    last: EvaluationEvent | None = None
    try:
        for event in events:
            if last is None or event.text != last.text:
                say(f"{event.done / event.total:4.0%} {event.text}")
            if last is None:
                say(f"run {event.run_id}")
            last = event
    except KeyboardInterrupt:
        cancel.set()
        events.close()
        if last is not None:
            say(f"go on with: rad3d eval run --resume {last.run_id}")
        raise
    if last is None or last.run is None:
        raise BadRequest("The run ended without a result.", "Try again.", code="no_result")
    return last.run


def _print_run(run: EvaluationRun) -> None:
    scored = {m for card in run.cards.values() for m in card.estimates}
    columns = [m for m in _SHOWN if m in scored] or sorted(scored)
    rows = [
        (name, system, str(card.n), str(card.failures),
         *(estimate_cell(card.estimates.get(m)) for m in columns))
        for name in run.sample_sets
        for (system, sample_set), card in run.cards.items()
        if sample_set == name
    ]  # fmt: skip
    print_table(rows, ("set", "system", "n", "failed", *(metric_row(m).name for m in columns)))
    for name, view in run.classifier.items():
        print(f"{name}: classifier {view.name}, macro AUROC {view.macro['auroc']}, n {view.n}")
    for verdict in run.verdicts:
        if verdict.control == "lookup":
            print(f"{verdict.sample_set}: {verdict.text}")


def _summary(run: EvaluationRun) -> dict[str, object]:
    """The figures of a run for a program."""
    return {
        "id": run.id,
        "status": run.status,
        "created": run.created,
        "revision": run.revision,
        "scores": [
            {
                "system": system,
                "sample_set": name,
                "n": card.n,
                "failures": card.failures,
                "dropped": to_plain(card.dropped),
                "estimates": to_plain(card.estimates),
            }
            for (system, name), card in run.cards.items()
        ],
        "verdicts": [
            {"sample_set": v.sample_set, "beats": v.beats, **to_plain(v.difference)}
            for v in run.verdicts
        ],
        "failed": dict(run.failed),
    }


def list_runs(args: argparse.Namespace) -> int:
    """Print the runs."""
    runs = open_evaluations().kept.runs()
    if args.json:
        print_json([asdict(row) for row in runs])
        return 0
    rows = [
        (r.id, r.created[:19], r.status, str(r.systems), " ".join(r.sets), r.revision, r.title)
        for r in runs
    ]
    print_table(rows, ("run", "created", "state", "systems", "sets", "revision", "title"))
    return 0


def compare(args: argparse.Namespace) -> int:
    """Print the differences; say where something is worse."""
    from rad3d.evaluation.verdicts import compare_runs, compare_systems

    if (args.second is None) == (args.baseline is None):
        raise BadRequest(
            "Give two runs, or one run and --baseline.", "See rad3d eval compare --help.",
            code="bad_option",
        )  # fmt: skip
    evaluations = open_evaluations()
    first = load_run(evaluations, args.first)
    rows: list[tuple[str, Difference]] = []
    if args.baseline:
        for name in first.sample_sets:
            if args.set in (None, name):
                differences = compare_systems(
                    first, name, args.baseline, resamples=args.resamples, seed=args.seed
                )
                rows += [(name, difference) for difference in differences]
    else:
        second = load_run(evaluations, args.second)
        rows += [
            each
            for each in compare_runs(first, second, resamples=args.resamples, seed=args.seed)
            if args.set in (None, each[0])
        ]
        _say_identical(first, second)
    if not rows:
        raise BadRequest(
            "There is nothing that both have.", "Compare runs on the same cases.", code="nothing"
        )
    _print_differences(rows, args.json)
    worse = [d for _, d in rows if d.better == d.a]
    if worse:
        say(f"{len(worse)} of {len(rows)} differences are significantly for the worse")
    return BELOW_REQUIRED if args.fail_if_worse and worse else 0


def _print_differences(differences: Sequence[tuple[str, Difference]], as_json: bool) -> None:
    if as_json:
        print_json([{"sample_set": name, **to_plain(d)} for name, d in differences])
        return
    rows = [(name, *difference_cells(difference)) for name, difference in differences]
    print_table(rows, ("set", *DIFFERENCE_HEAD))


def _say_identical(first: EvaluationRun, second: EvaluationRun) -> None:
    """Print how many reports of two runs are identical: whether a study was reproduced."""
    same = total = 0
    for key, ours in second.predictions.items():
        texts = {p.id: p.text for p in first.predictions[key].predictions} if (
            key in first.predictions
        ) else {}  # fmt: skip
        both = [p for p in ours.predictions if p.id in texts]
        total += len(both)
        same += sum(p.text == texts[p.id] for p in both)
    if total:
        say(f"{same} of {total} reports are identical")


def report(args: argparse.Namespace) -> int:
    """Write the file and print its path."""
    evaluations = open_evaluations()
    made = evaluations.export(load_run(evaluations, args.target), args.format)
    target = args.out or Path(made.name)
    target.write_bytes(made.data)
    print(target)
    return 0


def write_study_features(args: argparse.Namespace) -> int:
    """Write what an encoder sees in each shipped set to a file, and print its path."""
    from rad3d.data.sample_sets import PHANTOM_SPLITS
    from rad3d.evaluation.evaluations import STUDY_DIR
    from rad3d.evaluation.feature_source import shipped_name
    from rad3d.features.table import write_features

    source = open_evaluations().feature_source
    directory = args.out or STUDY_DIR / "features"
    for row in PHANTOM_SPLITS.values():
        samples = row.scans()
        for done in source.encode(row.id, samples, args.encoder):
            if done % SAY_EVERY == 0:
                say(f"{row.id}: {done} scans encoded")
        table = replace(source.features(row.id, samples, args.encoder), tokens=None)
        path = directory / shipped_name(row.id, args.encoder)
        write_features(path, table, source.identity(args.encoder), half=row.split != "test")
        say(f"{row.id}: {len(table.ids)} cases")
        print(path)
    return 0


def load_run(evaluations: Evaluations, text: str) -> EvaluationRun:
    """A run by id, ``latest``, ``study`` or folder."""
    if (Path(text) / "run.json").is_file():
        from rad3d.evaluation.storage import read_run

        return read_run(Path(text))
    return evaluations.kept.load(_run_id(evaluations, text))


def _run_id(evaluations: Evaluations, text: str) -> str:
    if text != LATEST:
        return text
    runs = evaluations.kept.runs()
    if not runs:
        raise BadRequest("There is no run yet.", "Run: rad3d eval run", code="no_run")
    return runs[0].id
