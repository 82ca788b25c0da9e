"""The two rows that need no learning: a flat plane, and the average of the true depths."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gan2shape.pipeline.scene.camera import Camera


def constant_depth(
    camera: Camera,
    count: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Planes (count, S, S) in the middle of the depth range: the table's "constant null depth"."""
    middle = (camera.min_depth + camera.max_depth) / 2
    return torch.full((count, camera.size, camera.size), middle, device=device, dtype=dtype)


@dataclass(frozen=True)
class MeanDepth:
    """Running sums (S, S) float64 of true depths over the images that see each pixel."""

    total: Tensor
    count: Tensor

    @classmethod
    def empty(cls, size: int) -> MeanDepth:
        return cls(torch.zeros(size, size).double(), torch.zeros(size, size).double())

    def add(self, depths: Tensor, masks: Tensor) -> MeanDepth:
        """The sums with depths (N, S, S) added where masks (N, S, S) are set."""
        if depths.shape != masks.shape or depths.shape[1:] != self.total.shape:
            raise ValueError(
                f"depths and masks must be (N, {', '.join(map(str, self.total.shape))}), "
                f"not {tuple(depths.shape)} and {tuple(masks.shape)}"
            )
        seen = masks > 0.5
        depths = torch.where(seen, depths, 0).double()
        return MeanDepth(self.total + depths.sum(0), self.count + seen.sum(0))

    def result(self) -> Tensor:
        """Mean depth (S, S) float64; pixels that no image sees get the mean of all the others.

        Raises ValueError when no pixel was ever seen.
        """
        if not bool((self.count > 0).any()):
            raise ValueError("The mean depth needs at least one image with a pixel in its mask.")
        overall = self.total.sum() / self.count.sum()
        return torch.where(self.count > 0, self.total / self.count.clamp(min=1), overall)
