"""What a person may see, read and take in an evaluation.

On a host that others reach, a run belongs to its ``owner``, a text that only its session knows,
and files are read only below ``settings.data_dir`` or where the face vouches for them (``uploads``:
what this visitor has just sent). Where the app listens on this machine alone, and for the command
line, there is one person who may see everything.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable, Collection
from pathlib import Path

from rad3d.errors import BadRequest
from rad3d.service.evaluation_sets import SAMPLE_SETS
from rad3d.service.evaluation_types import Bounds, SetSpec
from rad3d.settings import Settings


class Rights:
    """Rights of whoever uses this process; see the module's docstring.

    Args:
        settings: host, ``data_dir``, and what one run of a visitor may take.
        reached_by_others: whether a request has come through a proxy: then the app listens on this
            machine alone and serves others all the same.
        shell: the person sits at a terminal of this machine.
    """

    def __init__(
        self, settings: Settings, reached_by_others: Callable[[], bool], shell: bool = False
    ) -> None:
        self._settings, self._reached_by_others = settings, reached_by_others
        self._is_shell, self._is_local = shell, _is_loopback(settings.host)

    @property
    def trusted(self) -> bool:
        """Whether there is one person, who may see and read everything."""
        return self._is_shell or (self._is_local and not self._reached_by_others())

    @property
    def may_name_files(self) -> bool:
        """Whether any path of this machine may be evaluated."""
        return self.trusted or bool(self._settings.data_dir)

    @property
    def bounds(self) -> Bounds:
        """What one run may take: anything where there is one person, less for a visitor."""
        if self.trusted:
            return Bounds()
        return Bounds(self._settings.visitor_cases, self._settings.visitor_draws)

    def may_see(self, whose: str, owner: str) -> bool:
        """Whether ``owner`` may see a run that is ``whose``; empty is the operator's, for all."""
        return self.trusted or not whose or secrets.compare_digest(whose, owner)

    def check_place(self, spec: SetSpec, uploads: Collection[str] = ()) -> None:
        """Refuse a path that this person may not read."""
        root = self._settings.data_dir and Path(self._settings.data_dir).expanduser().resolve()
        for text in (spec.path, spec.references):
            if self.trusted or not text or text in SAMPLE_SETS or text in uploads:
                continue
            if not root or not Path(text).expanduser().resolve().is_relative_to(root):
                raise BadRequest(
                    "Files of this machine cannot be evaluated from here.",
                    "Upload a predictions file, or ask the operator to set RAD3D_DATA_DIR.",
                    code="forbidden_path",
                )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
