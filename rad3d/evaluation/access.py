"""Rights of the person who evaluates: which runs and files they may read, and within what limits.

A run belongs to its ``owner``, a text that only its session knows, and files are read only below
``settings.data_dir`` or where the face vouches for them (``uploads``: what this visitor has just
sent). Two persons may see and read everything: who sits at a terminal of this machine, and the
:data:`OPERATOR`, who has proved to the face that the app was started by them. Nothing else, such as
the address that a request comes from, is taken as a proof.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from pathlib import Path

from rad3d.core.errors import BadRequest
from rad3d.core.settings import Settings
from rad3d.data.sample_sets import SAMPLE_SETS
from rad3d.data.spec import SetSpec
from rad3d.evaluation.run_types import Bounds

OPERATOR = "operator"
"""Owner of what the person evaluates who started the app."""


class Rights:
    """Rights of whoever uses this process; see the module's docstring.

    Args:
        settings: ``data_dir``, whether anybody can prove to be the operator, and what one run of a
            visitor may take.
        shell: the person sits at a terminal of this machine.
    """

    def __init__(self, settings: Settings, shell: bool = False) -> None:
        self._settings, self.is_shell = settings, shell

    def trusts(self, owner: str) -> bool:
        """Return whether ``owner`` may see and read everything."""
        return self.is_shell or owner == OPERATOR

    @property
    def files_are_named(self) -> bool:
        """True if anybody here may evaluate paths of this machine."""
        settings = self._settings
        return self.is_shell or settings.has_owner_link or bool(settings.data_dir)

    def bounds(self, owner: str) -> Bounds:
        """Return the limits of one run: none for a trusted person, lower ones for a visitor."""
        if self.trusts(owner):
            return Bounds()
        return Bounds(self._settings.visitor_cases, self._settings.visitor_resamples)

    @property
    def offered(self) -> Bounds:
        """The limits that a page offers, the same for all who open it."""
        return self.bounds(OPERATOR if self._settings.has_owner_link else "")

    def may_see(self, whose: str, owner: str) -> bool:
        """Return whether ``owner`` may see a run of ``whose``; an empty owner's runs are for all.

        A run that the operator asked for in the app is the operator's alone.
        """
        return self.trusts(owner) or not whose or secrets.compare_digest(whose, owner)

    def check_place(self, spec: SetSpec, owner: str, uploads: Collection[str] = ()) -> None:
        """Refuse a path that this person may not read."""
        root = self._settings.data_dir and Path(self._settings.data_dir).expanduser().resolve()
        for text in (spec.path, spec.references):
            if self.trusts(owner) or not text or text in SAMPLE_SETS or text in uploads:
                continue
            if not root or not Path(text).expanduser().resolve().is_relative_to(root):
                raise BadRequest(
                    "Files of this machine cannot be evaluated from here.",
                    "Upload a predictions file. Who started the app can open the link that it "
                    "printed; for everybody the operator can set RAD3D_DATA_DIR."
                    if self._settings.has_owner_link
                    else "Upload a predictions file, or ask the operator to set RAD3D_DATA_DIR.",
                    code="forbidden_path",
                )
