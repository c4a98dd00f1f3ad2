"""``spaces.yaml``: the card, the targets, their environment, and what is uploaded.

Everything is checked for its shape here; what is checked against the platform and the checkout is
in :mod:`rad3d.deploy.space_checks`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.settings import ROOT

MANIFEST = "spaces.yaml"
PARTS = ("card", "targets", "environment", "secrets", "models", "files")
TARGET_PARTS = ("hardware", "python", "packages", "index", "environment")
CARD_KEYS = (
    "title",
    "emoji",
    "colorFrom",
    "colorTo",
    "sdk",
    "sdk_version",
    "app_file",
    "pinned",
    "license",
    "short_description",
    "tags",
    "disable_embedding",
    "startup_duration_timeout",
)
"""Keys of the front matter that are the same for all targets."""


@dataclass(frozen=True)
class Target:
    """One kind of Space to deploy to.

    Attributes:
        name: as in ``--target``.
        hardware: the platform's name for it, a key of :data:`rad3d.deploy.platforms.PLATFORMS`.
        python: version of Python.
        packages: package -> version, over or beside those of requirements.txt.
        index: one more package index, or empty.
        environment: variables, over or beside those of all targets.
    """

    name: str
    hardware: str
    python: str
    packages: Mapping[str, str]
    index: str
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Manifest:
    """The whole file.

    Attributes:
        card: front matter without what depends on the target.
        targets: the first is the one that the README of this repository describes.
        environment: variables for every target.
        secrets: names of secret variables, never their values.
        models: ids of the variants that are offered, ``*`` allowed; empty is all of them.
        files: what is uploaded: paths, and folders ending in ``/``.
    """

    card: Mapping[str, Any]
    targets: Mapping[str, Target]
    environment: Mapping[str, str]
    secrets: tuple[str, ...]
    models: tuple[str, ...]
    files: tuple[str, ...]

    def target(self, name: str | None = None) -> Target:
        """A target by name, or the first; raises UnknownName."""
        wanted = name if name is not None else next(iter(self.targets))
        if wanted not in self.targets:
            raise UnknownName("target", wanted, list(self.targets))
        return self.targets[wanted]

    def front_matter(self, target: Target) -> dict[str, Any]:
        """What stands at the head of the Space's README."""
        return {
            **self.card,
            "python_version": target.python,
            "suggested_hardware": target.hardware,
        }

    def variables(self, target: Target) -> dict[str, str]:
        """The environment of the app on a target."""
        offered = {"RAD3D_VARIANTS": ",".join(self.models)} if self.models else {}
        return {**offered, **self.environment, **target.environment}


def read_manifest(path: Path = ROOT / MANIFEST) -> Manifest:
    """Read and check a manifest; raises :class:`BadRequest` naming the place that is wrong."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _bad(f"cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: also a date such as 2026-99-99
        raise _bad("is not YAML in UTF-8") from error
    parts = _mapping("", raw, PARTS)
    absent = [name for name in ("card", "targets", "files") if name not in parts]
    if absent:
        raise _bad(f"lacks {', '.join(absent)}")
    targets = _mapping("targets", parts["targets"])
    if not targets:
        raise _bad("names no target")
    manifest = Manifest(
        card=_mapping("card", parts["card"], CARD_KEYS),
        targets={name: _target(name, value) for name, value in targets.items()},
        environment=_environment("environment", parts.get("environment", {})),
        secrets=_strings("secrets", parts.get("secrets", [])),
        models=_strings("models", parts.get("models", [])),
        files=_strings("files", parts["files"]),
    )
    for name in manifest.secrets:
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            raise _bad(
                "secrets holds something that is not the name of a variable",
                "List names only, such as HF_TOKEN; values belong into the Space's settings.",
            )
    return manifest


def _target(name: str, value: Any) -> Target:
    where = f"targets.{name}"
    parts = _mapping(where, value, TARGET_PARTS)
    for key in ("hardware", "python"):
        if not isinstance(parts.get(key), str):
            raise _bad(f"{where}.{key} must be a string, in quotes where it is a number")
    return Target(
        name=name,
        hardware=parts["hardware"],
        python=parts["python"],
        packages=_versions(f"{where}.packages", parts.get("packages", {})),
        index=_string(f"{where}.index", parts.get("index", "")),
        environment=_environment(f"{where}.environment", parts.get("environment", {})),
    )


def _mapping(where: str, value: Any, known: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise _bad(f"{where or 'the file'} must be a table of names and values")
    unknown = sorted(set(value) - set(known)) if known else []
    if unknown:
        raise _bad(
            f"{where or 'the file'} has unknown keys: {', '.join(unknown)}",
            f"Known: {', '.join(known)}.",
        )
    return value


def _string(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _bad(f"{where} must be a string")
    return value


def _strings(where: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise _bad(f"{where} must be a list of strings")
    return tuple(value)


def _versions(where: str, value: Any) -> dict[str, str]:
    for name, version in _mapping(where, value).items():
        if not isinstance(version, str) or not re.fullmatch(r"[\w.+!-]+", version):
            raise _bad(f"{where}.{name} must be an exact version in quotes")
    return dict(value)


def _environment(where: str, value: Any) -> dict[str, str]:
    variables = {}
    for name, given in _mapping(where, value).items():
        if not isinstance(given, (str, int)) or isinstance(given, bool):
            raise _bad(f"{where}.{name} must be a string or a whole number")
        variables[name] = str(given)
    return variables


def _bad(problem: str, remedy: str = "See the comments in it.") -> BadRequest:
    return BadRequest(f"{MANIFEST}: {problem}.", remedy, code="bad_manifest")
