"""Which files a Space gets, and how README and requirements read for a target."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from rad3d.deploy.manifest import Manifest, Target
from rad3d.errors import BadRequest

FENCE = "---\n"
PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)")


@dataclass(frozen=True)
class Plan:
    """The content of a Space.

    Attributes:
        root: the checkout.
        target: what it is for.
        copied: paths taken as they are, relative to ``root``.
        rendered: path -> text made for the target.
        revision: commit of the checkout, or empty.
        dirty: planned paths that differ from that commit.
    """

    root: Path
    target: Target
    copied: tuple[str, ...]
    rendered: dict[str, str] = field(default_factory=dict)
    revision: str = ""
    dirty: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """Path -> bytes, of every file."""
        sizes = {path: (self.root / path).stat().st_size for path in self.copied}
        sizes |= {path: len(text.encode()) for path, text in self.rendered.items()}
        return dict(sorted(sizes.items()))

    def write(self, folder: Path) -> None:
        """Lay the files out in an empty folder; copies, so that nothing there reaches back."""
        if folder.exists() and any(folder.iterdir()):
            raise BadRequest(f"The folder {folder} is not empty.", "Name one that is new or empty.")
        for path in self.copied:
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes((self.root / path).read_bytes())
        for path, text in self.rendered.items():
            (folder / path).write_text(text, encoding="utf-8")


def plan_space(root: Path, manifest: Manifest, target: Target) -> Plan:
    """The files of a checkout that a Space of this target gets.

    Raises:
        BadRequest: something listed is not there.
    """
    known = _files(root)
    copied: list[str] = []
    for entry in manifest.files:
        if entry.startswith(("/", "..")) or "/../" in entry:
            raise BadRequest(f"{entry} lies outside the checkout.", "List paths below its root.")
        found = [p for p in known if p == entry or (entry.endswith("/") and p.startswith(entry))]
        if not found:
            raise BadRequest(
                f"The file list names {entry}, which is not there.",
                "Restore it, commit it, or take it off the list.",
                code="missing_file",
            )
        copied += found
    readme = (root / "README.md").read_text(encoding="utf-8")
    requirements = (root / "requirements.txt").read_text(encoding="utf-8")
    rendered = {
        "README.md": with_front_matter(readme, front_matter(manifest, target)),
        "requirements.txt": requirements_for(requirements, target),
    }
    plain = tuple(sorted(set(copied) - set(rendered)))
    revision, dirty = _revision(root, {*plain, "README.md", "requirements.txt"})
    return Plan(root, target, plain, rendered, revision, dirty)


def front_matter(manifest: Manifest, target: Target) -> str:
    """The YAML block of a README, without its fences."""
    return yaml.safe_dump(
        manifest.front_matter(target), sort_keys=False, allow_unicode=True, width=1000
    )


def with_front_matter(readme: str, block: str) -> str:
    """A README whose front matter is the block."""
    return f"{FENCE}{block}{FENCE}{split_readme(readme)[1]}"


def split_readme(readme: str) -> tuple[str, str]:
    """(front matter, text) of a README; the first is empty where there is none."""
    if not readme.startswith(FENCE) or readme.count(FENCE) < 2:
        return "", readme
    _, block, text = readme.split(FENCE, 2)
    return block, text


def pins(requirements: str) -> dict[str, str]:
    """Package -> version, of every line that pins one."""
    found = (PIN.match(line) for line in requirements.splitlines())
    return {match[1].lower(): match[2] for match in found if match}


def requirements_for(requirements: str, target: Target) -> str:
    """requirements.txt with the target's versions and index.

    No hashes: Spaces installs it in one go with packages of its own that have none, which pip
    refuses as soon as one line has a hash.
    """
    pinned = {**pins(requirements), **{k.lower(): v for k, v in target.packages.items()}}
    head = [f"# Made from requirements.txt and spaces.yaml for {target.name}: change those."]
    index = [f"--extra-index-url {target.index}"] if target.index else []
    return "\n".join([*head, *index, *(f"{k}=={v}" for k, v in pinned.items())]) + "\n"


def _files(root: Path) -> list[str]:
    """Files of the checkout: what git knows, or else whatever is there and not hidden."""
    listed = _git(root, "ls-files", "-z")
    if listed is not None:
        return sorted(p for p in listed.split("\0") if p and (root / p).is_file())
    found = []
    for folder, names, files in os.walk(root):
        names[:] = [n for n in names if not n.startswith(".") and n not in ("__pycache__", "runs")]
        found += [Path(folder, name).relative_to(root).as_posix() for name in files]
    return sorted(found)


def _revision(root: Path, paths: set[str]) -> tuple[str, tuple[str, ...]]:
    revision = _git(root, "rev-parse", "HEAD")
    status = _git(root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=no")
    if revision is None or status is None:
        return "", ()
    changed = {entry[3:] for entry in status.split("\0") if entry}
    return revision.strip(), tuple(sorted(changed & paths))


def _git(root: Path, *args: str) -> str | None:
    """What git says about a checkout; None where there is no git, or this is not its root."""
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", *args], cwd=root, capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
