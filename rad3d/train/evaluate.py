"""``rad3d demo evaluate``: the figures of the shipped models on held-out phantoms.

Reports are written greedily from the cached features of the test splits, read by the rule labeller
and compared with the truth. The control with shuffled images needs no new generation: a greedy
report is a function of the image alone, so shuffling the images shuffles the reports.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rad3d.eval.clinical import (
    Estimate,
    bootstrap,
    label_f1,
    macro_auroc,
    side_scores,
)
from rad3d.labels import LABELS
from rad3d.model.decoding import decode_batch
from rad3d.model.variant import CONFIG_FILE, PrefixReporter, VariantConfig, variant_directory
from rad3d.registry import MODES, variant_id
from rad3d.text.labeller import findings_in, label_report
from rad3d.train.build import DemoBuild
from rad3d.train.phantoms import Split
from rad3d.types import GenerationOptions

DRAWS = 1000
"""Bootstrap samples behind every interval."""


@dataclass(frozen=True)
class VariantScores:
    """What one variant reaches on one split.

    Attributes:
        macro_f1, micro_f1: over the 18 labels, read from the reports, against the truth.
        side, side_strict: share of right sides among the findings that have one and are reported;
            the strict one counts findings that are not reported as wrong.
        shuffled_f1: macro F1 with the images shuffled across cases.
        finished: share of reports that the model ended itself.
        per_label: label -> F1.
        words: mean length of a report.
    """

    macro_f1: Estimate
    micro_f1: Estimate
    side: Estimate
    side_strict: Estimate
    shuffled_f1: Estimate
    finished: float
    per_label: dict[str, float]
    words: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, rounded."""
        return _rounded(asdict(self))


def score_reports(split: Split, texts: Sequence[str], finished: float) -> VariantScores:
    """Score the reports of a split, one per case in order."""
    truth = split.labels
    said = np.array([label_report(text) for text in texts], dtype=np.int64)
    sides = side_scores(split.truths, [findings_in(text) for text in texts])
    shuffled = said[_derangement(split.n)]

    def interval(statistic: Any) -> Estimate:
        return bootstrap(statistic, split.n, DRAWS)

    return VariantScores(
        macro_f1=interval(lambda rows: label_f1(truth[rows], said[rows]).macro),
        micro_f1=interval(lambda rows: label_f1(truth[rows], said[rows]).micro),
        side=interval(sides.accuracy),
        side_strict=interval(sides.strict),
        shuffled_f1=interval(lambda rows: label_f1(truth[rows], shuffled[rows]).macro),
        finished=finished,
        per_label=dict(zip(LABELS, label_f1(truth, said).per_label.tolist(), strict=True)),
        words=float(np.mean([len(text.split()) for text in texts])),
    )


def classifier_auroc(split: Split, features: dict[str, Any]) -> Estimate:
    """Macro AUROC of the 18 logits on a split."""
    logits = features["logits"][:, 0]
    return bootstrap(lambda rows: macro_auroc(split.labels[rows], logits[rows]), split.n, DRAWS)


def write_reports(
    reporter: PrefixReporter, features: dict[str, Any], batch_size: int = 20
) -> Iterator[list[tuple[str, str]]]:
    """Greedy reports of the first view of every case: lists of (text, finish reason)."""
    options = GenerationOptions()
    pooled = torch.from_numpy(features["pooled"][:, 0]).float()
    logits = torch.from_numpy(features["logits"][:, 0]).float()
    for start in range(0, len(pooled), batch_size):
        rows = slice(start, start + batch_size)
        with torch.inference_mode():
            used = logits[rows] if reporter.config.logits_dim else None
            embeds = reporter.conditioning(reporter.prefix(pooled[rows], used))
            written = decode_batch(reporter.language, embeds, options)
        yield [(reporter.language.decode(list(w.ids)), str(w.finish)) for w in written]


class DemoEvaluation:
    """Scores of the models of a build; predictions and scores are kept and reused.

    Args:
        build: gives the plan, the models and the cached features.
        limit: at most this many cases of each split; 0 means all.
    """

    def __init__(self, build: DemoBuild, limit: int = 0) -> None:
        self.build = build
        self.splits = tuple(replace(s, n=min(s.n, limit or s.n)) for s in build.plan.test_splits)

    def variants(self) -> list[str]:
        """Ids of the trained variants of the plan, in order."""
        ids = [variant_id(llm, mode) for llm in self.build.plan.variants for mode in MODES]
        return [
            i for i in ids if (variant_directory(self.build.models_dir, i) / CONFIG_FILE).is_file()
        ]

    def run(self, variant: str) -> dict[str, VariantScores]:
        """Score one variant on every test split and record the scores in its ``variant.json``."""
        directory = variant_directory(self.build.models_dir, variant)
        config = VariantConfig.read(directory)
        scores = {}
        for split in self.splits:
            predictions = self._predictions(variant, split, directory, config)
            finished = float(np.mean([p["finish"] == "end" for p in predictions]))
            scores[split.name] = score_reports(split, [p["text"] for p in predictions], finished)
        recorded = {name: {"n": self._n(name), **s.to_dict()} for name, s in scores.items()}
        (directory / CONFIG_FILE).write_text(replace(config, scores=recorded).to_json())
        return scores

    def _n(self, name: str) -> int:
        return next(s.n for s in self.splits if s.name == name)

    def _predictions(
        self, variant: str, split: Split, directory: Path, config: VariantConfig
    ) -> list[dict[str, Any]]:
        """Reports of a split, read back where the same weights have written them before."""
        weights = "-".join(sorted(config.files.values()))
        path = self.build.run_dir / "predictions" / f"{variant.replace('/', '-')}-{split.name}.json"
        if path.is_file():
            kept = json.loads(path.read_text())
            if kept["weights"] == weights and len(kept["reports"]) >= split.n:
                return kept["reports"][: split.n]
        reporter = PrefixReporter.from_pretrained(directory, models_dir=self.build.models_dir)
        features = {k: v[: split.n] for k, v in self.build.features(split).items()}
        reports: list[dict[str, Any]] = []
        for batch in write_reports(reporter, features):
            reports += [
                {"seed": split.first + len(reports) + i, "text": text, "finish": finish}
                for i, (text, finish) in enumerate(batch)
            ]
            self.build.progress(f"{variant} on {split.name}: {len(reports)}/{split.n}", 0.0)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"weights": weights, "reports": reports}, indent=1) + "\n")
        return reports


def prevalence(split: Split) -> float:
    """Mean share of positive cases over the labels: what a report by chance reaches in macro F1."""
    return float(split.labels.mean())


def _derangement(n: int) -> npt.NDArray[np.intp]:
    """A seeded permutation without fixed points: a rotation of a random cycle."""
    order = np.random.default_rng(0).permutation(n)
    shuffled = np.empty(n, dtype=np.intp)
    shuffled[order] = np.roll(order, 1)
    return shuffled


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return round(value, 4) if isinstance(value, float) else value
