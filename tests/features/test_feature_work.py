"""Encoding many scans: which there are, which are done, what is read, and what stops it."""

from __future__ import annotations

import csv
import errno
import itertools
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny_models import CountingEncoder, FakeEncoderStore
from volume_files import chest, save

from rad3d.core.errors import BadRequest, DiskFull, Rad3dError
from rad3d.core.settings import Settings
from rad3d.core.tables import open_table
from rad3d.core.types import Diagnosis, FloatArray, Volume
from rad3d.features.extract import STOP_AFTER, FeatureWork, Plan, Summary, write_failures
from rad3d.features.scans import Part, Scan, find_scans
from rad3d.features.shards import FeatureStore
from rad3d.model.encoders.base import Encoding
from rad3d.model.encoders.calibration import Calibration
from rad3d.model.encoders.head import Head, HeadedEncoder
from rad3d.model.identity import EncoderIdentity
from rad3d.volume.ctrate import MetadataTable, ScanMetadata
from rad3d.volume.load import read_volume

MINE = EncoderIdentity("phantom-cnn", "a" * 64, "grid-1")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of three scans, the third in a folder of its own."""
    folder = tmp_path / "scans"
    (folder / "p3").mkdir(parents=True)
    for seed, name in enumerate(("a", "b", "p3/c")):
        save(folder / f"{name}.nii.gz", chest(seed=seed))
    return folder


class Bench:
    """Works on a folder again and again, as later runs would; counts what is read and encoded."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "store"
        self.encoder = CountingEncoder()
        self.models = FakeEncoderStore(Settings(models_dir=folder / "models"), self.encoder)
        self.reads: list[str] = []

    def read(self, path: Path, name: str, metadata: ScanMetadata | None) -> Volume:
        self.reads.append(name)
        return read_volume(path, name, metadata=metadata)

    def work(self, scans: Sequence[Scan], retry: bool = False, **more: object) -> FeatureWork:
        store = FeatureStore.create(self.path, MINE)
        return FeatureWork(self.models, "phantom-cnn", store, scans, self.read, retry=retry, **more)  # type: ignore[arg-type]

    def run(self, source: Path | Sequence[Scan], **more: object) -> Summary:
        found = find_scans(str(source))[0] if isinstance(source, Path) else source
        work = self.work(found, **more)  # type: ignore[arg-type]
        list(work.run(shard_size=2))
        return work.summary

    @property
    def stored(self) -> FeatureStore:
        return FeatureStore.open(self.path)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# Which scans there are


def test_scans_have_their_names_as_ids_and_their_places_where_names_repeat(tmp_path: Path) -> None:
    for place in ("x/one.nii.gz", "p1/ct.nii", "p2/ct.nii.gz", "two.zip", "._two.zip", "note.txt"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(b"")
    found, _ = find_scans(str(tmp_path))
    assert {scan.id: scan.path.name for scan in found} == {
        "one": "one.nii.gz", "p1/ct": "ct.nii", "p2/ct": "ct.nii.gz", "two": "two.zip",
    }  # fmt: skip


def test_scans_that_differ_by_their_suffix_alone_are_two_scans(tmp_path: Path) -> None:
    for place in ("a.nii", "a.nii.gz", "a.nii.nii", "p/a.nii", "b.nii"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(b"")
    found, _ = find_scans(str(tmp_path))
    assert {scan.id: scan.path.relative_to(tmp_path).as_posix() for scan in found} == {
        "a.nii": "a.nii", "a.nii.gz": "a.nii.gz", "a.nii.nii": "a.nii.nii",
        "p/a": "p/a.nii", "b": "b.nii",
    }  # fmt: skip


def test_scans_that_differ_by_their_unicode_form_alone_are_refused(tmp_path: Path) -> None:
    for name in ("\u00e9.nii", "e\u0301.nii"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(BadRequest, match=r"Two scans would be called \u00e9\.nii"):
        find_scans(str(tmp_path))


def test_names_that_are_no_text_or_look_like_formulas_are_encoded_and_listed(
    bench: Bench, scans: Path
) -> None:
    odd = (b"bad\xff.nii.gz", "new\nline ü.nii.gz".encode(), b"=cmd.nii.gz")
    for name in odd:
        Path(os.fsdecode(bytes(scans) + b"/" + name)).write_bytes(b"")
    save(scans / "=1+1.nii.gz", chest(seed=5))
    wanted = [s for s in find_scans(str(scans))[0] if Part(0, 1).holds(s.id)]
    found = bench.run(wanted)
    assert (found.encoded, found.failed) == (4, {"empty_file": 3})
    assert bench.run(wanted).skipped == 4
    listed = write_failures(bench.stored)
    assert listed is not None
    with open_table(listed) as table:
        ids = [row.cells["id"] for row in table.complete()]
    assert ids == ["=cmd", r"bad\udcff", "new\nline ü"]
    assert "'=cmd" in listed.read_text(encoding="utf-8"), "no spreadsheet runs it"


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    real, folder = tmp_path / "real", tmp_path / "folder"
    real.mkdir()
    folder.mkdir()
    (real / "a.nii.gz").write_bytes(b"")
    (folder / "link").symlink_to(real)
    (folder / "loop").symlink_to(folder)
    assert [scan.id for scan in find_scans(str(folder))[0]] == ["a"]


def test_a_folder_that_cannot_be_read_is_not_passed_over(
    scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def closed(path: str) -> object:
        if str(path).endswith("p3"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(PermissionError, match="p3"):
        find_scans(str(scans))


@pytest.mark.parametrize("layout", ["", "train_fixed", "train", "dataset/train_fixed"])
def test_volumes_of_ct_rate_are_found_below_the_root(tmp_path: Path, layout: str) -> None:
    place = tmp_path / layout / "train_1" / "train_1_a"
    place.mkdir(parents=True)
    (place / "train_1_a_1.nii.gz").write_bytes(b"")
    listing = tmp_path / "names.csv"
    listing.write_text("VolumeName,x\ntrain_1_a_1.nii.gz,0\ntrain_2_a_1.nii.gz,0\n")
    found, _ = find_scans(str(listing), tmp_path)
    assert [(scan.id, scan.path.is_file()) for scan in found] == [
        ("train_1_a_1", True), ("train_2_a_1", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "a.nii.gz\n\np3/c.nii.gz\na.nii.gz\n"),
        ("list.csv", "n, path \n1,a.nii.gz\n2,p3/c.nii.gz\n3,\n"),
        ("list.tsv", "scan\tn\na.nii.gz\t1\np3/c.nii.gz\t2\n"),
    ],
)
def test_listings_name_paths(scans: Path, name: str, text: str) -> None:
    (scans / name).write_text(text, encoding="utf-8")
    found, _ = find_scans(str(scans / name))
    assert [(scan.id, scan.path.is_file()) for scan in found] == [("a", True), ("c", True)]


def test_a_data_set_is_named_as_in_the_evaluation(scans: Path) -> None:
    (scans / "cases.csv").write_text("id,reference\na,Normal.\nnone,\n", encoding="utf-8")
    found, left_out = find_scans(f"folder:{scans}")
    assert [(scan.id, scan.path.name) for scan in found] == [("a", "a.nii.gz")]
    assert left_out == "1 without a reference"


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("nowhere", None, "There is no folder or file"),
        ("empty.txt", b"\n", "holds no scan"),
        ("notes.csv", b"a,b\n1,2\n", "no column in notes.csv called 'VolumeName or path"),
        ("empty.csv", b"", "empty.csv is empty"),
        ("short.csv", b"path,n\na.nii\nb.nii,1,2\n", "Line 3 of short.csv has too few"),
        ("twice.csv", b"path,path\na.nii,b.nii\n", "Two columns of twice.csv"),
        ("nul.csv", b'path\n\x00"a', "nul.csv is not a table"),
        ("scan.mha", b"x", "neither a scan nor a listing"),
    ],
)
def test_a_source_that_is_none_gets_a_sentence(
    tmp_path: Path, name: str, data: bytes | None, said: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(Rad3dError, match=said):
        find_scans(str(tmp_path / name))


@pytest.mark.parametrize("count", [1, 3, 16])
def test_every_case_belongs_to_one_part_and_to_one_part_of_that(count: int) -> None:
    ids = [f"train_{n}_a_1" for n in range(200)]
    parts = [Part(i, count).part(j, 4) for i in range(count) for j in range(4)]
    holders = [[part for part in parts if part.holds(id_)] for id_ in ids]
    assert {len(found) for found in holders} == {1}
    assert all(
        Part(found[0].index % count, count).holds(id_)
        for id_, found in zip(ids, holders, strict=True)
    )


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/2/3"])
def test_a_part_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        Part.parse(text)


# What is read and encoded


def test_a_finished_file_is_not_read_again(bench: Bench, scans: Path) -> None:
    assert bench.run(scans).encoded == 3
    again = bench.run(scans)
    assert (again.skipped, again.encoded, bench.encoder.encoded) == (3, 0, 3)
    assert sorted(bench.reads) == ["a", "b", "c"]
    assert bench.stored.table().ids == ("a", "b", "c")


def test_features_are_those_of_the_encoder(bench: Bench, scans: Path) -> None:
    bench.run(scans)
    found = bench.stored.table(["b"])
    volume = read_volume(scans / "b.nii.gz", "b")
    from rad3d.volume.grid import to_grid

    seen = CountingEncoder().encode(to_grid(volume, bench.encoder.grid).values)
    np.testing.assert_array_equal(found.embedding[0], seen.pooled)
    assert found.logits is not None
    np.testing.assert_allclose(found.logits[0], seen.pooled[:18] * 4, rtol=1e-6)


def test_one_scan_under_two_names_is_encoded_once(bench: Bench, scans: Path) -> None:
    shutil.copy(scans / "a.nii.gz", scans / "z.nii.gz")
    found = bench.run(scans)
    assert (found.encoded, found.known, bench.encoder.encoded) == (3, 1, 3)
    table = bench.stored.table(["a", "z"])
    np.testing.assert_array_equal(table.embedding[0], table.embedding[1])


def test_a_renamed_file_is_known_by_its_content(bench: Bench, scans: Path) -> None:
    bench.run(scans)
    (scans / "a.nii.gz").rename(scans / "renamed.nii.gz")
    found = bench.run(scans)
    assert (found.known, found.skipped, bench.encoder.encoded) == (1, 2, 3)
    assert "renamed" in bench.stored.cases


def test_a_changed_file_is_encoded_again(bench: Bench, scans: Path) -> None:
    bench.run(scans)
    before = bench.stored.table(["a"]).embedding
    save(scans / "a.nii.gz", chest(seed=9))
    found = bench.run(scans)
    assert (found.encoded, found.skipped) == (1, 2)
    assert np.abs(bench.stored.table(["a"]).embedding - before).max() > 0


def test_another_row_of_the_metadata_table_reads_the_scan_again(
    bench: Bench, scans: Path, tmp_path: Path
) -> None:
    bench.run(scans)
    table = tmp_path / "train_metadata.csv"
    head = "VolumeName,RescaleSlope,RescaleIntercept,XYSpacing,ZSpacing\n"
    rows = 'a.nii.gz,1,0,"[7.5, 7.5]",8\nb.nii.gz,1,0,"[7.0, 7.0]",8\n'
    table.write_text(head + rows, encoding="utf-8")
    found = bench.run(scans, metadata=MetadataTable(table))
    assert found.encoded == 2
    assert found.skipped == 1, "c has no row, and had none before"
    assert bench.run(scans, metadata=MetadataTable(table)).skipped == 3


def test_the_next_scan_is_read_while_the_present_one_is_encoded(bench: Bench, scans: Path) -> None:
    second = threading.Event()
    together: list[bool] = []
    read, encode = bench.read, bench.encoder.encode

    def noting(path: Path, name: str, metadata: ScanMetadata | None) -> Volume:
        if name == "b":
            second.set()
        return read(path, name, metadata)

    def waiting(values: FloatArray) -> Encoding:
        together.append(second.wait(120))
        return encode(values)

    bench.read, bench.encoder.encode = noting, waiting  # type: ignore[method-assign]
    bench.run(find_scans(str(scans))[0][:2])
    assert together == [True, True]


def test_several_readers_lose_no_scan(bench: Bench, scans: Path) -> None:
    assert bench.run(scans, readers=3).encoded == 3


# What cannot be used


def test_what_cannot_be_read_is_a_row_with_its_reason(bench: Bench, scans: Path) -> None:
    (scans / "empty.nii.gz").write_bytes(b"")
    (scans / "junk.zip").write_bytes(b"PK\x03\x04junk")
    wanted = [*find_scans(str(scans))[0], Scan("gone", scans / "gone.nii.gz")]
    found = bench.run(wanted)
    assert found.encoded == 3
    assert found.failed == {"empty_file": 1, "bad_zip": 1, "not_found": 1}
    again = bench.run(wanted)
    assert (again.failed, len(bench.reads)) == (found.failed, 6)
    listed = write_failures(bench.stored)
    assert listed is not None
    rows = list(csv.DictReader(listed.open(encoding="utf-8", newline="")))
    assert [(row["id"], row["code"]) for row in rows] == [
        ("empty", "empty_file"), ("gone", "not_found"), ("junk", "bad_zip"),
    ]  # fmt: skip


def test_a_failed_scan_is_tried_again_when_asked_or_when_its_file_changed(
    bench: Bench, scans: Path
) -> None:
    late = scans / "late.nii.gz"
    late.write_bytes(b"")
    wanted = find_scans(str(scans))[0]
    bench.run(wanted)
    assert bench.run(wanted, retry=True).failed == {"empty_file": 1}
    assert bench.reads.count("late") == 2
    save(late, chest(seed=7))
    assert bench.run(wanted).encoded == 1
    assert write_failures(bench.stored) is None


@pytest.mark.parametrize(
    ("error", "code"),
    [(PermissionError(errno.EACCES, "Permission denied"), "unreadable"),
     (OSError(errno.EIO, "Input/output error"), "unreadable"),
     (MemoryError(), "out_of_memory")],
)  # fmt: skip
def test_what_the_system_refuses_is_a_failure_of_one_scan(
    bench: Bench, scans: Path, error: Exception, code: str
) -> None:
    read = bench.read

    def refusing(path: Path, name: str, metadata: ScanMetadata | None) -> Volume:
        if name == "b":
            raise error
        return read(path, name, metadata)

    bench.read = refusing  # type: ignore[method-assign]
    found = bench.run(scans)
    assert (found.encoded, found.failed) == (2, {code: 1})


def test_a_full_disk_stops_the_work_and_blames_no_scan(bench: Bench, scans: Path) -> None:
    def full(path: Path, name: str, metadata: ScanMetadata | None) -> Volume:
        raise DiskFull

    bench.read = full  # type: ignore[method-assign]
    with pytest.raises(DiskFull):
        bench.run(scans)
    assert not bench.stored.failures


@pytest.mark.slow
def test_many_scans_in_a_row_without_memory_stop_the_work(bench: Bench, scans: Path) -> None:
    def greedy(values: FloatArray) -> Encoding:
        raise RuntimeError("out of memory")

    bench.encoder.encode = greedy  # type: ignore[method-assign]
    for seed in range(STOP_AFTER + 3):
        save(scans / f"n{seed}.nii.gz", chest(seed=20 + seed))
    with pytest.raises(Rad3dError, match=f"{STOP_AFTER} scans in a row") as caught:
        bench.run(scans)
    assert caught.value.code == "out_of_memory"
    assert len(bench.stored.failures) == STOP_AFTER


def test_an_embedding_that_is_no_number_is_a_failure(bench: Bench, scans: Path) -> None:
    bench.encoder._mix[:] = np.nan
    assert bench.run(scans).failed == {"not_finite": 3}


def test_an_encoder_without_a_head_gives_features_without_logits(bench: Bench, scans: Path) -> None:
    def headless(pooled: FloatArray, readings: FloatArray | None = None) -> Diagnosis:
        raise BadRequest("It has no head.", code="no_head")

    bench.encoder.diagnose = headless  # type: ignore[method-assign]
    assert bench.run(scans).encoded == 3
    assert bench.stored.table().logits is None


def test_the_store_says_what_computed_its_rows(bench: Bench, scans: Path) -> None:
    bench.encoder.precision = "bf16"  # type: ignore[attr-defined]
    plain = Calibration(np.ones(18), np.zeros(18), np.full(18, 0.5), "none")
    bench.models.fake = HeadedEncoder(bench.encoder, Head(MINE, plain))  # type: ignore[assignment]
    bench.run(scans)
    known = {name: value for (key, n) in bench.stored.facts.items() for name, value in key if n}
    assert (known["precision"], known["device"]) == ("bf16", "cpu")


# Stopping, and planning


def test_full_shards_are_there_for_others_while_the_work_goes_on(bench: Bench, scans: Path) -> None:
    steps = bench.work(find_scans(str(scans))[0]).run(shard_size=2)
    counts = []
    for _ in range(3):
        next(steps)
        counts.append(len(bench.stored))
    assert counts == [0, 2, 2], "a process that is killed loses what is in no shard"
    with pytest.raises(StopIteration):
        next(steps)
    assert len(bench.stored) == 3


def test_an_interrupt_keeps_what_is_encoded(bench: Bench, scans: Path) -> None:
    steps = bench.work(find_scans(str(scans))[0]).run(shard_size=100)
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert len(bench.stored) == 1
    assert bench.run(scans).skipped == 1


def test_two_processes_with_two_parts_finish_everything(bench: Bench, scans: Path) -> None:
    wanted = find_scans(str(scans))[0]
    halves = [[s for s in wanted if Part(i, 2).holds(s.id)] for i in range(2)]
    works = [bench.work(half) for half in halves]
    running = [work.run(shard_size=1) for work in works]
    for _ in itertools.zip_longest(*running):
        pass
    total = works[0].summary + works[1].summary
    assert (total.scans, total.encoded) == (3, 3)
    assert bench.run(scans).skipped == 3


def test_a_plan_times_scans_and_writes_nothing(bench: Bench, scans: Path) -> None:
    wanted = [*find_scans(str(scans))[0], Scan("gone", scans / "gone.nii.gz")]
    plan = bench.work(wanted).plan()
    assert (plan.scans, plan.todo, plan.missing, plan.probed) == (4, 4, 1, 2)
    assert plan.seconds_per_scan > 0
    assert plan.source_bytes == sum(p.stat().st_size for p in scans.rglob("*.nii.gz"))
    assert len(bench.stored) == len(bench.stored.failures) == 0


def test_hours_are_divided_by_processes() -> None:
    plan = Plan(50_000, 0, 0, 50_000, 0, 0, 2500, 3, 7.2, 7.0, 2.0)
    assert plan.hours() == pytest.approx(100)
    assert plan.hours(8) == pytest.approx(12.5)


def test_a_plan_estimates_the_disk_that_the_store_takes(bench: Bench, scans: Path) -> None:
    expected = bench.work(find_scans(str(scans))[0]).plan().bytes_per_scan
    for seed in range(5):
        save(scans / f"train_{seed}_a_1.nii.gz", chest(seed=30 + seed))
    work = bench.work(find_scans(str(scans))[0])
    list(work.run(shard_size=100))
    assert expected * 0.6 < bench.stored.nbytes() / 8 < expected * 1.5
