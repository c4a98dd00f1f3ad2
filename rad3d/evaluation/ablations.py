"""Ablations and baselines that the figures of the variants are compared with.

* logits only: the image embedding is the mean of the training scans; the logits are the scan's own.
* prior of another case: the image embedding stays; a report that listens follows the other case.
* one logit flipped: one label of each case, the labels in turn, gets logit and probability of a
  case on the other side of its threshold, so that the share of reports that follow can be counted.
* image zeroed: the scan is replaced by air and encoded like any other, so embedding and logits are
  those of an empty scan. (An embedding of zeros in standardised space is the training mean, which
  "logits only" shows already.)
* images shuffled: every case gets the report that was written about another one. A report is a
  function of the image (sampling has its own generator for each report), so the reports change
  places and nothing is written anew.
* look-up: the classifier's labels, at thresholds chosen on the calibration split, as stored text.
* grammar: the findings of the prior with their places and attributes, as the grammar of the
  training reports writes them.
* majority, nearest: a stored report, whatever the scan; or that of the most similar training scan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress

import numpy as np
import numpy.typing as npt

from rad3d.core.details import findings_of
from rad3d.core.errors import BadRequest
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.types import Diagnosis, FloatArray
from rad3d.data.sample_sets import TRAINING
from rad3d.data.samples import SampleSet
from rad3d.evaluation.shuffling import derangement
from rad3d.features.table import FeatureTable
from rad3d.model.prefix_input import PrefixInput
from rad3d.reports.labeller import Mention, find_mentions, label_report
from rad3d.reports.sections import split_report
from rad3d.synthetic.grammar import write_report
from rad3d.synthetic.phantom.cohort import seed_of
from rad3d.synthetic.truth import Truth, draw_truth

SENTENCES_FROM = 300
"""Training reports from which the look-up's sentences are taken."""


@dataclass(frozen=True)
class Given:
    """What a report is written from: the input of the prefix, and the prior of which that is."""

    input: PrefixInput
    prior: Diagnosis | None

    @property
    def whole(self) -> PrefixInput:
        """The input with the findings of the prior, for modes that read them."""
        if self.prior is None:
            return self.input
        return replace(self.input, findings=findings_of(self.prior))


def _report(id_: str) -> str:
    return write_report(_truth(id_), style=TRAINING.domain).text


def _truth(id_: str) -> Truth:
    """Return the truth of a training phantom, such as ``"in-010000"``."""
    return draw_truth(seed_of(id_), TRAINING.domain)


def _labels(id_: str) -> Sequence[int]:
    return _truth(id_).labels()


def from_prior(prior: Diagnosis) -> str:
    """Write the findings of a prior as a reader without an error would: by the grammar."""
    truth = Truth(0, TRAINING.domain, findings_of(prior))
    return write_report(truth, style=TRAINING.domain).text


class ReferenceSet:
    """The training scans with their labels and reports, from which baselines are made.

    Args:
        features: of the training scans; its ids say which cases there are.
        labels: id -> the labels; by default those of the phantoms that the shipped models
            learned from.
        report: id -> the report; likewise.
        label_set: the labels.
    """

    def __init__(
        self,
        features: FeatureTable,
        labels: Callable[[str], Sequence[int]] = _labels,
        report: Callable[[str], str] = _report,
        label_set: LabelSet = CT_RATE,
    ) -> None:
        self.label_set = label_set
        self.features = features
        self.ids, self.embedding = features.ids, features.embedding
        self._labels_of, self._report_of = labels, report
        self._reports: dict[int, str] = {}

    @classmethod
    def of(cls, features: FeatureTable, cases: SampleSet) -> ReferenceSet:
        """Make a set of cases with references, and with labels where they are known."""
        by_id = {case.id: case for case in cases.samples}

        def labels(id_: str) -> Sequence[int]:
            known = by_id[id_].labels
            if known is not None:
                return known
            return label_report(by_id[id_].reference, cases.label_set)

        return cls(features, labels, lambda id_: by_id[id_].reference, cases.label_set)

    @cached_property
    def mean(self) -> FloatArray:
        """The mean embedding, (D,)."""
        return self.embedding.mean(axis=0)

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """The labels of every case, (N, L), 0 or 1."""
        return np.array([self._labels_of(id_) for id_ in self.ids], dtype=np.int64)

    def report(self, row: int) -> str:
        """Return the report of a training case."""
        if row not in self._reports:
            self._reports[row] = self._report_of(self.ids[row])
        return self._reports[row]

    def lookup(self, present: Sequence[bool]) -> str:
        """Return stored text that states these labels and no others.

        The report of the training case with the nearest labels, without its sentences on labels
        that are not present, and with one stored sentence for each that it lacks.
        """
        apart = np.abs(self.labels - np.array(present, dtype=np.int64)).sum(axis=1)
        row = int(apart.argmin())
        if not apart[row]:
            return self.report(row)
        return self._stating(self.report(row), frozenset(compress(self.label_set.names, present)))

    def _stating(self, text: str, names: frozenset[str]) -> str:
        kept = self._without(text, names)
        stated = {name for name, _ in self._asserted(kept)}
        lacking = [name for name in self.label_set.names if name in names - stated]
        if not lacking:
            return kept
        parts = split_report(kept)
        added = " ".join(self._sentences[name] for name in lacking if name in self._sentences)
        return replace(parts, findings=f"{parts.findings} {added}".strip()).text

    def _asserted(self, text: str) -> list[tuple[str, Mention]]:
        """Return the labels that a text states, each with its mention."""
        return [
            (name, mention)
            for mention in find_mentions(text, self.label_set)
            if mention.present
            for name in self.label_set.stated_by.get(mention.label, ())
        ]

    def _without(self, text: str, names: frozenset[str]) -> str:
        """Return a text without the sentences that state a label other than these."""
        unwanted = {(m.start, m.end) for name, m in self._asserted(text) if name not in names}
        for start, end in sorted(unwanted, reverse=True):
            text = text[:start] + text[end:].lstrip(" ")
        return text

    @cached_property
    def _sentences(self) -> dict[str, str]:
        """Map each label to the sentence that most often states it and no other label."""
        counts: dict[str, Counter[str]] = {}
        for row in range(min(len(self.ids), SENTENCES_FROM)):
            by_sentence: dict[str, set[str]] = {}
            for name, mention in self._asserted(self.report(row)):
                by_sentence.setdefault(mention.sentence, set()).add(name)
            for sentence, labels in by_sentence.items():
                if len(labels) == 1:
                    counts.setdefault(labels.pop(), Counter())[sentence] += 1
        return {label: sentences.most_common(1)[0][0] for label, sentences in counts.items()}

    def majority(self) -> str:
        """Return the first report of the most frequent combination of labels."""
        combinations = [tuple(row) for row in self.labels.tolist()]
        most = Counter(combinations).most_common(1)[0][0]
        return self.report(combinations.index(most))

    def nearest(self, embedding: FloatArray) -> list[str]:
        """Return, for each of (N, D) embeddings, the report of the most similar training scan.

        Similarity is the cosine after the mean is removed.
        """
        ours, theirs = (_unit(each - self.mean) for each in (self.embedding, embedding))
        return [self.report(int(row)) for row in (theirs @ ours.T).argmax(axis=1)]


def conditions(
    ablation: str,
    features: FeatureTable,
    priors: Sequence[Diagnosis] | None,
    references: ReferenceSet | None = None,
    seed: int = 0,
) -> list[Given]:
    """Return what a variant is given for each case.

    Args:
        ablation: ``""`` for the scan itself, or the ablation that changes what is seen in it.
        features: of the cases.
        priors: of the cases; None where the encoder has no head.
        references: for ``"logits-only"``.
        seed: of ``"logits-swapped"``.
    """
    if not ablation:
        known: Sequence[Diagnosis | None] = priors or [None] * len(features.ids)
        return [
            Given(PrefixInput(row.embedding, row.logits, row.tokens), prior)
            for row, prior in zip(features.rows.values(), known, strict=True)
        ]
    if features.logits is None or priors is None:
        raise BadRequest(
            "These features have no logits: the encoder has no head for the labels.",
            f"Leave out {ablation}.",
            code="no_head",
        )
    latents, logits = features.embedding, features.logits
    if ablation == "logits-only" and references is not None:
        latents = np.broadcast_to(references.mean, latents.shape)
    if ablation == "logits-swapped":
        order = derangement(len(priors), seed)
        logits, priors = logits[order], [priors[int(i)] for i in order]
    if ablation == "logit-flipped":
        logits, priors = _flipped(logits, priors)
    return [
        Given(PrefixInput(*row), prior) for *row, prior in zip(latents, logits, priors, strict=True)
    ]


def _flipped(logits: FloatArray, priors: Sequence[Diagnosis]) -> tuple[FloatArray, list[Diagnosis]]:
    """Move one label of each case across its threshold, where some case lies on the other side.

    It takes the values of the case with the median probability there.
    """
    present = np.array([prior.present for prior in priors])
    moved, found = logits.copy(), list(priors)
    for row, prior in enumerate(priors):
        label = row % present.shape[1]
        others = np.flatnonzero(present[:, label] != present[row, label])
        if len(others):
            order = np.argsort([priors[int(i)].probabilities[label] for i in others])
            donor = int(others[order[len(order) // 2]])
            moved[row, label] = logits[donor, label]
            found[row] = prior.edit(
                prior.label_set.names[label],
                float(logits[donor, label]),
                float(priors[donor].probabilities[label]),
            )
    return moved, found


def _unit(rows: FloatArray) -> FloatArray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
