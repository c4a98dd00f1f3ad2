"""Which weights an encoder has: what was computed or fitted with other weights is of no use."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

IMPORTED = "imported"
"""Stands for the hash of the weights where features were made elsewhere and nobody knows it."""


@dataclass(frozen=True)
class EncoderIdentity:
    """Which weights saw the scans: features of other weights are of no use.

    Attributes:
        id: a key of :data:`rad3d.registry.ENCODERS`.
        sha256: of the weights, or :data:`IMPORTED`.
        preprocessing: id of the model grid.
    """

    id: str
    sha256: str
    preprocessing: str

    @property
    def is_imported(self) -> bool:
        """True where a person said whose features these are, and nothing proves it."""
        return self.sha256 == IMPORTED


def weights_sha256(folder: Path) -> str:
    """Hash of an encoder's weights; a head that was fitted here lies in a folder below."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
