"""The grid of a study: which variants are trained, on what, from which seeds; and what is cut.

A cell is one training. Its facts stand in its ``variant.json``, its axes in its tag:
``phantom-s/v3.p400.s1`` learned from 400 pairs with seed 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from rad3d.core.encoders import ENCODERS, SHIPPED_ENCODER
from rad3d.core.errors import BadRequest
from rad3d.core.language_models import LANGUAGE_MODELS
from rad3d.core.lookup import lookup
from rad3d.core.modes import MODES
from rad3d.core.variant_ids import variant_id


@dataclass(frozen=True)
class Cell:
    """One training of the grid: a language model in a mode, with pairs of an encoder and a seed."""

    llm: str
    mode: str
    pairs: int
    seed: int
    encoder: str = SHIPPED_ENCODER

    @property
    def variant(self) -> str:
        """The id of the variant that it makes."""
        other = "" if self.encoder == SHIPPED_ENCODER else f".{self.encoder}"
        return variant_id(self.llm, self.mode, f"p{self.pairs}.s{self.seed}{other}")


@dataclass(frozen=True)
class Cut:
    """Cells that are left out of the grid, and why."""

    cells: int
    reason: str


@dataclass(frozen=True)
class Axes:
    """What a study varies.

    Attributes:
        llms, modes, encoders: ids; the first language model and encoder are those on which the
            pairs are varied.
        pairs: numbers of pairs of features and report to learn from.
        seeds: of new weights, order and dropout, and of which pairs are taken.
        is_full: every combination; else the pairs are varied on the first language model alone, and
            further encoders are used with that one alone.
    """

    llms: tuple[str, ...]
    modes: tuple[str, ...]
    pairs: tuple[int, ...]
    seeds: tuple[int, ...]
    encoders: tuple[str, ...] = (SHIPPED_ENCODER,)
    is_full: bool = False

    def __post_init__(self) -> None:
        for kind, table, ids in (
            ("language model", LANGUAGE_MODELS, self.llms),
            ("adaptation mode", MODES, self.modes),
            ("encoder", ENCODERS, self.encoders),
        ):
            for id_ in ids:
                lookup(kind, table, id_)
        if not all((self.llms, self.modes, self.pairs, self.seeds, self.encoders)):
            raise BadRequest("An axis of the study is empty.", "Give a value.", code="bad_option")
        if min(self.pairs) < MIN_PAIRS or min(self.seeds) < 0:
            raise BadRequest(
                f"A study needs {MIN_PAIRS} pairs or more, and seeds of 0 or more.",
                code="bad_option",
            )

    def cells(self) -> list[Cell]:
        """Every combination, in the order in which they are trained: seed after seed.

        A study that is stopped then has whole comparisons, if of fewer seeds.
        """
        return [
            Cell(llm, mode, pairs, seed, encoder)
            for seed, encoder, llm, pairs, mode in product(
                self.seeds, self.encoders, self.llms, sorted(self.pairs, reverse=True), self.modes
            )
        ]


MIN_PAIRS = 20
"""A tenth of the pairs is held out to choose the weights by."""


@dataclass(frozen=True)
class StudyPlan:
    """Which cells are trained and evaluated, and which are cut."""

    cells: tuple[Cell, ...]
    cuts: tuple[Cut, ...]


def planned(
    axes: Axes, available: int, hours: float = 0.0, cost: Callable[[Cell], float] = lambda _: 0.0
) -> StudyPlan:
    """The plan for some axes.

    Args:
        axes: what is varied.
        available: pairs that there are.
        hours: at most so long; 0 is any time. The last cells are cut first.
        cost: seconds that a cell takes.
    """
    kept, cuts = axes.cells(), []
    for reason, is_cut in _rules(axes, available):
        left = [cell for cell in kept if not is_cut(cell)]
        if len(left) < len(kept):
            cuts.append(Cut(len(kept) - len(left), reason))
        kept = left
    if hours:
        within = list(_within(kept, hours * 3600, cost))
        if len(within) < len(kept):
            cuts.append(Cut(len(kept) - len(within), f"more than {hours:g} hours in all"))
        kept = within
    return StudyPlan(tuple(kept), tuple(cuts))


def _rules(axes: Axes, available: int) -> Iterator[tuple[str, Callable[[Cell], bool]]]:
    yield f"only {available:,} pairs are there", lambda cell: cell.pairs > available
    if not axes.is_full:
        first = axes.llms[0]
        most = max((n for n in axes.pairs if n <= available), default=0)
        yield (
            f"fewer pairs are tried on {first} alone",
            lambda cell: cell.llm != first and cell.pairs < most,
        )
        yield (
            f"further encoders are tried with {first} alone",
            lambda cell: cell.llm != first and cell.encoder != axes.encoders[0],
        )


def _within(cells: Sequence[Cell], seconds: float, cost: Callable[[Cell], float]) -> Iterator[Cell]:
    spent = 0.0
    for cell in cells:
        spent += cost(cell)
        if spent > seconds:
            return
        yield cell
