"""A coarse grid over the volume, on which large smooth shapes are evaluated."""

from __future__ import annotations

import numpy as np

from rad3d.synthetic.phantom.canvas import Array, Canvas

F = np.float32
LATTICE_MM = 5.0


class Lattice:
    """A coarse grid over the canvas, and linear interpolation from it."""

    def __init__(self, canvas: Canvas) -> None:
        self.axes: list[Array] = []
        self.index: list[Array] = []
        self.weight: list[Array] = []
        for axis in canvas.axes_mm:
            n = int((axis[-1] - axis[0]) / LATTICE_MM) + 2
            nodes = axis[0] + F(LATTICE_MM) * np.arange(n, dtype=F)
            u = (axis - axis[0]) * F(1 / LATTICE_MM)
            index = np.minimum(u.astype(np.int64), n - 2)
            self.axes.append(nodes)
            self.index.append(index)
            self.weight.append((u - index).astype(F))

    def world(self) -> tuple[Array, Array, Array]:
        """World coordinates of the nodes, broadcastable."""
        x, y, z = self.axes
        return x[:, None, None], y[None, :, None], z[None, None, :]

    def plane(self, stack: Array, i: int) -> Array:
        """Node values (F, Yc, Zc) at voxel column ``i``, from a stack of nodes (Xc, F, Yc, Zc)."""
        k, w = int(self.index[0][i]), self.weight[0][i]
        return stack[k] + w * (stack[k + 1] - stack[k])

    def rows(self, plane: Array, least: float) -> slice:
        """The rows of voxels in which a field of nodes (Yc, Zc) can exceed ``least``."""
        high = plane.max(axis=1) > least
        index = self.index[1]
        cells = np.flatnonzero(high[index] | high[index + 1])
        return slice(int(cells[0]), int(cells[-1]) + 1) if len(cells) else slice(0, 0)

    def refine(self, plane: Array, rows: slice) -> Array:
        """Voxel values (F, rows, Z) of a plane of nodes (F, Yc, Zc)."""
        plane = self._along(plane, 2, self.index[2], self.weight[2])
        return self._along(plane, 1, self.index[1][rows], self.weight[1][rows, None])

    def _along(self, field: Array, axis: int, index: Array, weight: Array) -> Array:
        low = np.take(field, index, axis=axis, mode="clip")
        high = np.take(field, index + 1, axis=axis, mode="clip")
        high -= low
        high *= weight
        high += low
        return high
