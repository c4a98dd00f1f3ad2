"""Identity of weights: features and fits made with other weights cannot be used."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from rad3d.core.files import file_sha256
from rad3d.model.llm.folders import weight_files

IMPORTED = "imported"
"""Stands for the hash of the weights where features were made elsewhere and nobody knows it."""


@dataclass(frozen=True)
class EncoderIdentity:
    """The identity of an encoder; features of other weights cannot be used with it.

    Attributes:
        id: a key of :data:`rad3d.core.encoders.ENCODERS`.
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
        digest.update(bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()


def weights_hash(directory: Path) -> str:
    """SHA-256 over the names and contents of a language model's weight files."""
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.safetensors")) or weight_files(directory):
        digest.update(f"{path.name}:{file_sha256(path)};".encode())
    return digest.hexdigest()
