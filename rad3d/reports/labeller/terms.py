"""The words that name each finding, and the surroundings in which they mean something else.

Each rule is tried on one lower-case sentence. The conventions of its labels follow the CT-RATE
reports: any lymph node that is described counts as lymphadenopathy whatever its size, pneumonia
by itself is neither opacity nor consolidation, an increase in lung density counts as opacity
unless it is called sequela or atelectasis, and bullae count as emphysema.
"""

from __future__ import annotations

import re
from functools import lru_cache

from rad3d.core.labels import LabelSet
from rad3d.reports.labeller.rules import Rule, any_of
from rad3d.reports.labeller.splitter import lower_case
from rad3d.reports.labeller.terms_chest import CHEST_RULES
from rad3d.reports.labeller.terms_lungs import LUNG_RULES

RULES: tuple[Rule, ...] = (*CHEST_RULES, *LUNG_RULES)


@lru_cache(64)
def rules_of(label_set: LabelSet) -> tuple[Rule, ...]:
    """The rules above, and one for each label of a set that has terms of its own."""
    own = (label for label in label_set.labels if label.terms)
    return (*RULES, *(_rule(label.name, label.terms) for label in own))


def _rule(name: str, terms: tuple[str, ...]) -> Rule:
    """A rule for phrases; between their words may be spaces or hyphens."""
    words = [re.split(r"[\s-]+", lower_case(term)) for term in terms]
    ends = [r"\w*" if term.endswith("*") else r"\b" for term in terms]
    phrases = (
        r"\b" + r"[\s-]+".join(re.escape(word.rstrip("*")) for word in phrase) + end
        for phrase, end in zip(words, ends, strict=True)
    )
    return Rule(name, tuple(phrase[0].rstrip("*") for phrase in words), any_of(*phrases))
