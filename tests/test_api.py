"""``import rad3d``: light, and a report, labels, a score and a phantom in a line each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rad3d
from rad3d.core.errors import BadRequest, BadVolume, Rad3dError
from rad3d.core.labels import LABELS

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "assets" / "samples" / "in-050023.nii.gz"


@pytest.fixture(scope="module")
def reporter() -> rad3d.Reporter:
    return rad3d.Reporter.from_pretrained("phantom-s/v3")


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, rad3d; print(rad3d.__version__, len(dir(rad3d)) > 4, "
        "{'torch', 'numpy', 'gradio'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split(maxsplit=1) == [rad3d.__version__, "True set()\n"], done.stderr


@pytest.mark.slow
def test_a_path_an_array_and_a_volume_give_the_same_report(reporter: rad3d.Reporter) -> None:
    scan = rad3d.load_scan(SAMPLE)
    report = reporter(SAMPLE)
    assert str(report) == report.text
    assert "effusion" in report.text
    assert reporter(scan).text == report.text
    assert reporter((np.array(scan.hu), scan.affine)).text == report.text


@pytest.mark.slow
def test_a_streamed_report_is_the_whole_one(reporter: rad3d.Reporter) -> None:
    pieces = list(reporter.stream(SAMPLE, max_new_tokens=40))
    assert len(pieces) > 10
    assert "".join(pieces) == reporter(SAMPLE, max_new_tokens=40).text


@pytest.mark.slow
def test_a_report_from_an_edited_diagnosis_says_what_was_edited(reporter: rad3d.Reporter) -> None:
    report = reporter(SAMPLE, max_new_tokens=8, edited={"Emphysema": 0.9})
    assert set(report.diagnosis.edited) == {"Emphysema"}
    assert report._repr_html_().count("(edited)") == 1
    with pytest.raises(Rad3dError, match="Did you mean Emphysema"):
        reporter(SAMPLE, edited={"Emphisema": 0.9})


@pytest.mark.slow
def test_scans_reports_phantoms_and_scores_show_themselves(reporter: rad3d.Reporter) -> None:
    case = rad3d.phantom(3, matrix=64, slices=40)
    assert case._repr_html_().count("data:image/jpeg") == 3
    report = reporter(SAMPLE, max_new_tokens=8)
    assert all(label in report._repr_html_() for label in LABELS)
    assert "<script" not in rad3d.load_scan((case.scan.hu, case.scan.affine))._repr_html_()
    assert "f1_macro" in rad3d.score([case.report], [case.report])._repr_html_()


@pytest.mark.slow
def test_the_reference_of_a_phantom_scores_one_and_another_report_less() -> None:
    case = rad3d.phantom(11, matrix=64, slices=40)
    assert rad3d.label(case.report) == case.labels
    found = rad3d.score({"a": case.report}, {"a": case.report, "b": case.report}, resamples=20)
    assert (found.n, found.failures) == (2, 1)
    whole = rad3d.score([case.report], [case.report], resamples=20)
    assert whole["hf_rouge_l"] == pytest.approx(1)


@pytest.mark.slow
def test_no_report_is_written_about_another_part_of_the_body_unless_one_insists(
    reporter: rad3d.Reporter, shared_dir: Path
) -> None:
    scan = shared_dir / "data/ct/totalsegmentator_abdomen_pelvis_3mm.nii.gz"
    with pytest.raises(BadVolume, match="No report was written"):
        reporter(scan)
    assert reporter(scan, insist=True, max_new_tokens=4).text


def test_what_cannot_be_done_is_said_in_a_sentence() -> None:
    with pytest.raises(Rad3dError, match="rad3d train --llm gpt2 --mode v3"):
        rad3d.Reporter.from_pretrained("gpt2/v3")
    with pytest.raises(BadRequest, match="no option colour"):
        rad3d.Reporter.from_pretrained(colour="red")
    with pytest.raises(BadRequest, match="2 predictions, but 1"):
        rad3d.score(["a", "b"], ["a"])
    with pytest.raises(AttributeError, match="nothing"):
        rad3d.nothing  # type: ignore[attr-defined]  # noqa: B018
