"""Which findings of a report can be shown in its scan, and where."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rad3d.core.encoders import ENCODERS
from rad3d.core.errors import BadRequest, CorruptWeights
from rad3d.core.evidence import Evidence, Localisation
from rad3d.core.types import Report, Volume
from rad3d.model.engine import Engine
from rad3d.model.evidence import find_evidence, measured
from rad3d.reports.crosscheck import cross_check
from rad3d.service.sessions import Session

_LOG = logging.getLogger(__name__)


class EvidenceFinder:
    """Finds the evidence for the findings of reports.

    Args:
        engine: has the encoders.
        models_dir: their weights, with what was measured of their places.
    """

    def __init__(self, engine: Engine, models_dir: Path) -> None:
        self._engine, self._models_dir = engine, models_dir

    def known(self, report: Report) -> Mapping[str, Localisation]:
        """Return how well the places of each label are known for the encoder of a report."""
        encoder = str(report.provenance.get("encoder"))
        grid = str(report.provenance.get("preprocessing"))  # missing where it was cut short
        if encoder not in ENCODERS:
            return {}
        try:
            return measured(self._models_dir, encoder, grid)
        except CorruptWeights as error:  # the report is as good without
            _LOG.warning("%s", error)
            return {}

    def located(self, report: Report) -> Report:
        """Return a report with the labels whose evidence can be shown in the scan.

        They are seen by the classifier or stated by the report, and their places were measured to
        be right.
        """
        known = self.known(report)
        rows = report.diagnosis.to_rows()
        seen = {row["label"] for row in rows if row["classifier"] >= row["threshold"]}
        statements = cross_check(report.final_text, report.diagnosis).statements
        seen |= {item.label for item in statements if not item.kind.startswith("denied")}
        shown = frozenset(label for label in seen & set(known) if known[label].works)
        return replace(report, located=shown)

    def find(self, session: Session, volume: Volume, label: str) -> Evidence:
        """Find the evidence for a finding of a session's report.

        Args:
            session: the session with the report.
            volume: its open scan.
            label: one of ``located`` of the report, or of the one from an edited diagnosis.

        Raises:
            BadRequest: there is no report, or no evidence to show.
        """
        report = session.report
        if report is None:
            raise BadRequest("There is no report on this scan.", "Write one first.")
        if not any(each and label in each.located for each in (report, session.edited)):
            raise BadRequest(
                f"No place is shown for {label[:80]!r}: neither classifier nor report states it, "
                "or its places were measured to be unreliable.",
                code="not_locatable",
            )
        found = self.look(volume, report, label)
        if found.is_empty:
            raise BadRequest(
                f"The classifier finds no place in this scan that speaks for {label.lower()}.",
                code="no_evidence",
            )
        return found

    def look(self, volume: Volume, report: Report, label: str) -> Evidence:
        """Find the evidence, of which there may be none."""
        encoder = str(report.provenance["encoder"])
        return find_evidence(self._engine, volume, label, encoder, self.known(report)[label])
