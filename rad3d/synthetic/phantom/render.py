"""Render a truth as a volume: healthy anatomy, then each finding, then the scanner."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rad3d.core.findings import Truth
from rad3d.synthetic.phantom.acquisition import Acquisition, draw_acquisition
from rad3d.synthetic.phantom.background import draw_soft_tissue
from rad3d.synthetic.phantom.canvas import Array, Canvas
from rad3d.synthetic.phantom.lesions import Scene, draw_findings
from rad3d.synthetic.phantom.patient import draw_patient
from rad3d.synthetic.phantom.scanner import draw_table, scan
from rad3d.synthetic.phantom.skeleton import draw_bones
from rad3d.synthetic.phantom.trees import draw_interior, pulmonary_trees
from rad3d.synthetic.phantom.vessels import draw_aorta, draw_large_tubes, draw_trees


@dataclass(frozen=True)
class RenderedPhantom:
    """A synthetic CT.

    Attributes:
        hu: int16 (X, Y, Z), RAS+: index 0 grows toward the patient's right, 1 anterior,
            2 superior.
        affine: (4, 4) float64 voxel-to-world matrix in mm.
        masks: finding label -> bool (X, Y, Z), the voxels which that finding changed.
    """

    hu: Array
    affine: Array
    masks: dict[str, Array]


def render(truth: Truth, acquisition: Acquisition | None = None) -> RenderedPhantom:
    """Draw the phantom of ``truth``; the seed fixes the patient on every grid.

    Args:
        truth: what is wrong with the patient; its seed and domain fix everything else.
        acquisition: the scan, drawn from seed and domain unless given.
    """
    acquisition = acquisition or draw_acquisition(truth.seed, truth.domain)
    patient = draw_patient(truth, acquisition.contrast)
    canvas = Canvas(acquisition, patient.frame)
    draw_soft_tissue(canvas, patient)
    draw_bones(canvas, patient)
    draw_large_tubes(canvas, patient)
    interior = draw_interior(patient)
    tree = pulmonary_trees(patient, interior)
    draw_trees(canvas, patient, tree)
    draw_aorta(canvas, patient)
    draw_findings(Scene(canvas, patient, interior, tree), truth)
    draw_table(canvas, patient)
    hu = scan(canvas, truth.seed)
    masks = {f.label: canvas.mask(f.label) for f in truth.findings}
    return RenderedPhantom(hu=hu, affine=acquisition.affine, masks=masks)


def write_nifti(phantom: RenderedPhantom, path: Path | str) -> None:
    """Write ``.nii`` or ``.nii.gz`` with int16 HU, and qform and sform set to scanner space."""
    import nibabel as nib  # see rad3d.volume.header

    image = nib.Nifti1Image(phantom.hu, phantom.affine)
    image.header.set_data_dtype(np.int16)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(phantom.affine, code=1)
    image.set_sform(phantom.affine, code=1)
    nib.save(image, str(path))
