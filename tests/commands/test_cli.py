"""The command line: what goes to stdout, what to stderr, and the exit status."""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rad3d import cli
from rad3d.commands.doctor import packages
from rad3d.commands.options import add_generation_options, generation_options
from rad3d.core.edits import Edits, checked_edits, with_edits
from rad3d.core.errors import BadRequest
from rad3d.core.labels import LABELS
from rad3d.core.language_models import LANGUAGE_MODELS
from rad3d.core.modes import MODES
from rad3d.core.settings import Settings
from rad3d.core.types import (
    Diagnosis,
    DoneEvent,
    Event,
    GenerationOptions,
    Note,
    Report,
    StageEvent,
    Volume,
)
from rad3d.core.variant_ids import variant_id

ROOT = Path(__file__).resolve().parent.parent.parent


def run_rad3d(*args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rad3d", *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        input=stdin,
    )


def write_csv(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as target:
        csv.writer(target).writerows(rows)
    return path


# --- help ---------------------------------------------------------------------------------------


def test_help_loads_neither_torch_nor_gradio() -> None:
    code = (
        "import sys\nfrom rad3d.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'gradio', 'numpy.random', 'nibabel'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "torch" not in done.stdout.splitlines()[-1]
    assert "gradio" not in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"examples:\n  rad3d {name}" in text
    assert len(text.splitlines()) > 8


def test_help_lists_every_command_with_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert "not a medical device" in text
    for name in cli.COMMANDS:
        assert any(line.split()[:1] == [name] and line.count(" ") > 8 for line in text.splitlines())


def test_an_unknown_command_is_refused_with_the_known_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["repot"])
    assert stop.value.code == 2
    assert "report" in capsys.readouterr().err


# --- generation options -------------------------------------------------------------------------


def options_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_generation_options(parser)
    return parser


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--strategy", "beam"),
        ("--max-new-tokens", "12"),
        ("--temperature", "0.5"),
        ("--top-p", "0.5"),
        ("--beams", "3"),
        ("--repetition-penalty", "1.2"),
        ("--no-repeat-ngram", "4"),
        ("--seed", "9"),
    ],
)
def test_every_generation_flag_changes_its_option(flag: str, value: str) -> None:
    options = generation_options(options_parser().parse_args([flag, value]))
    name = flag.removeprefix("--").replace("-", "_")
    assert str(getattr(options, name)) == value
    assert options != GenerationOptions()


def test_every_generation_option_has_a_flag_and_the_same_default() -> None:
    flags = options_parser()._option_string_actions
    names = {f"--{field.name.replace('_', '-')}" for field in fields(GenerationOptions)}
    assert names <= set(flags)
    assert generation_options(options_parser().parse_args([])) == GenerationOptions()


def test_a_generation_option_out_of_range_is_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["report", "scan.nii.gz", "--max-new-tokens", "0"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("rad3d: Generation option out of range: max_new_tokens")


# --- report -------------------------------------------------------------------------------------


class OneReport:
    """Stands in for the service: any file is a scan with a warning, any variant writes the same."""

    def __init__(self, settings: Settings) -> None:
        self.ended: list[str] = []
        self.sessions = SimpleNamespace(new=lambda: "session", end=self.ended.append)

    def open_path(self, session: str, path: Path, name: str, metadata: object = None) -> Volume:
        note = Note("warning", "cropped_fov", "The scan is cropped.")
        return Volume.from_array(np.zeros((2, 2, 2), np.int16), np.eye(4), name, (note,))

    def generate(
        self,
        session: str,
        variant_id: str,
        options: GenerationOptions,
        cancel: threading.Event,
        insist: bool = False,
        edited: Edits | None = None,
    ) -> Iterator[Event]:
        yield StageEvent("reading the scan", 0.1)
        notes = tuple(Note("warning", code, f"It is {code}.") for code in ("novel", "novel"))
        third = np.full(18, 1 / 3)
        diagnosis = Diagnosis(np.zeros(18), third, third.copy())
        diagnosis = with_edits(diagnosis, checked_edits(edited or {}, diagnosis.label_set))
        text = "Findings: Clear lungs.\nImpression: Normal."
        yield DoneEvent(Report(text, variant_id, diagnosis, options, "end", 9, {}, notes))


@pytest.fixture
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("rad3d.service.service.Service", OneReport)
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(b"any")
    return str(path)


def test_the_report_goes_to_stdout_and_the_rest_to_stderr(
    scan: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", scan]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Findings:\nClear lungs.\n\nImpression:\nNormal.")
    assert "medical device" in out
    assert out.endswith("\n")
    assert not out.endswith("\n\n")
    assert err.splitlines() == [
        "warning: The scan is cropped.",
        " 10% reading the scan",
        "warning: It is novel.",
    ]


def test_the_json_report_is_all_of_stdout_and_names_variant_and_options(
    scan: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--json", "--variant", "phantom-s/v1", "--strategy", "beam", "--beams", "3"]
    assert cli.main(["report", scan, *flags]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["variant"] == "phantom-s/v1"
    assert report["options"]["beams"] == 3
    assert [row["label"] for row in report["diagnosis"]["labels"]] == list(LABELS)


def test_set_replaces_the_classifiers_probability_and_the_report_says_so(
    scan: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--set", "pleural effusion = 0.9", "--set", "Cardiomegaly=0"]
    assert cli.main(["report", scan, *flags]) == 0
    said = "edited diagnosis: Cardiomegaly 0% (classifier 33%), Pleural effusion 90% (classifier"
    assert said in capsys.readouterr().out
    assert cli.main(["report", scan, "--json", *flags]) == 0
    diagnosis = json.loads(capsys.readouterr().out)["diagnosis"]
    assert diagnosis["edited"] == ["Cardiomegaly", "Pleural effusion"]
    row = next(row for row in diagnosis["labels"] if row["label"] == "Pleural effusion")
    assert (row["probability"], row["classifier"], row["edited"]) == (0.9, 0.3333, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Plural efusion=0.9", "Did you mean Pleural effusion"),
        ("Cardiomegaly=1.5", "must lie between 0 and 1, not at 1.5"),
        ("Cardiomegaly=nan", "must lie between 0 and 1, not at nan"),
        ("Cardiomegaly=high", "'high' is no number"),
        ("Cardiomegaly", "'Cardiomegaly' sets nothing"),
    ],
)
def test_what_cannot_be_set_gets_a_sentence(
    scan: str, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    assert cli.main(["report", scan, "--set", text]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def test_no_report_about_what_is_no_chest_unless_forced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], scan: str
) -> None:
    note = Note("warning", "not_chest", "This does not look like a chest.")
    abdomen = Volume.from_array(np.zeros((2, 2, 2), np.int16), np.eye(4), "scan", (note,))

    class Abdomen(OneReport):
        def open_path(self, *_given: object) -> Volume:
            return abdomen

        def generate(
            self,
            session: str,
            variant_id: str,
            options: GenerationOptions,
            cancel: threading.Event,
            insist: bool = False,
            edited: Edits | None = None,
        ) -> Iterator[Event]:
            if not insist:
                abdomen.check_reportable()
            yield from super().generate(session, variant_id, options, cancel)

    monkeypatch.setattr("rad3d.service.service.Service", Abdomen)
    assert cli.main(["report", scan]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "No report was written. This does not look like a chest. Add --force" in err
    assert cli.main(["report", scan, "--force"]) == 0
    assert "Clear lungs." in capsys.readouterr().out


def test_the_default_variant_is_the_apps(scan: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", scan, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["variant"] == Settings().default_variant


def test_an_interrupt_stops_the_model_and_ends_the_session(
    scan: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    services: list[OneReport] = []
    cancels: list[threading.Event] = []

    class Interrupted(OneReport):
        def __init__(self, settings: Settings) -> None:
            super().__init__(settings)
            services.append(self)

        def generate(
            self,
            session: str,
            variant_id: str,
            options: GenerationOptions,
            cancel: threading.Event,
            insist: bool = False,
            edited: Edits | None = None,
        ) -> Iterator[Event]:
            cancels.append(cancel)
            yield StageEvent("encoding", 0.3)
            raise KeyboardInterrupt

    monkeypatch.setattr("rad3d.service.service.Service", Interrupted)
    assert cli.main(["report", scan]) == 130
    assert cancels[0].is_set()
    assert services[0].ended == ["session"]
    assert capsys.readouterr().out == ""


# --- bad input ----------------------------------------------------------------------------------


def test_a_missing_scan_is_one_sentence_and_status_1() -> None:
    done = run_rad3d("report", "nowhere.nii.gz")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == ["rad3d: There is no file nowhere.nii.gz. Check the path."]


def test_a_variable_that_is_no_setting_is_told_once_and_stops_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for _ in range(2):
        settings = Settings.from_env({"RAD3D_POORT": "1", "RAD3D_ZZZZZZ": "2", "RAD3D_PORT": "9"})
        assert settings.port == 9
    assert capsys.readouterr().err.splitlines() == [
        "rad3d: The environment variable RAD3D_POORT is not a setting; RAD3D_PORT is. "
        "It has no effect.",
        "rad3d: The environment variable RAD3D_ZZZZZZ is not a setting. It has no effect.",
    ]


def test_settings_come_from_the_environment_and_leave_test_variables_alone() -> None:
    env = {
        "RAD3D_PORT": "99",
        "RAD3D_SHARED": "x",
        "RAD3D_TEST_BROWSER": "required",
        "GRADIO_SERVER_PORT": "7",
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "HOME": "/",
    }
    settings = Settings.from_env(env)
    assert (settings.port, settings.host) == (99, "0.0.0.0")
    with pytest.raises(BadRequest, match="RAD3D_PORT must be a whole number"):
        Settings.from_env({"RAD3D_PORT": "many"})


# --- label --------------------------------------------------------------------------------------

REPORTS = [
    ["name", "report"],
    ["a", "There is a moderate right pleural effusion. No pericardial effusion."],
    ["b", "The lungs are clear, with no nodule.\nThe heart is enlarged."],
]


@pytest.mark.slow
def test_label_gives_the_18_findings_as_csv_on_stdout(tmp_path: Path) -> None:
    done = run_rad3d("label", str(write_csv(tmp_path / "reports.csv", REPORTS)))
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0]) == ["name", *LABELS]
    present = [{label for label in LABELS if row[label] == "1"} for row in rows]
    assert present == [{"Pleural effusion"}, {"Cardiomegaly"}]
    assert {row[label] for row in rows for label in LABELS} == {"0", "1"}


@pytest.mark.slow
def test_label_joins_text_columns_and_reads_stdin() -> None:
    text = 'id,Findings,Impressions\n1,"Emphysema.","Cardiomegaly."\n'
    done = run_rad3d(
        "label", "-", "--text-column", "Findings", "--text-column", "Impressions", stdin=text
    )
    row = next(csv.DictReader(io.StringIO(done.stdout)))
    assert {name for name in LABELS if row[name] == "1"} == {"Emphysema", "Cardiomegaly"}
    assert next(iter(row)) == "id"


@pytest.mark.slow
def test_label_leaves_rows_without_a_report_out_and_says_so(tmp_path: Path) -> None:
    nothing = ["", "  ", "nan", "None", "N/A", "Not given.", "[]", "<think>Effusion?</think>"]
    rows = [["id", "report"], *([f"n{i}", text] for i, text in enumerate(nothing)), ["a", "nan."]]
    rows.append(["b", "['Emphysema.', 'Cardiomegaly.']"])
    done = run_rad3d("label", str(write_csv(tmp_path / "reports.csv", rows)))
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert row["id"] == "b"
    assert {name for name in LABELS if row[name] == "1"} == {"Emphysema", "Cardiomegaly"}
    assert "9 without a report, left out: line 2, 3, 4, 5, 6 and 4 more\n1 reports" in done.stderr


@pytest.mark.slow
def test_label_keeps_label_columns_that_are_there_beside_its_own(tmp_path: Path) -> None:
    path = tmp_path / "reports.csv"
    path.write_bytes(b"id,emphysema,Report,Cardiomegaly\n1,7,Emphysema.,8\n")
    done = run_rad3d("label", str(path))
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert list(row) == ["id", "emphysema (given)", "Cardiomegaly (given)", *LABELS]
    assert (row["emphysema (given)"], row["Cardiomegaly (given)"]) == ("7", "8")
    assert (row["Emphysema"], row["Cardiomegaly"]) == ("1", "0")
    assert "has label columns already" in done.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"name,text\na,b\n", "called 'report'. Known: name, text"),
        (b"name,report\nx,y\na,b,c\n", "Line 3 of reports.csv has too few"),
        (b"name,report\na,\x81\n", "Line 2 of reports.csv is neither UTF-8 nor"),
        (b'name,report\na,"open\n', "line 2 reports.csv is not CSV"),
    ],
)
def test_label_refuses_what_is_not_such_a_csv(
    tmp_path: Path, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "reports.csv"
    path.write_bytes(content)
    assert cli.main(["label", str(path)]) == 1
    err = capsys.readouterr().err
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_label_of_a_missing_file_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["label", "nowhere.csv"]) == 1
    assert capsys.readouterr().err == "rad3d: There is no file nowhere.csv. Check the path.\n"


@pytest.mark.slow
def test_a_closed_pipe_is_not_an_error(tmp_path: Path) -> None:
    rows = [REPORTS[0], *([["a", "Emphysema."]] * 3000)]
    path = write_csv(tmp_path / "reports.csv", rows)
    line = f'"{sys.executable}" -m rad3d label "{path}" | head -n 1'
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


# --- phantom ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_phantom_writes_scans_and_truth_and_prints_the_paths(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    done = run_rad3d(
        "phantom", "--n", "2", "--seed", "5", "--matrix", "64", "--slices", "32", "--out", str(out)
    )
    assert done.returncode == 0, done.stderr
    scans = [out / "in-000005.nii.gz", out / "in-000006.nii.gz"]
    assert done.stdout.split() == [str(scan) for scan in scans]
    for scan in scans:
        assert scan.stat().st_size > 10_000
        case = json.loads(scan.with_name(scan.name.replace(".nii.gz", ".json")).read_text())
        assert list(case["labels"]) == list(LABELS)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--n", "0"], "--n and --jobs must be at least 1"),
        (["--seed", "-1"], "--seed at least 0"),
        (["--matrix", "7"], "matrix 7 is outside"),
    ],
)
def test_phantom_refuses_numbers_out_of_range(
    tmp_path: Path, flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["phantom", "--out", str(tmp_path), *flags]) == 1
    assert said in capsys.readouterr().err


# --- doctor -------------------------------------------------------------------------------------


def test_doctor_names_a_package_that_is_absent_or_another_version(tmp_path: Path) -> None:
    listed = tmp_path / "requirements.txt"
    listed.write_text("# direct\npytest==0.0.1\nno-such-package==1.0\n")
    checks = {check.name: check for check in packages(listed)}
    assert checks["pytest"].state == checks["no-such-package"].state == "missing"
    assert "tested with 0.0.1" in checks["pytest"].detail
    assert checks["no-such-package"].remedy == "pip install -r requirements.txt"


def test_doctor_fails_where_the_shipped_models_are_missing_and_says_how_to_make_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAD3D_MODELS_DIR", str(tmp_path))
    assert cli.main(["doctor", "--json"]) == 1
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["shipped variants"]["state"] == "missing"
    assert "rad3d demo build" in checks["variant phantom-m/v3"]["remedy"]
    assert checks["packages"]["state"] == "ok"


# --- variants -----------------------------------------------------------------------------------


def test_variants_lists_every_model_in_every_mode_with_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAD3D_MODELS_DIR", str(tmp_path))
    assert cli.main(["variants", "--json"]) == 0
    statuses = json.loads(capsys.readouterr().out)
    ids = [variant_id(llm, mode) for llm in LANGUAGE_MODELS for mode in MODES]
    assert [status["id"] for status in statuses] == ids
    assert all(status["reason"] and status["command"] for status in statuses)
    assert cli.main(["variants"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 1 + len(ids)
    assert table[0].split()[:2] == ["variant", "ready"]


@pytest.mark.slow
def test_the_command_that_a_variant_needs_is_one_that_parses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAD3D_MODELS_DIR", str(tmp_path))
    cli.main(["variants", "--json"])
    for row in json.loads(capsys.readouterr().out):
        words = row["command"].split()
        assert words[0] == "rad3d"
        assert callable(cli.build_parser().parse_args(words[1:]).run)
