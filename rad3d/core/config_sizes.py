"""The sizes that a configuration file may ask for.

A file of a few hundred bytes can name a million layers, which would keep a process busy for hours
before the first weight is read. Every limit lies far above the largest published model.
"""

from __future__ import annotations

from collections.abc import Mapping

from rad3d.core.errors import BadRequest

LAYERS = range(1, 1_001)
WIDTHS = range(1, 2**17 + 1)
VOCABULARIES = range(1, 2**23 + 1)


def check_sizes(name: str, sizes: Mapping[str, tuple[object, range]]) -> None:
    """Refuse sizes that no model has.

    Args:
        name: whose configuration it is, for the sentence.
        sizes: what is sized -> (its size, those allowed).

    Raises:
        BadRequest: a size is no whole number among those allowed.
    """
    for what, (size, allowed) in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size not in allowed:
            raise BadRequest(
                f"The configuration of {name} has {what} = {str(size)[:40]}, which must be a whole "
                f"number from {allowed[0]} to {allowed[-1]:,}.",
                "Restore the file from where the model comes from.",
                code="bad_config",
            )
