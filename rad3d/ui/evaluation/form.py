"""What was chosen in the run panel, as the browser sent it, and the request that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from rad3d.core.errors import BadRequest
from rad3d.core.registry import lookup
from rad3d.core.types import GenerationOptions
from rad3d.data.sample_sets import SAMPLE_SETS
from rad3d.data.spec import SetSpec
from rad3d.evaluation.metric_choice import metrics_of_groups
from rad3d.evaluation.run_types import EvaluationRequest, written_with

if TYPE_CHECKING:
    from rad3d.evaluation.service import Evaluations

Asked = Mapping[str, Any]
"""Name of a component of the panel -> its value; an untouched field may arrive as None."""


def request_of(
    asked: Asked, evaluations: Evaluations, owner: str, files: tuple[SetSpec, ...] = ()
) -> EvaluationRequest:
    """What is to be evaluated; raises BadRequest or UnknownName.

    Args:
        asked: see :data:`Asked`.
        evaluations: know what there is.
        owner: whose run it will be.
        files: predictions files that were uploaded.
    """
    seed = _whole(asked, "seed")
    return EvaluationRequest(
        sets=(*_sets(asked, evaluations), *files),
        variants=tuple(asked["variants"] or ()),
        controls=tuple(asked["controls"] or ()),
        metrics=metrics_of_groups(evaluations.metric_groups(), asked["metrics"] or ()),
        options=_options(asked, seed),
        limit=_whole(asked, "limit"),
        draws=_whole(asked, "draws"),
        seed=seed,
        owner=owner,
    )


def _sets(asked: Asked, evaluations: Evaluations) -> tuple[SetSpec, ...]:
    """The chosen sample sets; a folder only where the operator allows one."""
    specs = [SetSpec(lookup("sample set", SAMPLE_SETS, each).id) for each in asked["sets"] or ()]
    path = str(asked["path"] or "").strip()
    if path:
        layouts = {row.id: row for row in evaluations.layouts()}
        specs.append(SetSpec(lookup("layout", layouts, asked["layout"] or "").id, path))
    return tuple(specs)


def _options(asked: Asked, seed: int) -> GenerationOptions:
    values: dict[str, Any] = {}
    for field in fields(GenerationOptions):
        if field.name != "seed":
            value = asked[field.name]
            values[field.name] = (
                value
                if isinstance(field.default, str)
                else _number(asked, field.name, type(field.default))
            )
    return written_with(GenerationOptions(**values), seed)


def _whole(asked: Asked, name: str) -> int:
    return int(_number(asked, name, int))


def _number(asked: Asked, name: str, kind: type) -> Any:
    """A number of the panel; raises BadRequest for what is none."""
    try:
        return kind(asked[name] if asked[name] is not None else 0)
    except (TypeError, ValueError, OverflowError):
        raise BadRequest(f"{name} must be a number.", code="bad_option") from None
