"""A scan that is read or sent in many slabs is the scan that is read or sent at once."""

from __future__ import annotations

import gzip
import itertools
import weakref
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volume_files import AFFINE, chest, patched, refusal, save

from rad3d.core.errors import BadRequest
from rad3d.core.types import Volume
from rad3d.volume import hounsfield
from rad3d.volume.geometry import Turn
from rad3d.volume.hounsfield import Hounsfield, to_hounsfield
from rad3d.volume.load import decode, read_volume
from rad3d.volume.packed import packed

HU = chest()
PLANE = HU.shape[0] * HU.shape[1]


@pytest.fixture(params=[1, 3 * PLANE, 31 * PLANE, 10**9], ids=["1", "3", "31", "all"])
def slab_voxels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many slices make a slab; 32 are there."""
    monkeypatch.setattr(hounsfield, "SLAB_VOXELS", request.param)
    return int(request.param)


@pytest.mark.usefixtures("slab_voxels")
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["int16", ">f4", "int64"])
def test_a_scan_is_read_slab_by_slab(tmp_path: Path, suffix: str, dtype: str) -> None:
    order = dtype[0] if dtype[0] == ">" else "<"
    path = save(tmp_path / f"a{suffix}", HU, dtype=dtype.strip(">"), order=order)
    assert (read_volume(path).hu == HU).all()


@pytest.mark.usefixtures("slab_voxels")
def test_fractions_that_come_late_are_kept_and_so_are_the_whole_numbers_before_them(
    tmp_path: Path,
) -> None:
    values = HU.astype(np.float32)
    values[5, 6, 20] += 0.25
    values[7, 8, 25] = np.nan
    decoded = decode([save(tmp_path / "a.nii", values)])
    assert decoded.values.dtype == np.float32
    assert np.array_equal(decoded.values, values, equal_nan=True)
    assert decoded.values.flags.c_contiguous
    assert decoded.invalid == 1
    assert (decoded.minimum, decoded.maximum) == (HU.min(), HU.max())


@pytest.mark.usefixtures("slab_voxels")
def test_whole_numbers_beyond_int16_in_one_slice_are_kept(tmp_path: Path) -> None:
    values = HU.astype(np.int32)
    values[3, 4, 17] = 100_000
    path = patched(save(tmp_path / "a.nii", values), 112, "<2f", 2.0, -100.0)
    decoded = decode([path])
    assert decoded.values.dtype == np.float32
    assert (decoded.values == values * 2 - 100).all()
    assert decoded.maximum == 199_900


@pytest.mark.usefixtures("slab_voxels")
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_where_a_scan_ends_too_early_is_said_whatever_slab_it_is_in(
    tmp_path: Path, suffix: str
) -> None:
    plain = save(tmp_path / "a.nii", HU).read_bytes()
    short = plain[: 352 + HU.nbytes // 2 + 500]
    path = tmp_path / f"short{suffix}"
    path.write_bytes(gzip.compress(short) if suffix == ".nii.gz" else short)
    error = refusal(path)
    assert error.code == "truncated"
    if suffix == ".nii.gz":
        assert error.problem == "The file is cut short: 61.9 kB of 122.9 kB are there."


@pytest.mark.parametrize("order", itertools.permutations(range(3)))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
def test_voxels_and_affine_turn_together(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    stored = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    affine = np.zeros((4, 4))
    for axis, (target, sign) in enumerate(zip(order, signs, strict=True)):
        affine[target, axis] = sign * (1.0 + axis)
    affine[:, 3] = (10, 20, 30, 1)
    turn = Turn.of(affine)
    turned = to_hounsfield(stored, turn=turn).values
    after = turn.affine(affine, stored.shape)
    assert (np.diag(after) > 0).all()
    for place in itertools.product(*map(range, turned.shape)):
        where = np.linalg.solve(affine, after @ [*place, 1])
        assert turned[place] == stored[tuple(np.rint(where[:3]).astype(int))]


def test_an_intercept_beyond_any_whole_number_of_the_machine_is_no_defect() -> None:
    scan = Hounsfield((2, 2, 2), slope=2.0, intercept=-1e19)
    scan.add(np.full((2, 2, 2), 5 * 10**18, np.int64))
    assert (scan.values == 0).all()
    assert scan.invalid == 0


# Sent


@pytest.mark.usefixtures("slab_voxels")
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_what_is_sent_is_the_volume_as_nifti(dtype: type) -> None:
    volume = Volume.from_array(HU.astype(dtype), AFFINE)
    image = nib.Nifti1Image.from_bytes(gzip.decompress(b"".join(packed(lambda: volume))))
    assert image.get_data_dtype() == dtype
    assert (np.asarray(image.dataobj) == HU).all()
    assert image.affine == pytest.approx(AFFINE)


def test_what_is_sent_ends_where_the_scan_is_closed_or_another_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hounsfield, "SLAB_VOXELS", PLANE)
    session = {"volume": Volume.from_array(HU.copy(), AFFINE)}
    another = Volume.from_array(chest(seed=1), AFFINE)

    def ask() -> Volume:
        if "volume" not in session:
            raise BadRequest("There is no open scan.")
        return session["volume"]

    for change in (session.clear, lambda: session.update(volume=another)):
        session["volume"] = Volume.from_array(HU.copy(), AFFINE)
        pieces = packed(ask)
        sent = [next(pieces) for _ in range(5)]
        held = weakref.ref(session["volume"].hu)
        change()
        assert held() is None, "a slow reader keeps no closed scan in memory"
        sent += list(pieces)
        assert len(sent) == 5
    session.clear()
    with pytest.raises(BadRequest):
        packed(ask)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 70)] * 3), slab=st.integers(1, 9000), tile=st.integers(1, 99)
)
def test_slabs_and_tiles_of_any_size_hold_every_voxel_once(
    shape: tuple[int, int, int], slab: int, tile: int
) -> None:
    source = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    copied = np.full(shape[::-1], -1, np.int32).T
    counts = np.zeros(shape, np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hounsfield, "SLAB_VOXELS", slab)
        patch.setattr(hounsfield, "TILE_VOXELS", tile)
        patch.setattr(hounsfield, "TILE_X", 1 + tile % 7)
        for part in hounsfield.slabs(shape):
            counts[:, :, part] += 1
            hounsfield.copy_tiles(source[:, :, part], copied[:, :, part])
        for tile_ in hounsfield.tiles(shape):
            counts[tile_] += 1
    assert (copied == source).all()
    assert (counts == 2).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [(2, 4096, 4096), (4096, 2, 4096), (4096, 4096, 2), (3, 5, 7), (512, 512, 300)]
)
def test_a_thin_volume_is_copied_in_as_few_parts_as_any_other(shape: tuple[int, int, int]) -> None:
    """Copied plane by plane, a file of 300 kB took minutes."""
    voxels = int(np.prod(shape))
    parts = list(hounsfield.tiles(shape))
    sizes = [
        [len(range(*p.indices(n))) for p, n in zip(part, shape, strict=True)] for part in parts
    ]
    assert np.prod(sizes, axis=1).sum() == voxels, "each voxel once"
    assert len(parts) <= 2 * voxels / hounsfield.TILE_VOXELS + 1
