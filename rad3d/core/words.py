"""Small pieces of English that messages, tables and pages share."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache


def joined(items: Sequence[str], last: str = "and") -> str:
    """``["a", "b", "c"] -> "a, b and c"``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def capitalised(text: str) -> str:
    """The text with a capital first letter; the others stay."""
    return text[:1].upper() + text[1:]


def shortened(text: str, most: int) -> str:
    """``"Interlobular septal thickening" -> "Interlobular sept…"``."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def counted(count: int, noun: str) -> str:
    """``(2, "slice") -> "2 slices"``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def by(values: Iterable[float], form: str = "") -> str:
    """``(512, 512, 30) -> "512 x 512 x 30"``, each number in a format such as ``".3g"``."""
    return " x ".join(f"{value:{form}}" for value in values)


def byte_text(nbytes: float) -> str:
    """``2471628800 -> "2.5 GB"``, ``14155776 -> "14 MB"``; decimal units."""
    for unit, factor, digits in (("TB", 1e12, 1), ("GB", 1e9, 1), ("MB", 1e6, 0)):
        if nbytes >= factor:
            return f"{nbytes / factor:.{digits}f} {unit}"
    return f"{nbytes / 1e3:.1f} kB"


def duration_text(seconds: float) -> str:
    """``5400 -> "1 h 30 min"``; whole minutes from one minute on, else seconds."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


@lru_cache(4096)
def bare(name: str) -> str:
    """A column's or label's name without what people write differently: case, spaces, dashes."""
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name).casefold())
