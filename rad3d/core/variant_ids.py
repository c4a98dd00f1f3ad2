"""Ids of variants: a language model, a mode, and a tag where several are compared."""

from __future__ import annotations

from rad3d.core.language_models import LanguageModel, language_model
from rad3d.core.lookup import lookup
from rad3d.core.modes import MODES, Mode


def variant_id(llm: str, mode: str, tag: str = "") -> str:
    """``"phantom-m", "v3" -> "phantom-m/v3"``, and with a tag ``"phantom-m/v3.p400"``."""
    return f"{llm}/{mode}.{tag}" if tag else f"{llm}/{mode}"


def variant_tag(variant: str) -> str:
    """``"phantom-m/v3.p400" -> "p400"``; empty where there is none."""
    return variant.rpartition("/")[2].partition(".")[2]


def split_variant_id(variant: str) -> tuple[LanguageModel, Mode]:
    """The rows of a variant id, whose language model may also be a hub id or a path.

    ``"phantom-m/v3"``, ``"owner/name/v3"`` and ``"owner--name/v3"`` all work; raises
    :class:`UnknownName`.
    """
    llm, _, mode = variant.rpartition("/")
    return language_model(llm), lookup("adaptation mode", MODES, mode.partition(".")[0])
