"""Training one variant: which stages run for it, and what each flag changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rad3d import cli
from rad3d.errors import UnknownName
from rad3d.registry import LANGUAGE_MODELS, MODES
from rad3d.train import single
from rad3d.train.build import DemoBuild
from rad3d.train.plan import FULL, QUICK
from rad3d.train.single import PUBLISHED, Overrides, train_single


def stages_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, llm: str, made: tuple[str, ...]
) -> list[str]:
    """Names of the stages that training ``llm``/v3 runs when those named so are done."""
    ran: list[str] = []
    real_stages = DemoBuild.stages

    def stages(build: DemoBuild) -> list[object]:
        def done(name: str) -> Callable[[], bool]:
            return lambda: name.startswith(made) if made else False

        real = list(real_stages(build))
        return [type(stage)(stage.name, done(stage.name), lambda: None) for stage in real]

    monkeypatch.setattr(DemoBuild, "stages", stages)
    monkeypatch.setattr(DemoBuild, "run", lambda build, only: ran.append(only))
    train_single(QUICK, llm, "v3", tmp_path, tmp_path, progress=lambda text, done: None)
    return ran


def test_only_what_the_variant_needs_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = stages_run(monkeypatch, tmp_path, "phantom-m", made=())
    assert ran[-1] == "variant:phantom-m/v3"
    assert ran.index("phantoms:encoder") < ran.index("encoder") < ran.index("features:paired")
    assert ran.index("features:calibration") < ran.index("calibration")
    assert ran.index("tokenizer") < ran.index("llm:phantom-m")
    assert not {name for name in ran if "phantom-s" in name or "test" in name}


def test_what_is_there_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = ("features:", "calibration", "llm:")
    ran = stages_run(monkeypatch, tmp_path, "phantom-m", made)
    assert [name for name in ran if not name.startswith(made)] == ["variant:phantom-m/v3"]


def test_a_published_model_needs_no_shipped_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = stages_run(monkeypatch, tmp_path, "gpt2", made=("features:", "calibration"))
    assert ran[-1] == "variant:gpt2/v3"
    assert not [name for name in ran if name.startswith(("llm:", "tokenizer"))]


def test_an_unknown_model_or_mode_is_refused(tmp_path: Path) -> None:
    for llm, mode in (("gpt9", "v3"), ("gpt2", "v9")):
        with pytest.raises(UnknownName, match="Known:"):
            train_single(FULL, llm, mode, tmp_path, tmp_path, progress=lambda text, done: None)


@pytest.mark.parametrize(
    ("flag", "value", "read"),
    [
        ("--steps", "7", lambda t: (t.loop.steps, t.tuned_loop.steps)),
        ("--learning-rate", "0.5", lambda t: (t.loop.learning_rate, t.tuned_loop.learning_rate)),
        ("--precision", "no", lambda t: (t.loop.precision, t.tuned_loop.precision)),
        ("--seed", "7", lambda t: (t.loop.seed, t.tuned_loop.seed)),
        ("--batch-size", "7", lambda t: (t.batch_size,)),
        ("--layers", "7", lambda t: (t.layers,)),
    ],
)
def test_every_flag_changes_the_schedule(
    monkeypatch: pytest.MonkeyPatch,
    flag: str,
    value: str,
    read: Callable[[object], tuple[object, ...]],
) -> None:
    seen: list[Overrides] = []

    def record(*args: object, overrides: Overrides, **others: object) -> Path:
        seen.append(overrides)
        return Path("variant")

    monkeypatch.setattr(single, "train_single", record)
    assert cli.main(["train", "--llm", "gpt2", "--mode", "v3", flag, value]) == 0
    for training in (PUBLISHED, FULL.variants["phantom-m"]):
        assert all(str(v) == value for v in read(seen[0].apply(training)))
        assert read(seen[0].apply(training)) != read(training)


def test_no_override_leaves_the_schedule_as_it_is() -> None:
    for training in (PUBLISHED, *FULL.variants.values()):
        assert Overrides().apply(training) == training


def test_train_offers_every_model_and_mode_of_the_registry(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    text = capsys.readouterr().out
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
