"""Tells English reports from those in another language, which the labeller cannot read."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W\d_]+")
_COMMON = frozenset(
    _WORD.findall(
        "the of in and is are was were not with without there both has have that which been from "
        "by seen right left upper lower lung lungs lobe lobes heart size evidence effusion chest "
        "findings impression clear small mild unremarkable "
        # Of impressions without articles and verbs, which are common:
        "pulmonary cardiac thoracic aortic coronary artery renal hepatic spine opacity opacities "
        "airspace thickening disease chronic changes unchanged degenerative enlarged prominent "
        "moderate mildly possibly scattered cysts atelectasis cardiomegaly lymphadenopathy acute"
    )
)
"""Words of which every English report has many, and other languages hardly any."""

_FEWEST_WORDS = 12
_LEAST_SHARE = 0.12


def looks_english(text: str) -> bool:
    """Whether a text may be an English report; short texts get the benefit of the doubt.

    A text in another script is told by its letters, whatever its length.
    """
    words = _WORD.findall(text.lower())
    letters = sum(map(len, words))
    if not letters:
        return True
    latin = sum(len(word) for word in words if word.isascii())
    if latin < 0.5 * letters:
        return False
    if len(words) < _FEWEST_WORDS:
        return True
    return sum(word in _COMMON for word in words) >= _LEAST_SHARE * len(words)
