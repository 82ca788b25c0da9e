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
        """Shapes of depth (B, S, S) in scene units and albedo (B, 3, S, S) in [-1, 1]."""
        return cls(depth, normals_from_depth(depth, camera), albedo)

    def __getitem__(self, index: Tensor) -> Shape:
        return Shape(self.depth[index], self.normals[index], self.albedo[index])

    def repeat(self, copies: int) -> Shape:
        """Repeat every shape `copies` times in a row."""
        return Shape(
            self.depth.repeat_interleave(copies, 0),
            self.normals.repeat_interleave(copies, 0),
            self.albedo.repeat_interleave(copies, 0),
        )

    def render(
        self, view: Tensor, light: Tensor, camera: Camera, renderer: Backend = "auto"
    ) -> Rendering:
        """Shade the shapes by lights (B, 4) and warp them into views (B, 6)."""
        texture = shade(self.albedo, self.normals, light)
        return warp(texture, self.depth, view, camera, renderer)

    def mirrored(self) -> Shape:
        """All shapes mirrored left to right."""
        turned = self.normals.flip(2) * self.normals.new_tensor([-1.0, 1.0, 1.0])
        return Shape(self.depth.flip(-1), turned, self.albedo.flip(-1))

    def mirrored_where(self, where: Tensor) -> Shape:
        """The shapes, those that are true in `where` (B,) mirrored left to right."""
        swap, other = where[:, None, None], self.mirrored()
        return Shape(
            torch.where(swap, other.depth, self.depth),
            torch.where(swap[..., None], other.normals, self.normals),
            torch.where(swap[..., None], other.albedo, self.albedo),
        )


def mirrored_where(maps: Tensor, where: Tensor) -> Tensor:
    """The maps (B, ..., S, S) that are true in `where` (B,) mirrored left to right."""
    return torch.where(where.view(-1, *[1] * (maps.ndim - 1)), maps.flip(-1), maps)
