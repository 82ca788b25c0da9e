"""Colours of the input in place of the albedo network's (setting `pseudo_albedo: input`).

The albedo network gives blurred features and colours drawn towards the category's average. In
pseudo samples these would tell the encoder to project another person, and pictures of the shape
turned or relit would show another one. The input shows the right ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from gan2shape.pipeline.method.estimate import Estimate
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.render import Backend
from gan2shape.pipeline.scene.shape import Shape
from gan2shape.pipeline.scene.visibility import seen_on
from gan2shape.schemas.settings import RunConfig

DARKEST = 0.05
"""Added to brightnesses in [0, 2] before they are divided: dark pixels are mostly noise."""
GAIN = (0.4, 2.5)
"""Least and largest factor on an albedo: what differs more is not the same point."""
PRIOR = 0.02
"""Weight of the albedo as it is, where a point seen in full weighs 1."""


def pseudo_shapes(estimate: Estimate) -> Shape:
    """The estimate's shapes with input colours: what pseudo samples are rendered from."""
    group = estimate.group
    albedos = [
        with_input_colours(
            estimate.shapes[part],
            estimate.view[part],
            estimate.light[part],
            group.targets.images[part],
            group.targets.masks[part],
            group.camera,
            group.config.renderer,
            symmetric=group.config.optimization.symmetric,
        ).albedo
        for part in estimate.parts
    ]
    return replace(estimate.shapes, albedo=torch.cat(albedos))


@torch.no_grad()
def with_input_colours(
    shapes: Shape,
    view: Tensor,
    light: Tensor,
    images: Tensor,
    masks: Tensor,
    camera: Camera,
    renderer: Backend = "auto",
    *,
    symmetric: bool,
) -> Shape:
    """Correct the shapes' albedos by what the inputs show of them.

    Every visible point's albedo is multiplied by input over rendering. A point that the input hides
    takes the factor of its mirror image where objects are symmetric. It stays as it is where they
    are not, or where the mirror image is hidden too.

    Args:
        shapes: B of them.
        view, light: (B, 6) and (B, 4) of the inputs.
        images: inputs (B, 3, S, S) in [-1, 1].
        masks: (B, S, S), 1 where the inputs show the object.
        symmetric: whether objects may be taken for symmetric.
    """
    rendering = shapes.render(view, light, camera, renderer)
    gain = ((images + 1 + DARKEST) / (rendering.image + 1 + DARKEST)).clamp(*GAIN)
    gain, weight = seen_on(shapes, view, gain, masks, rendering.depth, rendering.mask, camera)
    mirrored = (1 - weight) * weight.flip(-1) * symmetric
    total = weight + mirrored + PRIOR
    gain = (weight * gain + mirrored * gain.flip(-1) + PRIOR) / total
    return replace(shapes, albedo=(shapes.albedo / 2 + 0.5).mul(gain).clamp(0, 1) * 2 - 1)


def input_colours(results: Mapping[str, Tensor], images: Tensor, config: RunConfig) -> Tensor:
    """Albedos (B, 3, S, S) in [-1, 1] of a run's results, corrected by the inputs.

    Args:
        results: depth, albedo, view, light and mask of B images, under their arrays' names. Nothing
            is taken of an input from where its mask is empty.
        images: the inputs (B, 3, S, S) in [-1, 1].
    """
    camera, symmetric = Camera.from_config(config.camera), config.optimization.symmetric
    shapes = Shape.of(results["depth"], results["albedo"], camera)
    view, light, mask = (results[name] for name in ("view", "light", "mask"))
    return with_input_colours(
        shapes, view, light, images, mask, camera, config.renderer, symmetric=symmetric
    ).albedo
