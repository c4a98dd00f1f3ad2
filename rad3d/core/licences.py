"""Terms of language models: what whoever hands on a model made from one must hand on with it."""

from __future__ import annotations

import re
from collections.abc import Iterable

NOTICE_FILE = "NOTICE"

_NOTICES = {
    "gemma": "Gemma is provided under and subject to the Gemma Terms of Use found at "
    "ai.google.dev/gemma/terms",
    "llama3.2": "Llama 3.2 is licensed under the Llama 3.2 Community License, Copyright © Meta "
    "Platforms, Inc. All Rights Reserved.",
    "llama2": "Llama 2 is licensed under the LLAMA 2 Community License, Copyright © Meta "
    "Platforms, Inc. All Rights Reserved.",
}
"""Beginning of a licence's name, without case, spaces and dashes -> the notice that it asks for."""

_FREE = ("apache", "mit", "bsd", "cc0", "unlicense")
_TERMS = re.compile(r"(licen[cs]e|notice|copying|use_policy|.*terms)\b.*", re.IGNORECASE)


def notice(licence: str) -> str:
    """The text that must go with whatever is made from a model; empty where none is asked for."""
    plain = re.sub(r"[\s_-]+", "", licence.lower())
    return next((text for name, text in _NOTICES.items() if plain.startswith(name)), "")


def needs_terms(licence: str) -> bool:
    """True where models made from one of this licence may not be handed on without its terms;
    also where nobody says what the licence is.
    """
    return not licence.lower().startswith(_FREE)


def terms_among(names: Iterable[str]) -> list[str]:
    """The names of files that state a licence or a notice."""
    return sorted(name for name in names if _TERMS.fullmatch(name))
