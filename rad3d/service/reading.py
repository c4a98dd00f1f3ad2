"""Reads a scan within the limits that an operator has set."""

from __future__ import annotations

from pathlib import Path

from rad3d.core.errors import BadVolume
from rad3d.core.settings import Settings
from rad3d.core.types import Volume
from rad3d.volume.ctrate import ScanMetadata
from rad3d.volume.load import Limits, read_volume


def read_scan(
    settings: Settings, path: Path, name: str, metadata: ScanMetadata | None = None
) -> Volume:
    """Read and check a scan.

    Args:
        settings: how large a file and a volume may be.
        path: of the file.
        name: shown to the person.
        metadata: CT-RATE's row of the scan, where it is known.

    Raises:
        BadVolume: it cannot be used, or is over a limit.
    """
    largest = settings.max_upload_mb * 2**20
    if path.is_file() and path.stat().st_size > largest:
        raise BadVolume(
            f"The file is larger than the {settings.max_upload_mb} MB allowed here.",
            "Crop the scan to the chest, compress it, or raise RAD3D_MAX_UPLOAD_MB.",
            code="too_large",
        )
    limits = Limits(max_bytes=max(Limits().max_bytes, largest), max_voxels=settings.max_voxels)
    return read_volume(path, name, limits, metadata)
