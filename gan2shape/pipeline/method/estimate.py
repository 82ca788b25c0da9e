"""What the networks make of a group's inputs, and the pseudo samples rendered from it."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from gan2shape.pipeline.method.group import AT_ONCE, Group
from gan2shape.pipeline.method.sampling import sample_lights, sample_views
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.scene.render import Rendering, warp
from gan2shape.pipeline.scene.shape import Shape
from gan2shape.pipeline.scene.visibility import on_shapes


def render(group: Group, shapes: Shape, view: Tensor, light: Tensor) -> Rendering:
    """Pi(Lambda(d, a, l), d, v) of section 3.1: shade B shapes and warp them into views.

    Views are (B, 6) and lights (B, 4).
    """
    return shapes.render(view, light, group.camera, group.config.renderer)


class Estimate:
    """Shapes, views (N, 6) and lights (N, 4) of all inputs, as the networks stand now."""

    @torch.no_grad()
    def __init__(self, group: Group) -> None:
        self.group = group
        with autocast(group.device, group.config.precision):
            found = [group.networks.predict(part) for part in group.targets.images.split(AT_ONCE)]
        depth, albedo, self.view, self.light = (
            torch.cat(parts) for parts in zip(*found, strict=True)
        )
        self.shapes = Shape.of(depth, albedo, group.camera)

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """Indices of the inputs, so many at a time as memory takes."""
        return torch.arange(len(self.view), device=self.view.device).split(AT_ONCE)

    @cached_property
    def pseudo_shapes(self) -> Shape:
        """The shapes that pseudo samples are rendered from."""
        return self.group.variant.pseudo_shapes(self)

    @cached_property
    def objects(self) -> Tensor:
        """Where the inputs' masks lie on the shapes, (N, 1, S, S)."""
        masks = self.group.targets.masks[:, None]
        found = [
            on_shapes(self.shapes[part], self.view[part], masks[part], self.group.camera)
            for part in self.parts
        ]
        return torch.cat(found)

    @torch.no_grad()
    def pseudo_samples(self, index: Tensor) -> tuple[Rendering, Tensor]:
        """Render inputs `index` (B,) under random views and lights (section 3.2, step 2).

        Where masks are given, the rendering's mask leaves out what the input's mask does.

        Returns:
            The renderings, and their views (B, 6).
        """
        group = self.group
        views = sample_views(len(index), group.config.view_prior, group.random)
        lights = sample_lights(self.light[index], group.config.light_prior, group.random)
        seen = render(group, self.pseudo_shapes[index], views, lights)
        if group.config.mask == "given":  # nothing was fitted to what lies outside
            depth, objects = self.shapes.depth[index], self.objects[index]
            inside = warp(objects, depth, views, group.camera, group.config.renderer).image[:, 0]
            seen = replace(seen, mask=seen.mask * (inside > 0.5))
        return seen, views
