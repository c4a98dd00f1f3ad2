"""Runs one foreign metric in an interpreter of its own: JSON on stdin, JSON on stdout.

A script, not a module: the interpreter that runs it has the metric's package and need not have this
one. Given ``{"metric", "references", "predictions", "weights"}`` it answers ``{"values", "answers",
"version"}``, or ``{"error"}`` with one sentence. What the packages print goes to stderr.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any


def f1_radgraph(given: dict[str, Any]) -> dict[str, Any]:
    """Partial reward of each pair: entities that match with whether they have relations."""
    scorer = importlib.import_module("radgraph").F1RadGraph(
        reward_level="partial", model_type="modern-radgraph-xl"
    )
    values = scorer(hyps=given["predictions"], refs=given["references"])[1]
    return {"values": [float(value) for value in values], "version": version("radgraph")}


def ratescore(given: dict[str, Any]) -> dict[str, Any]:
    """RaTEScore of each pair."""
    scorer = importlib.import_module("RaTEScore").RaTEScore()
    values = scorer.compute_score(given["predictions"], given["references"])
    return {"values": [float(value) for value in values], "version": version("RaTEScore")}


def green(given: dict[str, Any]) -> dict[str, Any]:
    """The judge's answer to each pair; the caller reads and scores them."""
    judge = importlib.import_module("green_score").GREEN(given["weights"], output_dir=".")
    table = judge(given["references"], given["predictions"])[-1]
    return {"answers": [str(text) for text in table["green_analysis"]],
            "version": version("green-score")}  # fmt: skip


METRICS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "f1_radgraph": f1_radgraph,
    "ratescore": ratescore,
    "green": green,
}


def main() -> int:
    """Answer one question; the exit status is 0 whenever the answer is JSON."""
    given = json.load(sys.stdin)
    answer: dict[str, Any]
    with contextlib.redirect_stdout(sys.stderr):
        try:
            answer = METRICS[given["metric"]](given)
        except Exception as error:  # whatever the foreign package raises is its answer
            answer = {"error": f"{type(error).__name__}: {error}"}
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
