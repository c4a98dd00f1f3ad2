"""A service without models: real sessions and scans, and a fixed report written word by word."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rad3d.core.edits import Edits, checked_edits, with_edits
from rad3d.core.encoders import SHIPPED_ENCODER
from rad3d.core.evidence import Evidence, Localisation
from rad3d.core.labels import CT_RATE, LABEL_INDEX, N_LABELS
from rad3d.core.language_models import LANGUAGE_MODELS
from rad3d.core.modes import MODES
from rad3d.core.settings import Settings
from rad3d.core.types import (
    Diagnosis,
    DiagnosisEvent,
    DoneEvent,
    Event,
    FailedEvent,
    FinishReason,
    GenerationOptions,
    Note,
    Novelty,
    Report,
    StageEvent,
    TextEvent,
    VariantEvent,
    Volume,
)
from rad3d.core.variant_ids import variant_id
from rad3d.model.catalogue import VariantStatus
from rad3d.service.evidence import EvidenceFinder
from rad3d.service.gallery import SampleCard
from rad3d.service.service import Service
from rad3d.service.sessions import Session

FAKE_TEXT = (
    "Findings: The lungs are well inflated. A solid nodule of 9 mm lies in the right upper lobe. "
    "There is a small left pleural effusion. The heart is not enlarged. No pericardial effusion. "
    "No enlarged lymph nodes are seen in the mediastinum.\n"
    "Impression: 1. Solid nodule in the right upper lobe, 9 mm. 2. Small left pleural effusion."
)


def sample_card(
    id_: str, title: str, description: str, path: Path, truth_text: str = ""
) -> SampleCard:
    """A scan of the gallery, in domain."""
    return SampleCard(id_, title, description, path, "in", truth_text)


def fake_diagnosis() -> Diagnosis:
    """A nodule, likely cardiomegaly that the report denies, an effusion that it only asserts."""
    logits = np.linspace(-4.0, -1.5, N_LABELS)
    logits[LABEL_INDEX["Lung nodule"]] = 3.1
    logits[LABEL_INDEX["Cardiomegaly"]] = 1.9
    logits[LABEL_INDEX["Pleural effusion"]] = -3.0
    return Diagnosis(
        logits=logits,
        probabilities=1 / (1 + np.exp(-logits)),
        thresholds=np.full(N_LABELS, 0.4),
        source="fake",
    )


class FakeEvidence(EvidenceFinder):
    """Places of three findings, made up."""

    def known(self, report: Report) -> Mapping[str, Localisation]:
        """Those of three findings are right, those of one are not."""
        right, wrong = (0.95, 0.9, 1.0), (0.3, 0.2, 0.4)
        good = Localisation(0.5, 80, right, right, right, right)
        return {
            **dict.fromkeys(("Lung nodule", "Cardiomegaly", "Pleural effusion"), good),
            "Pericardial effusion": replace(good, pointing=wrong),
        }

    def look(self, volume: Volume, report: Report, label: str) -> Evidence:
        """One cell of 20 mm at a place of its own for a nodule and the heart, nothing else."""
        strength = np.zeros((20, 20, 16), np.float32)
        cell = {"Lung nodule": (15, 10, 11), "Cardiomegaly": (9, 11, 6)}.get(label)
        if cell:
            strength[cell] = 0.9
        affine = np.diag([20.0, 20.0, 20.0, 1.0])
        affine[:3, 3] = (-200.0, -200.0, -160.0)
        known = self.known(report)[label]
        return Evidence(label, strength, affine, known.threshold, "Made up.", known)


class FakeService(Service):
    """The real service, but for the models; see the module's docstring.

    Args:
        cards: the sample gallery.
        seconds_per_word: how slowly the report is written.
        novelty: of every scan.
    """

    def __init__(
        self,
        cards: tuple[SampleCard, ...] = (),
        seconds_per_word: float = 0.04,
        novelty: Novelty | None = None,
    ) -> None:
        super().__init__(Settings(host="0.0.0.0"), samples_dir=Path("none"))
        self.evidence = FakeEvidence(self.engine, Path("none"))
        self.gallery._cards = {card.id: card for card in cards}
        self._stream, self._compare = self.write, self.write_beside
        self._pause = seconds_per_word
        self._novelty = novelty or Novelty(distance=8.1, percentile=62.0, limit=21.5)

    @property
    def open_sessions(self) -> tuple[str, ...]:
        """Tokens that are alive."""
        return tuple(self.sessions._sessions)

    @property
    def open_scans(self) -> set[str]:
        """Content hashes of the scans that are open."""
        return set(self.sessions._open_scans())

    def model_view(self, session: Session, encoder_id: str = "") -> Volume:
        """Every second voxel."""
        with self.sessions.using(session) as volume:
            affine = volume.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
            note = Note("info", "resampled", "Resampled to every second voxel.")
            clipped = np.clip(volume.hu[::2, ::2, ::2], -1000, 1000)
            return Volume.from_array(clipped, affine, volume.name, (note,))

    def encoders_here(self) -> frozenset[str]:
        """The shipped one alone."""
        return frozenset({SHIPPED_ENCODER})

    def variants(self) -> tuple[VariantStatus, ...]:
        """The shipped models ready, the published ones not."""
        sizes = {"phantom-s": 540_000, "phantom-m": 2_100_000, "phantom-l": 5_600_000}
        return tuple(
            VariantStatus(variant_id(llm, mode), True, parameters=sizes[llm])
            if llm in sizes
            else VariantStatus(
                variant_id(llm, mode),
                False,
                "No projector has been trained for it.",
                f"rad3d train {variant_id(llm, mode)}",
                row.parameters,
            )
            for llm, row in LANGUAGE_MODELS.items()
            for mode in MODES
        )

    def write(
        self,
        volume: Volume,
        variant_id: str,
        options: GenerationOptions,
        cancel: threading.Event,
        edited: Edits | None = None,
    ) -> Iterator[Event]:
        """Stages, diagnosis, words, report; an edited effusion is left out where it is set low."""
        start = time.monotonic()
        edits = checked_edits(edited or {}, CT_RATE)
        diagnosis = with_edits(fake_diagnosis(), edits)
        for stage, fraction in (("Reading the scan", 0.1), ("Encoding the scan", 0.4)):
            yield StageEvent(stage, fraction)
            cancel.wait(4 * self._pause)
        yield DiagnosisEvent(diagnosis, self._novelty)
        yield StageEvent("Writing the report", 0.7)
        text = FAKE_TEXT
        if edits.get("Pleural effusion", 1) < 0.5:
            text = text.replace("There is a small left pleural effusion.", "No pleural effusion.")
        if variant_id == "phantom-s/v1":
            text = text.replace(" There is a small left pleural effusion.", "")
            text = text.replace(" 2. Small left pleural effusion.", "")
        words = text.split(" ")[: options.max_new_tokens]
        reason: FinishReason = "end" if len(words) == len(text.split(" ")) else "length"
        written = 0
        for written in range(1, len(words) + 1):
            if cancel.wait(self._pause):
                reason = "cancelled"
                break
            yield TextEvent(" ".join(words[:written]), written)
        yield DoneEvent(
            Report(
                text=" ".join(words[:written]),
                variant_id=variant_id,
                diagnosis=diagnosis,
                options=options,
                finish_reason=reason,
                n_tokens=written,
                timings_s={"total": time.monotonic() - start},
                novelty=self._novelty,
                provenance={"volume": "0" * 64},
            )
        )

    def write_beside(
        self,
        volume: Volume,
        variant_ids: Sequence[str],
        options: GenerationOptions,
        cancel: threading.Event,
        edited: Edits | None = None,
    ) -> Iterator[VariantEvent]:
        """All take turns; Phantom S in mode Text fails."""
        going = {each: self.write(volume, each, options, cancel, edited) for each in variant_ids}
        if going.pop("phantom-s/text", None) is not None:
            yield VariantEvent("phantom-s/text", FailedEvent("It does not fit.", "no_memory"))
        while going:
            for variant, events in list(going.items()):
                if (event := next(events, None)) is None:
                    del going[variant]
                else:
                    yield VariantEvent(variant, event)
