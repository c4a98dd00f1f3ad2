"""Edits of a diagnosis: probabilities that a person sets in place of the classifier's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.labels import LabelSet
from rad3d.core.types import Diagnosis, FloatArray
from rad3d.core.words import bare

Edits = Mapping[str, float]
"""Label -> the probability that it is given, in [0, 1]."""

NEAREST = 0.001
"""How near to 0 and 1 a probability comes when it is turned into a logit, which is finite."""


def parsed_edits(texts: Sequence[str]) -> dict[str, float]:
    """``["Pleural effusion=0.9"] -> {"Pleural effusion": 0.9}``; raises BadRequest."""
    edits: dict[str, float] = {}
    for text in texts:
        label, equals, value = text.rpartition("=")
        if label.strip() in edits:
            raise _bad(f"{label.strip()[:80]} is set twice.")
        try:
            edits[label.strip()] = float(value) if equals else math.nan
        except ValueError:
            raise _bad(f"{value.strip()[:40]!r} is no number.") from None
        if not equals:
            raise _bad(f"{text[:80]!r} sets nothing.")
    return edits


def checked_edits(edits: Edits, labels: LabelSet) -> dict[str, float]:
    """The edits by the names of a label set, which may be written in any case.

    Raises:
        UnknownName: a label is none of the set.
        BadRequest: a value is no probability, or a label is set twice.
    """
    if not isinstance(edits, Mapping):
        raise _bad("The edits are no table of findings and probabilities.")
    names = {
        bare(each): label.name for label in labels.labels for each in (label.name, label.short)
    }
    checked: dict[str, float] = {}
    for name, value in edits.items():
        label = names.get(bare(str(name)))
        if not name or label is None:
            raise UnknownName("finding", str(name), labels.names)
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise _bad(f"The probability of {label} must be a number.")
        if not 0 <= value <= 1:
            given = min(max(value, -1e6), 1e6)  # a longer number would not fit the message
            raise _bad(f"The probability of {label} must lie between 0 and 1, not at {given:g}.")
        if label in checked:
            raise _bad(f"{label} is set twice.")
        checked[label] = float(value)
    return checked


def with_edits(diagnosis: Diagnosis, edits: Edits, slope: FloatArray | None = None) -> Diagnosis:
    """A diagnosis in which some labels have the probabilities of a person.

    The logit moves by as much as the calibration says that this change of probability is worth. An
    attribute, such as the side, stays what the classifier says of it, given that its label is
    present.

    Args:
        diagnosis: the classifier's.
        edits: checked by :func:`checked_edits`.
        slope: (L,) of the calibration; None where probabilities are plain sigmoids of the logits.
    """
    for label, probability in edits.items():
        i = diagnosis.label_set.index[label]
        asked = min(max(probability, NEAREST), 1 - NEAREST)
        change = _log_odds(np.asarray(asked)) - _log_odds(diagnosis.probabilities[i])
        per_logit = 1.0 if slope is None else float(slope[i])
        logit = float(diagnosis.logits[i]) + change / per_logit
        diagnosis = diagnosis.edit(label, logit, probability)
    return diagnosis


def _log_odds(probability: FloatArray) -> float:
    kind = np.finfo(probability.dtype)
    p = np.clip(probability, kind.tiny, 1 - kind.eps)
    return float(np.log(p) - np.log1p(-p))


def _bad(problem: str) -> BadRequest:
    remedy = 'Name a finding and its probability, as in "Pleural effusion=0.9".'
    return BadRequest(problem, remedy, code="bad_edit")
