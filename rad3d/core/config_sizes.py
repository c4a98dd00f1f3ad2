"""The largest sizes that a configuration file may ask for.

A file of a few hundred bytes can name a million layers, which would keep a process busy for hours
before the first weight is read. Every limit lies far above the largest published model.
"""

from __future__ import annotations

from collections.abc import Mapping

from rad3d.core.errors import BadRequest

MAX_LAYERS = 1_000
MAX_WIDTH = 2**17
MAX_VOCABULARY = 2**23


def check_sizes(name: str, sizes: Mapping[str, tuple[object, int]]) -> None:
    """Refuse sizes that no model has.

    Args:
        name: whose configuration it is, for the sentence.
        sizes: what is sized -> (its size, the largest allowed); None is not checked.

    Raises:
        BadRequest: a size is no whole number from 1 to its limit.
    """
    for what, (size, limit) in sizes.items():
        if size is None:
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= limit:
            raise BadRequest(
                f"The configuration of {name} has {what} = {str(size)[:40]}, which must be a whole "
                f"number from 1 to {limit:,}.",
                "Restore the file from where the model comes from.",
                code="bad_config",
            )
