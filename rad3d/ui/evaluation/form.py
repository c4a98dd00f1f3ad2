"""The request that the choices in the run panel make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rad3d.core.lookup import lookup
from rad3d.data.sample_sets import SAMPLE_SETS
from rad3d.data.spec import SetSpec
from rad3d.evaluation.metric_choice import metrics_of_groups
from rad3d.evaluation.run_types import EvaluationRequest, written_with
from rad3d.evaluation.system_names import CONTROLS
from rad3d.ui.report.generation_fields import number_of, options_of

if TYPE_CHECKING:
    from rad3d.evaluation.evaluations import Evaluations

Asked = Mapping[str, Any]
"""Name of a component of the run panel -> its value; an untouched field may arrive as None."""


def request_of(
    asked: Asked, evaluations: Evaluations, owner: str, files: tuple[SetSpec, ...] = ()
) -> EvaluationRequest:
    """Return what is to be evaluated.

    Args:
        asked: see :data:`Asked`.
        evaluations: know what there is.
        owner: owner of the run.
        files: predictions files that were uploaded.

    Raises:
        BadRequest, UnknownName: a value is out of its range, or names something unknown.
    """
    seed = number_of(asked, "seed", int)
    variants = tuple(asked["variants"] or ())
    return EvaluationRequest(
        sets=(*_sets(asked, evaluations), *files),
        variants=variants,
        controls=tuple(c for c in asked["controls"] or () if variants or not _is_ablation(c)),
        metrics=metrics_of_groups(evaluations.metric_groups(), asked["metrics"] or ()),
        options=written_with(options_of(asked), seed),
        limit=number_of(asked, "limit", int),
        draws=number_of(asked, "draws", int),
        seed=seed,
        owner=owner,
    )


def _is_ablation(control: str) -> bool:
    """Tell whether a chosen box is an ablation; without a variant it has nothing to take away."""
    return lookup("ablation or baseline", CONTROLS, control).per_variant


def _sets(asked: Asked, evaluations: Evaluations) -> tuple[SetSpec, ...]:
    """Return the chosen sample sets; a folder only where the operator allows one."""
    specs = [SetSpec(lookup("sample set", SAMPLE_SETS, name).id) for name in asked["sets"] or ()]
    path = str(asked["path"] or "").strip()
    if path:
        layouts = {row.id: row for row in evaluations.layouts()}
        specs.append(SetSpec(lookup("layout", layouts, asked["layout"] or "").id, path))
    return tuple(specs)
