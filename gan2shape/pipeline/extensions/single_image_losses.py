"""Step 3 with the input alone: losses of single images, without the GAN.

Projected samples settle what single images leave open, relief against rotation. But they are all a
little alike, and so are the shapes that come of them. Single images have what tells one object from
another, in symmetry and shading, and need neither latents nor projection.

View and light networks learn from the images too, and from renderings of the shapes in the images'
own colours, whose views and lights are known. Left to the images alone, yaws would shrink and the
relief grow, or the other way round, and shapes would tilt as rolls follow yaws. So the yaw learns
from renderings only. What these teach of yaws and rolls is corrected until the yaws found in images
spread as they should and rolls have nothing to do with them.

Networks that were trained in other ways are wrong in other places. With such teachers the shapes
also learn the mean of the teachers' shapes, as seen in each image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Generator, Tensor, nn

from gan2shape.pipeline.extensions.colour_constancy import colour_loss
from gan2shape.pipeline.extensions.consensus import consensus_depth, consensus_error
from gan2shape.pipeline.extensions.gradient_limit import with_limited_gradient
from gan2shape.pipeline.extensions.input_colours import with_input_colours
from gan2shape.pipeline.extensions.perceptual_share import distances_of_share
from gan2shape.pipeline.extensions.random_flip import random_side
from gan2shape.pipeline.method.sampling import light_spread, sample_lights, sample_views
from gan2shape.pipeline.networks.shape_networks import ShapeNetworks
from gan2shape.pipeline.perceptual.losses import PerceptualLoss, masked_l1, relative_relief
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.scene.camera import ROLL, YAW
from gan2shape.pipeline.scene.geometry import smoothness
from gan2shape.pipeline.scene.shading import diffuse_shading
from gan2shape.pipeline.scene.shape import Shape
from gan2shape.pipeline.seeds import spread_seed
from gan2shape.schemas.network_training import FinetuneConfig

DRAWS = 1
"""Added to the seed: sets these random numbers apart from those that mirror images."""
LIGHT_WEIGHT = 0.1
"""On the error of lights in renderings: enough to steer them, images have the last word."""
RELIEF_WEIGHT = 3.0
"""On the squared error of a batch's mean relief. Images differ in relief, and so do batches of a
few: with 100 shapes would follow that, and learn little else."""
CORRECTION_RATE, CORRECTION_STEP = 0.05, 0.5
"""Share of what spread and slope are off by, the first as a logarithm and at most CORRECTION_STEP,
that a batch puts right: some tens of batches average out what single ones are off by."""


class SingleImages(nn.Module):
    """The losses, and the correction of what renderings teach about yaws and rolls.

    `forward` changes nothing. The correction becomes another one by `advance`.
    """

    yaw_factor: Tensor
    roll_slope: Tensor

    def __init__(
        self,
        config: FinetuneConfig,
        perceptual: PerceptualLoss | None = None,
        teachers: Sequence[ShapeNetworks] = (),
        yaw_std: float | None = None,
        typical: Tensor | None = None,
    ) -> None:
        """Losses by the settings.

        Args:
            perceptual: compares images; without it the perceptual loss is left out.
            teachers: frozen networks whose mean shapes are learnt.
            yaw_std: how far yaws are to spread in the images, in radians; the prior's if `None`.
            typical: depth (S, S) as deep as which shapes stay on average; if `None`, they need not.
        """
        super().__init__()
        self.config = config
        self.yaw_std = config.view_prior.yaw_std if yaw_std is None else yaw_std
        self.perceptual = perceptual
        self.typical = typical
        self.teachers = tuple(teachers)  # no modules of this one: nothing of them is trained
        self.register_buffer("yaw_factor", torch.ones(()))
        self.register_buffer("roll_slope", torch.zeros(()))

    def forward(
        self, networks: ShapeNetworks, images: Tensor, masks: Tensor, shown: int
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Compute the losses of a batch.

        Args:
            networks: those that learn.
            images: (B, 3, S, S) in [-1, 1].
            masks: (B, S, S), 1 on the object.
            shown: how many images were shown before; it seeds the batch's random numbers.
        Returns:
            Losses (B,), figures for people (scalars by name), and the correction after this batch,
            which the losses go by already; `advance` takes it over.
        """
        config = self.config
        random = Generator(images.device).manual_seed(spread_seed(config.seed + DRAWS, shown))
        with autocast(images.device, config.precision):
            depth, albedo, view, light = networks.predict(images)
        view = torch.cat([view[:, :YAW], view[:, YAW : YAW + 1].detach(), view[:, YAW + 1 :]], 1)
        depth = with_limited_gradient(depth, config.gradient_limit)
        shapes = Shape.of(depth, albedo, networks.camera)
        known = self._renderings(networks, shapes, view, light, images, masks, random)
        correction = self._corrected(view)
        view_error, light_error = self._errors(networks, *known, correction)
        side = random_side(shapes, random)[0] if config.symmetric else shapes
        seen = side.render(view, light, networks.camera, config.renderer)
        compared = masks * seen.mask
        photometric = masked_l1(seen.image, images, compared)
        perceptual = torch.zeros_like(photometric)
        if self.perceptual is not None and config.perceptual_weight:
            distance = partial(_distance, self.perceptual, config.precision)
            perceptual = distances_of_share(
                distance, seen.image, images, compared, random, config.perceptual_share
            )
        shading = diffuse_shading(shapes.normals, light)
        losses = photometric + config.perceptual_weight * perceptual
        losses = losses + view_error + LIGHT_WEIGHT * light_error
        losses = losses + config.depth_smoothness * smoothness(depth)
        losses = losses + config.shading_smoothness * smoothness(shading)
        figures = {
            "photometric": photometric.detach().mean(),
            "perceptual": perceptual.detach().mean(),
            "view_error": view_error.detach().mean(),
            "light_error": light_error.detach().mean(),
            "yaw_std": view[:, YAW].detach().std(unbiased=False),
        }
        unlike, found = colour_loss(
            *(shapes, view, light, images, masks, networks.camera, config.renderer),
            symmetry=config.colour_symmetry if config.symmetric else 0.0,
            evenness=config.colour_evenness,
        )
        losses, figures = losses + unlike, figures | found
        if self.typical is not None:
            relief = relative_relief(depth, self.typical.expand_as(depth), masks).mean()
            losses = losses + RELIEF_WEIGHT * (relief - 1).square()
            figures["relief"] = relief.detach()
        if self.teachers:
            taught = consensus_depth(
                self.teachers, images, compared, config.precision, config.renderer
            )
            unlike_teachers, apart = consensus_error(seen.depth, taught, networks.camera)
            losses = losses + unlike_teachers
            figures["from_teachers_degrees"] = apart.detach().mean().rad2deg()
        return losses, figures, correction

    def advance(self, correction: Mapping[str, Tensor]) -> None:
        """Take over the correction that `forward` returned."""
        for name, value in correction.items():
            self.get_buffer(name).copy_(value)

    @torch.no_grad()
    def _renderings(
        self,
        networks: ShapeNetworks,
        shapes: Shape,
        view: Tensor,
        light: Tensor,
        images: Tensor,
        masks: Tensor,
        random: Generator,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Renderings (B, 3, S, S) of the shapes in the images' colours, under random views (B, 6)
        and lights (B, 4), and these.
        """
        config, camera = self.config, networks.camera
        coloured = with_input_colours(
            *(shapes, view, light, images, masks, camera, config.renderer),
            symmetric=config.symmetric,
        )
        views = sample_views(len(images), config.view_prior, random)
        lights = sample_lights(light, config.light_prior, random)
        rendered = coloured.render(views, lights, camera, config.renderer)
        return rendered.image.clamp(-1, 1), views, lights

    def _errors(
        self,
        networks: ShapeNetworks,
        rendered: Tensor,
        views: Tensor,
        lights: Tensor,
        correction: Mapping[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Mean errors (B,) of views and lights found in renderings, in the priors' deviations."""
        config, prior = self.config, self.config.view_prior
        mean, std = (torch.tensor(x, device=views.device) for x in (prior.mean, prior.std))
        taught = views - mean
        taught[:, ROLL] -= correction["roll_slope"] * taught[:, YAW]
        taught[:, YAW] *= correction["yaw_factor"]
        with autocast(rendered.device, config.precision):
            view_error = networks.view(rendered) - mean - taught
            light_error = networks.light(rendered) - lights
        spread = light_spread(config.light_prior).to(lights)
        return _in_deviations(view_error, std), _in_deviations(light_error, spread)

    @torch.no_grad()
    def _corrected(self, view: Tensor) -> dict[str, Tensor]:
        """The correction after a batch with views (B, 6) found in its images."""
        prior = self.config.view_prior
        yaw, roll = (view[:, axis] - prior.mean[axis] for axis in (YAW, ROLL))
        found = yaw.square().mean().sqrt()
        factor, slope = self.yaw_factor, self.roll_slope
        if self.yaw_std > 0 and found > 0:
            off = (self.yaw_std / found).log().clamp(-CORRECTION_STEP, CORRECTION_STEP)
            factor = factor * (CORRECTION_RATE * off).exp()
            follows = ((yaw * roll).mean() / found.square()).clamp(-1, 1)
            slope = slope + CORRECTION_RATE * follows
        return {"yaw_factor": factor, "roll_slope": slope}


def _distance(
    perceptual: PerceptualLoss, precision: str, images: Tensor, targets: Tensor, masks: Tensor
) -> Tensor:
    with autocast(images.device, precision):
        return perceptual(images, targets, masks)


def _in_deviations(errors: Tensor, std: Tensor) -> Tensor:
    """Mean absolute errors (B,) of (B, D) in standard deviations (D,), of what varies at all."""
    varies = std > 0
    return (errors[:, varies] / std[varies]).abs().sum(1) / max(int(varies.sum()), 1)
