"""Turn errors of torch and transformers into plain sentences."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from huggingface_hub.errors import StrictDataclassError

from rad3d.core.errors import Rad3dError
from rad3d.model.llm.precision import is_out_of_memory, out_of_memory

if TYPE_CHECKING:
    from rad3d.model.llm.language import LanguageBundle

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
"""Errors of transformers and torch about a model whose files or family they do not expect; running
out of memory is one of them (:func:`rad3d.model.llm.precision.is_out_of_memory`)."""


ANOTHER_MODEL = "Another model may work; the log says more."
"""Advice where one language model failed."""

OUR_FAULT = (
    "This is a fault in the software, not in the scan, and other models that see the scan in the "
    "same way will fail too. Please report it with what the log says."
)
"""Advice where all models with the same grid or encoder would fail in the same way."""


@contextmanager
def plain_errors(
    doing: str, language: LanguageBundle | None = None, remedy: str = ANOTHER_MODEL
) -> Iterator[None]:
    """Turn what torch raises into a sentence; its text goes to the log.

    Where memory ran out, the sentence names something smaller than ``language``.

    Args:
        doing: such as ``"write the report"``.
        language: the model that was doing it, where one was loaded.
        remedy: what a person can do about any other error.
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
            f"The software could not {doing}.",
            remedy,
            code="model_failed",
        ) from error
