"""Training one variant: which stages run for it, and what each flag changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rad3d import cli
from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.language_models import LANGUAGE_MODELS
from rad3d.core.modes import MODES
from rad3d.model.llm import hub as sources
from rad3d.model.llm.bf16 import FASTER
from rad3d.model.llm.precision import Machine
from rad3d.train import demo_build as build
from rad3d.train import single
from rad3d.train.demo_build import DemoBuild
from rad3d.train.demo_plan import FULL, QUICK
from rad3d.train.single import PUBLISHED, Place, overridden, train_single
from rad3d.train.variant_training import VariantTraining


def stages_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, llm: str, made: tuple[str, ...]
) -> list[str]:
    """Names of the stages that training ``llm`` on phantoms runs when those named so are done."""
    ran: list[str] = []
    real_stages = DemoBuild.stages

    def stages(build: DemoBuild) -> list[object]:
        def done(name: str) -> Callable[[], bool]:
            return lambda: name.startswith(made) if made else False

        real = list(real_stages(build))
        return [type(stage)(stage.name, done(stage.name), lambda: None) for stage in real]

    monkeypatch.setattr(DemoBuild, "stages", stages)
    monkeypatch.setattr(DemoBuild, "run", lambda build, only: ran.append(only))
    monkeypatch.setattr(DemoBuild, "pairs", lambda build, mode: None)
    DemoBuild(QUICK, tmp_path, tmp_path, 1, lambda text, done: None).prepared(llm, "v3")
    return ran


def test_only_what_the_variant_needs_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = stages_run(monkeypatch, tmp_path, "phantom-m", made=())
    assert ran.index("phantoms:encoder") < ran.index("encoder") < ran.index("features:paired")
    assert ran.index("features:calibration") < ran.index("calibration") < ran.index("prior")
    assert ran.index("tokenizer") < ran.index("llm:phantom-m")
    assert not {name for name in ran if "phantom-s" in name or "test" in name}


def test_what_is_there_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = ("features:", "calibration", "prior", "llm:")
    assert stages_run(monkeypatch, tmp_path, "phantom-m", made) == []


def test_a_published_model_needs_no_shipped_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = stages_run(monkeypatch, tmp_path, "gpt2", made=())
    assert "calibration" in ran
    assert not [name for name in ran if name.startswith(("llm:", "tokenizer"))]


def test_a_language_model_that_is_not_here_is_missed_before_phantoms_are_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(DemoBuild, "run", lambda build, only: ran.append(only))
    monkeypatch.setenv("RAD3D_RUNS_DIR", str(tmp_path))
    monkeypatch.setenv("RAD3D_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("RAD3D_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert cli.main(["train", "--llm", "distilgpt2", "--mode", "v1"]) == 1
    assert "distilbert/distilgpt2 is not here" in capsys.readouterr().err
    assert ran == []


def test_several_processes_do_not_make_the_same_phantoms(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(build, "PartialState", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(BadRequest, match="without accelerate launch first"):
        stages_run(monkeypatch, tmp_path, "gpt2", made=())


@pytest.mark.parametrize(("llm", "mode"), [("gpt9", "v3"), ("gpt2", "v9")])
def test_an_unknown_model_or_mode_is_refused(llm: str, mode: str, tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path)
    no_data: Any = None
    with pytest.raises(UnknownName, match="Known:"):
        train_single(no_data, llm, mode, PUBLISHED, place, lambda text, done: None)


@pytest.mark.parametrize(
    ("flag", "value", "read"),
    [
        ("--steps", "7", lambda t: (t.loop.steps, t.tuned_loop.steps)),
        ("--learning-rate", "0.5", lambda t: (t.loop.learning_rate, t.tuned_loop.learning_rate)),
        ("--precision", "no", lambda t: (t.loop.precision, t.tuned_loop.precision)),
        ("--seed", "7", lambda t: (t.loop.seed, t.tuned_loop.seed)),
        ("--accumulate", "7", lambda t: (t.loop.accumulate, t.tuned_loop.accumulate)),
        ("--validate-every", "7", lambda t: (t.loop.validate_every, t.tuned_loop.validate_every)),
        ("--patience", "7", lambda t: (t.loop.patience, t.tuned_loop.patience)),
        ("--epochs", "7.0", lambda t: (t.epochs,)),
        ("--latent-weight", "7.0", lambda t: (t.latent_weight,)),
        ("--logits-weight", "7.0", lambda t: (t.logits_weight,)),
        ("--llm-precision", "8bit", lambda t: (t.llm_precision,)),
        ("--batch-size", "7", lambda t: (t.batch_size,)),
        ("--layers", "7", lambda t: (t.layers,)),
        ("--prefix-scale", "words", lambda t: (t.prefix_scale,)),
        ("--targets", "findings", lambda t: (t.target.targets,)),
        ("--wording", "canonical", lambda t: (t.target.wording,)),
        ("--other-weight", "0.5", lambda t: (t.target.other_weight,)),
    ],
)
def test_every_flag_changes_the_schedule(
    monkeypatch: pytest.MonkeyPatch,
    flag: str,
    value: str,
    read: Callable[[object], tuple[object, ...]],
) -> None:
    changed = schedules(monkeypatch, flag, value)
    for llm, training in SCHEDULES.items():
        assert all(str(v) == value for v in read(changed[llm]))
        assert read(changed[llm]) != read(training)


SCHEDULES = {"gpt2": PUBLISHED, "phantom-m": FULL.variants["phantom-m"]}


def schedules(monkeypatch: pytest.MonkeyPatch, *flags: str) -> dict[str, VariantTraining]:
    """What `rad3d train` would train with these flags."""
    seen: list[VariantTraining] = []

    def record(data: object, llm: str, mode: str, training: VariantTraining, *_: object) -> Path:
        seen.append(training)
        return Path("variant")

    monkeypatch.setattr(single, "train_single", record)
    monkeypatch.setattr(DemoBuild, "prepared", lambda build, *_: SimpleNamespace(source={}))
    monkeypatch.setattr(sources, "obtain", lambda source, hub, **_: Path())
    for llm in SCHEDULES:
        assert cli.main(["train", "--llm", llm, "--mode", "v3", *flags]) == 0
    return dict(zip(SCHEDULES, seen, strict=True))


def test_flags_without_a_number_change_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = schedules(monkeypatch, "--gradient-checkpointing", "--scaling", "standardised")
    assert all(t.checkpointing and t.standardised for t in changed.values())
    changed = schedules(monkeypatch, "--scaling", "plain")
    assert not any(t.checkpointing or t.standardised for t in changed.values())


def test_published_models_learn_by_the_papers_recipe() -> None:
    assert (PUBLISHED.epochs, PUBLISHED.layers, PUBLISHED.standardised) == (10, 8, False)
    assert (PUBLISHED.latent_weight, PUBLISHED.logits_weight, PUBLISHED.noise) == (1, 1, 0)
    for mode in (row for row in MODES.values() if row.trains):
        loop = PUBLISHED.resolved(24_000).schedule(mode)
        assert (loop.learning_rate, loop.weight_decay, loop.steps) == (2e-5, 0, 15_000)
        assert {loop.factor(step) for step in (100, 7_000, 14_999)} == {1.0}


def test_what_is_not_trained_takes_no_step() -> None:
    assert PUBLISHED.resolved(24_000).schedule(MODES["text"]).steps == 0
    assert FULL.schedule("phantom-s", "text").schedule(MODES["text"]).steps == 0


def test_findings_of_other_scans_need_reports_of_their_own() -> None:
    with pytest.raises(BadRequest, match="Add --targets findings"):
        overridden(PUBLISHED, mixing=0.3)
    assert overridden(PUBLISHED, mixing=0.3, targets="findings").target.mixing == 0.3


def test_an_epoch_sees_every_pair_once_whatever_makes_a_step() -> None:
    one = replace(PUBLISHED, epochs=1, batch_size=4)
    assert one.resolved(100).loop.steps == 25
    four = replace(one, loop=replace(one.loop, accumulate=2))
    assert four.resolved(100, processes=2).loop.steps == 7, "16 pairs each"
    assert four.resolved(1).loop.steps == 1


def test_no_override_leaves_the_schedule_as_it_is() -> None:
    for training in (PUBLISHED, *FULL.variants.values()):
        assert overridden(training) == training


def test_train_offers_every_model_and_mode_of_the_registry(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    text = re.sub(r"-\n\s+", "-", capsys.readouterr().out)  # lines are broken inside names
    assert all(name in text for name in (*LANGUAGE_MODELS, *MODES))


def test_demo_build_refuses_a_stage_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "build", "--stage", "variants"]) == 1
    assert "no stage called 'variants'. Known: phantoms:encoder" in capsys.readouterr().err


def test_demo_build_lists_its_stages_on_stdout(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["demo", "build", "--list", "--models", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.endswith("variant:phantom-l/v3")]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("gain", "computed"), [(0.6, "no"), (2.6, "bf16"), (0.0, "no")])
def test_published_models_train_in_what_this_processor_is_faster_in(
    gain: float, computed: str
) -> None:
    machine = Machine("cpu", "the processor", 0, gain >= FASTER, True, bf16_gain=gain)
    told: list[str] = []
    found = single._computed(PUBLISHED, machine, lambda text, fraction: told.append(text))
    assert {found.loop.precision, found.tuned_loop.precision} == {computed}
    assert ("times as fast" in told[0]) is (gain > 0)
    asked = overridden(PUBLISHED, precision="bf16")
    assert single._computed(asked, machine, lambda text, fraction: None) == asked
