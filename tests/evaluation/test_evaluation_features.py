"""Files of features: whose they are, what is kept, and what is encoded again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from study_parts import small_evaluations
from tiny_models import LATENT_DIM, CountingEncoder, FakeEncoderStore, volume

from rad3d.core.errors import BadRequest, BadVolume
from rad3d.core.plain import from_plain, to_plain
from rad3d.core.settings import Settings
from rad3d.core.types import Note, Volume
from rad3d.data.samples import Sample
from rad3d.data.spec import SetSpec
from rad3d.evaluation.feature_source import FeatureSource
from rad3d.evaluation.run_types import EvaluationRequest
from rad3d.features.shards import Case, FeatureStore, Shard
from rad3d.features.table import FeatureTable, Row, write_features
from rad3d.model.identity import IMPORTED, EncoderIdentity

pytestmark = pytest.mark.numeric

MINE = EncoderIdentity("phantom-cnn", "a" * 64, "grid-1")
IDS = ("in-030000", "in-030001", "in-030002")
THREES = np.full(18, 3.0, np.float32)


def written(path: Path, half: bool = False) -> FeatureTable:
    rng = np.random.default_rng(0)
    found = FeatureTable(
        IDS, rng.normal(size=(3, 8)).astype(np.float32), rng.normal(size=(3, 18)).astype(np.float32)
    )
    write_features(path, found, MINE, half)
    return found


def test_features_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "set.safetensors"
    found = written(path)
    back = FeatureStore.open(path).table()
    assert back.ids == IDS
    np.testing.assert_array_equal(back.embedding, found.embedding)
    np.testing.assert_array_equal(back.logits, found.logits)


def test_half_precision_halves_the_embeddings_and_keeps_the_logits(tmp_path: Path) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    found = written(whole)
    written(half, half=True)
    back = FeatureStore.open(half).table()
    assert back.embedding.dtype == np.float32
    np.testing.assert_allclose(back.embedding, found.embedding, rtol=1e-3)
    np.testing.assert_array_equal(back.logits, found.logits)
    assert half.stat().st_size < whole.stat().st_size


def test_a_damaged_file_gets_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "set.safetensors"
    written(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BadRequest, match="is damaged, or no file of features"):
        FeatureStore.open(path)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadRequest, match="3 cases"):
        FeatureTable(IDS, np.zeros((2, 8)), np.zeros((3, 18)))


@pytest.fixture
def encoder() -> CountingEncoder:
    return CountingEncoder()


@pytest.fixture
def source(tmp_path: Path, encoder: CountingEncoder) -> Callable[[], FeatureSource]:
    """Makes a source; a new one knows only what is on disk."""
    store = FakeEncoderStore(Settings(models_dir=tmp_path / "models"), encoder)

    def open_scan(sample: Sample) -> Volume:
        if sample.id == "broken":
            raise BadVolume("The file is empty.", code="empty_file")
        scan = volume(sum(sample.id.encode()))
        if sample.id == "abdomen":
            return replace(scan, notes=(Note("warning", "not_chest", "It shows no lung."),))
        return scan

    return lambda: FeatureSource(store, tmp_path / "shipped", tmp_path / "kept", open_scan)


def samples(*ids: str) -> list[Sample]:
    return [Sample(id_, "Findings: none.", scan=f"/nowhere/{id_}.nii.gz") for id_ in ids]


def test_a_scan_is_encoded_once_also_by_a_later_run(
    source: Callable[[], FeatureSource], encoder: CountingEncoder
) -> None:
    assert list(source().encode("set", samples("a", "b"), "phantom-cnn")) == [1, 2]
    assert list(source().encode("set", samples("a", "b", "c"), "phantom-cnn")) == [1]
    assert encoder.encoded == 3
    assert source().features("set", samples("c", "a"), "phantom-cnn").ids == ("c", "a")


def test_a_stopped_run_keeps_the_scans_it_encoded(source: Callable[[], FeatureSource]) -> None:
    running = source().encode("set", samples("a", "b", "c"), "phantom-cnn")
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert source().missing("set", samples("a", "b", "c"), "phantom-cnn") == 2


def test_a_scan_that_cannot_be_read_is_a_failure_with_its_reason(
    source: Callable[[], FeatureSource],
) -> None:
    cases = samples("a", "broken", "b")
    assert list(source().encode("set", cases, "phantom-cnn")) == [1, 2, 3]
    found = source().features("set", cases, "phantom-cnn")
    assert found.ids == ("a", "b")
    assert found.failures == {"broken": "The file is empty."}
    assert source().missing("set", cases, "phantom-cnn") == 0


def test_a_scan_of_no_chest_counts_as_a_case_without_a_report(
    source: Callable[[], FeatureSource],
) -> None:
    cases = samples("a", "abdomen")
    assert list(source().encode("set", cases, "phantom-cnn")) == [1, 2]
    found = source().features("set", cases, "phantom-cnn")
    assert found.ids == ("a",)
    assert found.failures == {"abdomen": "No report was written. It shows no lung."}


def test_a_changed_file_is_encoded_again(
    source: Callable[[], FeatureSource], tmp_path: Path
) -> None:
    scan = tmp_path / "a.nii.gz"
    scan.write_bytes(b"one")
    case = [Sample("a", "Findings: none.", scan=str(scan))]
    list(source().encode("set", case, "phantom-cnn"))
    assert source().missing("set", case, "phantom-cnn") == 0
    scan.write_bytes(b"another")
    assert source().missing("set", case, "phantom-cnn") == 1


def test_other_weights_encode_again(source: Callable[[], FeatureSource], tmp_path: Path) -> None:
    list(source().encode("set", samples("a"), "phantom-cnn"))
    weights = tmp_path / "models" / "encoders" / "phantom-cnn" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"new weights")
    assert source().missing("set", samples("a"), "phantom-cnn") == 1


@pytest.mark.parametrize("field", ["", "id", "sha256", "preprocessing"])
def test_shipped_features_are_used_by_their_encoder_alone(
    source: Callable[[], FeatureSource], tmp_path: Path, field: str
) -> None:
    theirs = source().identity("phantom-cnn")
    whose = replace(theirs, **{field: "other"}) if field else theirs
    table = FeatureTable(("a",), np.ones((1, LATENT_DIM), np.float32), None)
    write_features(tmp_path / "shipped" / "set.safetensors", table, whose)
    cases = [Sample("a", "Findings: none.", scan="phantom:in:1")]
    assert source().missing("set", cases, "phantom-cnn") == bool(field)


def test_what_was_encoded_here_is_a_store_as_any_other(
    source: Callable[[], FeatureSource], tmp_path: Path
) -> None:
    cases = samples("a", "broken")
    list(source().encode("set", cases, "phantom-cnn"))
    (kept,) = (tmp_path / "kept").iterdir()
    found = source().with_given([kept]).features("other", cases, "phantom-cnn")
    assert found.ids == ("a",)
    assert FeatureStore.open(kept).failures["broken"].code == "empty_file"


def test_air_looks_the_same_every_time(source: Callable[[], FeatureSource]) -> None:
    first, second = source().blank("phantom-cnn"), source().blank("phantom-cnn")
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1] is not None
    assert first[1].shape == (18,)


# Features that a person named


@pytest.fixture
def given(tmp_path: Path, source: Callable[[], FeatureSource]) -> Callable[..., FeatureSource]:
    """Makes a source with a store of made-up features of these cases."""

    def make(*ids: str, imported: bool = False, logits: bool = True) -> FeatureSource:
        mine = source().identity("phantom-cnn")
        identity = EncoderIdentity("phantom-cnn", IMPORTED, "") if imported else mine
        place = tmp_path / f"given {imported} {logits} {len(ids)}"
        FeatureStore.create(place, identity).append(
            Shard(
                {id_: Row(made(id_), THREES if logits else None) for id_ in ids},
                {id_: Case(id_) for id_ in ids},
            )
        )
        return source().with_given([place])

    return make


def made(id_: str) -> np.ndarray:
    return np.random.default_rng(sum(id_.encode())).normal(size=LATENT_DIM).astype(np.float32)


def test_cases_of_a_named_store_need_no_scan(
    given: Callable[..., FeatureSource], encoder: CountingEncoder
) -> None:
    found = given("a", "broken")
    cases = samples("broken", "a")
    assert found.missing("set", cases, "phantom-cnn") == 0
    assert list(found.encode("set", cases, "phantom-cnn")) == []
    table = found.features("set", cases, "phantom-cnn")
    assert (table.ids, table.failures, encoder.encoded) == (("broken", "a"), {}, 0)
    np.testing.assert_array_equal(table.embedding[1], made("a"))


def test_what_a_named_store_lacks_is_encoded_and_only_that_is_kept(
    given: Callable[..., FeatureSource], source: Callable[[], FeatureSource]
) -> None:
    found = given("a", imported=True)
    cases = samples("a", "b")
    assert list(found.encode("set", cases, "phantom-cnn")) == [1]
    assert found.features("set", cases, "phantom-cnn").ids == ("a", "b")
    later = source()
    assert later.features("set", cases, "phantom-cnn").ids == ("b",)


def test_a_named_store_counts_more_than_what_was_encoded_here(
    given: Callable[..., FeatureSource], source: Callable[[], FeatureSource]
) -> None:
    list(source().encode("set", samples("a"), "phantom-cnn"))
    table = given("a").features("set", samples("a"), "phantom-cnn")
    np.testing.assert_array_equal(table.embedding[0], made("a"))


def test_imported_features_are_used_where_they_are_named_with_a_note(
    given: Callable[..., FeatureSource],
) -> None:
    assert "nothing proves" in given("a", imported=True).told(samples("a", "b"), "phantom-cnn")
    assert given("a").told(samples("a", "b"), "phantom-cnn") == "1 of 2 have features given"


def test_named_features_that_nothing_can_use_are_refused(
    source: Callable[[], FeatureSource], tmp_path: Path
) -> None:
    written(tmp_path / "set.safetensors")
    found = source().with_given([tmp_path / "set.safetensors"])
    with pytest.raises(BadRequest, match="with other weights"):
        found.check_given(["phantom-cnn"])
    assert found.features("set", samples(*IDS), "phantom-cnn").ids == ()
    with pytest.raises(BadRequest, match="There is no file"):
        source().with_given([tmp_path / "nowhere"])


@pytest.mark.parametrize("imported", [False, True])
def test_features_without_logits_get_those_of_the_head_that_is_here(
    given: Callable[..., FeatureSource], encoder: CountingEncoder, imported: bool
) -> None:
    table = given("a", imported=imported, logits=False).features("set", samples("a"), "phantom-cnn")
    assert table.logits is not None
    np.testing.assert_allclose(table.logits[0], encoder.diagnose(made("a")).logits, rtol=1e-6)


@pytest.mark.slow
def test_a_run_on_named_features_needs_no_scan_and_draws_on_a_bank_of_its_own(
    tmp_path: Path,
) -> None:
    evaluations = small_evaluations(tmp_path)
    identity = evaluations.feature_source.identity("phantom-cnn")
    texts = {"normal": "Normal chest CT.", "nodule": "A nodule of 8 mm in the right upper lobe."}
    ids = {"test": ("t1", "t2", "t3"), "train": ("r1", "r2", "r3", "r4")}
    store = FeatureStore.create(tmp_path / "store", identity)
    for name, cases in ids.items():
        (tmp_path / name).mkdir()
        rows = [f"{id_},{texts['nodule' if i % 2 else 'normal']}" for i, id_ in enumerate(cases)]
        (tmp_path / name / "cases.csv").write_text(
            "\n".join(["id,reference", *rows]), encoding="utf-8"
        )
        store.append(
            Shard(
                {id_: Row(made(id_), made(id_)[:18]) for id_ in cases},
                {id_: Case(id_) for id_ in cases},
            )
        )
    request = EvaluationRequest(
        sets=(SetSpec("folder", str(tmp_path / "test")),),
        variants=("phantom-s/v3",),
        controls=("lookup", "majority", "nearest", "logits-only"),
        draws=20,
        features=(str(tmp_path / "store"),),
        bank=SetSpec("folder", str(tmp_path / "train")),
    )
    assert from_plain(EvaluationRequest, to_plain(request)) == request
    events = list(evaluations.start(request, threading.Event()))
    run = events[-1].run
    assert run is not None
    assert run.failed == {}
    assert any("3 of 3 have features given" in event.text for event in events)
    assert len(run.predictions) == 5
    near = next(p for (name, _), p in run.predictions.items() if name == "nearest")
    assert {p.text for p in near.predictions} <= set(texts.values())
    written_by = next(p for (name, _), p in run.predictions.items() if name == "phantom-s/v3")
    assert written_by.facts["features_given"][0]["id"] == "phantom-cnn"
