"""What ships is whole, is what the tables say, and reports the sample scans."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from rad3d.core.encoders import ENCODERS, SHIPPED_ENCODER
from rad3d.core.labels import LABELS
from rad3d.core.language_models import LANGUAGE_MODELS
from rad3d.core.settings import Settings
from rad3d.core.types import DoneEvent, GenerationOptions, Report, Volume
from rad3d.data.sample_sets import PHANTOM_SPLITS
from rad3d.data.samples import Sample
from rad3d.evaluation.evaluations import STUDY_DIR, Evaluations
from rad3d.evaluation.feature_source import FeatureSource
from rad3d.evaluation.leaderboard import view_of
from rad3d.evaluation.runs import STUDY
from rad3d.evaluation.storage import read_run
from rad3d.evaluation.summary_text import finding_in_words
from rad3d.evaluation.system_names import LOOKUP
from rad3d.model.encoders.base import load_encoder
from rad3d.model.encoders.phantom_cnn import ShippedEncoder
from rad3d.model.llm.loading import load_language_model
from rad3d.model.variants.variant import VariantConfig, verify_files
from rad3d.reports.labeller import findings_in, label_report
from rad3d.service.service import Service

pytestmark = pytest.mark.numeric

MODELS = Settings().models_dir
SHIPPED = [row for row in LANGUAGE_MODELS.values() if row.shipped]
VARIANTS = sorted(path.parent for path in MODELS.glob("variants/*/*/variant.json"))


def _report(sample: str, variant: str = "phantom-l/v3") -> Report:
    service = Service(Settings())
    session = service.sessions.new()
    service.open_sample(session, sample)
    events = list(service.generate(session, variant, GenerationOptions(), threading.Event()))
    assert isinstance(events[-1], DoneEvent)
    return events[-1].report


@pytest.mark.slow
def test_the_shipped_language_models_differ_clearly_in_size() -> None:
    sizes = [load_language_model(r.source, models_dir=MODELS).parameters for r in SHIPPED]
    assert len(sizes) >= 3
    assert all(2 * small < large for small, large in pairwise(sizes))


@pytest.mark.parametrize("directory", VARIANTS, ids=lambda d: f"{d.parent.name}-{d.name}")
def test_a_shipped_variant_matches_its_hashes(directory: Path) -> None:
    config = VariantConfig.read(directory)
    verify_files(directory, config)
    assert config.encoder == SHIPPED_ENCODER


def test_the_stored_example_is_of_the_weights_and_the_scan_that_ship() -> None:
    service = Service(Settings())
    opened = service.open_example(service.sessions.new())
    assert opened is not None, "it is about the scan beside it"
    _, _, report = opened
    config = VariantConfig.read(MODELS / "variants" / report.variant_id)
    assert report.provenance["stored"] is True
    assert report.provenance["variant_files"] == dict(config.files), "make_samples.py --example"


@pytest.fixture(scope="module")
def evaluations() -> Evaluations:
    return Evaluations(Service(Settings()), Settings())


@pytest.mark.parametrize("directory", VARIANTS, ids=lambda d: f"{d.parent.name}-{d.name}")
def test_the_study_measured_exactly_the_weights_that_ship(
    evaluations: Evaluations, directory: Path
) -> None:
    found = evaluations.measured(VariantConfig.read(directory).id)
    assert {(each.run, each.domain) for each in found} == {(STUDY, "in"), (STUDY, "out")}
    for each in found:
        estimate = each.figure("f1_macro")
        assert estimate is not None
        assert estimate.n >= 200


@pytest.mark.parametrize("encoder", [row.id for row in ENCODERS.values() if row.shipped])
@pytest.mark.parametrize("phantoms", PHANTOM_SPLITS)
def test_no_phantom_of_the_study_has_to_be_rendered_again(
    evaluations: Evaluations, phantoms: str, encoder: str, tmp_path: Path
) -> None:
    source = FeatureSource(evaluations.store, STUDY_DIR / "features", tmp_path, no_scan)
    samples = PHANTOM_SPLITS[phantoms].scans()
    assert source.missing(phantoms, samples, encoder) == 0


@pytest.mark.slow
def test_each_variant_is_held_against_the_baseline_of_its_own_encoder() -> None:
    view = view_of(read_run(STUDY_DIR.with_name("study-pairs")))
    words = " ".join(finding_in_words(view, "f1_macro"))
    for encoder, lookup in (("phantom-cnn", LOOKUP), ("phantom-clip", f"{LOOKUP} (phantom-clip)")):
        for phantoms in ("phantom-in", "phantom-out"):
            figure = view.cards[lookup, phantoms].estimates["f1_macro"]
            assert f"the template baseline with {encoder} ({figure})" in words


def no_scan(sample: Sample) -> Volume:
    raise AssertionError(f"{sample.id} is rendered")


def test_every_size_ships_with_the_published_method() -> None:
    assert {d.parent.name for d in VARIANTS if d.name == "v3"} == {row.id for row in SHIPPED}


def test_no_shipped_file_is_over_ten_megabytes() -> None:
    files = [p for p in MODELS.parent.rglob("*") if p.is_file()]
    assert {p.name: p.stat().st_size for p in files if p.stat().st_size > 10_000_000} == {}


def test_the_shipped_encoder_is_calibrated_and_knows_its_training_scans() -> None:
    encoder = load_encoder(ENCODERS[SHIPPED_ENCODER], MODELS)
    assert isinstance(encoder, ShippedEncoder)
    assert encoder.calibration.split == "calibration"
    assert encoder.reference is not None


@pytest.mark.slow
def test_the_report_of_a_sample_says_what_is_plainly_in_it() -> None:
    report = _report("in-050023")
    truth = json.loads((MODELS.parent / "samples" / "in-050023.json").read_text())["labels"]
    said = dict(zip(LABELS, label_report(report.text), strict=True))
    for label in ("Pleural effusion", "Cardiomegaly", "Medical material", "Pericardial effusion"):
        assert truth[label] == said[label] == 1
    sides = {finding.label: finding.side for finding in findings_in(report.text)}
    assert sides["Pleural effusion"] == "left"
    assert report.finish_reason == "end"
    assert report.novelty is not None
    assert not report.novelty.is_novel


@pytest.mark.slow
def test_shipped_variants_side_by_side_write_the_texts_that_each_writes_alone() -> None:
    service = Service(Settings())
    session = service.sessions.new()
    service.open_sample(session, "in-050011")
    variants = ["phantom-m/v3", "phantom-m/v1", "phantom-m/words", "phantom-m/linear"]
    together = {
        each.variant_id: each.event.report.text
        for each in service.compare(session, variants, GenerationOptions(), threading.Event())
        if isinstance(each.event, DoneEvent)
    }
    assert together == {each: _report("in-050011", each).text for each in variants}


@pytest.mark.slow
def test_the_normal_sample_is_reported_normal() -> None:
    report = _report("in-050003")
    assert not any(report.diagnosis.present)
    assert sum(label_report(report.text)) <= 1


@pytest.mark.slow
def test_no_sample_is_called_unlike_phantoms() -> None:
    service = Service(Settings())
    for card in service.gallery.cards:
        novelty = service.engine.features(service.gallery.volume(card.id)).novelty
        assert novelty is not None
        assert not novelty.is_novel, card.id


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "lungdx_A0002_chest_8mm_dcm2niix.nii.gz",
        "totalsegmentator_cardiac_cta_crop.nii.gz",
        "innereye_thorax_scan_small.nii.gz",
    ],
)
def test_a_real_scan_is_told_from_phantoms(shared_dir: Path, name: str) -> None:
    service = Service(Settings())
    session = service.sessions.new()
    volume = service.open_path(session, shared_dir / "data" / "ct" / name, name)
    novelty = service.engine.features(volume).novelty
    assert novelty is not None
    assert novelty.is_novel


def test_language_models_that_are_loaded_at_the_same_time_are_all_whole() -> None:
    names = ("phantom-s", "phantom-m", "phantom-l")
    with ThreadPoolExecutor(len(names)) as pool:
        bundles = list(
            pool.map(lambda n: load_language_model(f"llms/{n}", models_dir=MODELS), names)
        )
    assert [bundle.source for bundle in bundles] == [f"llms/{name}" for name in names]
