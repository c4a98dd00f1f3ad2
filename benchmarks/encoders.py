"""Hold the classifiers of CT encoders against each other on phantoms that no model has seen.

    python benchmarks/encoders.py              # 1,000 phantoms in domain, 600 out of domain
    python benchmarks/encoders.py --encoders phantom-cnn --n 200 200

Prints Markdown: AUROC of each label, macro figures with 95% bootstrap intervals over cases, the
calibration error before and after the prevalence was estimated from the unlabelled scans (EM,
Saerens et al. 2002), how often the likeliest side of a finding is right, and R2 of the logits
from the embedding (ridge; half of the scans to fit, half to score): 1 means that the logits tell a
language model nothing that the embedding does not. Scans are rendered and encoded once, about 1.2
CPU seconds each, and kept in the runs folder; an interrupted run goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rad3d.core.details import attribute_names, likely_finding
from rad3d.core.encoders import ENCODERS
from rad3d.core.findings import SCHEMA
from rad3d.core.labels import LABELS
from rad3d.core.settings import Settings
from rad3d.core.types import Diagnosis, FloatArray
from rad3d.data.sample_sets import PhantomSplit
from rad3d.evaluation.evaluations import Evaluations
from rad3d.metrics.classifier import ClassifierCard, calibration_error, classifier_card
from rad3d.service.service import Service
from rad3d.synthetic.phantom.cohort import seed_of
from rad3d.synthetic.truth import Truth, draw_truth
from rad3d.train.demo_plan import FULL

SETS = (("in domain", "in", 30_000), ("out of domain", "out", 40_000))
RIDGE = 1.0
FIGURES = {
    "auroc": "macro AUROC", "average_precision": "average precision",
    "f1": "macro F1 at its thresholds", "calibration_error": "calibration error",
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What was measured of an encoder on a set."""

    card: ClassifierCard
    error_after_em: float
    side: float
    sides: int
    redundancy: float


def after_em(probabilities: FloatArray, prevalence: FloatArray, steps: int = 200) -> FloatArray:
    """Return the probabilities (N, L) after the prevalences (L,) were estimated from them."""
    new = prevalence.copy()
    for _ in range(steps):
        present = probabilities * new / prevalence
        absent = (1 - probabilities) * (1 - new) / (1 - prevalence)
        found = present / (present + absent)
        new = np.clip(found.mean(0), 1e-4, 1 - 1e-4)
    return found


def side_share(diagnoses: Sequence[Diagnosis], truths: Sequence[Truth]) -> tuple[float, int]:
    """Return how often the likeliest side of a finding that is there is right, and of how many."""
    names = attribute_names()
    hits: list[bool] = []
    for diagnosis, truth in zip(diagnoses, truths, strict=True):
        if diagnosis.details is None:
            return float("nan"), 0
        for finding in truth.findings:
            if finding.label not in LABELS or finding.side is None:
                continue
            if SCHEMA[finding.label].sides == ("bilateral",):
                continue
            chances = {
                attribute: float(chance)
                for (label, attribute), chance in zip(names, diagnosis.details, strict=True)
                if label == finding.label
            }
            hits.append(likely_finding(finding.label, chances).side == finding.side)
    return float(np.mean(hits)), len(hits)


def redundancy(embedding: FloatArray, logits: FloatArray) -> float:
    """Return mean R2 of the logits (N, L) from the embedding (N, D)."""
    half = len(embedding) // 2
    x = np.c_[embedding, np.ones(len(embedding))].astype(np.float64)
    weight = np.linalg.solve(x[:half].T @ x[:half] + RIDGE * np.eye(x.shape[1]),
                             x[:half].T @ logits[:half])  # fmt: skip
    left = ((x[half:] @ weight - logits[half:]) ** 2).sum(0)
    whole = ((logits[half:] - logits[half:].mean(0)) ** 2).sum(0)
    return float((1 - left / whole).mean())


def measure(evaluations: Evaluations, encoder_id: str, split: PhantomSplit) -> Result:
    """Encode what is missing, and score."""
    source, encoder = evaluations.feature_source, evaluations.store.encoder(encoder_id)
    samples = split.scans()
    for done in source.encode(split.id, samples, encoder_id):
        if done % 50 == 0:
            print(f"  {encoder_id}, {split.name}: {done} encoded", flush=True)
    table = source.features(split.id, samples, encoder_id)
    truths = [draw_truth(seed_of(id_), split.domain) for id_ in table.ids]
    diagnoses = [encoder.diagnose(row.embedding, row.readings) for row in table.rows.values()]
    truth = np.stack([truth.labels() for truth in truths])
    probabilities = np.stack([d.probabilities for d in diagnoses])
    prevalence = FULL.calibration_split.labels.mean(0).clip(0.01, 0.99)
    return Result(
        classifier_card(encoder_id, split.id, truth, probabilities, diagnoses[0].thresholds,
                        "calibration"),
        calibration_error(truth, after_em(probabilities, prevalence)),
        *side_share(diagnoses, truths),
        redundancy(table.embedding, np.stack([d.logits for d in diagnoses])),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    shipped = [row.id for row in ENCODERS.values() if row.shipped]
    parser.add_argument("--encoders", nargs="+", default=shipped, choices=list(ENCODERS))
    parser.add_argument("--n", nargs=2, type=int, default=[1000, 600], metavar=("IN", "OUT"))
    options = parser.parse_args()
    settings = Settings.from_env()
    evaluations = Evaluations(Service(settings), settings, trusted=True)
    for (name, domain, first), n in zip(SETS, options.n, strict=True):
        split = PhantomSplit(f"encoders-{domain}", name, domain, first, n, "test", "")
        results = {each: measure(evaluations, each, split) for each in options.encoders}
        cards = [result.card for result in results.values()]
        print(f"\n## Phantoms, {name}, n = {cards[0].n}\n")
        print("| label | positives | " + " | ".join(f"`{each}`" for each in results) + " |")
        print("| --- " * (2 + len(results)) + "|")
        for label in LABELS:
            figures = [f"{card.labels[label].auroc.value:.3f}" for card in cards]
            print(f"| {label} | {cards[0].labels[label].positives} | {' | '.join(figures)} |")
        for key, called in FIGURES.items():
            print(f"| {called} | | {' | '.join(str(card.macro[key]) for card in cards)} |")
        for called, values in (
            ("calibration error after EM", [r.error_after_em for r in results.values()]),
            ("side right", [r.side for r in results.values()]),
            ("R2 of the logits from the embedding", [r.redundancy for r in results.values()]),
        ):
            print(f"| {called} | | {' | '.join(f'{value:.3f}' for value in values)} |")


if __name__ == "__main__":
    main()
