"""COLIPRI behind the interface of every encoder: on a small stand-in, and on the real package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from close import assert_near
from safetensors.torch import save_file
from torch import Tensor, nn

from rad3d.core.encoders import ENCODERS
from rad3d.core.errors import CorruptWeights, MissingWeights
from rad3d.core.labels import LABELS
from rad3d.core.settings import Settings
from rad3d.features.encoder_features import encoder_identity
from rad3d.model.encoders.base import load_encoder
from rad3d.model.encoders.colipri import GRID, ColipriEncoder
from rad3d.model.encoders.head import head_state
from rad3d.model.store import ModelStore
from rad3d.train.heads import HeadOptions, fit_head
from rad3d.train.labelled import Labelled
from rad3d.volume.grid import GridSpec

pytestmark = pytest.mark.numeric

SMALL = GridSpec(spacing_mm=(2.0, 2.0, 2.0), shape=(16, 16, 16))


class _Pool(nn.Module):
    """Attention whose query is the mean of the sequence."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        pooled, _ = self.attn(x.mean(dim=1, keepdim=True), x, x)
        return pooled[:, 0]


class _ImageEncoder(nn.Module):
    """The parts and names of COLIPRI's image encoder, with a convolution as its backbone."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.backbone = nn.Conv3d(1, 24, 8, stride=8)
        self.projector = nn.Conv3d(24, width, 1)
        self.pooler = _Pool(width)

    def encode(self, images: Tensor) -> Tensor:
        return self.backbone(images)


def _seeded() -> _ImageEncoder:
    torch.manual_seed(0)
    return _ImageEncoder()


def _file(folder: Path, **extra: Tensor) -> Path:
    weights = {f"image_encoder.{k}": v for k, v in _seeded().state_dict().items()}
    published = {
        "text_encoder.backbone.weight": torch.zeros(2),
        "softmax_temperature": torch.ones(1),
    }
    save_file(weights | published | extra, folder / "model.safetensors")
    return folder


def _scan(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def test_the_row_says_how_to_get_the_weights() -> None:
    row = ENCODERS["colipri"]
    assert row.licence == "MIT"
    assert (GRID.spacing_mm, GRID.shape) == ((2.0, 2.0, 2.0), (192, 192, 192))
    for step in ('pip install -e ".[colipri]"', "hf download microsoft/colipri"):
        assert step in row.get


def test_missing_weights_name_the_steps(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=r"hf download microsoft/colipri"):
        load_encoder(ENCODERS["colipri"], tmp_path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "colipri", None)
    with pytest.raises(MissingWeights, match=r"\[colipri\]"):
        ColipriEncoder.from_pretrained(_file(tmp_path))


def test_weights_load_strictly_and_the_text_side_is_ignored(tmp_path: Path) -> None:
    loaded = ColipriEncoder.from_pretrained(_file(tmp_path), build=_ImageEncoder)
    for name, value in _seeded().state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value)
    with pytest.raises(CorruptWeights, match="unexpected entries, such as strange"):
        ColipriEncoder.from_pretrained(_file(tmp_path, strange=torch.ones(1)), build=_ImageEncoder)
    extra = {"image_encoder.more": torch.ones(1)}
    with pytest.raises(CorruptWeights, match="does not hold"):
        ColipriEncoder.from_pretrained(_file(tmp_path, **extra), build=_ImageEncoder)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CorruptWeights, match="does not hold"):
        ColipriEncoder.from_pretrained(tmp_path, build=_ImageEncoder)


def test_a_scan_becomes_a_unit_embedding_and_tokens_and_no_diagnosis() -> None:
    network = _seeded()
    encoder = ColipriEncoder(network, SMALL, 16)
    values = _scan(SMALL.shape)
    before = values.copy()
    seen = encoder.encode(values)
    assert np.array_equal(values, before)
    assert seen.tokens.shape == (24, 2, 2, 2)
    assert seen.pooled.shape == (16,)
    assert np.linalg.norm(seen.pooled) == pytest.approx(1.0, abs=1e-5)
    assert not np.allclose(seen.pooled, encoder.encode(-values).pooled)
    with pytest.raises(MissingWeights, match="rad3d head fit --encoder colipri") as caught:
        encoder.diagnose(seen.pooled)
    assert caught.value.code == "no_head"


@pytest.mark.slow
def test_with_a_fitted_head_it_diagnoses_as_every_encoder_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, settings = ENCODERS["colipri"], Settings(models_dir=tmp_path)
    folder = tmp_path / row.source
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    weights = {f"image_encoder.{k}": v for k, v in _ImageEncoder(768).state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    monkeypatch.setattr("rad3d.model.encoders.colipri._published", lambda: _ImageEncoder(768))
    bare = ModelStore(settings).encoder("colipri")
    seen = bare.encode(_scan(GRID.shape))
    assert (head_state(row, tmp_path), bare.calibration) == ("none", None)
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(120, 768))
    labels = (embedding[:, : len(LABELS)] > 0).astype(np.int64)
    data = Labelled("l.csv", tuple(map(str, range(120))), embedding, None, labels)
    identity = encoder_identity(ModelStore(settings), "colipri")
    fit_head(identity, data, options=HeadOptions(folds=2, resamples=9)).save(folder)
    assert head_state(row, tmp_path) == "calibrated"
    diagnosis = ModelStore(settings).encoder("colipri").diagnose(seen.pooled)
    assert diagnosis.calibrated
    assert diagnosis.source == "colipri"
    assert encoder_identity(ModelStore(settings), "colipri") == identity


@pytest.mark.slow
def test_the_adapter_computes_what_the_real_package_does(tmp_path: Path) -> None:
    colipri = pytest.importorskip("colipri", reason='needs pip install -e ".[colipri]"')
    one_layer = {"image_encoder.backbone.eva_depth": 1}

    def build() -> nn.Module:
        model = colipri.get_model(pretrained=False, image_only=True, **one_layer)
        return model.image_encoder

    torch.manual_seed(0)
    model = colipri.get_model(pretrained=False, image_only=True, **one_layer)
    model.save_weights(tmp_path / "model.safetensors")
    encoder = ColipriEncoder.from_pretrained(tmp_path, build=build)
    values = _scan(GRID.shape)
    seen = encoder.encode(values)
    x = torch.from_numpy(values)[None, None]
    with torch.inference_mode():
        expected = model.image_encoder(x, project=True, pool=True, normalize=True)[0]
        tokens = model.image_encoder(x, project=False, pool=False, normalize=False)[0]
    assert_near(seen.pooled, expected)
    assert_near(seen.tokens, tokens)
    assert seen.pooled.shape == (encoder.embedding_dim,)
