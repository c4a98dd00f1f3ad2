"""Features that were made elsewhere: files of the published scripts, tables, and bad ones."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from rad3d.cli import main
from rad3d.core.encoders import ENCODERS
from rad3d.core.labels import LABELS
from rad3d.features.shards import FeatureStore

D = ENCODERS["ct-clip"].embedding_dim


def latent(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, D)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As CT-CLIP's script writes them: one file for each scan, the array called arr."""
    image = tmp_path / "latents" / "image"
    image.mkdir(parents=True)
    np.savez(image / "valid_1_a_1.npz", arr=latent(0))
    np.savez(image / "valid_2_a_1.nii.gz.npz", arr=latent(1))
    np.save(image / "valid_3_a_1.npy", latent(2)[0])
    torch.save(torch.from_numpy(latent(3)), image / "valid_4_a_1.pt")
    torch.save({"latent": torch.from_numpy(latent(4)).half()}, image / "valid_5_a_1.pt")
    return image


def imported(*words: str | Path, out: Path) -> int:
    common = ["--encoder", "ct-clip", "--out", str(out)]
    return main(["features", "import", *map(str, words), *common])


def logits_csv(path: Path, rows: dict[str, np.ndarray]) -> Path:
    lines = [",".join(("VolumeName", *LABELS))]
    lines += [",".join((f"{id_}.nii.gz", *map(str, row))) for id_, row in rows.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_files_of_the_published_scripts_are_imported(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert imported(folder, out=tmp_path / "store") == 0
    assert "5 scans: 5 imported" in capsys.readouterr().out
    store = FeatureStore.open(tmp_path / "store")
    identity, found = store.identity, store.table()
    assert (identity.id, identity.is_imported) == ("ct-clip", True)
    assert found.ids == tuple(f"valid_{n}_a_1" for n in range(1, 6))
    for n in range(4):
        np.testing.assert_array_equal(found.embedding[n], latent(n)[0])
    np.testing.assert_allclose(found.embedding[4], latent(4)[0], atol=2e-3)
    assert found.logits is None


def test_importing_again_adds_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(folder, out=tmp_path / "store")
    size = FeatureStore.open(tmp_path / "store").nbytes()
    capsys.readouterr()
    assert imported(folder, out=tmp_path / "store") == 0
    assert "5 finished before" in capsys.readouterr().out
    assert FeatureStore.open(tmp_path / "store").nbytes() == size


def test_a_table_of_many_scans_is_imported_with_its_logits(tmp_path: Path) -> None:
    embedding = np.concatenate([latent(0), latent(1)])
    logits = np.random.default_rng(0).normal(size=(2, 18)).astype(np.float32)
    np.savez(tmp_path / "all.npz", ids=["a.nii.gz", "b"], image_latents=embedding, logits=logits)
    assert imported(tmp_path / "all.npz", out=tmp_path / "store") == 0
    found = FeatureStore.open(tmp_path / "store").table()
    assert found.ids == ("a", "b")
    np.testing.assert_array_equal(found.embedding, embedding)
    assert found.logits is not None
    np.testing.assert_array_equal(found.logits, logits)


def test_logits_come_from_a_table_of_their_own(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {f"valid_{n}_a_1": np.full(18, n - 2.5) for n in (1, 2)}
    table = logits_csv(tmp_path / "logits.csv", rows)
    assert imported(folder, "--logits", table, out=tmp_path / "store") == 0
    assert "3 failed (no_logits 3)" in capsys.readouterr().out
    found = FeatureStore.open(tmp_path / "store").table()
    assert found.ids == ("valid_1_a_1", "valid_2_a_1")
    assert found.logits is not None
    np.testing.assert_array_equal(found.logits[1], rows["valid_2_a_1"])


def test_probabilities_are_no_logits(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = logits_csv(tmp_path / "logits.csv", {"valid_1_a_1": np.full(18, 0.3)})
    assert imported(folder, "--logits", table, out=tmp_path / "store") == 1
    assert "probabilities" in capsys.readouterr().err


class Harmful:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('it ran')",))


def test_files_that_cannot_be_used_are_failures_with_their_names(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    np.savez(bad / "tokens.npz", arr=np.zeros((1, 24, 24, 24, 8), np.float32))
    np.save(bad / "short.npy", np.zeros(D - 1, np.float32))
    np.save(bad / "whole.npy", np.zeros(D, np.int64))
    np.save(bad / "nan.npy", np.full(D, np.nan, np.float32))
    np.savez(bad / "two.npz", a=latent(0), b=latent(1))
    np.savez(bad / "none.npz")
    np.savez(bad / "logits.npz", arr=latent(5), logits=np.zeros(17, np.float32))
    np.save(bad / "object.npy", np.array([Harmful()], dtype=object), allow_pickle=True)
    (bad / "pickle.pt").write_bytes(pickle.dumps(Harmful(), protocol=2))
    (bad / "text.pt").write_text("no tensor", encoding="utf-8")
    (bad / "cut.npz").write_bytes((folder / "valid_1_a_1.npz").read_bytes()[:100])
    torch.save({"state": {"deep": torch.zeros(D)}}, bad / "nested.pt")
    assert imported(folder, bad, out=tmp_path / "store") == 0
    assert "17 scans: 5 imported" in capsys.readouterr().out
    store = FeatureStore.open(tmp_path / "store")
    assert {id_: why.code for id_, why in store.failures.items()} == {
        "tokens": "bad_shape", "short": "bad_shape", "whole": "bad_shape", "nan": "not_finite",
        "two": "bad_features", "none": "bad_features", "logits": "bad_shape",
        "object": "bad_features", "pickle": "bad_features", "text": "bad_features",
        "cut": "bad_features", "nested": "bad_features",
    }  # fmt: skip
    assert "tokens of (1, 24, 24, 24, 8)" in store.failures["tokens"].problem
    assert imported(bad, out=tmp_path / "other") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: (p / "x").mkdir(), "holds no features"),
        (lambda p: (p / "x").write_bytes(b""), "is no file of features"),
        (lambda _: None, "does not exist"),
    ],
)
def test_a_path_that_is_none_gets_a_sentence(
    tmp_path: Path, make: object, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path)  # type: ignore[operator]
    assert imported(tmp_path / "x", out=tmp_path / "store") == 1
    assert said in capsys.readouterr().err


def test_one_scan_in_two_files_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(folder / "valid_3_a_1.npz", arr=latent(9))
    assert imported(folder, out=tmp_path / "store") == 1
    assert "valid_3_a_1 is there twice" in capsys.readouterr().err


def test_imported_features_do_not_mix_with_computed_ones(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(folder, out=tmp_path / "store")
    computed = ["--encoder", "phantom-cnn", "--out", str(tmp_path / "store")]
    np.savez(tmp_path / "scan.nii.gz", arr=latent(0))
    (tmp_path / "scan.nii.gz").touch()
    assert main(["features", "compute", str(tmp_path), *computed]) == 1
    assert "cannot be mixed" in capsys.readouterr().err


def test_show_says_that_nothing_proves_whose_features_these_are(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(folder, out=tmp_path / "store")
    capsys.readouterr()
    assert main(["features", "show", str(tmp_path / "store")]) == 0
    assert "weights not known: imported" in capsys.readouterr().out
    assert main(["features", "show", str(tmp_path / "store"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["encoder"]["sha256"] == "imported"


def test_every_encoder_says_how_large_its_embedding_is() -> None:
    from rad3d.core.settings import Settings
    from rad3d.model.encoders.colipri import EMBEDDING_DIM
    from rad3d.model.encoders.ctclip.config import CtClipConfig
    from rad3d.model.encoders.phantom_clip import ClipConfig
    from rad3d.model.store import ModelStore

    shipped = ModelStore(Settings()).encoder("phantom-cnn").embedding_dim
    stated = {id_: row.embedding_dim for id_, row in ENCODERS.items()}
    assert stated == {
        "phantom-cnn": shipped, "phantom-clip": ClipConfig().embedding_dim,
        "ct-clip": CtClipConfig().dim_latent, "colipri": EMBEDDING_DIM,
    }  # fmt: skip
