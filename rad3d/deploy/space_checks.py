"""Checks that manifest, README and files make a Space that starts."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from rad3d.core.errors import Rad3dError
from rad3d.core.language_models import LANGUAGE_MODELS
from rad3d.core.licences import needs_terms, terms_among
from rad3d.core.modes import MODES
from rad3d.core.settings import Settings, unknown_variables
from rad3d.core.variant_ids import variant_id
from rad3d.deploy.files_plan import Plan, pins, split_readme, unpinned
from rad3d.deploy.manifest import CardKey, Manifest, Target
from rad3d.deploy.platforms import (
    COLORS,
    MAX_FILE_BYTES,
    MAX_SPACE_BYTES,
    PLATFORMS,
    SHORT_DESCRIPTION_LENGTH,
)

SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|LOGIN|API_?KEY|PRIVATE")
SECRET_VALUE = re.compile(
    r"hf_[A-Za-z0-9]{30,}|api_org_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{40,}"
    r"|sk-[A-Za-z0-9_-]{32,}|AKIA[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{20,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----|eyJ[\w-]{20,}\.eyJ[\w-]{20,}\."
    r"|https?://[^\s/:@]+:[^\s/:@]+@"
)
"""Keys of well-known services, and a password in an address."""

OF_THE_PLATFORM = ("RAD3D_HOST", "RAD3D_PORT", "RAD3D_ZERO_GPU")
"""Settings that Spaces sets by variables of its own."""

_SECRET_REMEDY = "Name it under secrets and set its value in the Space's settings."


@dataclass(frozen=True)
class Problem:
    """A problem that would keep a Space from starting.

    Attributes:
        target: where, or empty for every target.
        text: what is wrong.
        remedy: what to do.
    """

    target: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        head = f"{self.target}: " if self.target else ""
        return f"{head}{self.text} {self.remedy}".strip()


def check_readme(manifest: Manifest, readme: str) -> Iterator[Problem]:
    """Check that README.md carries the front matter of the first target."""
    block, _ = split_readme(readme)
    try:
        stated = yaml.safe_load(block) if block else {}
    except (yaml.YAMLError, ValueError):  # ValueError: a date such as 2026-99-99
        stated = None
    expected = manifest.front_matter(manifest.target())
    if stated != expected:
        keys = sorted(set(expected) | set(stated or {})) if isinstance(stated, dict | None) else []
        differ = [key for key in keys if (stated or {}).get(key) != expected.get(key)]
        yield Problem(
            "",
            f"README.md's front matter is not that of spaces.yaml ({', '.join(differ)}).",
            "Run: rad3d space render --write",
        )


def check_card(manifest: Manifest, requirements: str) -> Iterator[Problem]:
    """Check the card against what the hub accepts and what is installed."""
    card = manifest.card
    required: tuple[CardKey, ...] = (
        "title", "emoji", "sdk", "sdk_version", "app_file", "license",
    )  # fmt: skip
    for key in required:
        if not isinstance(card.get(key), str) or not card[key]:
            yield Problem("", f"The card lacks {key}.")
    if card.get("sdk") != "gradio":
        yield Problem("", "The card's sdk must be gradio: ZeroGPU takes nothing else.")
    for key in ("colorFrom", "colorTo"):
        if card.get(key) not in COLORS:
            yield Problem("", f"The card's {key} must be one of {', '.join(COLORS)}.")
    if len(str(card.get("short_description", ""))) > SHORT_DESCRIPTION_LENGTH:
        yield Problem("", f"short_description has over {SHORT_DESCRIPTION_LENGTH} characters.")
    for line in unpinned(requirements):
        yield Problem("", f"requirements.txt asks for {line}.", "Pin one version: name==version.")
    pinned = pins(requirements).get("gradio")
    if card.get("sdk_version") != pinned:
        yield Problem("", f"sdk_version is {card.get('sdk_version')}, gradio is pinned {pinned}.")
    variants = [variant_id(llm, mode) for llm in LANGUAGE_MODELS for mode in MODES]
    for pattern in manifest.models:
        if not fnmatch.filter(variants, pattern):
            yield Problem("", f"models offers {pattern}, which matches no variant.")


def check_target(manifest: Manifest, target: Target, plan: Plan) -> Iterator[Problem]:
    """Check one target: versions, environment, secrets, files."""
    yield from _versions(target, plan)
    yield from _environment(manifest, target)
    yield from _files(manifest, target, plan)


def _versions(target: Target, plan: Plan) -> Iterator[Problem]:
    platform = PLATFORMS.get(target.hardware)
    if platform is None:
        yield Problem(
            target.name,
            f"Nothing is known about the hardware {target.hardware}.",
            f"Known: {', '.join(PLATFORMS)}.",
        )
        return
    rule = f"(read {platform.as_of} in {platform.source})"
    if not platform.admits_python(target.python):
        offered = " or ".join(p.replace("\\", "") for p in platform.pythons)
        yield Problem(
            target.name, f"{target.hardware} has no Python {target.python} {rule}.",
            f"Use {offered}.",
        )  # fmt: skip
    if not re.match(r"3\.1[12](\.|$)", target.python):
        yield Problem(target.name, f"The code needs Python 3.11 or 3.12, not {target.python}.")
    pinned = pins(plan.rendered["requirements.txt"])
    for package, admitted in platform.packages.items():
        version = pinned.get(package, "")
        if not platform.admits(package, version):
            yield Problem(
                target.name,
                f"{target.hardware} does not admit {package} {version or '(not pinned)'} {rule}.",
                f"Set targets.{target.name}.packages.{package} to one of {', '.join(admitted)}.",
            )
    if platform.gpu and "+cpu" in pinned.get("torch", ""):
        yield Problem(target.name, "A build of torch without CUDA is of no use where a GPU is.")


def _environment(manifest: Manifest, target: Target) -> Iterator[Problem]:
    variables = manifest.variables(target)
    for problem in unknown_variables(variables):
        yield Problem(target.name, problem)
    try:
        Settings.from_env(variables)
    except Rad3dError as error:
        yield Problem(target.name, str(error))
    for name, value in variables.items():
        if name in OF_THE_PLATFORM:
            yield Problem(target.name, f"{name} is set by the platform.", "Take it out.")
        if name in manifest.secrets or SECRET_NAME.search(name) or SECRET_VALUE.search(value):
            yield Problem(target.name, f"The environment gives {name} a value.", _SECRET_REMEDY)


def _files(manifest: Manifest, target: Target, plan: Plan) -> Iterator[Problem]:
    sizes = plan.sizes
    app = str(manifest.card.get("app_file", ""))
    if app not in sizes:
        yield Problem(target.name, f"The app file {app} is not among the planned files.")
    for path, size in sizes.items():
        if size > MAX_FILE_BYTES:
            yield Problem(
                target.name,
                f"{path} has {size / 2**20:.1f} MiB; over {MAX_FILE_BYTES // 2**20} needs LFS.",
                "Split it, for weights with the option max_shard_size, or leave it out.",
            )
        if path.rpartition("/")[2].startswith(".env") or path.endswith((".pem", ".key")):
            yield Problem(target.name, f"{path} looks like a file of secrets.", _SECRET_REMEDY)
        elif SECRET_VALUE.search(_text(plan, path)):
            yield Problem(target.name, f"{path} holds something like a key.", _SECRET_REMEDY)
    yield from _terms(target, plan)
    if sum(sizes.values()) > MAX_SPACE_BYTES:
        yield Problem(
            target.name, f"All files together have {sum(sizes.values()) / 2**30:.1f} GiB."
        )


def _terms(target: Target, plan: Plan) -> Iterator[Problem]:
    """Refuse models without the terms that their licence wants handed on with them."""
    for path in (p for p in plan.copied if p.endswith(("/variant.json", "/origin.json"))):
        try:
            licence = str(json.loads(_text(plan, path)).get("licence", ""))
        except (ValueError, AttributeError):
            licence = ""
        folder = path.rpartition("/")[0]
        beside = (p.rpartition("/")[2] for p in plan.copied if p.rpartition("/")[0] == folder)
        if needs_terms(licence) and not terms_among(beside):
            yield Problem(
                target.name,
                f"The licence of {folder} is {licence or 'not stated'}, and no terms or notice lie "
                "beside it.",
                "Copy them from the language model's folder, or leave it out.",
            )


def _text(plan: Plan, path: str) -> str:
    """The text of a planned file; empty where it is no text."""
    if path in plan.rendered:
        return plan.rendered[path]
    with (plan.root / path).open("rb") as file:
        head = file.read(1024)
        return "" if b"\0" in head else (head + file.read()).decode("utf-8", errors="replace")


def check_space(manifest: Manifest, plans: dict[str, Plan]) -> list[Problem]:
    """All problems; empty where the Space may be deployed.

    Args:
        manifest: what was read.
        plans: target name -> its plan.
    """
    root = next(iter(plans.values())).root
    problems = list(check_readme(manifest, (root / "README.md").read_text(encoding="utf-8")))
    requirements = (root / "requirements.txt").read_text(encoding="utf-8")
    problems += check_card(manifest, requirements)
    for name, plan in plans.items():
        problems += check_target(manifest, manifest.targets[name], plan)
    return problems
