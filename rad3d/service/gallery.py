"""The gallery of sample scans: ``<id>.nii.gz`` beside ``<id>.json``; each is read only once.

The JSON is a phantom case's (see :mod:`rad3d.synthetic.phantom.cohort`); ``title`` and
``description`` may be added to it by hand. Beside one of them ``<id>.report.json`` may hold a
report on it, which is shown to who opens the app.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rad3d.core.errors import BadRequest, BadVolume
from rad3d.core.lookup import lookup
from rad3d.core.settings import ROOT
from rad3d.core.types import Report, Volume
from rad3d.data.sample_sets import PHANTOM
from rad3d.data.samples import Sample
from rad3d.model.cache import ByteCache
from rad3d.reports.sections import ReportText
from rad3d.reports.stored import read_report
from rad3d.synthetic.phantom.cohort import make_case

SAMPLES_DIR = ROOT / "assets" / "samples"

DOMAINS = {"in": "like the training phantoms", "out": "unlike the training phantoms"}


@dataclass(frozen=True)
class SampleCard:
    """One sample scan.

    Attributes:
        id: name of its files.
        title: a few words that give nothing away.
        description: one line that gives nothing away.
        path: file of the scan.
        domain: ``"in"`` or ``"out"``.
        truth_text: the report that is true of it.
    """

    id: str
    title: str
    description: str
    path: Path
    domain: str
    truth_text: str


class Gallery:
    """The sample scans; those that were opened are kept in memory for all visitors together.

    What a visitor brings is never kept here. Arrays of volumes cannot be written to.

    Args:
        directory: folder of the files.
        max_bytes: bound of the scans that are kept; those unused longest go first.
        read: a file and a name -> its volume; raises BadVolume.
    """

    def __init__(
        self, directory: Path, max_bytes: int, read: Callable[[Path, str], Volume]
    ) -> None:
        self._cards = {card.id: card for card in read_samples(directory)}
        self._directory, self._volumes = directory, ByteCache(max_bytes)
        self._read = read

    @property
    def cards(self) -> tuple[SampleCard, ...]:
        """The cards of all samples, sorted by id."""
        return tuple(self._cards.values())

    @cached_property
    def example(self) -> tuple[SampleCard, Report] | None:
        """The sample with a stored report, and the report; None where there is none."""
        for card in self.cards:
            stored = self._directory / f"{card.id}.report.json"
            if stored.is_file():
                return card, read_report(stored)
        return None

    @property
    def nbytes(self) -> int:
        """Bytes of the scans that are kept now."""
        return self._volumes.nbytes

    def volume(self, sample_id: str) -> Volume:
        """Return the scan of a sample, which is read and checked once while it is kept.

        Raises:
            UnknownName: there is no such sample.
            BadVolume: its file cannot be used.
        """
        card = lookup("sample", self._cards, sample_id)
        return self._volumes.get(
            card.id, lambda: self._read(card.path, card.title), lambda volume: volume.hu.nbytes
        )


def case_volume(sample: Sample, read: Callable[[Path, str], Volume]) -> Volume:
    """Return the scan of a case of a sample set, rendered where it is a phantom.

    Args:
        sample: the case.
        read: a file and a name -> its volume; raises BadVolume.

    Raises:
        BadVolume: there is no scan, or its file cannot be used.
    """
    if sample.scan.startswith(PHANTOM):
        domain, seed = sample.scan.removeprefix(PHANTOM).split(":")
        return make_case(int(seed), domain).volume
    if not sample.scan:
        raise BadVolume("There is no scan for this case.", code="not_found")
    return read(Path(sample.scan), sample.id)


def read_samples(directory: Path) -> tuple[SampleCard, ...]:
    """Return every scan of the directory that has its JSON, sorted by id.

    Raises:
        BadRequest: a JSON is not a case's.
    """
    return tuple(
        _read_card(path, scan)
        for path in sorted(directory.glob("*.json"))
        if (scan := path.with_suffix(".nii.gz")).is_file()
    )


def _read_card(path: Path, scan: Path) -> SampleCard:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        domain = values["domain"]
        truth = ReportText(**values["report"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(
            f"{path.name} does not describe a sample scan.",
            "Write it with rad3d phantom, or remove it.",
            code="bad_sample",
        ) from error
    default = f"Synthetic chest CT, {DOMAINS.get(domain, domain)}"
    return SampleCard(
        id=path.stem,
        title=values.get("title", path.stem),
        description=values.get("description", default),
        path=scan,
        domain=domain,
        truth_text=truth.text,
    )
