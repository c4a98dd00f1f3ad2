"""A report as one page to print or to hand on: text, key slices, chart, where it all comes from.

The page opens offline, loads nothing, and holds no name of a file or person.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from scipy import ndimage

from rad3d.core.encoders import disclaimer
from rad3d.core.errors import BadRequest, Rad3dError
from rad3d.core.evidence import Evidence
from rad3d.core.types import Report, Volume
from rad3d.reports.changes import changes_of
from rad3d.reports.crosscheck import CrossCheck, cross_check
from rad3d.reports.export import edits_text
from rad3d.ui.html import report_html
from rad3d.ui.report import html
from rad3d.ui.report.windows import window_of
from rad3d.ui.theme import STATIC
from rad3d.volume.slices import VIEWS, Picture, render_slice

if TYPE_CHECKING:
    from rad3d.service.service import Service
    from rad3d.service.sessions import Session

MOST_SLICES = 8
LONGEST_SIDE = 420
"""Of a key slice, in pixels."""

TINT = np.array([255.0, 140.0, 0.0])


@dataclass(frozen=True)
class KeySlice:
    """A slice of the scan.

    Attributes:
        title: what it shows.
        words: where it lies, the window, and what marks the evidence.
        data: of a JPEG, as base64.
    """

    title: str
    words: str
    data: str


def report_page(service: Service, session: Session) -> bytes:
    """Return the page of the report that a session shows, as UTF-8.

    Raises:
        BadRequest: the session has ended, or has no scan or no report.
    """
    with service.sessions.using(session) as volume:
        report = session.edited or session.report
        if report is None:
            raise BadRequest("There is no report on this scan.", "Write one first.")
        check = cross_check(report.final_text, report.diagnosis)
        page: str = report_html(
            "page",
            style=(STATIC / "report_page.css").read_text(encoding="utf-8"),
            made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            disclaimer=disclaimer(bool(report.provenance.get("phantoms_only"))),
            status=html.report_status(report),
            sections=html.sections(report.final_text, check.statements),
            verdicts=html.verdicts(report.novelty, html.trained_on(report.diagnosis), check,
                                   report.notes),
            edits=edits_text(report.diagnosis),
            changes=changes_of(report),
            slices=list(_key_slices(service, volume, report, check)),
            rows=sorted(report.diagnosis.to_rows(), key=lambda row: -row["probability"]),
            scan=html.scan_facts(volume),
            provenance=dict(_flat(report.provenance)),
            sentence_of=html.sentence_of,
        )  # fmt: skip
    return page.encode()


def _flat(values: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested facts as (name, text)."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _flat(value, f"{name} {key}".strip().replace("_", " "))
    elif values is not None:
        yield name, str(values)


def _key_slices(
    service: Service, volume: Volume, report: Report, check: CrossCheck
) -> Iterator[KeySlice]:
    """Yield a slice of each finding whose evidence can be shown, else an overview of the scan."""
    count = 0
    probability = {row["label"]: row["probability"] for row in report.diagnosis.to_rows()}
    for label in sorted(report.located, key=lambda label: -probability[label]):
        if count == MOST_SLICES:
            return
        try:
            found = service.evidence.look(volume, report, label)
        except Rad3dError:  # its encoder has gone meanwhile
            break
        if not found.is_empty:
            count += 1
            yield _finding(volume, found, probability[label], check)
    if not count:
        yield from _overview(volume)


def _finding(volume: Volume, found: Evidence, probability: float, check: CrossCheck) -> KeySlice:
    to_voxel = np.linalg.inv(volume.affine)
    place = to_voxel @ [*found.peak_mm, 1.0]
    index = int(np.clip(round(float(place[2])), 0, volume.shape[2] - 1))
    window = window_of(found.label)
    grey = render_slice(volume, "axial", index, window.width, window.level)
    share = _evidence_slice(volume, found, index).astype(np.float32)[..., None] / 255
    over = (share - found.threshold) / max(1 - found.threshold, 1e-6)
    alpha = np.where(over > 0, 0.15 + 0.35 * over, 0.0)
    colours = np.repeat(grey[..., None].astype(np.float32), 3, axis=2)
    picture = np.rint(colours * (1 - alpha) + TINT * alpha).astype(np.uint8)
    said = {item.kind.split("_")[0] for item in check.statements if item.label == found.label}
    words = (
        f"Classifier {100 * probability:.0f} %; "
        f"{'stated' if 'asserted' in said else 'considered' if said else 'not mentioned'} in the "
        f"report. Axial slice {index + 1} of {volume.shape[2]}, {window.name.lower()} window. "
        "Tinted: the classifier’s evidence, not a segmentation."
    )
    return KeySlice(found.label, words, _jpeg(picture))


def _evidence_slice(volume: Volume, found: Evidence, index: int) -> Picture:
    """Return the strength of the evidence in an axial slice as a picture of 0 to 255."""
    to_cell = np.linalg.inv(found.affine) @ volume.affine
    x, y = np.meshgrid(*(np.arange(n) for n in volume.shape[:2]), indexing="ij")
    voxels = np.stack([x, y, np.full_like(x, index), np.ones_like(x)]).reshape(4, -1)
    strength = ndimage.map_coordinates(
        found.strength, (to_cell @ voxels)[:3], order=1, mode="constant"
    )
    plane = np.rint(255 * strength).astype(np.int16).reshape(*volume.shape[:2], 1)
    return render_slice(Volume.from_array(plane, volume.affine), "axial", 0, 255, 127.5)


def _overview(volume: Volume) -> Iterator[KeySlice]:
    """Yield the middle slice of each plane."""
    window = window_of("")
    for plane, view in VIEWS.items():
        index = volume.shape[view.normal] // 2
        grey = render_slice(volume, plane, index, window.width, window.level)
        words = f"The middle slice, {window.name.lower()} window."
        yield KeySlice(plane.capitalize(), words, _jpeg(grey))


def _jpeg(picture: Picture) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()
