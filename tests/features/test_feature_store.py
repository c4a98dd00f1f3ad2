"""Stores of features: shards, whose they are, what is known of a file, and what damage does."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from rad3d.core.errors import BadRequest, DiskFull
from rad3d.features import shards as feature_store
from rad3d.features.shard_writer import ShardWriter
from rad3d.features.shards import Case, Failed, FeatureStore, Shard, SourceFile
from rad3d.features.table import FeatureTable, FloatArray, Row, write_features
from rad3d.model.identity import EncoderIdentity

MINE = EncoderIdentity("phantom-cnn", "a" * 64, "grid-1")


def row(seed: int, head: bool = True) -> Row:
    rng = np.random.default_rng(seed)
    logits: FloatArray = rng.normal(size=18).astype(np.float32)
    return Row(rng.normal(size=8).astype(np.float32), logits if head else None)


def shard(*ids: str, head: bool = True) -> Shard:
    rows = {f"hash of {id_}": row(sum(id_.encode()), head) for id_ in ids}
    return Shard(rows, {id_: Case(f"hash of {id_}") for id_ in ids})


def test_what_was_appended_comes_back_from_another_process(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "s", MINE)
    store.append(shard("b", "c"))
    store.append(shard("a"))
    again = FeatureStore.open(tmp_path / "s")
    assert len(again) == 3
    assert again.identity == MINE
    for found in (store.table(), again.table()):
        assert found.ids == ("a", "b", "c")
        np.testing.assert_array_equal(found.embedding[1], row(sum(b"b"))[0])
        assert found.logits is not None
        np.testing.assert_array_equal(found.logits[2], row(sum(b"c"))[1])


def test_a_table_of_some_cases_has_their_order_and_leaves_out_the_unknown(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, MINE)
    store.append(shard("a", "b", "c"))
    store.append(Shard(failures={"d": Failed("It is empty.", "empty_file")}))
    found = store.table(["c", "nobody", "a", "d"])
    assert found.ids == ("c", "a")
    assert found.failures == {"d": "It is empty."}


def test_details_and_visual_tokens_come_back_where_every_scan_has_them(tmp_path: Path) -> None:
    rows = {
        id_: row(i)._replace(details=np.full(5, i, np.float32), tokens=np.ones((4, 3), np.float32))
        for i, id_ in enumerate("ab")
    }
    store = FeatureStore.create(tmp_path / "s", MINE)
    store.append(Shard(rows, {id_: Case(id_) for id_ in rows}))
    found = FeatureStore.open(tmp_path / "s").table()
    assert found.tokens is not None
    assert found.tokens.shape == (2, 4, 3)
    readings = found.rows["b"].readings
    assert readings is not None
    np.testing.assert_array_equal(readings[18:], np.ones(5))
    store.append(shard("c"))
    assert store.table().details is None, "one scan has none"
    assert store.table().logits is not None


def test_an_encoder_without_a_head_has_no_logits(tmp_path: Path) -> None:
    FeatureStore.create(tmp_path / "s", MINE).append(shard("a", head=False))
    found = FeatureStore.open(tmp_path / "s").table()
    assert found.logits is None
    write_features(tmp_path / "f.safetensors", found, MINE)
    back = FeatureStore.open(tmp_path / "f.safetensors").table()
    assert back.logits is None
    assert back.rows["a"][1] is None


def test_a_single_file_is_a_store_in_its_own_order(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    written = FeatureTable(("b", "a"), np.stack([row(1)[0], row(2)[0]]), None, {"c": "Empty."})
    write_features(path, written, MINE)
    store = FeatureStore.open(path)
    assert (store.identity, len(store)) == (MINE, 2)
    found = store.table()
    assert (found.ids, found.failures) == (("b", "a"), {"c": "Empty."})
    np.testing.assert_array_equal(store.table(["a"]).embedding[0], row(2)[0])


def test_a_file_with_more_ids_than_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    save_file(
        {"embedding": np.zeros((1, 8), np.float32)},
        path,
        {
            "schema": "rad3d-features/1", "ids": '["a", "b"]', "failures": "{}",
            "encoder": "e", "encoder_sha256": "", "preprocessing": "",
        },
    )  # fmt: skip
    with pytest.raises(BadRequest, match="Features of 2 cases have the shapes"):
        FeatureStore.open(path).table()


def test_two_names_of_one_scan_share_its_row(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, MINE)
    store.append(shard("a"))
    assert store.holds("hash of a")
    assert not store.holds("hash of b")
    store.append(Shard(cases={"again": Case("hash of a")}))
    found = FeatureStore.open(tmp_path).table()
    assert found.ids == ("a", "again")
    np.testing.assert_array_equal(found.embedding[0], found.embedding[1])


def test_the_later_entry_of_an_id_counts(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, MINE)
    store.append(Shard(failures={"a": Failed("It is empty.", "empty_file")}))
    store.append(shard("a"))
    for found in (store, FeatureStore.open(tmp_path)):
        assert (list(found.cases), list(found.failures)) == (["a"], [])
    store.append(Shard(failures={"a": Failed("It is cut off.", "truncated")}))
    for found in (store, FeatureStore.open(tmp_path)):
        assert (list(found.cases), list(found.failures)) == ([], ["a"])


def test_features_of_another_encoder_do_not_get_in(tmp_path: Path) -> None:
    other = EncoderIdentity("phantom-cnn", "b" * 64, "grid-1")
    theirs = FeatureStore.create(tmp_path / "theirs", other).append(shard("a"))
    FeatureStore.create(tmp_path / "mine", MINE)
    with pytest.raises(BadRequest, match="features of two encoders cannot be mixed"):
        FeatureStore.create(tmp_path / "mine", other)
    theirs.rename(tmp_path / "mine" / "shards" / theirs.name)
    with pytest.raises(BadRequest, match=f"{theirs.name} in mine is of phantom-cnn"):
        FeatureStore.open(tmp_path / "mine")


def test_a_folder_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="holds no store of features"):
        FeatureStore.open(tmp_path)


@pytest.mark.parametrize("size", [0, 7, 200])
def test_a_damaged_shard_is_named(tmp_path: Path, size: int) -> None:
    store = FeatureStore.create(tmp_path, MINE)
    path = store.append(shard("a"))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(BadRequest, match=path.name):
        FeatureStore.open(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": "rad3d-feature-store/1"}', "\\udcff", '{"schema": 1}']
)
def test_a_damaged_description_is_named(tmp_path: Path, text: str) -> None:
    FeatureStore.create(tmp_path, MINE)
    (tmp_path / "store.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadRequest, match=r"store\.json"):
        FeatureStore.open(tmp_path)


def test_without_a_removed_shard_its_cases_are_unknown_and_the_rest_is_there(
    tmp_path: Path,
) -> None:
    store = FeatureStore.create(tmp_path, MINE)
    store.append(shard("a")).unlink()
    store.append(Shard({"hash of b": row(1)}, {"b": Case("hash of b"), "c": Case("hash of a")}))
    assert FeatureStore.open(tmp_path).table().ids == ("b",)


def test_embeddings_of_two_sizes_are_refused(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, MINE)
    store.append(shard("a"))
    store.append(Shard({"other": Row(np.zeros(9, np.float32))}, {"b": Case("other")}))
    with pytest.raises(BadRequest, match="different sizes"):
        store.table()


def test_what_is_known_of_a_file_survives(tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(b"one")
    known = SourceFile.of(scan)
    store = FeatureStore.create(tmp_path / "s", MINE)
    store.append(Shard({"x": row(0)}, {"scan": Case("x", known)}))
    assert FeatureStore.open(tmp_path / "s").cases["scan"].file == SourceFile.of(scan)
    scan.write_bytes(b"another")
    assert SourceFile.of(scan) != known
    assert SourceFile.of(scan, "slope 1") != SourceFile.of(scan)


def test_a_shard_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    store = FeatureStore.create(tmp_path, MINE)
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DiskFull, match=f"The disk that holds {tmp_path} is full. Make room"):
        store.append(shard("a"))
    assert list((tmp_path / "shards").iterdir()) == []


def test_a_clock_that_is_set_back_does_not_make_the_newer_entry_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FeatureStore.create(tmp_path, MINE).append(
        Shard(failures={"a": Failed("It is empty.", "empty_file")})
    )
    store = FeatureStore.create(tmp_path, MINE)
    monkeypatch.setattr(time, "time_ns", lambda: 1_000)  # of 1970
    store.append(shard("a"))
    store.append(Shard(failures={"b": Failed("It is empty.", "empty_file")}))
    store.append(shard("b"))
    assert sorted(FeatureStore.open(tmp_path).cases) == ["a", "b"]


def test_of_two_encoders_that_begin_a_store_at_once_one_is_refused_at_its_first_shard(
    tmp_path: Path,
) -> None:
    other = EncoderIdentity("phantom-cnn", "b" * 64, "grid-1")
    first = FeatureStore.create(tmp_path / "s", MINE)
    (tmp_path / "s" / "store.json").unlink()  # as if neither had seen the other's
    second = FeatureStore.create(tmp_path / "s", other)
    with pytest.raises(BadRequest, match="two encoders cannot be mixed"):
        first.append(shard("a"))
    second.append(shard("a"))
    assert len(FeatureStore.open(tmp_path / "s")) == 1


def test_half_written_files_are_ignored_and_old_ones_removed(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, MINE)
    written = store.append(shard("a"))
    young = written.with_name(".1-young.safetensors.part")
    old = written.with_name(".1-old.safetensors.part")
    for path in (young, old):
        path.write_bytes(b"half")
    past = time.time() - feature_store.ABANDONED_SECONDS - 60
    os.utime(old, (past, past))
    assert len(FeatureStore.open(tmp_path)) == 1
    FeatureStore.create(tmp_path, MINE)
    assert sorted(path.name for path in written.parent.iterdir()) == [young.name, written.name]


def test_a_writer_appends_when_a_shard_is_full_or_old(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "size", MINE)
    writer = ShardWriter(store, 2, facts={"device": "cpu"})
    writer.add("a", Case("x"), row(0))
    assert writer.holds("x")
    assert len(store) == 0
    writer.fail("b", Failed("It is empty.", "empty_file"))
    assert (len(store), len(store.failures)) == (1, 1)
    writer.add("c", Case("x"))
    writer.flush()
    writer.flush()
    assert len(list((tmp_path / "size" / "shards").iterdir())) == 2
    assert store.facts == {(("device", "cpu"),): 1}
    eager = FeatureStore.create(tmp_path / "age", MINE)
    ShardWriter(eager, 1000, seconds=-1).add("a", Case("x"), row(0))
    assert len(eager) == 1


def test_the_description_says_whose_features_they_are(tmp_path: Path) -> None:
    FeatureStore.create(tmp_path, MINE)
    about = json.loads((tmp_path / "store.json").read_text(encoding="utf-8"))
    assert (about["id"], about["sha256"], about["preprocessing"]) == (
        "phantom-cnn", "a" * 64, "grid-1",
    )  # fmt: skip
