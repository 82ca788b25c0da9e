"""Shapes in the canonical frame, and their way into views."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.geometry import normals_from_depth
from gan2shape.pipeline.scene.render import Backend, Rendering, warp
from gan2shape.pipeline.scene.shading import shade


@dataclass(frozen=True)
class Shape:
    """Shapes in the canonical frame: depth (B, S, S), normals (B, S, S, 3), albedo (B, 3, S, S)."""

    depth: Tensor
    normals: Tensor
    albedo: Tensor

    @classmethod
    def of(cls, depth: Tensor, albedo: Tensor, camera: Camera) -> Shape:
        return cls(depth, normals_from_depth(depth, camera), albedo)

    def __getitem__(self, index: Tensor) -> Shape:
        return Shape(self.depth[index], self.normals[index], self.albedo[index])

    def repeat(self, copies: int) -> Shape:
        """Every shape `copies` times in a row."""
        return Shape(
            self.depth.repeat_interleave(copies, 0),
            self.normals.repeat_interleave(copies, 0),
            self.albedo.repeat_interleave(copies, 0),
        )

    def render(
        self, view: Tensor, light: Tensor, camera: Camera, renderer: Backend = "auto"
    ) -> Rendering:
        """Shaded by lights (B, 4) and warped into views (B, 6)."""
        texture = shade(self.albedo, self.normals, light)
        return warp(texture, self.depth, view, camera, renderer)

    def mirrored(self, where: Tensor) -> Shape:
        """Shapes (B,) that are true in `where` mirrored left to right."""
        swap = where[:, None, None]
        turned = self.normals.flip(2) * self.normals.new_tensor([-1.0, 1.0, 1.0])
        return Shape(
            torch.where(swap, self.depth.flip(-1), self.depth),
            torch.where(swap[..., None], turned, self.normals),
            torch.where(swap[..., None], self.albedo.flip(-1), self.albedo),
        )
