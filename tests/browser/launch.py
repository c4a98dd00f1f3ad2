"""Runs the app inside a test: a small chest to open, a free port, a private upload folder."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from browser.fake_evaluations import FakeEvaluations
from browser.fakes import FakeService

from rad3d.core.settings import Settings
from rad3d.ui import build_ui, launch_options

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

UPLOADS = Path(tempfile.gettempdir()) / f"rad3d-tests-{os.getpid()}"
"""One for all apps of a test run: Gradio reads the folder from the environment at every request."""
os.environ["GRADIO_TEMP_DIR"] = str(UPLOADS)
atexit.register(shutil.rmtree, UPLOADS, ignore_errors=True)


@contextlib.contextmanager
def running_app(
    service: Any, tmp_path: Path, evaluations: Any = None, **settings: Any
) -> Iterator[str]:
    """The address of a real app around ``service`` and ``evaluations``, which may be fakes."""
    if evaluations is None and isinstance(service, FakeService):
        evaluations = FakeEvaluations(service, empty=True)
    own = replace(Settings(), port=_free_port(), work_dir=tmp_path, **settings)
    demo = build_ui(service, own, evaluations)
    options = launch_options(service, own, evaluations=evaluations)
    try:
        _, url, _ = demo.launch(prevent_thread_lock=True, **options)
        yield url.rstrip("/")
    finally:
        demo.close(verbose=False)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def small_chest(path: Path, shift: float = 0.0, lungs: bool = True) -> Path:
    """A body with two lungs, heart and spine: 96 x 96 x 60 voxels of 3.6 x 3.6 x 5 mm, stored LPS.

    The right lung is the larger one, so that mirroring shows. Without lungs it is no chest.
    """
    shape = (96, 96, 60)
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    x, y, z = grid
    hu = np.full(shape, -1000.0)
    hu[(x / 0.9) ** 2 + (y / 0.62) ** 2 < 1] = 35.0 + shift
    for centre, width in ((0.42, 0.33), (-0.42, 0.27)):
        lung = ((x - centre) / width) ** 2 + (y / 0.46) ** 2 + (z / 0.85) ** 2 < 1
        hu[lung] = -860.0 if lungs else 30.0
    hu[((x + 0.08) / 0.25) ** 2 + ((y - 0.12) / 0.25) ** 2 + ((z + 0.2) / 0.4) ** 2 < 1] = 45.0
    hu[(x / 0.09) ** 2 + ((y + 0.42) / 0.1) ** 2 < 1] = 350.0
    hu += np.random.default_rng(0).normal(0, 12, shape)
    affine = np.diag([3.6, 3.6, 5.0, 1.0])
    affine[:3, 3] = (-171.0, -171.0, -147.5)
    image = nib.Nifti1Image(hu.astype(np.int16), affine)
    lps = nib.orientations.axcodes2ornt(("L", "P", "S"))
    image.as_reoriented(lps).to_filename(path)
    return path
