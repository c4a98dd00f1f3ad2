"""Models that cannot be loaded: the app starts, says what is wrong, and goes on with what works."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from browser.launch import running_app
from tabs import Tab

import rad3d.model.store as store_module
from rad3d.core.encoders import ENCODERS, SHIPPED_ENCODER
from rad3d.core.errors import MissingWeights, Rad3dError
from rad3d.core.language_models import LANGUAGE_MODELS
from rad3d.core.settings import Settings
from rad3d.core.types import GenerationOptions
from rad3d.data.spec import SetSpec
from rad3d.evaluation.evaluations import Evaluations
from rad3d.evaluation.run_types import EvaluationRequest
from rad3d.server.metrics_routes import Operations
from rad3d.server.queue import ReportQueue
from rad3d.service.service import Service

pytestmark = pytest.mark.process

SHIPPED = Settings().models_dir
VARIANT = "phantom-s/v3"
ROW = ENCODERS[SHIPPED_ENCODER]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The smallest shipped variant and its encoder, to be broken."""
    models = tmp_path / "models"
    for source in (ROW.source, f"variants/{VARIANT}", LANGUAGE_MODELS["phantom-s"].source):
        shutil.copytree(SHIPPED / source, models / source)
    return Settings(models_dir=models, runs_dir=tmp_path / "runs", default_variant=VARIANT)


def one_bit(folder: Path) -> None:
    """The weights are not those that were saved."""
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def no_json(folder: Path) -> None:
    """The configuration was cut off."""
    (folder / "config.json").write_text('{"encoder": ', encoding="utf-8")


def other_json(folder: Path) -> None:
    """The configuration is that of something else."""
    (folder / "config.json").write_text("[]", encoding="utf-8")


@pytest.mark.parametrize("damage", [one_bit, no_json, other_json])
def test_a_corrupt_encoder_is_said_on_the_page_and_in_the_health_and_the_rest_goes_on(
    damage: Callable[[Path], None], settings: Settings, tmp_path: Path
) -> None:
    damage(settings.models_dir / ROW.source)
    operations = Operations(settings)
    service = Service(settings, on_event=operations.on_event)
    operations.attach(service, ReportQueue(1, 1), tmp_path)
    evaluations = Evaluations(service, settings, trusted=True)
    service.probe()
    assert operations.problems() == ["corrupt_weights", "no_model"]
    status = next(s for s in service.variants() if s.id == VARIANT)
    assert not status.ready
    assert status.command == ROW.command
    with running_app(service, tmp_path, evaluations) as url, Tab(url) as tab:
        *_, last = tab.events("start")
        assert ROW.command in last["output"]["data"][1], "the page says what to do"
        sample = service.gallery.cards[0].id
        assert tab.call("open_sample", sample)["shape"], "scans can be looked at"
        with pytest.raises(RuntimeError, match="needs its encoder"):
            tab.call("write_report", VARIANT, {})
    assert scored(evaluations, tmp_path) == 2, "predictions files are scored"


def scored(evaluations: Evaluations, folder: Path) -> int:
    """Number of cases of a predictions file that were scored."""
    path = folder / "mine.jsonl"
    rows = [{"id": str(i), "reference": "Normal.", "prediction": "Normal."} for i in range(2)]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    request = EvaluationRequest((SetSpec("predictions", str(path)),), metrics=("f1_macro",))
    *_, last = evaluations.start(request, threading.Event())
    assert last.run is not None
    return next(iter(last.run.cards.values())).n


def test_an_encoder_that_is_repaired_is_used_without_a_restart(settings: Settings) -> None:
    folder = settings.models_dir / ROW.source
    no_json(folder)
    service = Service(settings)
    service.probe()
    before = service.troubles
    assert len(before) == 1
    shutil.copy(SHIPPED / ROW.source / "config.json", folder / "config.json")
    assert service.troubles == ()
    assert next(s for s in service.variants() if s.id == VARIANT).ready


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("DOE^JANE"), "model_failed"),
        (PermissionError(13, "DOE^JANE"), "corrupt_weights"),
    ],
)
def test_whatever_loading_an_encoder_raises_is_a_sentence_and_the_page_is_built(
    raised: Exception,
    code: str,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cannot(*_: object) -> None:
        raise raised

    load = store_module.load_encoder
    monkeypatch.setattr(store_module, "load_encoder", cannot)
    service = Service(settings)
    service.probe()
    (trouble,) = service.troubles
    assert trouble.code == code
    assert "JANE" not in str(trouble)
    with running_app(service, tmp_path, Evaluations(service, settings)) as url, Tab(url) as tab:
        *_, last = tab.events("start")
        assert trouble.problem in last["output"]["data"][1]
    monkeypatch.setattr(store_module, "load_encoder", load)
    service.probe()
    assert service.troubles == (), "memory may be free again: it is tried anew"


def test_a_damaged_variant_is_not_ready_and_does_not_keep_the_app_from_starting(
    settings: Settings, tmp_path: Path
) -> None:
    path = settings.models_dir / "variants" / VARIANT / "variant.json"
    path.write_bytes(b"\xff\xfe{")
    service = Service(settings)
    service.probe()
    assert service.troubles == ()
    status = next(s for s in service.variants() if s.id == VARIANT)
    assert "variant.json cannot be read" in status.reason
    session = service.sessions.new()
    service.open_sample(session, service.gallery.cards[0].id)
    with pytest.raises(MissingWeights, match="cannot be read"):
        list(service.generate(session, VARIANT, GenerationOptions(), threading.Event()))
    with pytest.raises(Rad3dError):
        Evaluations(service, settings).start(
            EvaluationRequest((SetSpec("phantom-in"),), (VARIANT,)), threading.Event()
        )
