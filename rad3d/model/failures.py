"""What torch raises, in plain words."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from huggingface_hub.errors import StrictDataclassError

from rad3d.errors import Rad3dError
from rad3d.model.precision import is_out_of_memory, out_of_memory

if TYPE_CHECKING:
    from rad3d.model.language import LanguageBundle

_LOG = logging.getLogger(__name__)

UNUSABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    StrictDataclassError,
    TypeError,
    ValueError,
)
"""What transformers and torch raise about a model whose files or family are not what they expect;
running out of memory is one of them (:func:`rad3d.model.precision.is_out_of_memory`)."""


@contextmanager
def plain_errors(doing: str, language: LanguageBundle | None = None) -> Iterator[None]:
    """Turn what torch raises into a sentence; its text goes to the log.

    Where memory ran out, the sentence names something smaller than ``language``.

    Args:
        doing: such as ``"write the report"``.
        language: the model that was doing it, where one was loaded.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise out_of_memory(
                doing,
                language.precision if language else "",
                language.nbytes if language else 0,
            ) from error
        _LOG.exception("Could not %s", doing)
        raise Rad3dError(
            f"The models could not {doing}.",
            "Try again or choose another model; the log says more.",
            code="model_failed",
        ) from error
