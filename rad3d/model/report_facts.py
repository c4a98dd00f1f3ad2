"""What belongs to a report besides its text: what it is made from, notes, provenance, time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from rad3d import __version__
from rad3d.core.details import findings_of
from rad3d.core.encoders import ENCODERS
from rad3d.core.errors import some
from rad3d.core.modes import Mode
from rad3d.core.types import (
    Diagnosis,
    DoneEvent,
    Event,
    Features,
    GenerationOptions,
    Note,
    Novelty,
    Report,
    TextEvent,
)
from rad3d.model.encoders.base import visual_tokens
from rad3d.model.llm.decoding import Written
from rad3d.model.prefix_input import PrefixInput
from rad3d.model.variants.reporter import PrefixReporter
from rad3d.reports.readable import no_report


class Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.laps: dict[str, float] = {}

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    def lap(self, stage: str) -> None:
        """End a stage, which began where the one before ended."""
        now = time.perf_counter()
        self.laps[stage] = now - self._last
        self._last = now

    def resume(self) -> None:
        """Begin the next stage now: others have used the time until here."""
        self._last = time.perf_counter()


@dataclass(frozen=True)
class Asked:
    """A variant that is about to write, and all that its report is made from.

    Attributes:
        variant_id, reporter: what writes.
        features, diagnosis: of the scan.
        notes: on the scan and what was done to it.
        clock: since the report was asked for.
    """

    variant_id: str
    reporter: PrefixReporter
    features: Features
    diagnosis: Diagnosis
    notes: tuple[Note, ...]
    clock: Clock

    @property
    def given(self) -> PrefixInput:
        """What its prefix is made from."""
        tokens = None if self.features.tokens is None else visual_tokens(self.features.tokens)
        findings = findings_of(self.diagnosis)
        return PrefixInput(self.features.pooled, self.diagnosis.logits, tokens, findings)

    def events(self, written: Written, options: GenerationOptions) -> Iterator[Event]:
        """What is told of the text so far; of a finished one also the report."""
        self.clock.laps.setdefault("first_token", self.clock.elapsed)
        text, n = self.reporter.language.decode(list(written.ids)), len(written.ids)
        if written.finish is None:
            # Without a character of which only the first bytes have been written.
            yield TextEvent(text.rstrip("\ufffd"), n)
            return
        self.clock.lap("writing")
        yield TextEvent(text, n)
        yield DoneEvent(
            Report(
                text=text,
                variant_id=self.variant_id,
                diagnosis=self.diagnosis,
                options=options,
                finish_reason=written.finish,
                n_tokens=n,
                timings_s=self.clock.laps | {"total": self.clock.elapsed},
                notes=(*self.notes, *text_notes(text, written.finish)),
                novelty=self.features.novelty,
                provenance=provenance(self.reporter, self.features)
                | edit_provenance(self.diagnosis),
            )
        )


def text_notes(text: str, finish: str) -> tuple[Note, ...]:
    """A warning where what was written to its end is no report."""
    why = no_report(text) if finish != "cancelled" else ""
    if not why:
        return ()
    return (Note("warning", "no_report", f"This text is no report: it {why}."),)


def novelty_notes(novelty: Novelty | None, encoder_id: str) -> tuple[Note, ...]:
    """A warning where the scan lies outside what the models were trained on."""
    if novelty is None or not novelty.is_novel:
        return ()
    row = ENCODERS.get(encoder_id)
    return (
        Note(
            "warning",
            "unlike_training",
            f"These models know only {row.trained_on if row else 'their training scans'}, and this "
            f"scan is unlike them ({novelty.words}): "
            "the report shows how the software works, not what is in the scan.",
        ),
    )


def diagnosis_notes(diagnosis: Diagnosis) -> tuple[Note, ...]:
    """What limits the diagnosis: probabilities that are none, and labels no rule reads."""
    notes = []
    if unread := diagnosis.label_set.unread:
        text = f"No rule finds {some(unread, 3)} in a report, so the report is not held against it."
        notes.append(Note("info", "not_read", text))
    if diagnosis.calibrated:
        return tuple(notes)
    return (
        *notes,
        Note(
            "warning",
            "uncalibrated",
            f"The probabilities of {diagnosis.source} are plain sigmoids of its logits and were "
            "not calibrated: read them as an order, not as chances.",
        ),
    )


def edit_notes(diagnosis: Diagnosis, mode: Mode) -> tuple[Note, ...]:
    """A warning where a person edited a diagnosis that the mode does not read."""
    if not diagnosis.edited or mode.reads_prior:
        return ()
    text = f"{mode.name} does not read the diagnosis: an edit of it cannot change the report."
    return (Note("warning", "not_listening", text),)


def edit_provenance(diagnosis: Diagnosis) -> dict[str, Any]:
    """What a person set in place of what the classifier said; empty where nothing was edited."""
    probability = dict(zip(diagnosis.label_set.names, diagnosis.probabilities, strict=True))
    edits = {
        label: {"probability": float(probability[label]), "classifier": own}
        for label, own in diagnosis.edited.items()
    }
    return {"edited": edits} if edits else {}


def provenance(reporter: PrefixReporter, features: Features) -> dict[str, Any]:
    """Hashes and versions of everything that a report depends on."""
    config = reporter.config
    return {
        "volume_sha256": features.volume_sha256,
        "encoder": features.encoder_id,
        "preprocessing": features.preprocessing,
        "variant": config.id,
        "variant_files": dict(config.files),
        "phantoms_only": config.phantoms_only,
        "llm": config.llm_source,
        "llm_revision": config.llm_revision or reporter.language.revision,
        "llm_sha256": config.llm_sha256 or reporter.language.sha256,
        "precision": reporter.language.precision,
        "precision_reason": reporter.language.reason,
        "device": str(reporter.language.device),
        "rad3d": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
