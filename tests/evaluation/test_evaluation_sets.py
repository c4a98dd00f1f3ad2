"""Sample sets by seed and by path: what is read, what is dropped, what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from rad3d.core.errors import BadRequest, Rad3dError, UnknownName
from rad3d.core.labels import LABELS
from rad3d.data.sample_sets import (
    LAYOUTS,
    PHANTOM_SPLITS,
    SAMPLE_SETS,
    TRAINING,
    load_set,
)
from rad3d.data.spec import SetSpec
from rad3d.reports.labeller import label_report
from rad3d.synthetic.truth import draw_truth
from rad3d.train.demo_plan import FULL

ENGLISH = "The heart is normal in size. There is a small pleural effusion on the left side."


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerows([header, *rows])
    return path


def test_the_shipped_sets_are_the_splits_that_the_models_were_made_with() -> None:
    held_out = {(s.domain, s.first, s.n) for s in FULL.test_splits}
    assert {(row.domain, row.first, row.n) for row in SAMPLE_SETS.values()} == held_out
    paired = FULL.paired_split
    assert (TRAINING.domain, TRAINING.first, TRAINING.n) == ("in", paired.first, paired.n)


@pytest.mark.parametrize("row", SAMPLE_SETS.values(), ids=lambda row: row.id)
def test_a_shipped_set_is_its_seeds(row: object) -> None:
    samples, written = load_set(SetSpec(row.id), limit=5)  # type: ignore[attr-defined]
    first, domain = row.first, row.domain  # type: ignore[attr-defined]
    truths = [draw_truth(first + i, domain) for i in range(5)]
    assert written is None
    assert [s.labels for s in samples.samples] == [t.labels() for t in truths]
    assert [s.findings for s in samples.samples] == [t.findings for t in truths]
    assert samples.samples[0].scan == f"phantom:{domain}:{first}"
    assert [label_report(s.reference) for s in samples.samples] == [t.labels() for t in truths]


def test_no_seed_is_in_two_splits() -> None:
    seeds = [
        (row.domain, seed)
        for row in PHANTOM_SPLITS.values()
        for seed in range(row.first, row.first + row.n)
    ]
    assert len(seeds) == len(set(seeds))
    assert {row.n for row in SAMPLE_SETS.values()} == {200}


def test_an_unknown_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="phantom-in, phantom-out, ct-rate:PATH"):
        load_set(SetSpec.parse("phantoms"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_without_or_with_a_wrong_path_gets_a_sentence(layout: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="needs a path"):
        load_set(SetSpec(layout))
    with pytest.raises(Rad3dError, match="There is no f"):
        load_set(SetSpec(layout, str(tmp_path / "absent")))


def test_specs_are_read_from_text() -> None:
    assert SetSpec.parse("phantom-in") == SetSpec("phantom-in")
    assert SetSpec.parse("ct-rate:/data/x#train") == SetSpec("ct-rate", "/data/x", split="train")
    assert SetSpec.parse("predictions:a.jsonl#b.csv") == SetSpec(
        "predictions", "a.jsonl", references="b.csv"
    )


def ct_rate(root: Path) -> Path:
    """A CT-RATE folder with four volumes: one without labels, one without text, one twice."""
    names = [f"valid_{i}_a_1.nii.gz" for i in (1, 2, 3, 4)]
    reports = [(n, "", "", ENGLISH, "Effusion.") for n in names[:3]]
    write_csv(
        root / "dataset" / "radiology_text_reports" / "validation_reports.csv",
        ("VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN"),
        [*reports, reports[0], (names[3], "", "", "", "")],
    )
    labels = [[int(label == "Pleural effusion") for label in LABELS]] * 4
    write_csv(
        root / "dataset" / "multi_abnormality_labels" / "valid_predicted_labels.csv",
        ("VolumeName", *LABELS),
        [[n, *row] for n, row in zip(names, labels, strict=True) if n != names[2]],
    )
    return root


def test_ct_rate_is_read_as_downloaded_and_dropped_rows_are_counted(tmp_path: Path) -> None:
    samples, _ = load_set(SetSpec("ct-rate", str(ct_rate(tmp_path))))
    assert [s.id for s in samples.samples] == ["valid_1_a_1", "valid_2_a_1"]
    first = samples.samples[0]
    assert first.reference == f"Findings: {ENGLISH}\nImpression: Effusion."
    assert first.labels is not None
    assert first.labels[LABELS.index("Pleural effusion")] == 1
    assert first.scan.endswith("valid/valid_1/valid_1_a/valid_1_a_1.nii.gz")
    assert sorted(d.reason for d in samples.dropped) == [
        "with an id that was there before",
        "without a reference",
        "without labels",
    ]


def test_ct_rate_prefers_the_corrected_volumes(tmp_path: Path) -> None:
    (ct_rate(tmp_path) / "dataset" / "valid_fixed").mkdir()
    samples, _ = load_set(SetSpec("ct-rate", str(tmp_path)))
    assert "/valid_fixed/" in samples.samples[0].scan


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = ct_rate(tmp_path) / "dataset" / "radiology_text_reports" / "validation_reports.csv"
    write_csv(path, ("VolumeName", "Findings_EN"), [("valid_1_a_1.nii.gz", ENGLISH)])
    with pytest.raises(UnknownName, match="Impressions_EN"):
        load_set(SetSpec("ct-rate", str(tmp_path)))


def test_inspect_joins_impressions_splits_and_images(tmp_path: Path) -> None:
    root = tmp_path / "full"
    write_csv(
        root / "impressions_20250611.tsv",
        ("impression_id", "impressions"),
        [("1", ENGLISH), ("2", ENGLISH), ("3", ENGLISH), ("4", "")],
    )
    write_csv(
        root / "splits_20250611.tsv",
        ("impression_id", "split"),
        [("1", "test"), ("2", "train"), ("3", "test"), ("4", "test")],
    )
    write_csv(
        root / "study_mapping_20250611.tsv",
        ("impression_id", "image_id", "person_id"),
        [("1", "PE1.nii.gz", "7"), ("2", "PE2", "7"), ("4", "PE4", "9")],
    )
    samples, _ = load_set(SetSpec("inspect", str(tmp_path)))
    assert [(s.id, Path(s.scan).name) for s in samples.samples] == [("1", "PE1.nii.gz")]
    assert samples.samples[0].labels is None, "read from the impression"
    assert [(d.id, d.reason) for d in samples.dropped] == [
        ("3", "without an image"),
        ("4", "without a reference"),
    ]
    train, _ = load_set(SetSpec("inspect", str(tmp_path), split="train"))
    assert [s.id for s in train.samples] == ["2"]


def test_a_folder_of_ones_own_is_matched_by_name_or_by_column(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "deep/b.nii", "x/c.zip", "y/c.zip"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    write_csv(
        tmp_path / "cases.csv",
        ("id", "reference", "scan"),
        [
            ("a", ENGLISH, ""),
            ("b", ENGLISH, ""),
            ("c", ENGLISH, ""),
            ("d", ENGLISH, "x/c.zip"),
            ("e", ENGLISH, "../../etc/passwd"),
            ("f", "", ""),
        ],
    )
    samples, _ = load_set(SetSpec("folder", str(tmp_path)))
    scans = {s.id: Path(s.scan).relative_to(tmp_path.resolve()).as_posix() for s in samples.samples}
    assert scans == {"a": "a.nii.gz", "b": "deep/b.nii", "d": "x/c.zip"}
    assert {d.id: d.reason for d in samples.dropped} == {
        "c": "with several scans of its name",
        "e": "with a scan outside the folder",
        "f": "without a reference",
    }


def test_a_folder_with_several_tables_asks_for_one(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        write_csv(tmp_path / name, ("id", "reference"), [(name, ENGLISH)])
    with pytest.raises(BadRequest, match="2 tables"):
        load_set(SetSpec("folder", str(tmp_path)))
    samples, _ = load_set(SetSpec.parse(f"folder:{tmp_path}#b.csv"))
    assert [s.id for s in samples.samples] == ["b.csv"]


def test_a_vlm3d_file_is_held_against_a_shipped_set(tmp_path: Path) -> None:
    reports = [{"input_image_name": "in-030001.nii.gz", "report": "Findings: Emphysema."}]
    value = [{"outputs": [{"value": {"generated_reports": reports}}]}]
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(value))
    samples, written = load_set(SetSpec("predictions", str(path), references="phantom-in"))
    assert samples.id == "phantom-in"
    assert len(samples.samples) == 200
    assert written is not None
    assert [(p.id, p.text) for p in written.predictions] == [("in-030001", "Findings: Emphysema.")]
    assert written.name == "theirs"


def test_text_that_is_not_utf8_gets_a_sentence(tmp_path: Path) -> None:
    path = ct_rate(tmp_path) / "dataset" / "radiology_text_reports" / "validation_reports.csv"
    path.write_bytes("VolumeName,Findings_EN,Impressions_EN\n双肺,b,c\n".encode("gbk"))
    with pytest.raises(BadRequest, match="neither UTF-8 nor"):
        load_set(SetSpec("ct-rate", str(tmp_path)))
