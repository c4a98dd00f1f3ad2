"""Reports for an evaluation: written in batches, each condition once, and kept for the next run.

A report is a function of the variant's weights, the options and its input, so it is stored under a
hash of these. A run that was stopped, a run with more cases, and an ablation that gives every case
the same input all find the reports that exist.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rad3d import __version__
from rad3d.core.errors import Cancelled
from rad3d.core.types import GenerationOptions
from rad3d.data.samples import Prediction
from rad3d.evaluation.storage import slug
from rad3d.model.engine import Engine, Generated
from rad3d.model.prefix_input import PrefixInput
from rad3d.model.variants.variant import VariantConfig

WriteBatches = Callable[
    [Sequence[PrefixInput], str, GenerationOptions, threading.Event], Iterator[list[Generated]]
]
"""As :meth:`Engine.generate_batches`."""


@dataclass(frozen=True)
class Kept:
    """One stored report.

    Attributes:
        text, finish: as generated.
        seconds: its share of the time of its batch.
    """

    text: str
    finish: str
    seconds: float


class ReportWriter:
    """Writes the reports of one variant with one set of options.

    Args:
        engine: knows the variant.
        variant: its id.
        options: how.
        kept_dir: where reports are kept between runs; None keeps none.
        write: writes; the engine by default.
    """

    def __init__(
        self,
        engine: Engine,
        variant: str,
        options: GenerationOptions,
        kept_dir: Path | None,
        write: WriteBatches | None = None,
    ) -> None:
        self._write, self._variant = write or engine.generate_batches, variant
        self._options = options
        reporter = engine.store.variant(variant)
        self.config: VariantConfig = reporter.config
        self.identity = _identity(self.config, reporter.language, options)
        self._path = kept_dir / f"{slug(variant)}-{self.identity[:16]}.jsonl" if kept_dir else None
        self._kept = _read(self._path) if self._path else {}

    def missing(self, conditions: Sequence[PrefixInput]) -> int:
        """Count the reports that have to be written; equal conditions count once."""
        return len({self._key(c) for c in conditions} - set(self._kept))

    def write(self, conditions: Sequence[PrefixInput], cancel: threading.Event) -> Iterator[int]:
        """Write the missing reports; yields after each batch how many are new.

        Those that will be about equally long are written together, as the guess of the classifier
        has it: a batch goes on until its longest report is finished.

        Raises:
            Cancelled: ``cancel`` was set; the batches before are kept.
            Rad3dError: the models cannot write.
        """
        todo = {self._key(c): c for c in conditions}
        missing = sorted(
            (key for key in todo if key not in self._kept),
            key=lambda key: _expected_findings(todo[key]),
        )
        if not missing:
            return
        _check(cancel)
        given, done = [todo[key] for key in missing], 0
        for batch in self._write(given, self._variant, self._options, cancel):
            keys = missing[done : done + len(batch)]
            new = {
                key: Kept(item.text, item.finish_reason, round(item.seconds, 4))
                for key, item in zip(keys, batch, strict=True)
            }
            self._kept |= new
            self._append(new)
            done += len(batch)
            yield done
            _check(cancel)

    def predictions(
        self, ids: Sequence[str], conditions: Sequence[PrefixInput]
    ) -> tuple[Prediction, ...]:
        """The reports of some cases, which have all been written."""
        predictions = []
        for id_, condition in zip(ids, conditions, strict=True):
            kept = self._kept[self._key(condition)]
            failure = "" if kept.text.strip() else "empty report"
            predictions.append(Prediction(id_, kept.text, failure, kept.seconds, kept.finish))
        return tuple(predictions)

    def _key(self, condition: PrefixInput) -> str:
        """Hash of what the variant is given; logits count only where they are used."""
        digest = hashlib.sha256(np.ascontiguousarray(condition.latent, np.float32).tobytes())
        if self.config.logits_dim and condition.logits is not None:
            digest.update(np.ascontiguousarray(condition.logits, np.float32).tobytes())
        reads = self.config.mode_row.reads
        if "findings" in reads and condition.findings is not None:
            digest.update(repr(condition.findings).encode())
        if "tokens" in reads and condition.tokens is not None:
            digest.update(np.ascontiguousarray(condition.tokens, np.float32).tobytes())
        return digest.hexdigest()[:32]

    def _append(self, new: dict[str, Kept]) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            json.dumps({"key": key, **asdict(kept)}, ensure_ascii=False) + "\n"
            for key, kept in new.items()
        ]
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write("".join(lines))


def _check(cancel: threading.Event) -> None:
    if cancel.is_set():
        raise Cancelled("The evaluation was cancelled.", code="cancelled")


def _read(path: Path) -> dict[str, Kept]:
    """Read the stored reports; a last line that was cut off is skipped."""
    if not path.is_file():
        return {}
    reports = {}
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            row: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        key = row.pop("key")
        reports[key] = Kept(**row)
    return reports


def _identity(config: VariantConfig, language: Any, options: GenerationOptions) -> str:
    """Hash of everything besides the condition that decides the text."""
    parts = {
        "files": sorted(config.files.items()),
        "llm": [config.llm_source, config.llm_revision, config.llm_sha256 or language.sha256],
        "prompt": config.prompt,
        "precision": language.precision,
        "device": str(language.device),
        "options": asdict(options),
        "rad3d": __version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _expected_findings(condition: PrefixInput) -> float:
    """Number of findings the classifier expects: the longer reports have more."""
    if condition.logits is None:
        return 0.0
    return float((1 / (1 + np.exp(-np.asarray(condition.logits, np.float64)))).sum())
