"""Dataclasses as plain values: nothing is lost but the seventh digit, and NaN is null."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pytest

from rad3d.core.plain import Number, from_plain, to_plain


@dataclass(frozen=True)
class Inner:
    value: Number
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    name: str
    inner: tuple[Inner, ...]
    limit: int | None = None


def test_a_nested_dataclass_survives_json() -> None:
    outer = Outer("a", (Inner(0.25, ("left", "right")), Inner(-1.5)))
    assert from_plain(Outer, json.loads(json.dumps(to_plain(outer)))) == outer


def test_what_is_undefined_is_null_and_comes_back_as_nan() -> None:
    text = json.dumps(to_plain(Outer("a", (Inner(math.nan),))), allow_nan=False)
    assert '"value": null' in text
    assert math.isnan(from_plain(Outer, json.loads(text)).inner[0].value)


def test_values_of_another_shape_are_refused() -> None:
    for wrong in ({"name": "a"}, {"name": "a", "inner": 3}, ["a"], None):
        with pytest.raises(ValueError, match="validation error"):
            from_plain(Outer, wrong)
