"""``rad3d readers``: from a stored run or predictions files to a link, and to the results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from study_of_readers import answer_to

from rad3d.cli import main
from rad3d.core.errors import BadRequest, UnknownName
from rad3d.data.samples import Prediction, PredictionSet, Sample, SampleSet
from rad3d.readers.make import make_design
from rad3d.readers.store import RatingStore
from rad3d.readers.types import QUESTIONS


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RatingStore:
    monkeypatch.setenv("RAD3D_RUNS_DIR", str(tmp_path / "runs"))
    return RatingStore(tmp_path / "runs" / "readers.sqlite")


def samples(n: int = 6, scan: str = "") -> SampleSet:
    return SampleSet("own", "Own", tuple(Sample(f"c{i}", "Nodule.", scan=scan) for i in range(n)))


def written(name: str, n: int = 6, missing: tuple[int, ...] = ()) -> PredictionSet:
    texts = ("" if i in missing else f"Report {i}." for i in range(n))
    return PredictionSet(name, "own", tuple(Prediction(f"c{i}", t) for i, t in enumerate(texts)))


def test_cases_are_drawn_from_those_on_which_every_system_has_a_report() -> None:
    systems = [written("a", missing=(1,)), written("b", missing=(4,))]
    design = make_design(samples(), systems, cases=10)
    assert [case.id for case in design.cases] == ["c0", "c2", "c3", "c5"]
    drawn = [make_design(samples(), systems, cases=2, seed=seed).cases for seed in range(8)]
    assert len({tuple(case.id for case in cases) for cases in drawn}) > 1
    chosen = make_design(samples(), systems, ids=("c5", "c0", "c5"))
    assert [case.id for case in chosen.cases] == ["c5", "c0"]
    with pytest.raises(UnknownName):
        make_design(samples(), systems, ids=("c1",))
    with pytest.raises(BadRequest, match="No case has a report of every system"):
        make_design(samples(1), [written("a", 1), written("b", 1, (0,))])
    with pytest.raises(BadRequest):
        make_design(samples(), systems, cases=-3)


def test_a_scan_is_found_wherever_the_server_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    design = make_design(samples(scan="scans/one.nii.gz"), [written("a"), written("b")])
    assert {case.scan for case in design.cases} == {str(tmp_path / "scans" / "one.nii.gz")}
    phantoms = make_design(samples(scan="phantom:in:30000"), [written("a"), written("b")])
    assert {case.scan for case in phantoms.cases} == {"phantom:in:30000"}


def predictions(folder: Path, name: str, n: int = 3) -> str:
    path = folder / name
    rows = (f"in-{30_000 + i:06},No finding of {name} {i}.\n" for i in range(n))
    path.write_text("id,prediction\n" + "".join(rows), encoding="utf-8")
    return f"{path}#phantom-in"


def test_predictions_files_become_a_study_whose_results_are_printed(
    store: RatingStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [predictions(tmp_path, "ours.csv"), predictions(tmp_path, "theirs.csv")]
    options = ["--address", "https://ct.example/app/", "--title", "Two systems"]
    assert main(["readers", "new", "--predictions", *files, *options]) == 0
    address, _, secret = capsys.readouterr().out.strip().partition("#")
    assert address == "https://ct.example/app/read"
    study = store.by_link(secret)
    assert study.systems == ("ours", "theirs")
    assert (study.cases, study.total) == (3, 6)
    reader = store.reader(study, store.join(study))
    for screen in store.screens(study, reader):
        score = 4 if study.systems[screen.system] == "ours" else 2
        store.save(study, reader, screen.position, answer_to(screen, score), 0)
    table, page = tmp_path / "r.csv", tmp_path / "r.html"
    command = ["readers", "results", "latest", "--csv", str(table), "--html", str(page)]
    assert main([*command, "--resamples", "100"]) == 0
    told = capsys.readouterr().out
    assert "1 reader, 3 cases, 6 ratings of 6" in told
    assert "intervals over readers cannot be had" in told
    assert "4.00" in told
    assert len(table.read_text().splitlines()) == 7
    assert "Two systems</title>" in page.read_text()
    assert main(["readers", "results", study.id, "--json", "--resamples", "50"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["means"]["accuracy"]["theirs"]["value"] == 2
    assert set(found["means"]) == {question.id for question in QUESTIONS}


def test_a_study_is_listed_relinked_backed_up_and_deleted(
    store: RatingStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["readers", "simulate", "--cases", "2", "--resamples", "50"]) == 0
    assert "SIMULATED" in capsys.readouterr().out
    assert main(["readers", "list"]) == 0
    assert "(simulated)" in capsys.readouterr().out
    assert main(["readers", "link", "latest"]) == 0
    link = capsys.readouterr().out.strip()
    assert link.startswith("http://127.0.0.1:7860/read#")
    assert main(["readers", "backup", str(tmp_path / "copy.sqlite")]) == 0
    assert main(["readers", "delete", "latest"]) == 1
    assert "--yes" in capsys.readouterr().err
    assert main(["readers", "delete", "latest", "--yes"]) == 0
    assert store.studies() == ()
    copy = RatingStore(tmp_path / "copy.sqlite")
    assert copy.by_link(link.partition("#")[2]).rated == 8
    assert main(["readers", "results", "latest"]) == 1
    assert "rad3d readers new" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["new"], "Name the systems"),
        (["new", "--predictions", "absent.csv", "b.csv"], "There is no file"),
        (["simulate", "--readers", "0"], "A simulation has"),
        (["simulate", "--cases", "201"], "A simulation has"),
        (["simulate", "--resamples", "0"], "--resamples"),
        (["backup", "x.sqlite"], "There is no file"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    store: RatingStore, capsys: pytest.CaptureFixture[str], wrong: list[str], told: str
) -> None:
    assert main(["readers", *wrong]) == 1
    assert told in capsys.readouterr().err
    assert store.studies() == (), "nothing was made on the way"


def test_files_about_other_cases_are_told_apart(
    store: RatingStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        text = f"id,reference,prediction\n{name},Nodule.,Nodule.\n"
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    files = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    assert main(["readers", "new", "--predictions", *files]) == 1
    assert "references" in capsys.readouterr().err
