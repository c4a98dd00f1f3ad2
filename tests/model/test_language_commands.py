"""What the commands say about language models: the table, the machine, and the step to each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import save_language, tiny_language

from rad3d import cli
from rad3d.commands import doctor
from rad3d.commands.options import add_device_options, with_device_options
from rad3d.commands.report import _variant
from rad3d.core.errors import BadRequest
from rad3d.core.language_models import LANGUAGE_MODELS
from rad3d.core.settings import Settings
from rad3d.model.store import ModelStore
from rad3d.ui import choices

PUBLISHED = [row for row in LANGUAGE_MODELS.values() if not row.shipped]


def test_variants_llms_prints_every_published_model_with_what_the_rule_suggests(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["variants", "--llms"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(PUBLISHED)
    (llama,) = (line for line in lines if line.startswith("llama-3.2-1b"))
    for fact in ("1,235,814,400", "2048", "131,072", "2.47 GB", "freeze", "(gated)", "@4e20de3"):
        assert fact in llama
    assert cli.main(["variants", "--llms", "--json"]) == 0
    facts = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    assert facts["gpt2"]["memory_bytes"]["float32"] == 4 * 124_439_808
    assert facts["gpt2"]["advice"] == "fine-tune"


def test_doctor_gives_the_exact_steps_to_each_language_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rad3d.model.llm.hub.find_cached", lambda source, revision=None: None)
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    checks = {c.name: c for c in doctor.language_models(Settings(models_dir=tmp_path))}
    assert {f"LLM {row.id}" for row in PUBLISHED} <= set(checks)
    steps = checks["LLM llama-3.2-1b"].remedy.split("; then: ")
    assert steps[0].endswith("/meta-llama/Llama-3.2-1B")
    assert steps[1] == "hf auth login"
    assert steps[2].startswith("hf download meta-llama/Llama-3.2-1B --revision 4e20de3")
    assert checks["LLM biogpt"].remedy.startswith("pip install sacremoses; then: hf download")
    assert checks["LLM gpt2"].state == "absent"
    assert checks["hub"].detail == "downloads are off"
    mirrored = Settings(models_dir=tmp_path, hub_url="https://mirror")
    remedy = {c.name: c.remedy for c in doctor.language_models(mirrored)}["LLM gpt2"]
    assert remedy.startswith("HF_ENDPOINT=https://mirror hf download openai-community/gpt2")

    here = tmp_path / "openai-community" / "gpt2"
    here.mkdir(parents=True)
    (here / "config.json").write_text("{}")
    checks = {c.name: c for c in doctor.language_models(Settings(models_dir=tmp_path))}
    assert checks["LLM gpt2"].state == "ok"


def test_folders_in_the_models_folder_stand_in_every_list_with_name_and_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_language(tiny_language("gpt2"), tmp_path / "llms" / "my-gpt2")
    (folder / "README.md").write_text("---\nlicense: odd-1.0\n---\nA model.\n")
    monkeypatch.setenv("RAD3D_MODELS_DIR", str(tmp_path))
    checks = {c.name: c for c in doctor.language_models(Settings(models_dir=tmp_path))}
    assert checks["LLM local--my-gpt2"].detail == "llms/my-gpt2, licence odd-1.0"
    assert "rad3d convert --gguf" in checks["other ways"].detail
    assert cli.main(["variants", "--llms"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("local--my-gpt2")
    assert "odd-1.0" in line
    statuses = {s.id: s for s in ModelStore(Settings(models_dir=tmp_path)).catalogue.statuses()}
    status = statuses["local--my-gpt2/v3"]
    assert (status.ready, status.in_folder, status.licence) == (False, True, "odd-1.0")
    assert status.command == "rad3d train --llm local--my-gpt2 --mode v3"
    assert ("my-gpt2 · 43.9k · untrained", "local--my-gpt2") in choices.llm_choices([status])
    text = choices.guidance([status], "local--my-gpt2", None, lambda _: ())
    assert "my-gpt2 is untrained" in text
    assert status.command in text


def test_doctor_tells_of_every_metric_with_weights_what_is_here_or_how_to_get_it(
    tmp_path: Path,
) -> None:
    settings = Settings(models_dir=tmp_path)
    absent = {c.name: c for c in doctor.metrics(settings)}
    assert {"metric bertscore", "metric radbert_f1", "metric green"} <= set(absent)
    assert all(check.state == "absent" and check.remedy for check in absent.values())
    assert "rad3d convert --bertscore" in absent["metric bertscore"].remedy
    folder = tmp_path / "metrics" / "bertscore"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "origin.json").write_text('{"name": "my-bert", "licence": "mit"}')
    here = {c.name: c for c in doctor.metrics(settings)}["metric bertscore"]
    assert (here.state, here.detail) == ("ok", "BERTScore: my-bert, licence mit")


def test_doctor_says_how_models_will_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = {check.name: check for check in doctor.devices(Settings(precision="8bit"))}
    assert "bf16" in checks["processor"].detail
    assert "free" in checks["processor"].detail or "not known" in checks["processor"].detail
    assert checks["8 and 4 bit"].state == "ok"
    assert checks["device"].detail.endswith("precision 8bit")
    wrong = {check.name: check for check in doctor.devices(Settings(device="cuda:99"))}
    assert wrong["device"].state == "missing"
    assert "RAD3D_DEVICE=cpu" in wrong["device"].remedy


def test_precision_and_device_on_the_command_line_win_over_the_environment() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_device_options(parser)
    settings = Settings.from_env({"RAD3D_PRECISION": "bf16", "RAD3D_DEVICE": "cpu"})
    assert with_device_options(settings, parser.parse_args([])) == settings
    args = parser.parse_args(["--precision", "4bit", "--device", "cuda"])
    changed = with_device_options(settings, args)
    assert (changed.precision, changed.device) == ("4bit", "cuda")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ([], "phantom-l/v3"),
        (["--variant", "gpt2/v1"], "gpt2/v1"),
        (["--llm", "gpt2"], "gpt2/v3"),
        (["--llm", "Qwen/Qwen3-0.6B", "--mode", "v2"], "Qwen--Qwen3-0.6B/v2"),
    ],
)
def test_report_takes_a_variant_or_any_language_model(line: list[str], expected: str) -> None:
    args = cli.build_parser().parse_args(["report", "scan.nii.gz", *line])
    assert _variant(args, Settings()) == expected


def test_report_refuses_both_a_variant_and_a_language_model() -> None:
    line = ["report", "scan.nii.gz", "--llm", "gpt2", "--variant", "gpt2/v1"]
    with pytest.raises(BadRequest, match="exclude each other"):
        _variant(cli.build_parser().parse_args(line), Settings())


def test_mirror_and_offline_are_settings() -> None:
    settings = Settings.from_env({"RAD3D_HUB_URL": "https://mirror", "RAD3D_OFFLINE": "1"})
    assert (settings.hub_url, settings.offline) == ("https://mirror", True)
    with pytest.raises(BadRequest, match="RAD3D_OFFLINE must be 0 or 1"):
        Settings.from_env({"RAD3D_OFFLINE": "yes"})
