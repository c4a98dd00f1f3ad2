"""What a variant learns to write about a scan: tokens, how much each counts, and findings given.

The target is the report of the scan, or one that the grammar writes about the very findings that
the variant is given. The second teaches one thing, to say what the classifier says, and needs no
more scans than there are: each can get findings of others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from rad3d.core.errors import BadRequest
from rad3d.core.findings import Finding
from rad3d.core.labels import FINDING_NAMES
from rad3d.core.types import FloatArray
from rad3d.model.variants.reporter import PrefixReporter
from rad3d.reports.labeller import find_mentions
from rad3d.synthetic.grammar.prose import prose_report
from rad3d.synthetic.grammar.template import CANONICAL, MODERATE
from rad3d.train.pairs import PairedFeatures

TARGETS = ("reports", "findings")
WORDINGS = {"varied": MODERATE, "canonical": CANONICAL}
IMPRESSION = "\nImpression:"


@dataclass(frozen=True)
class TargetOptions:
    """What is learned, and how much of it.

    Attributes:
        targets: ``"reports"`` of the scans, or reports about the ``"findings"`` that are given.
        wording: of the latter: ``"varied"`` as in the phantoms' reports, or ``"canonical"``.
        mixing: share of the labels whose finding, or its absence, is taken from another scan;
            with targets of findings only.
        other_weight: of tokens outside the sentences that state findings; 1 is the paper's.
        impressions: share of the targets that keep their impression.
    """

    targets: str = "reports"
    wording: str = "varied"
    mixing: float = 0.0
    other_weight: float = 1.0
    impressions: float = 1.0

    def __post_init__(self) -> None:
        shares = (self.mixing, self.other_weight, self.impressions)
        if self.targets not in TARGETS or self.wording not in WORDINGS:
            raise BadRequest("There are no such targets or wording.", code="bad_option")
        if not all(0 <= share <= 1 for share in shares):
            raise BadRequest(
                "--mixing, --other-weight and the share of impressions are from 0 to 1.",
                code="bad_option",
            )
        if self.mixing and self.targets == "reports":
            raise BadRequest(
                "A scan's own report does not fit the findings of others.",
                "Add --targets findings, or leave out --mixing.",
                code="bad_option",
            )


@dataclass(frozen=True)
class Target:
    """One thing to write.

    Attributes:
        ids: tokens of the report, with the end token unless it was cut.
        weights: (T,) how much each counts; None where all are alike.
        findings: what the variant is given.
    """

    ids: Sequence[int]
    weights: FloatArray | None
    findings: tuple[Finding, ...]

    @property
    def length(self) -> int:
        """Tokens of the report and items of the findings, for sorting by length."""
        return len(self.ids) + 4 * len(self.findings)


class Targets:
    """The targets of a set of pairs.

    Args:
        reporter: whose language model reads them.
        data: the pairs.
        options: what is learned.
        seed: of wording and mixing.
    """

    def __init__(
        self, reporter: PrefixReporter, data: PairedFeatures, options: TargetOptions, seed: int
    ) -> None:
        self._reporter, self._data, self._options, self._seed = reporter, data, options, seed
        self._impression = reporter.language.tokens(IMPRESSION)
        self._report = cache(self._encoded_report)

    def of(self, row: int, wording: int, number: int) -> Target:
        """The target of a scan.

        Args:
            row: the scan.
            wording: which of its reports, where those are learned.
            number: of the example; fixes what is drawn.
        """
        known = self._data.findings[row] if self._data.findings is not None else ()
        if self._options.targets == "reports":
            ids, weights = self._report(row, wording)
        else:
            rng = np.random.default_rng([self._seed, number, 4])
            known = self._mixed(row, rng)
            seed = f"target {self._seed} {number}"
            text = prose_report(known, seed, WORDINGS[self._options.wording]).text
            ids, weights = self._encoded(text)
        share = self._options.impressions
        if share < 1 and np.random.default_rng([self._seed, number, 5]).random() >= share:
            end = self._end_of_findings(ids)
            ids, weights = ids[:end], None if weights is None else weights[:end]
        return Target(ids, weights, known)

    def _encoded_report(self, row: int, wording: int) -> tuple[list[int], FloatArray | None]:
        return self._encoded(self._data.reports[row][wording])

    def _encoded(self, text: str) -> tuple[list[int], FloatArray | None]:
        ids = self._reporter.report_ids(text)
        weight = self._options.other_weight
        if weight == 1:
            return ids, None
        return ids, token_weights(self._reporter, text, len(ids), weight)

    def _mixed(self, row: int, rng: np.random.Generator) -> tuple[Finding, ...]:
        """The findings of a scan, some of them taken from other scans."""
        all_findings = self._data.findings
        assert all_findings is not None
        found = {finding.label: finding for finding in all_findings[row]}
        for label in FINDING_NAMES:
            if self._options.mixing and rng.random() < self._options.mixing:
                found.pop(label, None)
                other = all_findings[int(rng.integers(len(all_findings)))]
                found |= {f.label: f for f in other if f.label == label}
        return tuple(found[label] for label in FINDING_NAMES if label in found)

    def _end_of_findings(self, ids: Sequence[int]) -> int:
        """Tokens up to the heading of the impression, or all of them."""
        head = self._impression
        starts = range(len(ids) - len(head) + 1)
        return next(
            (i + len(head) for i in starts if list(ids[i : i + len(head)]) == head), len(ids)
        )


def token_weights(reporter: PrefixReporter, text: str, n: int, other_weight: float) -> FloatArray:
    """(n,) 1 for tokens of the sentences that state a finding, ``other_weight`` for the rest.

    Sentences of the impression, which say it again, are among the rest.

    Raises:
        BadRequest: the tokenizer does not say where its tokens stand in the text.
    """
    tokenizer = reporter.language.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise BadRequest(
            f"The tokenizer of {reporter.config.llm} does not tell where its tokens stand.",
            "Leave out --other-weight.",
            code="bad_option",
        )
    head = f"{reporter.config.prompt} "
    whole = tokenizer(head + text.strip(), add_special_tokens=False, return_offsets_mapping=True)[
        "offset_mapping"
    ]
    last = len(reporter.language.eos_ids[:1])
    places = [(a - len(head), b - len(head)) for a, b in whole[len(whole) - (n - last) :]]
    end = text.find("Impression:")
    stated = [
        (m.start, m.end) for m in find_mentions(text) if m.present and (end < 0 or m.start < end)
    ]
    weights = np.full(n, other_weight, dtype=np.float32)
    for i, (a, b) in enumerate(places):
        if any(a < stop and b > start for start, stop in stated):
            weights[i] = 1.0
    return weights
