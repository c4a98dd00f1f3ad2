"""Looks rows of a table up by name, and objects by ``"module:attribute"``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, TypeVar

from rad3d.core.errors import UnknownName

Row = TypeVar("Row")


def lookup(kind: str, table: Mapping[str, Row], name: str) -> Row:
    """The row called ``name``; raises :class:`UnknownName` with the known names."""
    try:
        return table[name]
    except KeyError:
        raise UnknownName(kind, name, list(table)) from None


def resolve(target: str) -> Any:
    """The object named ``"module:attribute"``."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
