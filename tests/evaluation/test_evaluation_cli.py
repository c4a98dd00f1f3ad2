"""``rad3d eval run|runs|compare|report`` on tiny models: what is printed, and with which status."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from study_parts import TEST_N, small_evaluations

from rad3d.cli import build_parser, main
from rad3d.commands import eval_study
from rad3d.core.types import GenerationOptions
from rad3d.evaluation.evaluations import Evaluations

V3 = "phantom-s/v3"
QUICK = [
    "eval", "run", "--sets", "phantom-in", "--variants", V3, "--limit", str(TEST_N),
    "--metric", "f1_macro", "--resamples", "50", "--max-new-tokens", "20",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture
def evaluations(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluations:
    made = small_evaluations(folder)
    monkeypatch.setattr(eval_study, "open_evaluations", lambda: made)
    return made


@pytest.mark.slow
def test_a_run_prints_its_figures_and_its_place_in_the_list(
    evaluations: Evaluations, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert (
        main([*QUICK, "--ablations", "image-zero", "--baselines", "lookup", "--out", str(tmp_path)])
        == 0
    )
    out, err = capsys.readouterr()
    assert "1.000 [1.000, 1.000]" in out, "the template baseline of a perfect classifier"
    assert f"{V3} does worse than lookup" in out or f"{V3} does not beat lookup" in out
    assert "run 20" in err
    assert (tmp_path / "run.json").is_file()
    assert main(["eval", "runs", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)[0]
    assert first["status"] == "finished"
    assert first["systems"] == 3


def test_options_reach_the_run(
    evaluations: Evaluations, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--ablations",
        "image-shuffled",
        "--baselines",
        "--seed",
        "4",
        "--title",
        "Mine",
        "--json",
    ]
    assert main([*QUICK, *options]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {row["system"] for row in shown["scores"]} == {V3, f"{V3}+image-shuffled"}
    assert {row["n"] for row in shown["scores"]} == {TEST_N}
    request = evaluations.kept.load(shown["id"]).request
    assert (request.seed, request.draws, request.title) == (4, 50, "Mine")
    assert request.metrics == ("f1_macro",)
    assert request.options.max_new_tokens == 20


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--strategy", "beam", "--beams", "3"], {"strategy": "beam", "beams": 3}),
        (
            ["--strategy", "sample", "--temperature", "0.5", "--top-p", "0.9", "--seed", "4"],
            {"strategy": "sample", "temperature": 0.5, "top_p": 0.9, "seed": 4},
        ),
        (["--repetition-penalty", "1.5", "--no-repeat-ngram", "3"],
         {"repetition_penalty": 1.5, "no_repeat_ngram": 3}),
        (["--seed", "4"], {"seed": 0}),
    ],
)  # fmt: skip
def test_reports_are_written_with_the_options_of_the_app_and_of_rad3d_report(
    flags: list[str], expected: dict[str, object]
) -> None:
    args = build_parser().parse_args(
        ["eval", "run", "--variants", V3, "--ablations", "--baselines", *flags]
    )
    request = eval_study._request(args, None)  # type: ignore[arg-type]
    assert request.options == replace(GenerationOptions(), **expected)  # type: ignore[arg-type]
    assert request.seed == (4 if "--seed" in flags else 0)


@pytest.mark.slow
def test_two_equal_runs_do_not_differ_and_a_baseline_compares_within_one(
    evaluations: Evaluations, capsys: pytest.CaptureFixture[str]
) -> None:
    baselines = ["--ablations", "--baselines", "lookup", "majority"]
    earlier = {row.id for row in evaluations.kept.runs()}
    for _ in range(2):
        assert main([*QUICK, *baselines]) == 0
    first, second = {row.id for row in evaluations.kept.runs()} - earlier
    capsys.readouterr()
    assert main(["eval", "compare", first, second, "--fail-if-worse", "--json"]) == 0
    out, err = capsys.readouterr()
    assert all(row["value"] == 0 for row in json.loads(out))
    assert f"{3 * TEST_N} of {3 * TEST_N} reports are identical" in err
    assert main(["eval", "compare", "latest", "--baseline", "lookup", "--fail-if-worse"]) in (0, 3)
    assert f"{V3} - lookup" in capsys.readouterr().out


def test_significantly_worse_ends_with_3(
    evaluations: Evaluations, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = "Findings: There is a small left pleural effusion. Mild cardiomegaly is present."
    for folder, said in (("good", text), ("bad", "Findings: The lungs are clear.")):
        (tmp_path / folder).mkdir()
        rows = [{"id": str(i), "reference": text, "prediction": said} for i in range(30)]
        path = tmp_path / folder / "x.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        arguments = ["eval", "run", "--sets", f"predictions:{path}", "--metric", "f1_macro"]
        assert main([*arguments, "--out", str(tmp_path / f"{folder}-run")]) == 0
    good, bad = str(tmp_path / "good-run"), str(tmp_path / "bad-run")
    assert main(["eval", "compare", good, bad]) == 0
    assert main(["eval", "compare", good, bad, "--fail-if-worse"]) == 3
    assert main(["eval", "compare", bad, good, "--fail-if-worse"]) == 0
    capsys.readouterr()


def test_missing_reports_end_with_4(
    evaluations: Evaluations, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = "Findings: There is a small left pleural effusion. Mild cardiomegaly is present."
    rows = [{"id": "a", "reference": text, "prediction": ""}]
    rows += [{"id": "b", "reference": text, "prediction": text}]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["eval", "run", "--sets", f"predictions:{path}", "--metric", "f1_macro"]) == 4
    assert " 1 " in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--sets", "nowhere"],
        ["run", "--sets", "ct-rate:/nowhere"],
        ["run", "--variants", "phantom-s/v9"],
        ["run", "--resume", "20200101-000000-abcdef"],
        ["compare", "latest"],
        ["compare", "study", "nobody"],
        ["report", "nobody"],
        ["report", "latest", "--format", "docx"],
    ],
)
def test_bad_input_is_one_sentence_and_status_1(
    evaluations: Evaluations, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["eval", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("rad3d: ")
    assert "Traceback" not in err


def test_a_report_is_written_where_it_is_asked_for(
    evaluations: Evaluations, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*QUICK, "--ablations", "--baselines"]) == 0
    capsys.readouterr()
    target = tmp_path / "table.md"
    assert main(["eval", "report", "latest", "--format", "markdown", "--out", str(target)]) == 0
    assert capsys.readouterr().out.strip() == str(target)
    assert "| Phantom S · V-3 |" in target.read_text()
