"""A small checkout that is fit to deploy, and what the checks say of it once it is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rad3d.deploy.files_plan import Plan, plan_space
from rad3d.deploy.manifest import Manifest, read_manifest
from rad3d.deploy.space_checks import Problem, check_space

ROOT = Path(__file__).resolve().parent.parent
KEY = "hf_" + "Abcdefghij" * 4
FILES = ["app.py", "rad3d/"]
LAID_OUT = {"app.py", "rad3d/code.py", "README.md", "requirements.txt"}


def manifest_dict() -> dict[str, Any]:
    """The project's own manifest, as YAML gives it."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "spaces.yaml").read_text(encoding="utf-8"))
    return loaded


def fit_checkout(root: Path) -> Path:
    """Makes the checkout."""
    (root / "rad3d").mkdir(parents=True)
    (root / "rad3d" / "code.py").write_text("ANSWER = 42\n", encoding="utf-8")
    (root / "app.py").write_text("import rad3d\n", encoding="utf-8")
    (root / "secret-notes.txt").write_text("not for the Space\n", encoding="utf-8")
    (root / "requirements.txt").write_text(
        "# pins\ntorch==2.13.0\ngradio==6.31.0\nnumpy==2.4.6\n", encoding="utf-8"
    )
    change(root)
    return root


def change(root: Path, **parts: Any) -> None:
    """Write a manifest like the project's but for ``parts``, and the README that goes with it."""
    (root / "spaces.yaml").write_text(
        yaml.safe_dump(
            {**manifest_dict(), "files": FILES, **parts}, sort_keys=False, allow_unicode=True
        ),
        encoding="utf-8",
    )
    manifest = read_manifest(root / "spaces.yaml")
    block = yaml.safe_dump(manifest.front_matter(manifest.target()), allow_unicode=True)
    (root / "README.md").write_text(f"---\n{block}---\n\n# rad3d\n", encoding="utf-8")


def plans_of(root: Path) -> tuple[Manifest, dict[str, Plan]]:
    """The manifest and the plan of each target."""
    manifest = read_manifest(root / "spaces.yaml")
    return manifest, {n: plan_space(root, manifest, t) for n, t in manifest.targets.items()}


def problems_of(root: Path) -> list[Problem]:
    """What the checks say."""
    return check_space(*plans_of(root))


def text_of(problems: list[Problem]) -> str:
    """One line for each problem."""
    return "\n".join(str(problem) for problem in problems)
