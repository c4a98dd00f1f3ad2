"""A phantom case on disk: truth, scan and report that belong together, the same every time."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from rad3d.core.findings import Finding, Truth
from rad3d.core.labels import LABELS
from rad3d.core.types import volume_hash
from rad3d.reports.labeller import label_report
from rad3d.synthetic.phantom.cohort import SCHEMA_ID, Case, make_case, write_case, write_cohort

GRID = {"matrix": 64, "slices": 32}


@pytest.fixture(scope="module")
def case() -> Case:
    return make_case(11, "in", **GRID)


def test_a_case_on_disk_holds_the_scan_and_its_truth(case: Case, tmp_path: Path) -> None:
    scan = write_case(case, tmp_path)
    image = nib.Nifti1Image.from_filename(scan)
    hu = np.asarray(image.dataobj)
    values = json.loads((tmp_path / f"{case.id}.json").read_text())
    assert scan.name == "in-000011.nii.gz"
    assert hu.dtype == np.int16
    assert hu.shape == (64, 64, 32)
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert values["schema"] == SCHEMA_ID
    assert values["sha256"] == case.volume.sha256 == volume_hash(hu, image.affine)
    assert list(values["labels"]) == list(LABELS)
    assert values["report"]["findings"] == case.report.findings


def test_the_truth_survives_the_disk(case: Case, tmp_path: Path) -> None:
    write_case(case, tmp_path)
    values = json.loads((tmp_path / f"{case.id}.json").read_text(encoding="utf-8"))
    findings = tuple(Finding.from_dict(finding) for finding in values["findings"])
    truth = Truth(values["seed"], values["domain"], findings)
    assert truth == case.truth
    assert values["labels"] == dict(zip(LABELS, truth.labels(), strict=True))


@pytest.mark.process
def test_the_same_seed_gives_the_same_files_on_one_process_or_two(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, jobs in ((one, 1), (two, 2)):
        folder.mkdir()
        paths = list(write_cohort(folder, range(3, 5), "out", jobs=jobs, **GRID))
        assert [path.name for path in paths] == ["out-000003.nii.gz", "out-000004.nii.gz"]
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


@pytest.mark.slow
def test_seeds_and_domains_give_different_patients(case: Case) -> None:
    others = [make_case(12, "in", **GRID), make_case(11, "out", **GRID)]
    assert len({case.volume.sha256, *(other.volume.sha256 for other in others)}) == 3
    assert len({case.report.text, *(other.report.text for other in others)}) == 3


@pytest.mark.parametrize("domain", ["in", "out"])
def test_the_report_asserts_the_labels_of_the_truth(domain: str) -> None:
    case = make_case(21, domain, **GRID)
    assert label_report(case.report.text) == case.truth.labels()
