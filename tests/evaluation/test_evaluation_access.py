"""Which runs there are, who may see them, and which files a visitor may have read."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from study_parts import (
    SMALL,
    finished,
    predictions_file,
    small_evaluations,
)

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.data.spec import SetSpec
from rad3d.evaluation.run_types import EvaluationRequest
from rad3d.evaluation.runs import STUDY
from rad3d.evaluation.storage import copy_run


@pytest.mark.slow
def test_on_a_host_that_others_reach_a_run_belongs_to_its_owner(
    models: Path, tmp_path: Path
) -> None:
    (tmp_path / "models").symlink_to(models)
    hosted, local = small_evaluations(tmp_path, host="0.0.0.0"), small_evaluations(tmp_path)
    request = replace(SMALL, owner="me")
    run = finished(hosted.start(request, threading.Event()))
    assert [row.id for row in hosted.kept.runs("me")] == [run.id]
    assert hosted.kept.runs("you") == () == hosted.kept.runs()
    with pytest.raises(UnknownName):
        hosted.kept.load(run.id, "you")
    assert [row.id for row in local.kept.runs()] == [run.id], "at the terminal all are seen"
    hosted.kept.forget("you")
    assert [row.id for row in hosted.kept.runs("me")] == [run.id]
    hosted.kept.forget("me")
    assert hosted.kept.runs("me") == ()


@pytest.mark.slow
def test_on_a_host_that_others_reach_paths_are_read_below_data_dir_only(
    models: Path, tmp_path: Path
) -> None:
    (tmp_path / "models").symlink_to(models)
    hosted = small_evaluations(tmp_path, host="0.0.0.0")
    secret = predictions_file(tmp_path, "secret.jsonl", [{"id": "a"}])
    for spec in (
        SetSpec("predictions", str(secret)),
        SetSpec("folder", str(tmp_path)),
        SetSpec("predictions", str(tmp_path / "work" / "uploads" / "of-another.jsonl")),
        SetSpec("predictions", str(tmp_path / "work" / "up.jsonl"), references=str(secret)),
    ):
        for request in (
            EvaluationRequest((spec,)),
            replace(SMALL, bank=spec),
            replace(SMALL, features=(spec.references or spec.path,)),
        ):
            with pytest.raises(BadRequest, match="cannot be evaluated from here"):
                hosted.start(request, threading.Event())
    upload = predictions_file(
        tmp_path, "mine.jsonl", [{"id": "a", "reference": "No nodule.", "prediction": "Nodule."}]
    )
    request = EvaluationRequest(
        (SetSpec("predictions", str(upload)),), metrics=("f1_macro",), draws=10
    )
    run = finished(hosted.start(request, threading.Event(), uploads=[str(upload)]))
    assert run.cards["mine", "mine"].n == 1
    assert hosted.layouts() == ()


@pytest.mark.parametrize("name", ["..", "../../models", "20261124-190000-abcdef", "", "study"])
def test_a_run_that_is_none_is_refused(models: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "models").symlink_to(models)
    with pytest.raises(UnknownName):
        small_evaluations(tmp_path).kept.load(name)


@pytest.mark.slow
def test_the_study_that_ships_is_in_the_list(models: Path, tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(models)
    evaluations = small_evaluations(tmp_path)
    run = finished(evaluations.start(SMALL, threading.Event()))
    copy_run(run, tmp_path / "study")
    assert run.directory is not None
    shutil.rmtree(run.directory)
    rows = evaluations.kept.runs()
    assert [(row.id, row.shipped) for row in rows] == [(STUDY, True)]
    study = evaluations.kept.load(STUDY)
    assert set(study.cards) == set(run.cards)
    assert study.predictions == run.predictions
    assert (tmp_path / "study" / "features").is_dir(), "what else lies there is kept"


@pytest.mark.parametrize(
    "damage", ["", "[]", "{}", '{"schema": "rad3d-evaluation/1"}', '{"schema": []}', "\0"]
)
def test_a_damaged_run_is_left_out_and_hides_no_other(
    models: Path, tmp_path: Path, damage: str
) -> None:
    (tmp_path / "models").symlink_to(models)
    evaluations = small_evaluations(tmp_path)
    path = predictions_file(
        tmp_path, "mine.jsonl", [{"id": "a", "reference": "No nodule.", "prediction": "Nodule."}]
    )
    request = EvaluationRequest(
        (SetSpec("predictions", str(path)),), metrics=("f1_macro",), draws=10
    )
    good = finished(evaluations.start(request, threading.Event()))
    bad = finished(evaluations.start(request, threading.Event()))
    assert bad.directory is not None
    (bad.directory / "run.json").write_text(damage, encoding="utf-8")
    assert [row.id for row in evaluations.kept.runs()] == [good.id]
    with pytest.raises(BadRequest, match=r"no run|damaged"):
        evaluations.kept.load(bad.id)
