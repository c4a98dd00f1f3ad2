"""``rad3d features``: what it prints, how it ends, and several processes at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import CountingEncoder, FakeEncoderStore
from volume_files import chest, dicom_bytes, dicom_series, save, zipped_series

from rad3d.cli import main
from rad3d.commands.features_compute import Crew
from rad3d.core.encoders import ENCODERS
from rad3d.core.settings import Settings
from rad3d.features.shards import FeatureStore
from rad3d.model.encoders.calibration import Calibration
from rad3d.model.encoders.phantom_cnn import ConvEncoder, ConvEncoderConfig, ShippedEncoder
from rad3d.volume.grid import GridSpec

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> CountingEncoder:
    """In place of every encoder of the command."""
    found = CountingEncoder()

    def store(settings: Settings) -> FakeEncoderStore:
        return FakeEncoderStore(settings, found)

    monkeypatch.setattr("rad3d.model.store.ModelStore", store)
    return found


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed, name in enumerate(("a", "b", "c")):
        save(folder / f"{name}.nii.gz", chest(seed=seed))
    return folder


def compute(scans: Path, *more: str) -> int:
    out = str(scans.parent / "store")
    return main(
        ["features", "compute", str(scans), "--encoder", "phantom-cnn", "--out", out, *more]
    )


@pytest.mark.slow
def test_a_run_sums_up_on_stdout_and_lists_failures(
    encoder: CountingEncoder, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scans / "empty.nii.gz").write_bytes(b"")
    assert compute(scans) == 0
    first = capsys.readouterr()
    assert first.out == (
        "4 scans: 3 encoded, 0 known by their content, 0 finished before, 1 failed (empty_file 1)\n"
    )
    assert "4 of 4 scans" in first.err
    assert "failures.csv" in first.err
    assert compute(scans, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["scans"], facts["done"], facts["skipped"], facts["failed"]) == (4, 3, 3, 1)
    assert facts["failed_by_code"] == {"empty_file": 1}
    assert Path(facts["failures_file"]).is_file()
    assert encoder.encoded == 3


@pytest.mark.slow
def test_damaged_series_are_counted_as_failed_or_warned(
    encoder: CountingEncoder, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in scans.iterdir():
        path.unlink()
    files = [dicom_bytes(ds) for ds in dicom_series(chest((48, 40, 24)))]
    zipped_series(scans / "cut.zip", [f[:-2000] if k % 2 else f for k, f in enumerate(files)])
    zipped_series(scans / "empty.zip", [f if k else b"" for k, f in enumerate(files)])
    assert compute(scans, "--json") == 0
    said = capsys.readouterr()
    facts = json.loads(said.out)
    assert facts["failed_by_code"] == {"bad_dicom": 1}
    assert facts["warned_by_code"] == {"unreadable_files": 1}
    assert "unreadable_files 1" in said.err


def test_what_is_no_chest_is_encoded_only_where_somebody_insists(
    encoder: CountingEncoder, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hu = chest()
    belly = np.where((hu < -700) & (hu > -930), hu + np.int16(860), hu)
    belly[18:24, 18:24, 8:24] = -1000  # gas in the bowel
    save(scans / "belly.nii.gz", belly)
    assert compute(scans, "--json") == 0
    assert json.loads(capsys.readouterr().out)["failed_by_code"] == {"not_chest": 1}
    assert encoder.encoded == 3
    listed = (scans.parent / "store" / "failures.csv").read_text()
    assert "This does not look like a chest" in listed
    assert compute(scans, "--force", "--retry-failed", "--json") == 0
    assert json.loads(capsys.readouterr().out)["failed"] == 0
    assert encoder.encoded == 4


def test_a_source_of_which_nothing_can_be_read_ends_with_1(
    encoder: CountingEncoder, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in scans.iterdir():
        path.write_bytes(b"")
    assert compute(scans) == 1
    assert "3 failed (empty_file 3)" in capsys.readouterr().out


def test_parts_and_limits_make_the_whole(
    encoder: CountingEncoder, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compute(scans, "--limit", "2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["scans"] == 2
    counts = []
    for part in ("1/2", "2/2"):
        assert compute(scans, "--part", part, "--json") == 0
        counts.append(json.loads(capsys.readouterr().out)["scans"])
    assert sum(counts) == 3
    assert len(FeatureStore.open(scans.parent / "store")) == 3


def test_a_plan_says_what_it_takes_and_writes_nothing(
    encoder: CountingEncoder, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compute(scans, "--plan", "--processes", "8") == 0
    out = capsys.readouterr().out
    for words in ("3 scans: 0 finished", "to do: 3", "bytes a scan", "n = 2", "8 processes"):
        assert words in out
    assert not (scans.parent / "store").exists()
    assert compute(scans, "--plan", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["todo"] == 3
    assert set(facts["hours"]) == {"1", "4"}


def test_a_plan_of_what_cannot_be_timed_says_so(
    encoder: CountingEncoder, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compute(scans, "--limit", "1", "--plan") == 0
    assert "time: not known" in capsys.readouterr().out
    assert compute(scans, "--limit", "1", "--plan", "--json") == 0
    assert json.loads(capsys.readouterr().out)["hours"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--part", "5/4"], "no part 5 of 4"),
        (["--readers", "0"], "--readers must be 1 or more"),
        (["--shard-size", "0"], "--shard-size must be 1 or more"),
        (["--shard-size", "10001"], "--shard-size must be 10,000 or less"),
        (["--limit", "-1"], "--limit must be 0 or more"),
        (["--metadata", "nowhere.csv"], "There is no file nowhere.csv"),
        (["--device", "toaster"], "no device called 'toaster'"),
    ],
)
def test_a_bad_option_gets_a_sentence(
    scans: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compute(scans, *words) == 1
    assert said in capsys.readouterr().err
    assert not (scans.parent / "store").exists()


def test_an_encoder_without_weights_names_the_steps_to_them(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAD3D_MODELS_DIR", str(tmp_path / "none"))
    words = ["--encoder", "ct-clip", "--out", str(tmp_path / "store")]
    assert main(["features", "compute", str(scans), *words]) == 1
    assert "rad3d convert" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_show_says_what_a_store_holds(
    encoder: CountingEncoder, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scans / "empty.nii.gz").write_bytes(b"")
    compute(scans)
    capsys.readouterr()
    store = str(scans.parent / "store")
    assert main(["features", "show", store]) == 0
    out = capsys.readouterr().out
    for words in (
        "encoder: phantom-cnn", "3 of 3 different scans", "32 numbers", "logits of CT-RATE",
        "failures: 1 (empty_file 1)", "3 scans, device cpu",
    ):  # fmt: skip
        assert words in out
    assert main(["features", "show", store, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["cases"], facts["dimensions"], facts["failed"]) == (3, 32, 1)
    assert facts["bytes"] == FeatureStore.open(Path(store)).nbytes()


def test_show_reads_a_single_file_as_it_reads_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    shipped = ROOT / "assets/study/features/phantom-in.safetensors"
    assert main(["features", "show", str(shipped), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["cases"], facts["failed"]) == (200, 0)
    assert facts["bytes"] == shipped.stat().st_size


@pytest.mark.slow
def test_processes_of_one_launch_share_the_work(scans: Path, tmp_path: Path) -> None:
    for seed in range(5):
        save(scans / f"n{seed}.nii.gz", chest(seed=10 + seed))
    (scans / "empty.nii.gz").write_bytes(b"")
    torch.manual_seed(0)
    grid = GridSpec(shape=(16, 16, 16), spacing_mm=(22.0, 22.0, 22.0))
    network = ConvEncoder(ConvEncoderConfig((4, 8), 4, 16, grid))
    plain = Calibration(np.ones(18), np.zeros(18), np.full(18, 0.5), "none")
    models = tmp_path / "models"
    ShippedEncoder("phantom-cnn", network, plain, None).save_pretrained(
        models / ENCODERS["phantom-cnn"].source
    )
    launch = "accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1"
    common = "--mixed_precision no --dynamo_backend no -m rad3d features compute"
    words = ["--encoder", "phantom-cnn", "--out", str(tmp_path / "store"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", *launch.split(), *common.split(), str(scans), *words],
        env={**os.environ, "RAD3D_MODELS_DIR": str(models), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["scans"], facts["encoded"], facts["failed"]) == (9, 8, 1)
    assert "[1/2]" in done.stderr
    assert "[2/2]" in done.stderr
    store = FeatureStore.open(tmp_path / "store")
    assert len(store) == 8
    assert len(list((tmp_path / "store" / "shards").iterdir())) == 2


def test_processes_are_dealt_out_to_the_gpus_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    crew = [Crew(n, 4, n) for n in range(4)]
    assert [one.device("auto") for one in crew] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert crew[1].device("cpu") == "cpu"
    assert Crew(0, 1, 0).device("auto") == "auto"
