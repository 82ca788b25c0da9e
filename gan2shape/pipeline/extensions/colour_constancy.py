"""Colour constancy of the inputs (settings `colour_symmetry` and `colour_evenness`).

An input divided by the shading of its shape shows the object's own colours. Under the right shape
and light, and seen from the right side, a symmetric object's left and
right half have the same albedo, whatever that is; and what has one chromaticity, which grey light
does not change, mostly has one brightness (Land and McCann's Retinex, 1971). Comparing the input
with a rendering asks the same (Unsup3d, section 3.1), but by way of an albedo network whose own
error is several times that of a wrong shading. Here no albedo is needed: the input has it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gan2shape.pipeline.extensions.input_colours import DARKEST
from gan2shape.pipeline.method.losses import Fit
from gan2shape.pipeline.perceptual.losses import masked_mean
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.geometry import normals_from_depth
from gan2shape.pipeline.scene.render import Backend, render_depth
from gan2shape.pipeline.scene.shading import diffuse_shading, light_strengths
from gan2shape.pipeline.scene.shape import Shape
from gan2shape.pipeline.scene.visibility import seen_on

WINDOW = 3
"""Colours are averaged over so many points each way: eyes and brows a pixel out of place would
otherwise decide, and their errors have no gradient that leads far."""
DIMMEST = 0.05
"""Least shading that is divided by."""
ALIKE = 0.05
"""Two points so far apart in log chromaticity count for 0.6 as one colour."""
ANOTHER = 0.07
"""Difference of log brightness from which two points rather have another albedo each than another
shading."""
APART = ((0, 3), (3, 0), (0, 7), (7, 0), (5, 5), (5, -5), (0, 13), (13, 0), (9, 9), (9, -9))
"""Steps down and to the right between points that are compared, in 64ths of the size."""


def colour_term(fit: Fit, symmetry: float, evenness: float) -> Tensor:
    """The term of step 3's loss: `colour_loss` (B,) of the inputs by these weights."""
    targets, config = fit.group.targets, fit.group.config
    images, masks = targets.images[fit.index], targets.masks[fit.index]
    place = (fit.shapes, fit.view, fit.light, images, masks, fit.group.camera, config.renderer)
    return colour_loss(*place, symmetry=symmetry, evenness=evenness)[0]


def colour_loss(
    shapes: Shape,
    view: Tensor,
    light: Tensor,
    images: Tensor,
    masks: Tensor,
    camera: Camera,
    renderer: Backend = "auto",
    symmetry: float = 0.0,
    evenness: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum (B,) of `asymmetry` and `unevenness` of inputs, and the mean of each.

    Differentiable in shapes, views and lights; their albedo is not looked at. Which points count
    is taken as given.

    Args:
        shapes: B of them.
        view, light: (B, 6) and (B, 4) of the inputs.
        images, masks: inputs (B, 3, S, S) in [-1, 1] and where they show the object (B, S, S).
        symmetry, evenness: weights; what weighs 0 is not computed.
    """
    loss = images.new_zeros(len(images))
    figures: dict[str, Tensor] = {}
    if not (symmetry or evenness):
        return loss, figures
    with torch.no_grad():
        front, covered = render_depth(shapes.depth, view, camera, renderer)
    brightness = (images + 1 + DARKEST) / 2
    bright, seen = seen_on(shapes, view, brightness, masks, front, covered, camera)
    colours = bright.clamp(min=DARKEST / 2).log()
    if symmetry:
        halves = asymmetry(colours - _log_shading(shapes.normals, light), seen)
        loss = loss + symmetry * halves
        figures["asymmetry"] = halves.detach().mean()
    if evenness:
        depth = without_bas_relief(shapes.depth, seen[:, 0])
        shading = _log_shading(normals_from_depth(depth, camera), light)
        uneven = unevenness(colours.detach() - shading, seen)
        loss = loss + evenness * uneven
        figures["unevenness"] = uneven.detach().mean()
    return loss, figures


def asymmetry(albedo: Tensor, seen: Tensor) -> Tensor:
    """Mean difference (B,) of log albedo (B, 3, S, S) between points and their mirror images, by
    how well both are seen (B, 1, S, S); 0 where no two are.
    """
    both = seen * seen.flip(-1)
    apart = _window((albedo - albedo.flip(-1)) * both) / _window(both).clamp(min=1e-3)
    return masked_mean(apart.abs().mean(1), both[:, 0])


def unevenness(albedo: Tensor, seen: Tensor) -> Tensor:
    """Mean difference (B,) of brightness between points of like chromaticity, of log albedo
    (B, 3, S, S), by how well both are seen (B, 1, S, S); 0 where no two are.

    Small differences count in full, and none for more than `ANOTHER`: hair and skin of one
    chromaticity have two brightnesses, and no shading should explain that.
    """
    size = albedo.shape[-1]
    albedo = _window(albedo * seen) / _window(seen).clamp(min=1e-3)
    bright = albedo.mean(1, keepdim=True)
    chroma = (albedo - bright).detach()
    total = weights = albedo.new_zeros(len(albedo))
    for step in APART:
        down, right = (round(part * size / 64) for part in step)
        one = (..., slice(0, size - down), slice(max(0, -right), size - max(0, right)))
        other = (..., slice(down, size), slice(max(0, right), size - max(0, -right)))
        far = (chroma[one] - chroma[other]).square().sum(1, keepdim=True)
        weight = (far / (-2 * ALIKE**2)).exp() * seen[one] * seen[other]
        apart = (bright[one] - bright[other]).abs()
        total = total + (weight * ANOTHER * apart / (ANOTHER + apart)).sum((1, 2, 3))
        weights = weights + weight.sum((1, 2, 3))
    return total / weights.clamp(min=1)


def without_bas_relief(depth: Tensor, weight: Tensor) -> Tensor:
    """`depth` (B, S, S), whose gradient changes neither tilt nor relief of what has weight
    (B, S, S).

    Shading cannot tell these from a change of light and albedo (the bas-relief ambiguity, Belhumeur
    et al., 1999): left to it, reliefs grow.
    """
    size = depth.shape[-1]
    across = torch.linspace(-1, 1, size, device=depth.device).expand_as(depth)
    known = torch.stack([torch.ones_like(across), across, across.mT, depth.detach()], -1)
    known = known.flatten(1, 2).double() * (weight > 0).flatten(1)[..., None]
    basis = torch.linalg.qr(known)[0].to(depth)  # (B, S * S, 4)

    def remove(gradient: Tensor) -> Tensor:
        flat = gradient.flatten(1)[..., None]
        return (flat - basis @ (basis.mT @ flat)).view_as(gradient)

    free = depth.view_as(depth)
    if free.requires_grad:
        free.register_hook(remove)
    return free


def _log_shading(normals: Tensor, light: Tensor) -> Tensor:
    ambient, diffuse = (part[:, None, None, None] for part in light_strengths(light))
    return (ambient + diffuse * diffuse_shading(normals, light)).clamp(min=DIMMEST).log()


def _window(maps: Tensor) -> Tensor:
    return functional.avg_pool2d(maps, WINDOW, 1, WINDOW // 2)
