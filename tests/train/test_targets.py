"""What a variant learns to write: reports, or the findings that it is given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tiny_models import LATENT_DIM, tiny_language

from rad3d.core.findings import Finding
from rad3d.core.modes import MODES
from rad3d.model.identity import EncoderIdentity
from rad3d.model.variants.reporter import PrefixReporter
from rad3d.model.variants.variant import VariantConfig
from rad3d.reports.labeller import find_mentions
from rad3d.synthetic.truth import draw_truth
from rad3d.train.pairs import PairedFeatures
from rad3d.train.targets import TargetOptions, Targets, token_weights

TRUTHS = [draw_truth(seed) for seed in range(12)]
REPORT = "Findings: There is emphysema. The liver is normal.\nImpression: Emphysema."


@pytest.fixture(scope="module")
def reporter() -> PrefixReporter:
    config = VariantConfig(
        "x", "words", "x", projector=MODES["words"].projector, latent_dim=LATENT_DIM
    )
    return PrefixReporter(config, tiny_language())


def pairs() -> PairedFeatures:
    n = len(TRUTHS)
    return PairedFeatures(
        np.zeros((n, 1, LATENT_DIM)), None, [[REPORT]] * n, [str(i) for i in range(n)],
        EncoderIdentity("phantom-cnn", "a", "g"), findings=[t.findings for t in TRUTHS],
    )  # fmt: skip


def stated(reporter: PrefixReporter, ids: Any) -> set[str]:
    return {m.label for m in find_mentions(reporter.language.decode(list(ids))) if m.present}


def test_reports_of_the_findings_state_them_and_no_others(reporter: PrefixReporter) -> None:
    targets = Targets(reporter, pairs(), TargetOptions("findings", "canonical"), 0)
    for row, truth in enumerate(TRUTHS):
        target = targets.of(row, 0, row)
        assert target.findings == truth.findings
        assert stated(reporter, target.ids) == {f.label for f in truth.findings}
        assert target.weights is None


def test_findings_of_other_scans_come_with_their_own_report(reporter: PrefixReporter) -> None:
    targets = Targets(reporter, pairs(), TargetOptions("findings", mixing=0.5), 0)
    known = {finding for truth in TRUTHS for finding in truth.findings}
    moved = 0
    for row, truth in enumerate(TRUTHS):
        target = targets.of(row, 0, row)
        assert set(target.findings) <= known
        assert stated(reporter, target.ids) == {f.label for f in target.findings}
        moved += target.findings != truth.findings
    assert moved > len(TRUTHS) / 2


def test_an_example_is_the_same_whenever_it_is_drawn(reporter: PrefixReporter) -> None:
    options = TargetOptions("findings", mixing=0.4, other_weight=0.25, impressions=0.5)
    first, again = (Targets(reporter, pairs(), options, 3).of(2, 0, 17) for _ in range(2))
    assert first.ids == again.ids
    assert first.findings == again.findings
    assert Targets(reporter, pairs(), options, 4).of(2, 0, 17).ids != first.ids


def test_only_sentences_that_state_a_finding_count_in_full(reporter: PrefixReporter) -> None:
    ids = reporter.report_ids(REPORT)
    weights = token_weights(reporter, REPORT, len(ids), 0.25)
    full = reporter.language.decode([i for i, w in zip(ids, weights, strict=True) if w == 1])
    assert "emphysema" in full
    assert "liver" not in full
    assert "Impression" not in full
    assert set(weights.tolist()) == {0.25, 1.0}


def test_a_share_of_the_targets_ends_before_the_impression(reporter: PrefixReporter) -> None:
    options = TargetOptions(impressions=0.0)
    target = Targets(
        reporter, replace(pairs(), findings=[(Finding("Emphysema"),)] * 12), options, 0
    )
    assert reporter.language.decode(list(target.of(0, 0, 0).ids)).endswith("Impression:")
