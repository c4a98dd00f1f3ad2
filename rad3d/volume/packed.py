"""A volume as a gzipped NIfTI file, made slab by slab while it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from rad3d.core.errors import BadRequest, Rad3dError
from rad3d.core.types import Volume
from rad3d.volume.hounsfield import copy_tiles, slabs

FAST = 1
"""Level of ISA-L: nearly as small as zlib's 1, in a fifth of its time."""

GZIP_BITS = 31


def packed(ask: Callable[[], Volume]) -> Iterator[bytes]:
    """The pieces of the file.

    Nothing of the volume is held between two pieces, so that who reads slowly keeps no scan in
    memory that its owner has closed.

    Args:
        ask: for the volume, now and before every slab; where another or none is open by then, the
            file ends there.

    Raises:
        Rad3dError: what ``ask`` raises now.
    """
    volume = ask()
    return _pieces(ask, volume.sha256, volume.shape, _header(volume))


def _header(volume: Volume) -> bytes:
    import nibabel as nib  # see rad3d.volume.header

    nothing = np.broadcast_to(np.zeros((), volume.hu.dtype), volume.shape)
    header = nib.Nifti1Image(nothing, volume.affine).header
    header.set_slope_inter(1, 0)
    header["vox_offset"] = len(header.binaryblock) + 4
    return bytes(header.binaryblock) + bytes(4)


def _pieces(
    ask: Callable[[], Volume], sha256: str, shape: tuple[int, int, int], header: bytes
) -> Iterator[bytes]:
    packer = isal_zlib.compressobj(FAST, isal_zlib.DEFLATED, GZIP_BITS)
    yield packer.compress(header)
    for part in slabs(shape):
        try:
            yield packer.compress(_slab(ask(), sha256, part))
        except Rad3dError:
            return
    yield packer.flush()


def _slab(volume: Volume, sha256: str, part: slice) -> npt.NDArray[Any]:
    """(n, Y, X) slices, as the file has them; BadRequest where the volume is another by now."""
    if volume.sha256 != sha256:
        raise BadRequest("Another scan was opened.")
    voxels = volume.hu[:, :, part]
    slab = np.empty(voxels.shape[::-1], voxels.dtype)
    copy_tiles(voxels, slab.T)
    return slab
