"""Files of features: whose they are, what is kept, and what is encoded again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_models import CountingEncoder, FakeEncoderStore, volume

from rad3d.errors import BadRequest, BadVolume
from rad3d.eval.samples import Sample
from rad3d.model.features import EncoderIdentity, FeatureTable, read_features, write_features
from rad3d.service.evaluation_features import FeatureSource
from rad3d.settings import Settings
from rad3d.types import Volume

MINE = EncoderIdentity("phantom-cnn", "a" * 64, "grid-1")
IDS = ("in-030000", "in-030001", "in-030002")


def written(path: Path, half: bool = False) -> FeatureTable:
    rng = np.random.default_rng(0)
    found = FeatureTable(
        IDS, rng.normal(size=(3, 8)).astype(np.float32), rng.normal(size=(3, 18)).astype(np.float32)
    )
    write_features(
        path, ids=IDS, embedding=found.embedding, logits=found.logits, encoder=MINE, half=half
    )
    return found


def test_features_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "set.safetensors"
    found = written(path)
    back = read_features(path, MINE)
    assert back is not None
    assert back.ids == IDS
    np.testing.assert_array_equal(back.embedding, found.embedding)
    np.testing.assert_array_equal(back.logits, found.logits)


def test_half_precision_halves_the_embeddings_and_keeps_the_logits(tmp_path: Path) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    found = written(whole)
    written(half, half=True)
    back = read_features(half, MINE)
    assert back is not None
    assert back.embedding.dtype == np.float32
    np.testing.assert_allclose(back.embedding, found.embedding, rtol=1e-3)
    np.testing.assert_array_equal(back.logits, found.logits)
    assert half.stat().st_size < whole.stat().st_size


@pytest.mark.parametrize("field", ["id", "sha256", "preprocessing"])
def test_features_of_another_encoder_are_not_used(tmp_path: Path, field: str) -> None:
    path = tmp_path / "set.safetensors"
    written(path)
    assert read_features(path, replace(MINE, **{field: "other"})) is None


def test_a_damaged_file_gets_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "set.safetensors"
    written(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BadRequest, match="cannot be read"):
        read_features(path, MINE)


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
        return volume(sum(sample.id.encode()))

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


def test_air_looks_the_same_every_time(source: Callable[[], FeatureSource]) -> None:
    first, second = source().blank("phantom-cnn"), source().blank("phantom-cnn")
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1].shape == (18,)
