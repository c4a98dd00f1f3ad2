"""From scans and reports to a report, by commands alone; and what a machine is asked for first."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_train_files import command, features, table
from tiny_models import save_language, save_shipped, sized_config, tiny_language
from volume_files import chest, save

from rad3d import cli
from rad3d.core.encoders import ENCODERS
from rad3d.core.errors import BadRequest
from rad3d.core.files import file_sha256
from rad3d.core.language_models import language_model
from rad3d.core.modes import MODES
from rad3d.core.words import byte_text
from rad3d.model.encoders.calibration import Calibration
from rad3d.model.encoders.phantom_cnn import ConvEncoder, ConvEncoderConfig, ShippedEncoder
from rad3d.model.llm.cost import Workload, estimate
from rad3d.model.llm.precision import Machine
from rad3d.model.llm.training_memory import check_training
from rad3d.model.variants.variant import VariantConfig, variant_directory
from rad3d.train import single
from rad3d.volume.grid import GridSpec

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four scans with reports, an encoder with random weights, and a foreign language model."""
    monkeypatch.setenv("RAD3D_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("RAD3D_RUNS_DIR", str(tmp_path / "runs"))
    torch.manual_seed(0)
    grid = GridSpec(spacing_mm=(14.0, 14.0, 14.0), shape=(24, 24, 24))
    network = ConvEncoder(ConvEncoderConfig((8, 8), 4, 32, grid))
    plain = Calibration(np.ones(18), np.zeros(18), np.full(18, 0.5), "none")
    ShippedEncoder("phantom-cnn", network, plain, None).save_pretrained(
        tmp_path / "models" / ENCODERS["phantom-cnn"].source
    )
    (tmp_path / "scans").mkdir()
    for i in range(4):
        save(tmp_path / "scans" / f"case-{i}.nii.gz", chest(seed=i))
    rows = [f'case-{i},"Findings: A nodule of {i + 3} mm."' for i in range(4)]
    (tmp_path / "reports.csv").write_text("\n".join(["id,report", *rows]), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_scans_and_reports_become_a_variant_that_writes(
    place: Path, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    llm = str(save_language(tiny_language(family), place / f"my-{family}"))
    scans, store = str(place / "scans"), str(place / "features")
    line = ["features", "compute", scans, "--encoder", "phantom-cnn", "--out", store]
    assert cli.main(line) == 0
    line = ["train", "--llm", llm, "--mode", "v3", "--features", store, "--reports",
            str(place / "reports.csv"), "--epochs", "2", "--batch-size", "2", "--layers", "1",
            "--validation-share", "0.25"]  # fmt: skip
    assert cli.main(line) == 0
    name = f"{language_model(llm).id}/v3"
    config = VariantConfig.read(variant_directory(place / "models", name))
    assert (config.encoder, config.latent_dim) == ("phantom-cnn", 32)
    assert len(config.encoder_sha256) == 64
    assert (config.training["pairs"], config.training["steps"]) == (3, 3)
    capsys.readouterr()
    assert cli.main(["variants", "--json"]) == 0
    statuses = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    assert statuses[name]["ready"]
    report = ["report", str(place / "scans" / "case-0.nii.gz"), "--llm", llm, "--json"]
    assert cli.main([*report, "--max-new-tokens", "8"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written["provenance"]["variant"] == name
    weights = place / "models" / ENCODERS["phantom-cnn"].source / "model.safetensors"
    other = load_file(weights)
    other["network.head.bias"] += 1
    save_file(other, weights)
    facts = json.loads((weights.parent / "config.json").read_text(encoding="utf-8"))
    facts["sha256"] = file_sha256(weights)
    (weights.parent / "config.json").write_text(json.dumps(facts), encoding="utf-8")
    assert cli.main(report) == 1
    assert "that other weights of Phantom CNN made" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["bf16", "8bit", "4bit"])
def test_a_frozen_model_may_be_held_in_few_bits(tmp_path: Path, precision: str) -> None:
    save_shipped(tmp_path / "models", modes=("v3",))
    save_language(tiny_language("gpt2"), tmp_path / "my-gpt2")
    features(tmp_path / "f.safetensors")
    table(tmp_path / "r.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAD3D_MODELS_DIR", str(tmp_path / "models"))
        patch.setenv("RAD3D_RUNS_DIR", str(tmp_path / "runs"))
        line = command(tmp_path, "--llm-precision", precision, "--gradient-checkpointing")
        assert cli.main(line) == 0
    name = f"{language_model(str(tmp_path / 'my-gpt2')).id}/v3"
    config = VariantConfig.read(variant_directory(tmp_path / "models", name))
    assert config.training["llm_precision"] == precision


# --- memory ---------------------------------------------------------------------------------------


MB = 10**6
SIZES = sized_config("llama", num_hidden_layers=4, vocab_size=500, max_position_embeddings=512)
LOAD = Workload(16, 300, layers=1)


@cache
def needs(mode: str, precision: str, load: Workload) -> int:
    return estimate(SIZES, mode, precision, load).training


def refusal(mode: str, precision: str, load: Workload, free: int) -> str:
    """What is said where so much memory is free."""
    machine = Machine("cuda", "a GPU", free, native_bf16=True, quantises=True)
    with pytest.raises(BadRequest) as caught:
        check_training(SIZES, mode, precision, load, machine, accumulate=2)
    assert caught.value.code == "model_too_large"
    return str(caught.value)


def options(text: str) -> dict[str, str]:
    """The options that a refusal names, by name; the first of each."""
    words = text.replace(",", " ").split()
    named = [(w, v) for w, v in pairwise(words) if w.startswith("--")]
    return dict(reversed([pair for pair in named if pair[0] != "--force"]))


@pytest.mark.parametrize("share", [0.9, 0.4])
def test_the_batch_that_a_refusal_names_fits_and_makes_the_same_step(share: float) -> None:
    free = int(share * needs("v3", "bf16", LOAD))
    said = options(refusal("v3", "bf16", LOAD, free))
    batch = int(said["--batch-size"])
    assert batch * int(said["--accumulate"]) == 32
    assert needs("v3", "bf16", replace(LOAD, batch_size=batch)) <= 0.97 * free
    assert needs("v3", "bf16", replace(LOAD, batch_size=2 * batch)) > 0.93 * free


def test_checkpointing_and_precision_are_named_where_they_are_enough() -> None:
    for load, said in (
        (replace(LOAD, autocast=True), "--gradient-checkpointing"),
        (Workload(1, 8, 1, autocast=True), "--llm-precision bf16"),  # almost only weights
    ):
        free = int(0.99 * needs("v3", "float32", load))
        text = refusal("v3", "float32", load, free)
        assert said in text
        assert f"and {byte_text(free)} are free on a GPU" in text


def test_where_one_change_is_not_enough_several_are_named() -> None:
    one = Workload(1, 300, layers=1)
    free = int(needs("v3", "bf16", replace(one, checkpointing=True)) / 0.94)
    again = needs("v3", "bf16", replace(LOAD, checkpointing=True))
    assert free < 0.95 * min(needs("v3", "bf16", one), again), "neither is enough by itself"
    text = refusal("v3", "bf16", LOAD, free)
    assert "--gradient-checkpointing --batch-size 1 --accumulate 32 would fit" in text


def test_fine_tuning_that_cannot_fit_names_freezing_or_else_a_smaller_model() -> None:
    exact = replace(LOAD, autocast=True)
    frozen = replace(exact, batch_size=1, checkpointing=True)
    free = int(needs("v2", "float32", frozen) / 0.9)
    assert "--mode v2 --gradient-checkpointing" in refusal("v1", "float32", exact, free)
    assert "Choose a smaller model; --force" in refusal("v1", "float32", exact, MB)


def test_what_fits_is_not_refused() -> None:
    machine = Machine("cpu", "the processor", 0, native_bf16=True, quantises=True)
    for free in (0, 10**11):  # 0 where the system does not say
        check_training(SIZES, "v3", "bf16", Workload(2, 20, 1), replace(machine, free_bytes=free))


def test_train_counts_before_it_loads_and_force_overrides(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_language(tiny_language("gpt2"), place / "my-gpt2")
    features(place / "f.safetensors")
    table(place / "r.csv")
    poor = Machine("cpu", "the processor", 1000, native_bf16=True, quantises=True)
    monkeypatch.setattr(single, "inspect_machine", lambda device: poor)
    assert cli.main(command(place)) == 1
    err = capsys.readouterr().err
    assert "A training step with 2 reports of up to" in err
    assert "--force tries it all the same" in err
    assert not list((place / "runs").rglob("config.json"))
    assert cli.main(command(place, "--force")) == 0


def test_running_out_of_memory_all_the_same_ends_in_a_sentence(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def exhaust(*args: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")

    save_language(tiny_language("gpt2"), place / "my-gpt2")
    features(place / "f.safetensors")
    table(place / "r.csv")
    monkeypatch.setattr(single, "train_variant", exhaust)
    assert cli.main(command(place)) == 1
    err = capsys.readouterr().err
    assert "There is not enough memory to train. Choose a smaller --batch-size" in err
    assert "GiB" not in err


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_learns_from_files(
    place: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_language(tiny_language("llama"), place / "my-gpt2")
    features(place / "f.safetensors")
    table(place / "r.csv")
    status = cli.main(command(place, mode=mode))
    err = capsys.readouterr().err
    if "tokens" in MODES[mode].reads:
        assert status == 1
        assert "rad3d features compute --tokens" in err
    elif "findings" in MODES[mode].reads:
        assert status == 1
        assert "than the encoder or head that is here" in err
    else:
        assert status == 0


def test_visual_tokens_and_findings_go_the_whole_way(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    llm = str(save_language(tiny_language("llama"), place / "my-llama"))
    scans, store = str(place / "scans"), str(place / "features")
    line = ["features", "compute", scans, "--encoder", "phantom-cnn", "--out", store, "--tokens"]
    assert cli.main(line) == 0
    for mode in ("r2gengpt", "words"):
        line = ["train", "--llm", llm, "--mode", mode, "--features", store, "--reports",
                str(place / "reports.csv"), "--epochs", "1", "--batch-size", "2"]  # fmt: skip
        assert cli.main(line) == 0
        capsys.readouterr()
        report = ["report", str(place / "scans" / "case-0.nii.gz"), "--llm", llm, "--json"]
        assert cli.main([*report, "--mode", mode, "--max-new-tokens", "4"]) == 0
        written = json.loads(capsys.readouterr().out)
        assert written["provenance"]["variant"] == f"{language_model(llm).id}/{mode}"
