"""What the synthetic volumes promise: determinism, geometry, tissue, and findings where stated."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.findings import FINDING_NAMES, SCHEMA, Finding, Truth
from rad3d.synthetic.phantom import body as anatomy
from rad3d.synthetic.phantom.acquisition import Acquisition, draw_acquisition
from rad3d.synthetic.phantom.lesions import PAINTERS
from rad3d.synthetic.phantom.patient import draw_patient
from rad3d.synthetic.phantom.render import RenderedPhantom, render, write_nifti

SMALL = {"matrix": 112, "slices": 88}
GOLDEN = {
    "in": "becb3b9d492af6a87bea72c73b1cb74e075bdfca890a3d0ad0d7e1a9b87b0c57",
    "out": "f17dc22fcdc2fa0ed215af85b2ee78be71c1a81f8e0c4908ac6ae285a81c469c",
}

ONE_OF_EACH = [
    Finding("Medical material", side="left", kind="pacemaker"),
    Finding("Medical material", side="right", kind="port catheter"),
    Finding("Medical material", kind="sternal wires"),
    Finding("Medical material", kind="nasogastric tube"),
    Finding("Medical material", side="left", kind="chest tube"),
    Finding("Arterial wall calcification", sites=("aortic arch",), severity="mild"),
    Finding("Cardiomegaly", severity="mild"),
    Finding("Pericardial effusion", severity="mild", size_mm=8),
    Finding(
        "Coronary artery wall calcification",
        sites=("left anterior descending artery",),
        severity="mild",
    ),
    Finding("Hiatal hernia", severity="mild", size_mm=30),
    Finding("Lymphadenopathy", sites=("paratracheal",), size_mm=14, count=1),
    Finding("Lymphadenopathy", side="left", sites=("axillary",), size_mm=16, count=2),
    Finding("Lymphadenopathy", side="right", sites=("hilar",), size_mm=18, count=2),
    Finding("Emphysema", side="bilateral", kind="centrilobular", severity="mild"),
    Finding("Emphysema", side="bilateral", kind="paraseptal", severity="mild"),
    Finding("Atelectasis", side="left", sites=("left lower lobe",), kind="lobar", severity="mild"),
    Finding(
        "Atelectasis", side="right", sites=("right lower lobe",), kind="linear", severity="mild"
    ),
    Finding(
        "Lung nodule", side="right", sites=("right upper lobe",), kind="solid", size_mm=8, count=1
    ),
    Finding(
        "Lung nodule",
        side="left",
        sites=("left lower lobe",),
        kind="ground-glass",
        size_mm=12,
        count=2,
    ),
    Finding("Lung opacity", side="left", sites=("left upper lobe",), severity="mild"),
    Finding("Pulmonary fibrotic sequela", side="right", sites=("apical",), severity="mild"),
    Finding("Pulmonary fibrotic sequela", side="left", sites=("left lower lobe",), severity="mild"),
    Finding("Pleural effusion", side="left", severity="mild", size_mm=15),
    Finding("Pleural effusion", side="right", severity="severe", size_mm=70),
    Finding("Mosaic attenuation pattern", side="bilateral", severity="mild"),
    Finding("Peribronchial thickening", side="right", sites=("lower lobe",), severity="mild"),
    Finding("Peribronchial thickening", side="left", sites=("central",), severity="mild"),
    Finding(
        "Consolidation", side="right", sites=("right lower lobe",), severity="mild", size_mm=30
    ),
    Finding(
        "Bronchiectasis",
        side="left",
        sites=("left lower lobe",),
        kind="cylindrical",
        severity="mild",
    ),
    Finding(
        "Bronchiectasis", side="right", sites=("right upper lobe",), kind="cystic", severity="mild"
    ),
    Finding("Interlobular septal thickening", side="left", sites=("lower lobe",), severity="mild"),
    Finding("Pulmonary embolism", side="right", sites=("lobar",), severity="mild"),
]


def small(seed: int, *findings: Finding, domain: str = "in") -> RenderedPhantom:
    """A phantom on a grid of about 3 mm."""
    return render(Truth(seed, domain, findings), draw_acquisition(seed, domain, **SMALL))


def quiet(seed: int, **grid: int) -> Acquisition:
    """An acquisition almost without noise."""
    acquisition = draw_acquisition(seed, "in", **grid)
    return replace(acquisition, noise_hu=1e-3, kernel="medium")


def canonical_x(truth: Truth, acquisition: Acquisition) -> np.ndarray:
    """Patient x in mm for each voxel, pose removed: positive on the patient's right."""
    frame = draw_patient(truth, acquisition.contrast).frame
    axes = [
        (o + s * np.arange(n)).astype(np.float32)
        for o, s, n in zip(
            acquisition.origin_mm, acquisition.spacing_mm, acquisition.shape_xyz, strict=True
        )
    ]
    x_axis, y_axis, z_axis = axes
    x, _, _ = frame.to_canonical(x_axis[:, None, None], y_axis[None, :, None], z_axis[None, None])
    return np.broadcast_to(x, acquisition.shape_xyz)


def digest(phantom: RenderedPhantom) -> str:
    return hashlib.sha256(np.ascontiguousarray(phantom.hu).tobytes()).hexdigest()


# ---------------------------------------------------------------- determinism


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["in", "out"])
def test_golden_voxels(domain: str) -> None:
    findings = [f for f in ONE_OF_EACH if f.label != "Pulmonary embolism"]
    one_each = {f.label: f for f in findings}
    phantom = small(7, *one_each.values(), domain=domain)
    assert digest(phantom) == GOLDEN[domain]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not() -> None:
    first, again, other = small(11), small(11), small(12)
    assert digest(first) == digest(again)
    assert digest(first) != digest(other)


@pytest.mark.slow
def test_the_domain_changes_the_scan() -> None:
    assert digest(small(11, domain="out")) != digest(small(11))


@pytest.mark.slow
def test_the_patient_is_the_same_on_every_grid() -> None:
    nodule = Finding("Lung nodule", "left", ("left upper lobe",), "solid", None, 20, 1)
    truth = Truth(5, "in", (nodule,))
    fine = render(truth, quiet(5, matrix=160, slices=128))
    coarse = render(truth, quiet(5, matrix=80, slices=64))
    centres = []
    for phantom in (fine, coarse):
        where = np.argwhere(phantom.masks["Lung nodule"]).mean(axis=0)
        centres.append(phantom.affine[:3, :3] @ where + phantom.affine[:3, 3])
    assert np.abs(centres[0] - centres[1]).max() < 1.5


@pytest.mark.slow
def test_findings_do_not_change_the_anatomy_elsewhere() -> None:
    nodule = Finding("Lung nodule", "right", ("right upper lobe",), "solid", None, 12, 1)
    normal, ill = small(3), small(3, nodule)
    changed = normal.hu != ill.hu
    # The acquisition's blur reaches a voxel or two beyond the mask.
    assert 0 < changed.sum() < 40 * ill.masks["Lung nodule"].sum()


# ---------------------------------------------------------------- geometry


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["in", "out"])
def test_default_grid_and_affine(domain: str) -> None:
    acquisition = draw_acquisition(4, domain)
    phantom = render(Truth(4, domain), acquisition)
    assert phantom.hu.dtype == np.int16
    assert phantom.hu.shape == acquisition.shape_xyz
    assert phantom.hu.shape[:2] == (192, 192)
    assert np.allclose(np.diag(phantom.affine)[:3], acquisition.spacing_mm)
    assert np.allclose(phantom.affine[:3, 3], acquisition.origin_mm)
    extent = np.array(acquisition.shape_xyz) * acquisition.spacing_mm
    assert (extent > 270).all()
    assert (extent < 440).all()


def test_a_512_matrix_has_clinical_spacing_in_plane() -> None:
    for seed in range(20):
        assert 0.6 <= draw_acquisition(seed, "in", matrix=512).spacing_mm[0] <= 0.8
        thick = draw_acquisition(seed, "out").spacing_mm[2]
        assert 2.9 <= thick <= 5.6


def test_the_grid_does_not_move_the_scan() -> None:
    wide, narrow = draw_acquisition(9, matrix=192), draw_acquisition(9, matrix=96)
    for a in (0, 1):
        middle = [
            q.origin_mm[a] + (q.shape_xyz[a] - 1) / 2 * q.spacing_mm[a] for q in (wide, narrow)
        ]
        assert middle[0] == pytest.approx(middle[1], abs=0.01)


@pytest.mark.parametrize("grid", [{"matrix": 8}, {"matrix": 4096}, {"slices": 2}, {"slices": 5000}])
def test_an_impossible_grid_is_refused(grid: dict[str, int]) -> None:
    with pytest.raises(BadRequest):
        draw_acquisition(1, "in", **grid)


def test_unknown_domain_and_kernel_are_refused() -> None:
    with pytest.raises(UnknownName):
        draw_acquisition(1, "elsewhere")
    with pytest.raises(UnknownName):
        replace(draw_acquisition(1), kernel="b99")


@pytest.mark.slow
def test_nifti_round_trip(tmp_path: Path) -> None:
    phantom = small(2)
    path = tmp_path / "scan.nii.gz"
    write_nifti(phantom, path)
    image = nib.Nifti1Image.from_filename(path)
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert np.array_equal(np.asarray(image.dataobj), phantom.hu)
    assert np.allclose(image.affine, phantom.affine, atol=1e-3)
    assert int(image.header["qform_code"]) == 1
    assert int(image.header["sform_code"]) == 1


# ---------------------------------------------------------------- anatomy


def around(phantom: RenderedPhantom, truth: Truth, point: tuple[float, float, float]) -> float:
    """Median HU in a small cube around a canonical point."""
    world = draw_patient(truth, False).frame.to_world(np.array(point))
    i, j, k = np.rint((world - phantom.affine[:3, 3]) / np.diag(phantom.affine)[:3]).astype(int)
    return float(np.median(phantom.hu[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2]))


@pytest.mark.slow
def test_tissues_have_their_hu() -> None:
    for seed in (1, 2):
        truth = Truth(seed, "in")
        phantom = render(truth, quiet(seed, matrix=160, slices=110))
        assert around(phantom, truth, (75, 0, -150)) == pytest.approx(60, abs=15)  # liver
        assert around(phantom, truth, (2, -18, 60)) < -950  # trachea
        assert around(phantom, truth, (-12, 22, -70)) == pytest.approx(45, abs=20)  # heart
        assert around(phantom, truth, (-26, -52, -40)) == pytest.approx(42, abs=20)  # aorta
        lung = np.median(phantom.hu[(phantom.hu < -700) & (phantom.hu > -950)])
        assert -900 < lung < -800
        assert phantom.hu.min() >= -1024
        assert (phantom.hu > 500).mean() > 0.003  # cortical bone
        assert phantom.hu[0, -1].mean() == pytest.approx(-1000, abs=5)  # air outside


@pytest.mark.slow
def test_liver_is_right_and_heart_apex_left() -> None:
    for seed in (4, 5, 6):
        truth = Truth(seed, "in")
        acquisition = quiet(seed, matrix=112, slices=88)
        p = draw_patient(truth, False)
        phantom = render(truth, acquisition)
        assert around(phantom, truth, (85, 0, -112)) > 20  # under the right dome: liver
        s = anatomy.heart_point(p, (-55, 40, -92))
        assert around(phantom, truth, s) > -10
        assert around(phantom, truth, (-s[0], s[1], s[2] + 20)) < 0  # nothing opposite the apex


@pytest.mark.slow
def test_contrast_brightens_the_pulmonary_arteries_of_the_out_domain_only() -> None:
    for domain, low, high in (("in", 0, 90), ("out", 230, 500)):
        truth = Truth(8, domain)
        phantom = small(8, domain=domain)
        world = draw_patient(truth, domain == "out").frame.to_world(np.array([-19.5, 22, -8]))
        i, j, k = np.rint((world - phantom.affine[:3, 3]) / np.diag(phantom.affine)[:3]).astype(int)
        value = np.median(phantom.hu[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2])
        assert low < value < high


def heart_ratio(truth: Truth) -> float:
    """Widest heart over the widest inner chest, measured on the shapes themselves."""
    p = draw_patient(truth, False)
    x = np.arange(-150, 150, 1.0, dtype=np.float32)[:, None, None]
    y = np.arange(-60, 100, 4.0, dtype=np.float32)[None, :, None]
    z = np.arange(-110, -20, 4.0, dtype=np.float32)[None, None]
    shapes = anatomy.chest(p, x, y, z)
    heart = (shapes["heart"] > 0).any(axis=(1, 2)).sum()
    return float(heart / (shapes["wall"] > 0).any(axis=(1, 2)).sum())


@pytest.mark.slow
def test_cardiothoracic_ratio_tells_large_hearts_from_normal_ones() -> None:
    for seed in range(6):
        assert heart_ratio(Truth(seed, "in")) < 0.48
        for severity in ("mild", "moderate", "severe"):
            large = Finding("Cardiomegaly", severity=severity)
            assert heart_ratio(Truth(seed, "in", (large,))) > 0.5


# ---------------------------------------------------------------- findings


def test_every_finding_has_a_painter() -> None:
    assert set(PAINTERS) == set(FINDING_NAMES) == set(SCHEMA)


@pytest.mark.slow
def test_a_normal_phantom_has_no_masks() -> None:
    assert small(1).masks == {}


@cache
def healthy(seed: int, domain: str) -> tuple[Acquisition, RenderedPhantom]:
    """A patient without findings, almost without noise."""
    acquisition = replace(draw_acquisition(seed, domain, matrix=96, slices=76), noise_hu=1e-3)
    return acquisition, render(Truth(seed, domain), acquisition)


@pytest.mark.slow
@pytest.mark.parametrize(
    "finding",
    [
        finding if number % 8 == 0 else pytest.param(finding, marks=pytest.mark.slow)
        for number, finding in enumerate(ONE_OF_EACH)
    ],
    ids=lambda f: f"{f.label}-{f.kind or f.sites}",
)
def test_each_finding_changes_its_mask_on_its_side(finding: Finding) -> None:
    seed = 20 + ONE_OF_EACH.index(finding) % 4
    domain = "out" if finding.label == "Pulmonary embolism" else "in"
    acquisition, normal = healthy(seed, domain)
    truth = Truth(seed, domain, (finding,))
    ill = render(truth, acquisition)
    mask = ill.masks[finding.label]
    assert mask.dtype == bool
    assert mask.sum() >= 15
    difference = np.abs(ill.hu.astype(int) - normal.hu)
    assert np.median(difference[mask]) > 15
    if finding.side in ("left", "right"):
        x = canonical_x(truth, acquisition)
        own = x > 0 if finding.side == "right" else x < 0
        least = 0.85 if finding.kind == "pacemaker" else 0.97
        assert own[mask].mean() >= least


@pytest.mark.slow
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_pleural_effusion_brightens_the_lung_of_its_side(side: str) -> None:
    finding = Finding("Pleural effusion", side=side, severity="moderate", size_mm=45)
    acquisition = quiet(31, **SMALL)
    truth = Truth(31, "in", (finding,))
    ill, normal = render(truth, acquisition), render(Truth(31, "in"), acquisition)
    x = canonical_x(truth, acquisition)
    lung = (normal.hu < -700) & (normal.hu > -950)
    rise = ill.hu.astype(int) - normal.hu
    on_right, on_left = rise[lung & (x > 20)].mean(), rise[lung & (x < -20)].mean()
    own, other = (on_right, on_left) if side == "right" else (on_left, on_right)
    assert own > 60
    assert abs(other) < 5


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 18, 30])
def test_a_solid_nodule_has_the_stated_diameter(size: int) -> None:
    nodule = Finding("Lung nodule", "left", ("left upper lobe",), "solid", None, size, 1)
    for seed in (40, 41):
        acquisition = quiet(seed, matrix=208, slices=150)
        ill = render(Truth(seed, "in", (nodule,)), acquisition)
        dense = ill.masks["Lung nodule"] & (ill.hu > -400)
        volume = dense.sum() * np.prod(acquisition.spacing_mm)
        diameter = (6 * volume / np.pi) ** (1 / 3)
        assert diameter == pytest.approx(size, rel=0.3)


@pytest.mark.slow
def test_more_nodules_are_drawn_when_more_are_stated() -> None:
    from scipy import ndimage

    counts = []
    for n in (1, 5):
        nodule = Finding("Lung nodule", "right", ("right lower lobe",), "solid", None, 12, n)
        counts.append(ndimage.label(small(50, nodule).masks["Lung nodule"])[1])
    assert counts[0] == 1
    assert counts[1] >= 4


@pytest.mark.parametrize(
    "finding",
    [
        Finding("Emphysema", side="bilateral", kind="centrilobular"),
        Finding("Lung opacity", side="right", sites=("right lower lobe",)),
        Finding("Arterial wall calcification", sites=("descending aorta",)),
        Finding("Coronary artery wall calcification", sites=("right coronary artery",)),
        Finding("Interlobular septal thickening", side="bilateral", sites=("lower lobe",)),
        Finding("Cardiomegaly"),
    ],
    ids=lambda f: f.label,
)
@pytest.mark.slow
def test_severity_is_visible_as_extent(finding: Finding) -> None:
    extent = []
    for severity in ("mild", "severe"):
        drawn = replace(finding, severity=severity)
        extent.append(sum(int(small(seed, drawn).masks[finding.label].sum()) for seed in (61, 62)))
    assert extent[1] > 1.25 * extent[0]


@pytest.mark.slow
def test_lobar_findings_lie_in_their_lobe() -> None:
    for lobe, above in (("right upper lobe", True), ("right lower lobe", False)):
        finding = Finding("Consolidation", "right", (lobe,), None, "mild", 40)
        acquisition = quiet(70, **SMALL)
        truth = Truth(70, "in", (finding,))
        mask = render(truth, acquisition).masks["Consolidation"]
        where = np.argwhere(mask)
        world = where * acquisition.spacing_mm + acquisition.origin_mm
        frame = draw_patient(truth, False).frame
        x, y, z = frame.to_canonical(*(world[:, i].astype(np.float32) for i in range(3)))
        assert ((anatomy.oblique_fissure(x, y, z) > 0) == above).mean() > 0.85
