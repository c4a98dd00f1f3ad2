"""Hugging Face Spaces: the work of ``rad3d space``, and the settings of a deployed app."""

from __future__ import annotations

import os
from collections.abc import Mapping

from rad3d.core.settings import ROOT

ZERO_GPU = "SPACES_ZERO_GPU"
SPACE = "SPACE_ID"


def space_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment, on a Space with what ``spaces.yaml`` says where a variable is not set.

    So the manifest is what runs, and whoever owns the Space can still override it in its settings.
    """
    env = dict(os.environ if environ is None else environ)
    if SPACE not in env:
        return env
    from rad3d.deploy.manifest import MANIFEST, read_manifest
    from rad3d.deploy.platforms import PLATFORMS

    manifest = read_manifest(ROOT / MANIFEST)
    lent = env.get(ZERO_GPU, "").lower() in ("1", "true")
    fitting = [t for t in manifest.targets.values() if PLATFORMS[t.hardware].gpu == lent]
    for target in fitting[:1]:
        for name, value in manifest.variables(target).items():
            env.setdefault(name, value)
    return env
