"""A run as a file: what can be taken along opens elsewhere and does nothing there."""

from __future__ import annotations

import csv
import io
import re
import shutil
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from browser.fake_evaluations import study_run
from plotly.offline import get_plotlyjs
from study_parts import (
    SMALL,
    TEST_N,
    V3,
    finished,
    predictions_file,
    small_evaluations,
    texts,
)

from rad3d.data.predictions import read_predictions
from rad3d.data.spec import SetSpec
from rad3d.evaluation.evaluations import Evaluations
from rad3d.evaluation.exports import EXPORTS
from rad3d.evaluation.html_page import report_page
from rad3d.evaluation.leaderboard import view_of
from rad3d.evaluation.run_types import EvaluationRequest, EvaluationRun


@pytest.fixture(scope="module")
def evaluations(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluations:
    folder = tmp_path_factory.mktemp("exports")
    shutil.copytree(models, folder / "models")
    return small_evaluations(folder)


@pytest.fixture(scope="module")
def run(evaluations: Evaluations) -> EvaluationRun:
    request = replace(SMALL, controls=("image-zero", "lookup"))
    return finished(evaluations.start(request, threading.Event()))


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXPORTS)
def test_a_run_can_be_taken_along(evaluations: Evaluations, run: EvaluationRun, kind: str) -> None:
    made = evaluations.export(run, kind)
    assert made.data
    assert made.data == evaluations.export(run, kind).data
    assert "/" not in made.name


def test_the_csv_holds_every_figure(evaluations: Evaluations, run: EvaluationRun) -> None:
    rows = list(csv.DictReader(io.StringIO(evaluations.export(run, "csv").data.decode())))
    assert len(rows) == sum(len(card.estimates) for card in run.cards.values())
    first = next(r for r in rows if (r["system"], r["metric"]) == ("lookup", "f1_macro"))
    assert float(first["value"]) == 1.0
    assert first["n"] == str(TEST_N)


def run_of_one(evaluations: Evaluations, path: Path, case: str) -> EvaluationRun:
    """A run of a predictions file with this name, of one case."""
    text = "Findings: There is a small left pleural effusion. The heart is normal in size."
    row = {"id": case, "reference": text, "prediction": text}
    predictions_file(path.parent, path.name, [row])
    request = EvaluationRequest(
        sets=(SetSpec("predictions", str(path)),), metrics=("f1_macro",), draws=20
    )
    return finished(evaluations.start(request, threading.Event()))


def test_a_system_called_like_a_formula_is_not_run_by_a_spreadsheet(
    evaluations: Evaluations, tmp_path: Path
) -> None:
    run = run_of_one(evaluations, tmp_path / "=cmd.jsonl", "=1+1")
    cells = [
        cell
        for row in csv.reader(io.StringIO(evaluations.export(run, "csv").data.decode()))
        for cell in row
    ]
    assert not any(re.match(r"[=+@\t\r]|-[^0-9]", cell) for cell in cells)
    assert "'=cmd" in cells


def test_exported_predictions_can_be_scored_again(
    evaluations: Evaluations, run: EvaluationRun, tmp_path: Path
) -> None:
    archive = zipfile.ZipFile(io.BytesIO(evaluations.export(run, "jsonl").data))
    assert len(archive.namelist()) == len(run.cards)
    path = tmp_path / "back.jsonl"
    path.write_bytes(archive.read("phantom-s-v3--phantom-in.jsonl"))
    samples, found = read_predictions(path)
    assert [p.text for p in found.predictions] == texts(run, V3)
    assert [s.labels for s in samples.samples] == [
        s.labels for s in run.sample_sets["phantom-in"].samples
    ]


def test_the_page_opens_offline_and_escapes_what_it_is_given(
    evaluations: Evaluations, tmp_path: Path
) -> None:
    text = "Findings: There is a small left pleural effusion <script>alert(1)</script>."
    path = predictions_file(
        tmp_path,
        "<b>x.jsonl",
        [{"id": f"<i>{i}", "reference": text, "prediction": text} for i in "ab"],
    )
    request = EvaluationRequest(
        sets=(SetSpec("predictions", str(path)),),
        metrics=("f1_macro", "factuality"),
        draws=20,
        title="</title><script>alert(2)</script>",
    )
    run = finished(evaluations.start(request, threading.Event()))
    page = evaluations.export(run, "html").data.decode()
    start, _, rest = page.partition("<script>/**")
    _, _, end = rest.partition("</script>")
    own = start + end
    assert "alert(1)</script>" not in own
    assert "alert(2)</script>" not in own
    assert "<b>x" not in own
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?https?:""", own)
    assert "default-src 'none'" in own


@pytest.mark.slow
def test_no_name_or_text_of_a_run_becomes_markup_on_the_page() -> None:
    attack = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    run = study_run(16)
    best = view_of(run).ranked("phantom-in", "f1_macro")[0]
    card = replace(best, signature=dict.fromkeys(best.signature, attack), failures=1)
    samples = run.sample_sets["phantom-in"]
    sample = replace(samples.samples[0], reference=f"Findings: {attack}.")
    said = run.predictions[best.name, "phantom-in"]
    hostile = replace(
        run, id=attack, title=attack, revision=attack, failed={attack: attack},
        facts={attack: attack}, cards={(attack, "phantom-in"): replace(card, name=attack)},
        predictions={(attack, "phantom-in"): said}, classifier={},
        sample_sets={
            "phantom-in": replace(samples, name=attack, samples=(sample, *samples.samples[1:]))
        },
        verdicts=tuple(replace(v, text=attack) for v in run.verdicts if v.sample_set == samples.id),
    )  # fmt: skip
    page = report_page(hostile).decode().replace(get_plotlyjs(), "")
    assert page.count("alert(1)") > 10
    assert "<script>alert" not in page
    assert "<img" not in page
    assert page.count("</script>") == page.count("<script")


def test_markdown_and_latex_escape_what_their_syntax_would_take(
    evaluations: Evaluations, tmp_path: Path
) -> None:
    run = run_of_one(evaluations, tmp_path / "a|b_50%.jsonl", "a")
    assert "| a\\|b_50% |" in evaluations.export(run, "markdown").data.decode()
    assert r"a|b\_50\%" in evaluations.export(run, "latex").data.decode()
