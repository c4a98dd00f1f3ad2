"""Versions, names and sizes that Hugging Face Spaces admits on each kind of hardware.

Read in the hub's documentation (docs/hub in the repository huggingface/hub-docs): Spaces overview,
Spaces ZeroGPU, Spaces configuration reference. A platform changes these at will; each row says when
it was read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_FILE_BYTES = 10 * 2**20
"""Larger files must go through Git LFS or Xet, and `git push` refuses them otherwise."""

MAX_SPACE_BYTES = 2**30
"""Largest size of all files of a Space's repository together."""

COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
SHORT_DESCRIPTION_LENGTH = 60


@dataclass(frozen=True)
class Platform:
    """A kind of hardware, and what may run on it.

    Attributes:
        hardware: its name on the hub.
        pythons: regular expressions of which the Python version must match one.
        packages: package -> the versions admitted; others are free.
        always: packages that the platform adds to the installation, as pip requirements, in which
            ``{gradio}`` is the version of the card. They are resolved together with ours.
        gpu: True where a GPU is lent (ZeroGPU) or there.
        as_of: when the rules were read.
        source: where.
    """

    hardware: str
    pythons: tuple[str, ...] = (r"3\.\d+(\.\d+)?",)
    packages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    always: tuple[str, ...] = (
        "gradio[oauth,mcp]=={gradio}",
        "uvicorn>=0.14.0",
        "websockets>=10.4",
        "spaces",
    )
    gpu: bool = False
    as_of: str = "2026-08"
    source: str = "docs/hub/spaces-config-reference.md"

    def admits_python(self, version: str) -> bool:
        """True where the platform offers that Python."""
        return any(re.fullmatch(pattern, version) for pattern in self.pythons)

    def admits(self, package: str, version: str) -> bool:
        """True where that version of a package may be asked for; builds (``+cpu``) count as it."""
        admitted = self.packages.get(package)
        return admitted is None or version.partition("+")[0] in admitted


PLATFORMS: dict[str, Platform] = {
    row.hardware: row
    for row in (
        Platform("cpu-basic"),
        Platform("cpu-upgrade"),
        Platform(
            "zero-a10g",  # ZeroGPU's name in the API, whatever the GPU behind it
            pythons=(r"3\.12\.12", r"3\.10\.13"),
            packages={"torch": ("2.8.0", "2.9.1", "2.10.0", "2.11.0", "2.12.1", "2.13.0")},
            gpu=True,
            as_of="2026-09",
            source="docs/hub/spaces-zerogpu.md with pull request 2763",
        ),
    )
}  # fmt: skip
"""Hardware -> what it admits."""
