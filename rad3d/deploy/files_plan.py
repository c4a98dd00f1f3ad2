"""Plans the files of a Space, with README and requirements for its target."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from rad3d.core.errors import BadRequest
from rad3d.deploy.manifest import Manifest, Target

FENCE = "---\n"
FRONT = re.compile(r"\A---\n(.*?)^---\n", re.DOTALL | re.MULTILINE)
PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([\w.+!-]+)\s*(?:#.*)?")


@dataclass(frozen=True)
class Plan:
    """The content of a Space.

    Attributes:
        root: the checkout.
        target: what it is for.
        copied: paths taken as they are, relative to ``root``.
        rendered: path -> text made for the target.
        revision: commit of the checkout, or empty.
        dirty: paths of the list that differ from that commit, or were removed.
        unknown: paths of the list that git does not know, and that are left out.
    """

    root: Path
    target: Target
    copied: tuple[str, ...]
    rendered: dict[str, str] = field(default_factory=dict)
    revision: str = ""
    dirty: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Source of the files: a commit, with ``+changes`` where some differ from it."""
        commit = self.revision[:12] or "an unknown revision"
        return f"{commit}+changes" if self.dirty else commit

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
        BadRequest: something listed is not there, or lies elsewhere.
    """
    all_files = _files(root)
    copied: list[str] = []
    for entry in manifest.files:
        if entry.startswith(("/", "..")) or "/../" in entry:
            raise BadRequest(f"{entry} lies outside the checkout.", "List paths below its root.")
        listed = [path for path in all_files if _lists(entry, path)]
        if not listed:
            raise BadRequest(
                f"The file list names {entry}, which is not there.",
                "Restore it, commit it, or take it off the list.",
                code="missing_file",
            )
        copied += listed
    for path in copied:
        if not (root / path).resolve().is_relative_to(root.resolve()):
            raise BadRequest(
                f"{path} is a link to a file outside the checkout.",
                "Put the file itself there, or take it off the list.",
                code="link",
            )
    readme = (root / "README.md").read_text(encoding="utf-8")
    requirements = (root / "requirements.txt").read_text(encoding="utf-8")
    rendered = {
        "README.md": with_front_matter(readme, front_matter(manifest, target)),
        "requirements.txt": requirements_for(requirements, target),
    }
    plain = tuple(sorted(set(copied) - set(rendered)))
    return Plan(root, target, plain, rendered, *_revision(root, [*manifest.files, *rendered]))


def _lists(entry: str, path: str) -> bool:
    """Whether an entry of the file list, a path or a folder ending in ``/``, names a path."""
    return path == entry or (entry.endswith("/") and path.startswith(entry))


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
    block = FRONT.match(readme)
    return (block[1], readme[block.end() :]) if block else ("", readme)


def pins(requirements: str) -> dict[str, str]:
    """Package, by its normal name, -> version, of every line that pins one."""
    matches = (PIN.fullmatch(line.strip()) for line in requirements.splitlines())
    return {normal(match[1]): match[2] for match in matches if match}


def unpinned(requirements: str) -> list[str]:
    """Lines that ask for something else than one version, which a Space would go without."""
    lines = (line.strip() for line in requirements.splitlines())
    return [line for line in lines if line and line[0] != "#" and not PIN.fullmatch(line)]


def normal(package: str) -> str:
    """The name by which the package index knows a package (PEP 503)."""
    return re.sub(r"[-_.]+", "-", package).lower()


def requirements_for(requirements: str, target: Target) -> str:
    """requirements.txt with the target's versions and index.

    No hashes: Spaces installs it in one go with packages of its own that have none, which pip
    refuses as soon as one line has a hash.
    """
    pinned = {**pins(requirements), **{normal(k): v for k, v in target.packages.items()}}
    head = [f"# Made from requirements.txt and spaces.yaml for {target.name}: change those."]
    index = [f"--extra-index-url {target.index}"] if target.index else []
    return "\n".join([*head, *index, *(f"{k}=={v}" for k, v in pinned.items())]) + "\n"


def _files(root: Path) -> list[str]:
    """Files of the checkout: what git knows, or without git whatever is there and not hidden."""
    if (root / ".git").exists():
        listed = _git(root, "ls-files", "-z")
        return sorted(p for p in listed.split("\0") if p and (root / p).is_file())
    paths = []
    for folder, names, files in os.walk(root):
        names[:] = [n for n in names if not n.startswith(".") and n not in ("__pycache__", "runs")]
        paths += [Path(folder, name).relative_to(root).as_posix() for name in files]
    return sorted(paths)


def _revision(root: Path, entries: Sequence[str]) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The commit, which listed paths differ from it, and which it does not know."""
    if not (root / ".git").exists():
        return "", (), ()
    status = _git(root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all")
    dirty: list[str] = []
    unknown: list[str] = []
    for state, path in ((entry[:2], entry[3:]) for entry in status.split("\0") if entry):
        if any(_lists(entry, path) for entry in entries):
            (unknown if state == "??" else dirty).append(path)
    commit = _git(root, "rev-parse", "HEAD").strip()
    return commit, tuple(sorted(dirty)), tuple(sorted(unknown))


def _git(root: Path, *args: str) -> str:
    """Run git in a checkout and return its output.

    Raises:
        BadRequest: git fails, so files that it does not know could slip in.
    """
    try:
        done = subprocess.run(
            ["git", *args], cwd=root, capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BadRequest(
            f"git cannot say which files belong to {root}.",
            f"Run there: git {args[0]}",
            code="no_git",
        ) from error
    return done.stdout
