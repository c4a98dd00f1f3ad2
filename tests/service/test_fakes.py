"""The stand-ins of the page's tests take the arguments that the real classes take."""

from __future__ import annotations

import inspect

import pytest
from browser.fake_evaluations import FakeEvaluations, FakeKeptRuns

from rad3d.evaluation.evaluations import Evaluations
from rad3d.evaluation.runs import RunRepository


@pytest.mark.parametrize(
    ("fake", "real"),
    [(FakeEvaluations, Evaluations), (FakeKeptRuns, RunRepository)],
)
def test_every_method_of_a_stand_in_has_the_real_signature(fake: type, real: type) -> None:
    methods = {
        name: method
        for name, method in vars(fake).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }
    assert methods
    for name, method in methods.items():
        assert hasattr(real, name), f"{real.__name__} has no {name}"
        ours, theirs = (
            inspect.signature(each).parameters.values() for each in (method, getattr(real, name))
        )
        assert [(p.name, p.kind, p.default) for p in ours] == [
            (p.name, p.kind, p.default) for p in theirs
        ], name
