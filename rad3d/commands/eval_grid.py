"""``rad3d eval study``: plan, train and evaluate a grid of variants."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rad3d.commands import print_json, print_table, say
from rad3d.commands.demo import tell
from rad3d.commands.eval_study import chosen_controls, finish, follow, open_evaluations
from rad3d.core.errors import BadRequest, Rad3dError
from rad3d.core.modes import MODES
from rad3d.core.plain import to_plain
from rad3d.core.settings import Settings
from rad3d.core.variant_ids import variant_id
from rad3d.data.sample_sets import SAMPLE_SETS, TRAINING
from rad3d.data.spec import SetSpec
from rad3d.evaluation.run_types import EvaluationRequest
from rad3d.evaluation.runs import STUDY
from rad3d.evaluation.study_plan import Axes, Cell, StudyPlan, planned
from rad3d.evaluation.system_names import expected_seconds
from rad3d.metrics.registry import metrics_of

if TYPE_CHECKING:
    from rad3d.evaluation.evaluations import Evaluations
    from rad3d.evaluation.study_training import StudyTraining

STUDY_METRICS = ("clinical", "prior")
STEP_SECONDS = 0.5
"""Of a training step where no variant like it has been trained."""


@dataclass(frozen=True)
class Costs:
    """Seconds of a cell, from what the shipped variants took.

    Attributes:
        training: of a cell.
        writing: of all reports of a cell, those of its ablations included.
    """

    training: Callable[[Cell], float]
    writing: Callable[[Cell], float]

    def of(self, cell: Cell) -> float:
        """Both together."""
        return self.training(cell) + self.writing(cell)


def run(args: argparse.Namespace) -> int:
    """Plan; then train what is missing, evaluate all, and print the figures."""
    from rad3d.evaluation.study_training import StudyTraining

    axes = Axes(
        tuple(args.llms), tuple(args.modes), tuple(args.pairs), tuple(args.seeds),
        tuple(args.encoders), args.full,
    )  # fmt: skip
    settings = Settings.from_env()
    shipped = open_evaluations(settings)
    folder = args.folder or settings.runs_dir / "study"
    training = StudyTraining(folder, settings.models_dir, shipped.feature_source, args.steps)
    request = _request(args)
    costs = _costs(shipped, training, request)
    plan = planned(axes, TRAINING.n, args.hours, costs.of)
    if args.plan:
        _print_plan(plan, training, costs, args.json)
        return 0
    if not plan.cells:
        raise BadRequest("No cell is left of the grid.", plan.cuts[0].reason, code="nothing")
    training.prepare()
    _train(plan, training, costs)
    evaluations = open_evaluations(replace(settings, models_dir=training.own_models))
    request = replace(request, variants=tuple(cell.variant for cell in plan.cells))
    cancel = threading.Event()
    return finish(follow(evaluations.start(request, cancel), cancel), args)


def _request(args: argparse.Namespace) -> EvaluationRequest:
    """What is evaluated, still without variants."""
    return EvaluationRequest(
        sets=tuple(SetSpec.parse(text) for text in args.sets),
        controls=chosen_controls(args, variants=True, cases=True),
        metrics=metrics_of(STUDY_METRICS),
        limit=args.limit,
        draws=args.resamples,
        title="Study of pairs, sizes and seeds",
    )


def _costs(evaluations: Evaluations, training: StudyTraining, request: EvaluationRequest) -> Costs:
    try:
        known = evaluations.kept.load(STUDY).costs
    except Rad3dError:
        known = {}
    sizes = [SAMPLE_SETS[s.source].n for s in request.sets if s.source in SAMPLE_SETS]
    cases = sum(min(request.limit or n, n) for n in sizes)

    def learning(cell: Cell) -> float:
        steps = training.schedule(cell).schedule(MODES[cell.mode]).steps
        try:
            facts = evaluations.store.catalogue.config(variant_id(cell.llm, cell.mode)).training
            return float(steps * facts["seconds"] / facts["steps"])
        except (Rad3dError, KeyError, TypeError, ZeroDivisionError):
            return steps * STEP_SECONDS

    def writing(cell: Cell) -> float:
        row = variant_id(cell.llm, cell.mode)
        return expected_seconds(known, [row], request.controls, cases)

    return Costs(learning, writing)


def _print_plan(plan: StudyPlan, training: StudyTraining, costs: Costs, as_json: bool) -> None:
    """Print every cell with its cost and state, the sums, and what is cut."""
    done = {cell: training.trained(cell) is not None for cell in plan.cells}
    left = sum(costs.training(cell) for cell in plan.cells if not done[cell])
    writing = sum(costs.writing(cell) for cell in plan.cells)
    if as_json:
        cells = [
            {"variant": cell.variant, **to_plain(cell), "trained": done[cell],
             "training_seconds": round(costs.training(cell)),
             "writing_seconds": round(costs.writing(cell))}
            for cell in plan.cells
        ]  # fmt: skip
        print_json({"cells": cells, "cut": to_plain(plan.cuts)})
        return
    rows = [
        (
            cell.variant, f"{cell.pairs:,}", str(cell.seed), cell.encoder,
            "trained" if done[cell] else "to train",
            f"{costs.training(cell) / 60:.1f}", f"{costs.writing(cell) / 60:.1f}",
        )
        for cell in plan.cells
    ]  # fmt: skip
    print_table(
        rows, ("variant", "pairs", "seed", "encoder", "state", "training, min", "writing, min")
    )
    print(
        f"{len(plan.cells)} cells, {sum(done.values())} trained; about {left / 3600:.1f} h of "
        f"training left, and {writing / 3600:.1f} h of writing, less what has been written"
    )
    for cut in plan.cuts:
        print(f"{cut.cells} cells are cut: {cut.reason}")


def _train(plan: StudyPlan, training: StudyTraining, costs: Costs) -> None:
    """Train the missing cells; a line for each and what is left."""
    missing = [cell for cell in plan.cells if training.trained(cell) is None]
    for done, cell in enumerate(missing):
        left = sum(costs.training(each) for each in missing[done:]) / 3600
        say(f"training {cell.variant}: {done + 1} of {len(missing)}, about {left:.1f} h left")
        training.train(cell, tell)
