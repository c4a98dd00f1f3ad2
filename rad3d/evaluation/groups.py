"""Trainings of one variant from several seeds, taken together as one system."""

from __future__ import annotations

from collections.abc import Mapping

from rad3d.evaluation.run_types import Key
from rad3d.evaluation.system_names import system_of
from rad3d.metrics.scorecard import Scorecard, pooled


def members_of(cards: Mapping[Key, Scorecard]) -> dict[str, list[str]]:
    """Map each system that was trained from several seeds to those trainings."""
    members: dict[str, list[str]] = {}
    for name in dict.fromkeys(system for system, _ in cards):
        if group := system_of(name, {}).group:
            members.setdefault(group, []).append(name)
    return members


def grouped(cards: Mapping[Key, Scorecard]) -> dict[Key, Scorecard]:
    """The cards with one for each group of seeds in place of the seeds' own, in order.

    Seeds that were scored on other cases than the first are left out.
    """
    group_of = {name: group for group, names in members_of(cards).items() for name in names}
    together: dict[Key, list[Scorecard]] = {}
    for (system, sample_set), card in cards.items():
        together.setdefault((group_of.get(system, system), sample_set), []).append(card)
    return {
        key: pooled(key[0], same) if key not in cards else same[0]
        for key, found in together.items()
        if (same := [card for card in found if _ids(card) == _ids(found[0])])
    }


def _ids(card: Scorecard) -> list[str]:
    return [case.id for case in card.cases]
