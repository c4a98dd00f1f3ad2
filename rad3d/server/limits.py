"""Limits on what a client may send to the server, and how long it may take."""

from __future__ import annotations

# -- connections -----------------------------------------------------------------------------

MAX_CONNECTIONS = 4096
RESERVED_DESCRIPTORS = 256
"""For files, pipes and the like."""

HEAD_SECONDS = 20.0
"""For the head of a request, also of a connection's next one."""

# -- requests --------------------------------------------------------------------------------

MAX_BODY_BYTES = 128 * 2**10
"""Of everything but an upload: the values of a call are options and names, never a scan."""

MAX_VALUES = 2000
"""In one call, numbers and names of fields included; the largest call of the page has fewer."""

BODY_SECONDS = 20.0
"""For a body to arrive."""

# -- uploads ---------------------------------------------------------------------------------

MAX_FILES = 8
"""In one upload; all unread uploads together have the room of so many files of full size."""

MIN_COUNTED_BYTES = 2**20
"""What a file takes of the room for all, however small it is: a million empty ones fill a disk,
too, and take long to count."""

COUNTED_EVERY_BYTES = 16 * 2**20
"""How much of an upload may arrive until the room is looked at again: others arrive meanwhile."""

MAX_TYPE_CHARACTERS = 200
"""Of the header with the form's boundary, which has 70 at most (RFC 2046)."""

STALLED_SECONDS = 60.0
"""An upload of which nothing arrives for so long is given up."""

UNREAD_SECONDS = 600.0
"""A file that nobody opened is deleted after so long."""

WANTED_SECONDS = 30.0
"""Where there is no room, a client's own files make room after so long."""
