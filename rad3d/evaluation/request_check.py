"""Everything for which an evaluation is refused before it begins.

The ranges of single values are checked by :class:`EvaluationRequest` itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from rad3d.core.errors import BadRequest, MissingWeights
from rad3d.core.lookup import lookup
from rad3d.data.samples import PredictionSet, SampleSet
from rad3d.data.spec import SetSpec
from rad3d.evaluation.access import Rights
from rad3d.evaluation.run_types import EvaluationRequest
from rad3d.evaluation.system_names import CONTROLS
from rad3d.metrics.cases import Places
from rad3d.metrics.registry import metric_status
from rad3d.model.store import ModelStore


def check_rights(
    request: EvaluationRequest, rights: Rights, uploads: Collection[str]
) -> EvaluationRequest:
    """Return the request within the bounds of its owner.

    Args:
        request: what to evaluate.
        rights: of the people who use this process.
        uploads: paths that this visitor may read wherever they are.

    Raises:
        BadRequest: the owner may not read a path, or asks for too much.
    """
    specs = [*request.sets, *(SetSpec("features", path) for path in request.features)]
    if request.bank:
        specs.append(request.bank)
    for spec in specs:
        rights.check_place(spec, request.owner, uploads)
    return request.bounded(rights.bounds(request.owner))


def check_names(request: EvaluationRequest, store: ModelStore, places: Places) -> None:
    """Check names, weights and metrics, before anything is read or computed.

    Raises:
        UnknownName, MissingWeights, BadRequest: one of them cannot be had here.
    """
    for control in request.controls:
        lookup("ablation or baseline", CONTROLS, control)
    if not request.variants and any(CONTROLS[c].per_variant for c in request.controls):
        raise BadRequest("An ablation was chosen without a variant.", "Choose one.", code="nothing")
    for variant in request.variants:
        status = store.catalogue.status(variant)
        if not status.ready:
            raise MissingWeights(status.reason, f"Run: {status.command}", code="missing_weights")
    for metric in request.metrics or ():
        state = metric_status(metric, places)
        if not state.ready:
            raise BadRequest(
                f"{metric} cannot run here: {state.reason}",
                f"Run: {state.command}" if state.command else "Leave it out.",
                code="metric_not_ready",
            )


def check_cases(
    request: EvaluationRequest, sets: Mapping[str, SampleSet], files: Sequence[PredictionSet]
) -> None:
    """Check that the cases that were read fit the request.

    Raises:
        BadRequest: variants without scans, nothing to evaluate, or a name that is taken.
    """
    if request.variants and not any(s.scan for each in sets.values() for s in each.samples):
        raise BadRequest(
            "The chosen cases have no scans, so no variant can write about them.",
            "Choose a set with scans, or no variant.",
            code="no_scans",
        )
    stands_alone = any(not CONTROLS[control].per_variant for control in request.controls)
    if not (request.variants or files or stands_alone):
        raise BadRequest("Nothing was chosen to evaluate.", "Choose a variant.", code="nothing")
    for name in {*CONTROLS, *request.variants} & {file.name for file in files}:
        raise BadRequest(
            f"A predictions file cannot be called {name}, as what it is compared with is.",
            "Rename it.",
            code="duplicate_names",
        )
