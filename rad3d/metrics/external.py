"""Metrics whose packages cannot live beside this one: F1-RadGraph, RaTEScore and GREEN.

They run in the interpreter that RAD3D_METRICS_PYTHON names, through :mod:`rad3d.metrics.worker`.
Sources: Jain et al. 2021 (RadGraph), Zhao et al. 2024 (RaTEScore), Ostmeier et al. 2024 (GREEN).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rad3d.core.errors import BadRequest
from rad3d.core.types import FloatArray
from rad3d.metrics.cases import Cases, Places
from rad3d.metrics.green import read_judgement
from rad3d.metrics.measure import Measure, MetricStatus, ratio, values_and_ones, weights_digest

WORKER = Path(__file__).with_name("worker.py")
TIMEOUT_S = 6 * 3600
_PROBE_TIMEOUT_S = 30
_VERSION = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
_PROBE = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"


@dataclass(frozen=True)
class External:
    """One metric of the worker.

    Attributes:
        id: its key there and in the registry.
        module: what its package is imported as.
        package: what it is installed as.
        weights: folder below the metrics' weights that it needs; empty where the package fetches
            its own.
        source: where those weights are published.
        needs_gpu: whether it is hopeless without one.
    """

    id: str
    module: str
    package: str
    weights: str = ""
    source: str = ""
    needs_gpu: bool = False

    def status(self, places: Places) -> MetricStatus:
        """Check that the package, the weights and the GPU are available."""
        python = places.python or sys.executable
        if shutil.which(python) is None:
            return MetricStatus(
                "broken", f"RAD3D_METRICS_PYTHON names {python}, which is no program."
            )
        if not _has_module(python, self.module):
            return MetricStatus(
                "needs package",
                f"{self.package} is not installed for {python}; "
                "it needs an environment of its own.",
                f"python3 -m venv metrics && metrics/bin/pip install {self.package}"
                " && export RAD3D_METRICS_PYTHON=$PWD/metrics/bin/python",
            )
        folder = places.weights(self.weights)
        if self.weights and not (folder / "config.json").is_file():
            return MetricStatus(
                "needs weights",
                f"The weights of {self.source} are expected in {folder}.",
                f"hf download {self.source} --local-dir {folder}",
            )
        if self.needs_gpu and shutil.which("nvidia-smi") is None:
            return MetricStatus("needs gpu", "The judge has 7B parameters and needs a GPU.")
        return MetricStatus()

    def facts(self, places: Places) -> str:
        """Return the version of the package, and the weights if they are a folder."""
        done = subprocess.run(
            [places.python or sys.executable, "-c", _VERSION, self.package],
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
        version = f"{self.package}:{done.stdout.strip() or 'unknown'}"
        return (
            f"{version}|{weights_digest(places.weights(self.weights))}" if self.weights else version
        )

    def ask(self, cases: Cases) -> dict[str, Any]:
        """Return the worker's answer for the pairs; raises BadRequest with the package's reason."""
        question = {
            "metric": self.id,
            "references": list(cases.references),
            "predictions": list(cases.texts),
            "weights": str(cases.places.weights(self.weights)),
        }
        done = subprocess.run(
            [cases.places.python or sys.executable, str(WORKER)],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=TIMEOUT_S,
            check=False,
        )
        try:
            answer: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
            answer = {"error": last[0]}
        if "error" in answer:
            raise BadRequest(
                f"{self.id} failed in its own interpreter: {answer['error']}",
                f"Try the package {self.package} there by itself.",
                code="metric_failed",
            )
        return answer


def _has_module(python: str, module: str) -> bool:
    try:
        done = subprocess.run(
            [python, "-c", _PROBE, module],
            capture_output=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _values(external: External) -> Callable[[Cases], FloatArray]:
    def collect(cases: Cases) -> FloatArray:
        values = np.array(external.ask(cases)["values"], dtype=np.float64)
        if values.shape != (cases.n,):
            raise BadRequest(
                f"{external.id} answered {values.size} values for {cases.n} reports.",
                code="metric_failed",
            )
        return values_and_ones(values)

    return collect


def _judged(external: External) -> Callable[[Cases], FloatArray]:
    """Return the scores of well-formed answers; others are left out of the mean."""

    def collect(cases: Cases) -> FloatArray:
        answers = external.ask(cases)["answers"]
        if len(answers) != cases.n:
            raise BadRequest("The judge left reports out.", code="metric_failed")
        return values_and_ones(np.array([read_judgement(text).score for text in answers]))

    return collect


RADGRAPH = External("f1_radgraph", "radgraph", "radgraph")
RATE = External("ratescore", "RaTEScore", "RaTEScore")
JUDGE = External(
    "green", "green_score", "green-score", "green", "StanfordAIMI/GREEN-RadLlama2-7b", True
)

F1_RADGRAPH = Measure(
    "f1_radgraph",
    _values(RADGRAPH),
    ratio,
    lambda: "f1_radgraph|partial|modern-radgraph-xl|mean of reports",
    RADGRAPH.status,
    RADGRAPH.facts,
)
RATESCORE = Measure(
    "ratescore", _values(RATE), ratio, lambda: "ratescore|mean of reports", RATE.status, RATE.facts
)
GREEN = Measure(
    "green",
    _judged(JUDGE),
    ratio,
    lambda: f"green|{JUDGE.source}|mean of well-formed answers",
    JUDGE.status,
    JUDGE.facts,
)
