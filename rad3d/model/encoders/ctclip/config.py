"""Sizes of a CT-CLIP image encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rad3d.core.config_sizes import LAYERS, WIDTHS, check_sizes
from rad3d.core.errors import BadRequest
from rad3d.core.labels import N_LABELS
from rad3d.core.lookup import lookup
from rad3d.volume.grid import GridSpec

FEED_FORWARD_RATIO = 4 * (2 / 3)
PAIRS = {"image_size", "patch_size"}
"""Sizes along H and W."""


@dataclass(frozen=True)
class CtClipConfig:
    """Sizes, named as in the published code; the defaults are the published ones.

    Attributes:
        dim: width of a token.
        codebook_size: rows of the codebook.
        image_size: pixels of a slice (H, W); one number for a square.
        patch_size: pixels of a patch (H, W); one number for a square.
        temporal_patch_size: slices of a patch.
        spatial_depth, temporal_depth: layers of the two transformers.
        dim_head, heads: of every attention.
        channels: of the input.
        dim_latent: size of the image latent.
        num_classes: of the LiPro head; 0 where there is none.
        frames: slices of the model grid.
    """

    dim: int = 512
    codebook_size: int = 8192
    image_size: int | tuple[int, int] = 480
    patch_size: int | tuple[int, int] = 20
    temporal_patch_size: int = 10
    spatial_depth: int = 4
    temporal_depth: int = 4
    dim_head: int = 32
    heads: int = 8
    channels: int = 1
    dim_latent: int = 512
    num_classes: int = N_LABELS
    frames: int = 240

    def __post_init__(self) -> None:
        for name, value in checked_sizes(vars(self)).items():
            object.__setattr__(self, name, value)
        pieces = (*self.image_hw, self.frames)
        patches = (*self.patch_hw, self.temporal_patch_size)
        if any(size % patch for size, patch in zip(pieces, patches, strict=True)):
            raise BadRequest(
                f"CT-CLIP: {pieces} pixels and slices are no whole number of patches {patches}.",
                "Give image_size, patch_size and frames that fit each other.",
                code="bad_config",
            )

    @property
    def image_hw(self) -> tuple[int, int]:
        """Pixels of a slice."""
        return self.image_size  # type: ignore[return-value]

    @property
    def patch_hw(self) -> tuple[int, int]:
        """Pixels of a patch."""
        return self.patch_size  # type: ignore[return-value]

    @property
    def grid_thw(self) -> tuple[int, int, int]:
        """Tokens along slices, H and W."""
        (height, width), (high, wide) = self.image_hw, self.patch_hw
        return self.frames // self.temporal_patch_size, height // high, width // wide

    @property
    def patch_values(self) -> int:
        """Voxels of a patch."""
        return self.channels * self.temporal_patch_size * math.prod(self.patch_hw)

    @property
    def inner(self) -> int:
        """Width of the gated hidden layer of the feed-forward."""
        return int(FEED_FORWARD_RATIO * self.dim)

    @property
    def dim_image(self) -> int:
        """Size of the pooled tokens, flattened."""
        _, h, w = self.grid_thw
        return h * w * self.dim

    def grid(self, clip: str = "before") -> GridSpec:
        """The model grid: LPS voxels of 0.75 x 0.75 x 1.5 mm, laid out (slice, x, y).

        Args:
            clip: ``"before"`` resampling, as in the published inference and LiPro training, or
                ``"after"`` it, as in CT-CLIP's training. They differ at the edges of what lies
                beyond -1000 to 1000 HU.
        """
        height, width = self.image_hw
        return GridSpec(
            orientation="LPS",
            spacing_mm=(0.75, 0.75, 1.5),
            shape=(height, width, self.frames),
            axes="zxy",
            resampling="size_ratio",
            clip=clip,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CtClipConfig:
        """The inverse of :meth:`to_dict`; unknown keys are refused."""
        return cls(**checked_sizes(values))


def checked_sizes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes by their names in :class:`CtClipConfig`; one number for a square becomes a pair.

    Raises:
        UnknownName: no size is called so.
        BadRequest: one is no whole number above 0 (for a side, no pair of them).
    """
    sizes = dict(values)
    numbers = dict(values)
    for name in PAIRS & set(values):
        side = numbers.pop(name)
        sizes[name] = tuple(side) if isinstance(side, list | tuple) else (side, side)
        height, width = sizes[name] if len(sizes[name]) == 2 else (side, side)
        numbers |= {f"{name}, height": height, f"{name}, width": width}
    for name in numbers:
        lookup("size of CT-CLIP", CtClipConfig.__dataclass_fields__, name.partition(",")[0])
    allowed = {"num_classes": range(WIDTHS.stop), "spatial_depth": LAYERS, "temporal_depth": LAYERS}
    check_sizes("CT-CLIP", {k: (size, allowed.get(k, WIDTHS)) for k, size in numbers.items()})
    return sizes
