"""The words that name each finding, and the surroundings in which they mean something else.

Each rule is tried on one lower-case sentence. The conventions of the 18 labels follow the CT-RATE
reports: any lymph node that is described counts as lymphadenopathy whatever its size, pneumonia
by itself is neither opacity nor consolidation, an increase in lung density counts as opacity
unless it is called sequela or atelectasis, and bullae count as emphysema.
"""

from __future__ import annotations

from rad3d.reports.labeller.rules import Rule
from rad3d.reports.labeller.terms_chest import CHEST_RULES
from rad3d.reports.labeller.terms_lungs import LUNG_RULES

RULES: tuple[Rule, ...] = (*CHEST_RULES, *LUNG_RULES)
