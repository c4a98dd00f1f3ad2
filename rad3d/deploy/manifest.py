"""``spaces.yaml``: the card, the targets, their environment, and what is uploaded.

Everything is checked for its shape here; what is checked against the platform and the checkout is
in :mod:`rad3d.deploy.space_checks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic import ValidationError as Mistakes

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.settings import ROOT

MANIFEST = "spaces.yaml"


def _variable(value: Any) -> Any:
    """A whole number in the file stands for its text; True and False stand for nothing."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Text = Annotated[str, StringConstraints(min_length=1)]
Version = Annotated[str, StringConstraints(pattern=r"^[\w.+!-]+$")]
SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")]
Environment = Mapping[str, Annotated[str, BeforeValidator(_variable)]]


CardKey = Literal[
    "title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "app_file", "pinned", "license",
    "short_description", "tags", "disable_embedding", "startup_duration_timeout",
]  # fmt: skip


class _Part(BaseModel):
    """Unknown keys are mistakes, and nothing is changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Target(_Part):
    """One kind of Space to deploy to.

    Attributes:
        name: as in ``--target``.
        hardware: the platform's name for it, a key of :data:`rad3d.deploy.platforms.PLATFORMS`.
        python: version of Python.
        packages: package -> version, over or beside those of requirements.txt.
        index: one more package index, or empty.
        environment: variables, over or beside those of all targets.
    """

    hardware: str
    python: str
    packages: Mapping[str, Version] = {}
    index: str = ""
    environment: Environment = {}
    name: str = ""


class Manifest(_Part):
    """The whole file.

    Attributes:
        card: front matter without what depends on the target.
        targets: the first is the one that the README of this repository describes.
        environment: variables for every target.
        secrets: names of secret variables, never their values.
        models: ids of the variants that are offered, ``*`` allowed; empty is all of them.
        files: what is uploaded: paths, and folders ending in ``/``.
    """

    card: Mapping[CardKey, Any]
    targets: Mapping[str, Target] = Field(min_length=1)
    environment: Environment = {}
    secrets: list[SecretName] = []
    models: list[Text] = []
    files: list[Text]

    def target(self, name: str | None = None) -> Target:
        """A target by name, or the first; raises UnknownName."""
        key = name if name is not None else next(iter(self.targets))
        if key not in self.targets:
            raise UnknownName("target", key, list(self.targets))
        return self.targets[key]

    def front_matter(self, target: Target) -> dict[str, Any]:
        """The front matter of the Space's README."""
        return {
            **{str(key): value for key, value in self.card.items()},
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
    try:
        manifest = Manifest.model_validate(raw)
    except Mistakes as mistakes:
        raise _bad(_sentence(mistakes)) from None  # the cause would quote what may be a secret
    named = {name: row.model_copy(update={"name": name}) for name, row in manifest.targets.items()}
    return manifest.model_copy(update={"targets": named})


def _sentence(mistakes: Mistakes) -> str:
    """The first mistake, by its place, without the value that was found there."""
    first = mistakes.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        return f"{where} is an unknown key"
    if where.startswith("secrets."):
        return "secrets lists names only, such as HF_TOKEN; values belong into the Space's settings"
    return f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}"


def _bad(problem: str) -> BadRequest:
    return BadRequest(f"{MANIFEST}: {problem}.", "See the comments in it.", code="bad_manifest")
