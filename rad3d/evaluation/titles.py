"""Titles of runs."""

from __future__ import annotations

from pathlib import Path

from rad3d.data.predictions import one_line
from rad3d.data.sample_sets import SAMPLE_SETS
from rad3d.evaluation.run_types import EvaluationRequest
from rad3d.evaluation.system_names import system_of


def title_of(request: EvaluationRequest) -> str:
    """Return a title such as ``"12 variants, phantoms in and out of domain"``."""
    n = len(request.variants)
    systems = [s.name or Path(s.path).stem for s in request.sets if s.source == "predictions"]
    if n:
        systems.insert(0, system_of(request.variants[0], {}).shown if n == 1 else f"{n} variants")
    domains = sorted(SAMPLE_SETS[s.source].domain for s in request.sets if s.source in SAMPLE_SETS)
    cases = [Path(s.path).name for s in request.sets if s.path and s.source != "predictions"]
    if domains:
        cases.insert(0, f"phantoms {' and '.join(domains)}{' of' * ('out' in domains)} domain")
    words = filter(None, (" and ".join(systems) or "Baselines", " and ".join(cases)))
    return one_line(", ".join(words))
