"""CT-CLIP's model grid against the published preprocessing, and what it does with other scans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from rad3d.core.errors import BadRequest, BadVolume
from rad3d.core.types import Volume
from rad3d.model.encoders.ctclip.config import CtClipConfig
from rad3d.volume.grid import GridSpec, to_grid
from rad3d.volume.size_ratio import plan_axis, stated_spacing

pytestmark = pytest.mark.numeric

SPEC = CtClipConfig().grid()
CASES = ("example_ct", "synthetic_pad", "synthetic_crop", "synthetic_slope")
VIEWS: dict[str, Any] = {
    "every8": np.s_[::8, ::8, ::8],
    "slice_z120": np.s_[120],
    "line_z": np.s_[:, 240, 240],
    "line_a0": np.s_[120, :, 240],
    "line_a1": np.s_[120, 240, :],
}


def as_lps(stored: np.ndarray, spacing: tuple[float, ...]) -> Volume:
    """A RAS+ volume whose voxels, brought to LPS, lie as ``stored``."""
    return Volume.from_array(np.ascontiguousarray(stored[::-1, ::-1]), np.diag([*spacing, 1.0]))


@pytest.fixture(scope="module")
def reference(shared_dir: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    folder = shared_dir / "reference"
    facts = json.loads((folder / "preprocess_example.json").read_text(encoding="utf-8"))
    return facts["cases"], load_file(folder / "preprocess_example.safetensors")


def stored_voxels(
    case: str, facts: dict[str, Any], arrays: dict[str, np.ndarray], shared_dir: Path
) -> np.ndarray:
    if case == "example_ct":
        path = shared_dir / "data/ct/totalsegmentator_abdomen_pelvis_3mm.nii.gz"
        return np.asarray(nib.Nifti1Image.from_filename(path).dataobj)
    stored = arrays["synthetic/input"]
    return stored * np.float32(facts["passed"]["slope"]) + np.float32(facts["passed"]["intercept"])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_values_equal_the_published_preprocessing(
    case: str, reference: tuple[dict[str, Any], dict[str, np.ndarray]], shared_dir: Path
) -> None:
    facts, arrays = reference[0][case], reference[1]
    stored = stored_voxels(case, facts, arrays, shared_dir)
    passed = facts["passed"]
    volume = as_lps(stored, (passed["xy_spacing"], passed["xy_spacing"], passed["z_spacing"]))
    values = to_grid(volume, SPEC).values
    assert list(values.shape) == facts["output"]["shape"][1:]
    compared = 0
    for name, view in VIEWS.items():
        expected = arrays.get(f"{case}/{name}")
        if expected is not None:
            assert np.abs(values[view] - expected).max() < 1e-5
            compared += 1
    assert compared >= 4
    assert np.abs(values, dtype=np.float64).sum() == pytest.approx(
        facts["output"]["sum_abs"], rel=1e-7
    )
    share = facts["output"]["fraction_equal_minus1"]
    assert (values == -1).mean() == pytest.approx(share, abs=2e-6)  # rounding decides a few


@pytest.mark.parametrize("case", CASES)
def test_sizes_crops_and_padding_are_the_published_ones(
    case: str, reference: tuple[dict[str, Any], dict[str, np.ndarray]]
) -> None:
    facts = reference[0][case]
    for name, index, target, size in (
        ("z", 2, 1.5, 240),
        ("a0", 0, 0.75, 480),
        ("a1", 1, 0.75, 480),
    ):
        spacing = facts["passed"]["z_spacing" if name == "z" else "xy_spacing"]
        axis = plan_axis(facts["input"]["shape"][index], spacing, target, size)
        expected = facts["placement"][name]
        assert axis.resampled == expected["resampled"]
        assert axis.first == expected["crop_start"]
        assert axis.before == expected["pad_before"]
        assert len(axis.lower) == expected["kept"]


@pytest.mark.slow
def test_clip_order_changes_the_edges_of_what_lies_beyond_the_window() -> None:
    rng = np.random.default_rng(0)
    stored = rng.integers(-3000, 3000, (20, 20, 20)).astype(np.int16)
    volume = as_lps(stored, (2.0, 2.0, 2.0))
    before, after = (to_grid(volume, CtClipConfig().grid(clip)).values for clip in
                     ("before", "after"))  # fmt: skip
    assert np.abs(before - after).max() > 0.3
    mild = as_lps(np.clip(stored, -1000, 1000), (2.0, 2.0, 2.0))
    same = [to_grid(mild, CtClipConfig().grid(clip)).values for clip in ("before", "after")]
    assert np.abs(same[0] - same[1]).max() < 1e-6
    assert CtClipConfig().grid("before").id != CtClipConfig().grid("after").id


@pytest.mark.slow
@given(
    shape=st.tuples(*[st.integers(2, 60)] * 3),
    spacing=st.tuples(*[st.floats(0.4, 9.0)] * 3),
    clip=st.sampled_from(["before", "after"]),
)
@settings(max_examples=25)
def test_any_size_equals_torch_in_float64(
    shape: tuple[int, ...], spacing: tuple[float, ...], clip: str
) -> None:
    import torch
    from torch.nn.functional import interpolate

    spec = GridSpec("LPS", (1.5, 2.0, 3.0), (24, 20, 30), axes="zxy",
                    resampling="size_ratio", clip=clip)  # fmt: skip
    stored = np.random.default_rng(1).integers(-2500, 2500, shape).astype(np.int16)
    volume = as_lps(stored, spacing)
    spacing = tuple(stated_spacing(s) for s in volume.spacing_mm)
    sizes = [int(n * (s / t)) for n, s, t in zip(shape, spacing, spec.spacing_mm, strict=True)]
    if min(sizes) < 1:
        with pytest.raises(BadVolume, match="thick"):
            to_grid(volume, spec)
        return
    x = stored.astype(np.float64)
    x = np.clip(x, -1000, 1000) if clip == "before" else x
    x = interpolate(torch.tensor(x)[None, None], sizes, mode="trilinear")[0, 0].numpy()
    x = np.clip(x, -1000, 1000) / 1000
    expected = np.full(spec.shape, -1.0)
    source, target = [], []
    for n, size in zip(sizes, spec.shape, strict=True):
        start, before = max((n - size) // 2, 0), max((size - n) // 2, 0)
        kept = min(n, size)
        source.append(slice(start, start + kept))
        target.append(slice(before, before + kept))
    expected[tuple(target)] = x[tuple(source)]
    assert np.abs(to_grid(volume, spec).values - expected.transpose(2, 0, 1)).max() < 2e-6


def test_the_view_of_the_model_shows_every_value_where_it_was_in_the_patient() -> None:
    rng = np.random.default_rng(2)
    stored = rng.integers(-1000, 1000, (30, 28, 26)).astype(np.int16)
    spec = GridSpec("LPS", (3.0, 3.0, 3.0), (24, 24, 24), axes="zxy", resampling="size_ratio")
    ras = Volume.from_array(stored, np.diag([2.0, 2.5, 3.5, 1.0]))
    view = to_grid(ras, spec).to_volume()
    for index in ((12, 12, 12), (5, 9, 20)):
        place = view.affine[:3, :3] @ index + view.affine[:3, 3]
        at = np.linalg.inv(ras.affine)[:3, :3] @ place
        low = np.floor(at).astype(int)
        expected = 0.0
        for corner in np.ndindex(2, 2, 2):
            expected += np.prod(1 - np.abs(at - (low + corner))) * stored[tuple(low + corner)]
        assert view.hu[index] == pytest.approx(expected, abs=1)


def test_an_oblique_scan_keeps_its_place_in_the_patient() -> None:
    angle = np.deg2rad(12)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] *= 3.0
    affine[:3, 3] = (-50, 40, 7)
    hu = np.full((40, 40, 40), -1000, np.int16)
    hu[30:33, 8:11, 20:23] = 900
    spec = GridSpec("LPS", (3.0, 3.0, 3.0), (48, 48, 48), axes="zxy", resampling="size_ratio")
    view = to_grid(Volume.from_array(hu, affine), spec).to_volume()
    brightest = np.argwhere(view.hu > 800).mean(0)
    place = view.affine[:3, :3] @ brightest + view.affine[:3, 3]
    assert place == pytest.approx(affine[:3, :3] @ [31, 9, 21] + affine[:3, 3], abs=0.1)


@pytest.mark.parametrize(
    ("meant", "n", "target"), [(0.8, 15, 0.75), (1.2, 20, 1.5), (0.73388671875, 512, 0.75)]
)
def test_a_spacing_from_a_float32_header_means_the_number_that_was_written(
    meant: float, n: int, target: float
) -> None:
    assert stated_spacing(float(np.float32(meant))) == meant
    assert stated_spacing(meant) == meant
    assert plan_axis(n, meant, target, 480).resampled == int(n * (meant / target))


def test_a_spacing_that_is_no_round_number_stays_as_it_is() -> None:
    for value in (0.7461234, np.pi / 3, 1.23456789):
        assert stated_spacing(value) == value


def test_what_was_cut_off_or_added_is_said() -> None:
    spec = GridSpec("LPS", (2.0, 2.0, 2.0), (40, 120, 50), axes="zxy", resampling="size_ratio")
    volume = Volume.from_array(np.zeros((100, 100, 50), np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
    notes = {note.code: note for note in to_grid(volume, spec).notes}
    assert "LPS" in notes["resampled"].text
    assert notes["cropped_to_grid"].level == "warning"
    assert "on the patient's left" in notes["cropped_to_grid"].text
    assert "back" not in notes["cropped_to_grid"].text
    assert "40 mm along back-front" in notes["padded_with_air"].text


@pytest.mark.slow
def test_the_scan_is_left_as_it_was() -> None:
    stored = np.random.default_rng(3).integers(-2000, 2000, (20, 20, 20)).astype(np.int16)
    volume = Volume.from_array(stored.copy(), np.eye(4))
    to_grid(volume, SPEC)
    assert np.array_equal(volume.hu, stored)


def test_grids_that_cannot_be_are_refused() -> None:
    for wrong in ({"resampling": "nearest"}, {"clip": "never"}, {"clip": "before"}):
        with pytest.raises(BadRequest):
            GridSpec(**wrong)  # type: ignore[arg-type]


def test_the_shipped_grid_keeps_its_identity() -> None:
    """Variants were trained on this id, and its JSON stands in the shipped encoder."""
    assert GridSpec().id == "ras-112x96x96-3x3x3mm-186833d5"
    assert set(GridSpec().to_dict()) == {"orientation", "spacing_mm", "shape", "hu_range",
                                         "pad_hu", "axes"}  # fmt: skip
    assert GridSpec.from_dict(SPEC.to_dict()) == SPEC
