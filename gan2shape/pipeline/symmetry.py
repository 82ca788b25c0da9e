"""What the two halves of a symmetric object show of its shape, in the input's own colours.

Unshaded by the right shape and light, and seen from the right side, an object's left and right
half have the same albedo, whatever that is. Comparing the input with a rendering asks the same
(Unsup3d, section 3.1), but by way of an albedo network whose own error is several times that of a
wrong shading. Here no albedo is needed: the input has it.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from gan2shape.pipeline.camera import Camera
from gan2shape.pipeline.canonical import Canonical
from gan2shape.pipeline.losses import masked_mean
from gan2shape.pipeline.render import Backend
from gan2shape.pipeline.shading import diffuse_shading, light_strengths
from gan2shape.pipeline.textures import DARKEST, seen_on

WINDOW = 3
"""Differences are averaged over so many points each way: eyes and brows a pixel out of place would
otherwise decide, and their errors have no gradient that leads far."""
DIMMEST = 0.05
"""Least shading that is divided by."""


def asymmetry(
    shapes: Canonical,
    view: Tensor,
    light: Tensor,
    images: Tensor,
    masks: Tensor,
    camera: Camera,
    renderer: Backend = "auto",
) -> Tensor:
    """Mean difference (B,) of log albedo between points and their mirror images; 0 where no two
    are seen.

    Differentiable in shapes, views and lights; their albedo is not looked at. Which points count
    is taken as given.

    Args:
        shapes: B of them.
        view, light: (B, 6) and (B, 4) of the inputs.
        images, masks: inputs (B, 3, S, S) in [-1, 1] and where they show the object (B, S, S).
    """
    colours, weight = seen_on(shapes, view, (images + 1 + DARKEST) / 2, masks, camera, renderer)
    ambient, diffuse = (part[:, None, None, None] for part in light_strengths(light))
    shading = ambient + diffuse * diffuse_shading(shapes.normals, light)
    albedo = colours.clamp(min=DARKEST / 2).log() - shading.clamp(min=DIMMEST).log()
    both = weight * weight.flip(-1)
    apart = _window((albedo - albedo.flip(-1)) * both) / _window(both).clamp(min=1e-3)
    return masked_mean(apart.abs().mean(1), both[:, 0])


def _window(maps: Tensor) -> Tensor:
    return functional.avg_pool2d(maps, WINDOW, 1, WINDOW // 2)
