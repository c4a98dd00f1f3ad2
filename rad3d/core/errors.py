"""Errors a person may see: each says what is wrong, where, and what to do.

Everything below raises a subclass of :class:`Rad3dError` for conditions that a user can cause.
The front ends (command line, app) show ``str(error)``; any other exception is a defect.
"""

import errno
from difflib import get_close_matches


class Rad3dError(Exception):
    """Base of the errors that are shown to a person.

    Args:
        problem: what is wrong, in one plain sentence.
        remedy: what the person can do about it, in one plain sentence.
        code: a stable short word for tests, logs and the API, such as ``"not_nifti"``.
    """

    def __init__(self, problem: str, remedy: str = "", code: str = "") -> None:
        super().__init__(f"{problem} {remedy}".strip())
        self.problem = problem
        self.remedy = remedy
        self.code = code


class BadVolume(Rad3dError):
    """The uploaded file is not a volume that the models can be shown."""


class MissingWeights(Rad3dError):
    """A model without weights was asked for; the remedy is the command that makes them."""


class CorruptWeights(Rad3dError):
    """A weight file does not match the hash recorded when it was made."""


MAX_NAMES = 64
MAX_CHARACTERS = 120
MAX_COMPARED = 500
"""Names and their length in a message, and names among which the nearest are looked for. In a file
of another form, whole texts may stand in place of names."""


def some(names: "list[str] | tuple[str, ...]", most: int = MAX_NAMES) -> str:
    """``"a, b, c and 297 more"``, so that no message repeats a file."""
    shown = (n if len(n) <= MAX_CHARACTERS else f"{n[:MAX_CHARACTERS]}..." for n in names[:most])
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(shown)}{more}"


class UnknownName(Rad3dError):
    """A name that is not in a table; the message lists the ones that are, the nearest first."""

    def __init__(self, kind: str, name: str, known: "list[str] | tuple[str, ...]") -> None:
        short = [each for each in known[:MAX_COMPARED] if len(each) <= MAX_CHARACTERS]
        near = get_close_matches(name[:MAX_CHARACTERS], short, n=2)
        asked = f"Did you mean {' or '.join(near)}? " if near else ""
        super().__init__(
            f"There is no {kind} called {some([name])!r}.",
            f"{asked}Known: {some(known)}.",
            code="unknown_name",
        )


class BadRequest(Rad3dError):
    """An option is out of range or two options contradict each other."""


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the operating system's errors that mean a full disk."""


class DiskFull(Rad3dError):
    """This machine has no room for a file; nothing is wrong with the file."""

    def __init__(
        self,
        problem: str = "The disk of the machine that runs this is full.",
        remedy: str = "Try again later, or tell the person who runs it.",
    ) -> None:
        super().__init__(problem, remedy, code="disk_full")


class Cancelled(Rad3dError):
    """The person stopped the run."""
