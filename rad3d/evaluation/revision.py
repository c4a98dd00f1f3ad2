"""Code version and machine of a run, stored with it so that its figures can be traced."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rad3d import __version__
from rad3d.core.settings import ROOT
from rad3d.reports.labeller import REVISION

_PACKAGES = ("torch", "transformers", "numpy", "evaluate")


def code_revision() -> str:
    """The commit, with ``+changes`` where the package differs from it; else the version."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", "rad3d")
    except (OSError, subprocess.SubprocessError):
        return f"rad3d {__version__}"
    return f"{commit}+changes" if changed else commit


def machine() -> dict[str, Any]:
    """Versions and the kind of machine; nothing that names it or its user."""
    versions: dict[str, Any] = {"rad3d": __version__, "labeller": REVISION}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions | {
        "python": platform.python_version(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
