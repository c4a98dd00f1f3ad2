"""Dataclasses as plain JSON values, and back.

Numbers are rounded to six digits, so that the same figures give the same bytes on every machine.
JSON has no NaN: it is written as null, and a field of type :data:`Number` reads null as NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, cast

from pydantic import BeforeValidator, TypeAdapter

from rad3d.core.labels import LabelSet

T = TypeVar("T")

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A float that may be NaN."""


def to_plain(value: Any) -> Any:
    """Dicts, lists, strings and numbers, for ``json.dumps``."""
    if isinstance(value, LabelSet):
        return value.to_plain()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(each) for each in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value


def from_plain(kind: type[T], values: Any) -> T:
    """A dataclass, checked, from what :func:`to_plain` gave; ValueError where it does not fit."""
    adapter: TypeAdapter[T] = _adapter(cast(Any, kind))
    return adapter.validate_python(values)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
