"""Seeded choice among phrases, and the small template language of the phrase tables.

A template is a string with alternatives in brackets and named slots in braces::

    "[a|one] {size} hiatal hernia[| is seen]"

Alternatives are listed with the plainest first; how far a pen strays from it is its ``skew``.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TypeVar

from rad3d.core.words import capitalised

T = TypeVar("T")
Slots = Mapping[str, str]

_ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")

CANONICAL, MODERATE, FREE = 6, 2, 1
"""Values of ``skew``: mostly the plainest wording, a moderate variety, all wordings alike."""


class PhraseSampler:
    """A stream of choices that depends on its seed alone.

    Only ``random.Random.random`` is used, whose sequence Python keeps across versions, and
    powers are multiplied out, so that every machine makes the same choices.

    Args:
        seed: any text or integer.
        skew: 1 chooses uniformly; the larger, the more often the first option wins.
    """

    __slots__ = ("_random", "skew")

    def __init__(self, seed: str | int, skew: int = MODERATE) -> None:
        self._random = random.Random(seed).random
        self.skew = skew

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, the first ones more often where the skew is above 1."""
        if len(options) == 1:
            return options[0]
        u = draw = self._random()
        for _ in range(self.skew - 1):
            draw *= u
        return options[int(len(options) * draw)]

    def any_of(self, options: Sequence[T]) -> T:
        """One of the options, all alike whatever the skew."""
        return options[int(len(options) * self._random())]

    def chance(self, probability: float) -> bool:
        """True with that probability, whatever the skew."""
        return self._random() < probability

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in random order; the input stays as it is."""
        rest = list(items)
        for i in range(len(rest) - 1, 0, -1):
            j = int((i + 1) * self._random())
            rest[i], rest[j] = rest[j], rest[i]
        return rest

    def write(self, template: str, slots: Slots) -> str:
        """A template with its alternatives chosen and its slots filled, spaces tidied."""
        chosen = "".join(
            part if isinstance(part, str) else self.pick(part) for part in _parts(template)
        )
        return tidy(chosen.format_map(slots) if "{" in chosen else chosen)

    def write_one(self, templates: tuple[str, ...], slots: Slots) -> str:
        """One of the templates whose slots can all be filled."""
        return self.write(self.pick(usable(templates, tuple(slots))), slots)


@cache
def _parts(template: str) -> tuple[str | tuple[str, ...], ...]:
    """A template as literal texts and tuples of alternatives."""
    pieces = _ALTERNATIVES.split(template)
    return tuple(
        tuple(piece.split("|")) if i % 2 else piece for i, piece in enumerate(pieces) if piece
    )


@cache
def usable(templates: tuple[str, ...], available: tuple[str, ...]) -> tuple[str, ...]:
    """The templates that name no slot beyond the available ones.

    Templates that begin with ``?`` are last resorts: they count only where no other one fits.
    """
    fitting = [t for t in templates if set(_SLOT.findall(t)) <= set(available)]
    good = [t for t in fitting if not t.startswith("?")]
    return tuple(good or [t[1:] for t in fitting])


def tidy(text: str) -> str:
    """Single spaces, none before a comma or full stop."""
    while "  " in text:
        text = text.replace("  ", " ")
    return text.replace(" ,", ",").replace(" .", ".").strip()


def sentence(text: str) -> str:
    """The text with a capital first letter and a full stop."""
    capital = capitalised(text.strip())
    return capital if capital.endswith(".") else capital + "."


def with_article(noun: str) -> str:
    """The noun with ``a`` or ``an`` before it; numbers are read aloud (an 8, an 11, an 18)."""
    first = noun.split(" ", 1)[0].split("-", 1)[0]
    vowel = first[:1].lower() in "aeiou" and not first.lower().startswith("uni")
    if first.isdigit():
        vowel = first[0] == "8" or first in ("11", "18")
    return f"{'an' if vowel else 'a'} {noun}"
