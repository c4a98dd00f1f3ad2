"""What a person sent: a scan, and the table with its row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from rad3d.core.errors import BadRequest
from rad3d.server import uploads
from rad3d.volume.ctrate import MetadataTable, ScanMetadata


@contextlib.contextmanager
def sent_scan(
    files: Sequence[tuple[str, str | None]],
) -> Iterator[tuple[Path, str, ScanMetadata | None]]:
    """Give the scan that was sent, its name, and its row of the table that was sent with it.

    Args:
        files: path of each upload, and what the person calls it; they are deleted afterwards.

    Raises:
        BadRequest: no such upload, or the scan is not in the table.
    """
    name, *shown = [Path(given or "scan").name for _, given in files]
    with contextlib.ExitStack() as stack:
        path, *tables = [stack.enter_context(uploads.taken(sent)) for sent, _ in files]
        yield path, name, _metadata(tables[0], shown[0], name) if tables else None


def _metadata(path: Path, shown: str, scan: str) -> ScanMetadata:
    """Return the row of a scan in CT-RATE's table; nothing else of the table is kept."""
    if path.stat().st_size > uploads.MAX_TABLE_MB * 2**20:
        raise BadRequest(
            f"The metadata table is larger than the {uploads.MAX_TABLE_MB} MB allowed here.",
            "Give one with the rows of your scans.",
            code="too_large",
        )
    return MetadataTable(path, shown, only=scan).row(scan)
