"""CT-CLIP as an encoder: converted, loaded, named by doctor, in the engine and in the app."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ctclip_states import (
    SMALL,
    convert,
    converted,
    lipro_state,
    published_shapes,
    random_state,
    small_config,
)
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tiny_models import save_language, tiny_language
from torch import Tensor

from rad3d import cli
from rad3d.commands.doctor import encoders
from rad3d.core.encoders import ENCODERS
from rad3d.core.errors import BadRequest, CorruptWeights, MissingWeights
from rad3d.core.labels import LABELS
from rad3d.core.settings import Settings
from rad3d.core.types import DoneEvent, GenerationOptions, Volume
from rad3d.features.encoder_features import encoder_identity
from rad3d.features.table import FeatureTable, write_features
from rad3d.model.encoders.base import load_encoder
from rad3d.model.encoders.ctclip.checkpoint import build, sort_checkpoint
from rad3d.model.encoders.ctclip.deviation import deviation
from rad3d.model.encoders.ctclip.encoder import CtClipEncoder
from rad3d.model.engine import Engine
from rad3d.model.identity import EncoderIdentity
from rad3d.model.store import ModelStore
from rad3d.model.variants.reporter import PrefixReporter
from rad3d.model.variants.variant import VariantConfig, variant_directory
from rad3d.service.service import Service
from rad3d.synthetic.phantom.cohort import make_case
from rad3d.volume.grid import to_grid

pytestmark = pytest.mark.numeric


@pytest.fixture
def lipro(tmp_path: Path) -> Path:
    path = tmp_path / "CT_LiPro_v2.pt"
    torch.save(lipro_state(), path)
    return path


def test_convert_writes_what_the_encoder_reads(
    lipro: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = converted(lipro, tmp_path)
    told = capsys.readouterr()
    printed = json.loads(told.out)
    shapes: Any = published_shapes(SMALL).values()
    assert printed["elements"] == sum(math.prod(shape) for shape in shapes)
    assert "2 tensors of the text encoder" in told.err
    assert "to_pixels" in told.err
    assert set(load_file(out / "model.safetensors")) == set(published_shapes(SMALL))
    assert len({path.stat().st_mode for path in out.iterdir()}) == 1, "readable by all or by none"
    encoder = CtClipEncoder.from_pretrained(out)
    assert encoder.grid == SMALL.grid()
    values = np.random.default_rng(1).uniform(-1, 1, (16, 32, 32)).astype(np.float32)
    seen = encoder.encode(values)
    state = sort_checkpoint(lipro_state(), frames=16)
    expected = build(SMALL, state.read)(torch.tensor(values)[None, None])
    np.testing.assert_array_equal(seen.pooled, expected.latent[0])
    # Token (t, h, w) of the network is (x, y, slice) of the grid.
    assert seen.tokens.shape == (16, 4, 4, 4)
    np.testing.assert_array_equal(seen.tokens[:, 1, 2, 3], expected.tokens[0, 3, 1, 2])


def test_weights_stay_in_the_file_until_they_are_read(lipro: Path, tmp_path: Path) -> None:
    network = CtClipEncoder.from_pretrained(converted(lipro, tmp_path)).network
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("only Linux says where memory comes from")
    start = network.to_visual_latent.weight.data_ptr()
    for line in maps.read_text(encoding="utf-8").splitlines():
        low, high = (int(v, 16) for v in line.split()[0].split("-"))
        if low <= start < high:
            assert line.endswith("model.safetensors")
            return
    pytest.fail("the weights lie nowhere")


def test_without_calibration_probabilities_are_sigmoids_and_said_to_be(
    lipro: Path, tmp_path: Path
) -> None:
    out = converted(lipro, tmp_path)
    assert CtClipEncoder.own_head(out) == "uncalibrated"
    diagnosis = CtClipEncoder.from_pretrained(out).diagnose(np.full(12, 0.3, np.float32))
    assert not diagnosis.calibrated
    np.testing.assert_allclose(diagnosis.probabilities, 1 / (1 + np.exp(-diagnosis.logits)))


def test_the_order_of_clipping_changes_the_grid(lipro: Path, tmp_path: Path) -> None:
    encoder = CtClipEncoder.from_pretrained(converted(lipro, tmp_path, "--clip", "after"))
    assert encoder.grid == SMALL.grid("after")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gain", "taken"), [(0.0, "float32"), (0.6, "float32"), (2.8, "bf16")], ids=str
)
def test_auto_takes_bf16_where_it_was_measured_to_be_faster_and_says_so(
    gain: float,
    taken: str,
    lipro: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cases = {0: make_case(0)}
    monkeypatch.setattr("rad3d.model.encoders.ctclip.deviation.make_case", cases.__getitem__)
    monkeypatch.setattr("rad3d.model.llm.bf16.bf16_gain", lambda: gain)
    out = converted(lipro, tmp_path, "--precision", "auto")
    assert f"{taken} is taken" in (told := capsys.readouterr().err)
    assert not gain or f"{gain} times as fast in bf16" in told
    assert CtClipEncoder.from_pretrained(out).precision == taken


@pytest.mark.slow
def test_what_bfloat16_changes_is_measured_said_and_kept(
    lipro: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cases = {0: make_case(0)}
    monkeypatch.setattr("rad3d.model.encoders.ctclip.deviation.make_case", cases.__getitem__)
    out = converted(lipro, tmp_path, "--precision", "bf16")
    told = capsys.readouterr()
    kept = json.loads((out / "config.json").read_text(encoding="utf-8"))["deviation"]
    assert json.loads(told.out)["deviation"] == kept
    assert f"{kept['codes_changed']} of 64 codes change" in told.err
    assert 1e-4 < kept["logits"] < 1
    read = sort_checkpoint(lipro_state(), frames=16).read
    video = torch.tensor(to_grid(cases[0].volume, SMALL.grid()).values)[None, None]
    exact, rounded = build(SMALL, read), build(SMALL, read).with_linear_dtype(torch.bfloat16)
    assert kept["codes_changed"] == int((exact(video).codes != rounded(video).codes).sum())
    same = deviation(SMALL, read, SMALL.grid(), "float32")
    assert (same.latent, same.logits, same.codes_changed) == (0, 0, 0)
    encoder = CtClipEncoder.from_pretrained(out)
    transformer = encoder.network.visual_transformer.enc_spatial_transformer
    to_q = transformer.get_submodule("layers.0.1.to_q")
    assert to_q.get_parameter("weight").dtype == torch.bfloat16
    seen = encoder.encode(to_grid(cases[0].volume, SMALL.grid()).values)
    np.testing.assert_array_equal(seen.pooled, rounded(video).latent[0])


def test_bfloat16_stays_close_to_float32_before_the_codes_are_chosen() -> None:
    state = random_state(SMALL, 3)
    x = torch.rand(1, 1, 16, 32, 32) * 2 - 1
    encoded: list[Tensor] = []
    for dtype in (torch.float32, torch.bfloat16):
        network = build(SMALL, state).with_linear_dtype(dtype)
        network(x, lambda k, v: encoded.append(v.clone()) if k == "after_temporal" else None)
    difference = (encoded[0] - encoded[1]).abs().mean() / encoded[0].abs().mean()
    assert 1e-5 < difference < 0.05


@pytest.fixture
def headless(tmp_path: Path) -> Path:
    """A checkpoint as CT-CLIP_v2.pt, without LiPro's head."""
    state = {k: v for k, v in lipro_state().items() if not k.startswith("classifier")}
    path = tmp_path / "CT-CLIP_v2.pt"
    torch.save({k.removeprefix("trained_model."): v for k, v in state.items()}, path)
    return path


def test_an_encoder_without_head_is_converted_with_a_warning(
    headless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = converted(headless, tmp_path)
    assert "no diagnostic head" in capsys.readouterr().err
    assert CtClipEncoder.own_head(out) == "none"
    with pytest.raises(MissingWeights, match=r"CT_LiPro_v2.*rad3d head fit --encoder ct-clip"):
        CtClipEncoder.from_pretrained(out).diagnose(np.zeros(12, np.float32))


def test_what_cannot_be_converted_ends_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"conv.weight": torch.zeros(2)}, other)
    assert convert(other, "--out", tmp_path / "out") == 1
    assert "no CT-CLIP checkpoint" in capsys.readouterr().err
    assert convert(tmp_path / "nothing.pt") == 1
    assert "no file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_the_weights_that_were_there(
    lipro: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = converted(lipro, tmp_path)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(_tensors: object, path: Path, **_unused: object) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: no space (os error 28)")

    monkeypatch.setattr("rad3d.model.encoders.ctclip.checkpoint.save_file", full)
    assert convert(lipro, "--out", out, "--config", small_config(tmp_path)) == 1
    assert "disk" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(
    "change",
    [
        {"network": {"dim": "wide"}}, {"network": None}, {"grid": {"shape": [1]}}, {"grid": 3},
        {"grid": SMALL.grid().to_dict() | {"shape": [32, 32, 20]}}, {"sha256": "0"},
    ],
)  # fmt: skip
def test_a_changed_description_is_noticed(
    change: dict[str, Any], lipro: Path, tmp_path: Path
) -> None:
    described = converted(lipro, tmp_path) / "config.json"
    written = json.loads(described.read_text(encoding="utf-8"))
    described.write_text(json.dumps(written | change), encoding="utf-8")
    with pytest.raises(CorruptWeights, match="rad3d convert"):
        CtClipEncoder.from_pretrained(described.parent)


def test_changed_weights_are_noticed(lipro: Path, tmp_path: Path) -> None:
    out = converted(lipro, tmp_path)
    weights = bytearray((out / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (out / "model.safetensors").write_bytes(weights)
    with pytest.raises(CorruptWeights, match="recorded hash"):
        CtClipEncoder.from_pretrained(out)


def test_without_weights_the_row_says_the_exact_steps(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights) as caught:
        load_encoder(ENCODERS["ct-clip"], tmp_path)
    for part in (
        "gated",
        "ibrahimhamamci/CT-RATE",
        "CT_LiPro_v2.pt",
        "rad3d convert",
        "commercial",
    ):
        assert part in str(caught.value)


def test_doctor_says_whether_the_encoder_is_here_and_how_to_get_it(
    lipro: Path, tmp_path: Path
) -> None:
    settings = Settings(models_dir=tmp_path)
    (absent,) = [c for c in encoders(settings) if c.name == "encoder ct-clip"]
    assert absent.state == "absent"
    assert "hf download" in absent.remedy
    source = tmp_path / ENCODERS["ct-clip"].source
    source.parent.mkdir(parents=True)
    converted(lipro, tmp_path).rename(source)
    (here,) = [c for c in encoders(settings) if c.name == "encoder ct-clip"]
    assert (here.state, here.remedy) == ("ok", "")
    (head,) = [c for c in encoders(settings) if c.name == "head ct-clip"]
    assert head.state == "absent"
    assert "rad3d head calibrate --encoder ct-clip" in head.remedy


@pytest.mark.slow
def test_a_head_can_be_fitted_for_the_encoder_alone(
    headless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    settings = Settings(models_dir=models)
    source = models / ENCODERS["ct-clip"].source
    source.parent.mkdir(parents=True)
    converted(headless, tmp_path).rename(source)
    (head,) = [c for c in encoders(settings) if c.name == "head ct-clip"]
    assert "rad3d head fit --encoder ct-clip" in head.remedy
    features, labels = labelled_files(tmp_path, encoder_identity(ModelStore(settings), "ct-clip"))
    monkeypatch.setenv("RAD3D_MODELS_DIR", str(models))
    fit = ["--features", str(features), "--labels", str(labels), "--folds", "2", "--resamples", "9"]
    assert cli.main(["head", "fit", "--encoder", "ct-clip", *fit]) == 0
    encoder = ModelStore(settings).encoder("ct-clip")
    diagnosis = encoder.diagnose(np.full(12, 0.3, np.float32))
    assert diagnosis.calibrated
    assert encoder.calibration is not None
    assert encoder.calibration.split == "24 held-out scans of labels.csv"
    (head,) = [c for c in encoders(settings) if c.name == "head ct-clip"]
    assert head.state == "ok"


def labelled_files(folder: Path, encoder: EncoderIdentity) -> tuple[Path, Path]:
    """Features of 120 scans of an encoder of 12 numbers, and their labels."""
    rng = np.random.default_rng(0)
    ids, embedding = [f"train_{i}_a_1" for i in range(120)], rng.normal(size=(120, 12))
    features = folder / "features.safetensors"
    write_features(features, FeatureTable(tuple(ids), embedding, None), encoder)
    labels = (embedding @ rng.normal(size=(12, len(LABELS))) > 0).astype(int)
    lines = [",".join(("VolumeName", *LABELS))]
    lines += [",".join((id_, *map(str, row))) for id_, row in zip(ids, labels, strict=True)]
    (folder / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    return features, folder / "labels.csv"


@pytest.mark.slow
@pytest.mark.parametrize(
    "values", [np.zeros((16, 32, 30), np.float32), np.full((16, 32, 32), 900.0, np.float32),
               np.full((16, 32, 32), np.nan, np.float32)],
)  # fmt: skip
def test_values_that_are_not_on_the_grid_are_refused(
    values: np.ndarray, lipro: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadRequest, match="CT-CLIP"):
        CtClipEncoder.from_pretrained(converted(lipro, tmp_path)).encode(values)


@pytest.fixture
def models(lipro: Path, tmp_path: Path) -> Path:
    """A models folder whose only variant listens to CT-CLIP."""
    folder = tmp_path / "models"
    source = folder / ENCODERS["ct-clip"].source
    source.parent.mkdir(parents=True)
    converted(lipro, tmp_path).rename(source)
    save_language(tiny_language("llama"), folder / "llms/phantom-s")
    config = VariantConfig(
        llm="phantom-s", mode="v3", llm_source="llms/phantom-s", encoder="ct-clip",
        preprocessing=SMALL.grid().id, latent_dim=12, prefix_length=4, clip_length=3, layers=1,
        heads=4,
    )  # fmt: skip
    reporter = PrefixReporter(config, tiny_language("llama"))
    reporter.save_pretrained(variant_directory(folder, config.id), dtype=torch.float32)
    return folder


def scan() -> Volume:
    hu = np.random.default_rng(4).integers(-1000, 1000, (40, 36, 20)).astype(np.int16)
    return Volume.from_array(hu, np.diag([0.75, 0.75, 1.5, 1.0]))


def test_the_one_engine_writes_reports_with_it(models: Path) -> None:
    engine = Engine(ModelStore(Settings(models_dir=models)))
    events = list(engine.stream(scan(), "phantom-s/v3", GenerationOptions(max_new_tokens=8)))
    assert isinstance(events[-1], DoneEvent)
    report = events[-1].report
    assert report.provenance["encoder"] == "ct-clip"
    assert report.provenance["preprocessing"] == SMALL.grid().id
    assert [n.code for n in report.notes if n.level == "warning"].count("uncalibrated") == 1
    seen = CtClipEncoder.from_pretrained(models / ENCODERS["ct-clip"].source).encode(
        to_grid(scan(), SMALL.grid()).values
    )
    np.testing.assert_array_equal(engine.features(scan(), "ct-clip").pooled, seen.pooled)


def test_the_app_shows_what_the_encoder_that_was_used_saw(models: Path) -> None:
    service = Service(Settings(models_dir=models, default_variant="phantom-s/v3"))
    session = service.sessions.new()
    service.sessions.open(session, scan())
    view = service.model_view(session)
    assert view.shape == SMALL.grid().shape
    assert "LPS" in view.notes[0].text
    grid = to_grid(scan(), SMALL.grid())
    # (slice, x, y) towards Left and Posterior -> (x, y, slice) towards Right and Anterior.
    expected = np.rint(grid.values.transpose(1, 2, 0)[::-1, ::-1] * 1000)
    assert np.abs(view.hu - expected).max() <= 1


def test_after_a_report_the_view_is_that_of_its_encoder(models: Path) -> None:
    service = Service(Settings(models_dir=models, default_variant="phantom-m/v3"))
    session = service.sessions.new()
    service.sessions.open(session, scan())
    with pytest.raises(MissingWeights):  # no default variant, and no shipped encoder, in here
        service.model_view(session)
    options = GenerationOptions(max_new_tokens=4)
    list(service.generate(session, "phantom-s/v3", options, threading.Event()))
    assert service.model_view(session).shape == SMALL.grid().shape


def test_a_variant_whose_encoder_is_not_here_names_the_command_that_brings_it(
    models: Path,
) -> None:
    (models / ENCODERS["ct-clip"].source / "config.json").unlink()
    status = ModelStore(Settings(models_dir=models)).catalogue.status("phantom-s/v3")
    assert not status.ready
    assert status.command.startswith("rad3d convert")
    assert "hf download" in status.reason
