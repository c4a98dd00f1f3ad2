"""Results of a variant with the weights that are installed, taken from kept runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rad3d.core.errors import BadRequest
from rad3d.core.types import GenerationOptions
from rad3d.data.sample_sets import SAMPLE_SETS
from rad3d.evaluation.storage import read_figures
from rad3d.metrics.bootstrap import Estimate
from rad3d.model.variants.variant import VariantConfig


@dataclass(frozen=True)
class VariantResult:
    """The results of a variant on one sample set.

    Attributes:
        sample_set: id of the set.
        domain: ``"in"``, ``"out"``, or empty for a set that does not ship.
        estimates: metric -> figure with its 95% interval and n.
        date: of the run, such as ``"2026-11-24"``.
        run: id of the run.
    """

    sample_set: str
    domain: str
    estimates: Mapping[str, Estimate]
    date: str
    run: str

    def figure(self, metric: str) -> Estimate | None:
        """Return a metric; None if it was not scored or is not defined on the set."""
        estimate = self.estimates.get(metric)
        return None if estimate is None or math.isnan(estimate.value) else estimate


def measured_in(
    runs: Iterable[tuple[str, Path]], config: VariantConfig, encoder_sha256: Callable[[str], str]
) -> tuple[VariantResult, ...]:
    """Return the results of the first of these runs that used exactly these weights.

    Reports of other options than the defaults are another measurement, and are passed over.

    Args:
        runs: id and folder of each, the one that is preferred first.
        config: the variant as it is here.
        encoder_sha256: id of an encoder -> hash of its weights here; asked only where everything
            else is right, and may raise Rad3dError.
    """
    for run, directory in runs:
        try:
            created, rows = read_figures(directory, config.id)
        except BadRequest:  # the list of runs says so
            continue
        results = tuple(
            VariantResult(sample_set, _domain(sample_set), estimates, created[:10], run)
            for sample_set, estimates, facts in rows
            if _is_of(facts, config)
            and facts["encoder"]["sha256"] == encoder_sha256(config.encoder)
        )
        if results:
            return results
    return ()


def _is_of(facts: Mapping[str, Any], config: VariantConfig) -> bool:
    """Return whether texts with these facts were written by a variant with default options."""
    return (
        facts.get("weights") == config.files  # a predictions file has none
        and facts["llm"] == config.llm_source
        and facts["llm_revision"] == config.llm_revision
        and facts["llm_sha256"] == config.llm_sha256
        and facts["encoder"]["id"] == config.encoder
        and GenerationOptions(**facts["options"]) == GenerationOptions()
    )


def _domain(sample_set: str) -> str:
    return SAMPLE_SETS[sample_set].domain if sample_set in SAMPLE_SETS else ""
