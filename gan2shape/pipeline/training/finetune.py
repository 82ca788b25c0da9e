"""Row 10, ours: GAN2Shape's networks, taught by many single images.

Projected samples settle what single images leave open, relief against rotation, but they are all a
little alike, and so are the shapes that come of them. Single images have what tells one object from
another, in symmetry and shading, and need neither latents nor projection. So one comes after the
other: step 3 with the input alone, for as many images as there are.

View and light networks learn from the images too, and from renderings of the shapes in the images'
own colours, whose views and lights are known. Left to the images alone, yaws would shrink and the
relief grow, or the other way round, and shapes would tilt as rolls follow yaws. So the yaw learns
from renderings only, and those teach yaws and rolls by which the yaws found in images spread as the
prior says and rolls have nothing to do with them.

Networks that were trained in other ways are wrong in other places. With such teachers the shapes
also learn the mean of theirs and of the initial networks', as seen in each image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from gan2shape.pipeline.extensions.colour_constancy import colour_loss
from gan2shape.pipeline.extensions.consensus import consensus_depth, consensus_error
from gan2shape.pipeline.extensions.input_colours import paint
from gan2shape.pipeline.method.sampling import ROLL, YAW, light_spread, sample_lights, sample_views
from gan2shape.pipeline.method.steps import limit_gradient
from gan2shape.pipeline.networks.shape_networks import ShapeNetworks
from gan2shape.pipeline.networks.trained import TrainedNetworks
from gan2shape.pipeline.perceptual.losses import (
    PerceptualLoss,
    masked_l1,
    relative_relief,
    share_of_distance,
)
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.scene.geometry import smoothness
from gan2shape.pipeline.scene.masks import object_masks
from gan2shape.pipeline.scene.shading import diffuse_shading
from gan2shape.pipeline.scene.shape import Shape
from gan2shape.pipeline.stylegan2.training.trainer import spread_seed
from gan2shape.pipeline.training.trainer import Batch, Objective, Trainer
from gan2shape.schemas.network_training import FinetuneConfig

DRAWS = 1
"""Sets these random numbers apart from those that mirror images."""
LIGHT_WEIGHT = 0.1
"""On the error of lights in renderings: enough to steer them, images have the last word."""
RELIEF_WEIGHT = 3.0
"""On the squared error of a batch's mean relief. Images differ in relief, and so do batches of a
few: with 100 shapes would follow that, and learn little else."""
PIN_RATE, PIN_STEP = 0.05, 0.5
"""Share of what spread and slope are off by, the first as a logarithm and at most PIN_STEP, that a
batch puts right."""


class SingleImages(Objective):
    """Step 3's losses of single images, the errors in renderings of their shapes, and those against
    teachers' shapes."""

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
        """`yaw_std` is how far yaws are to spread in the images, if not as the prior says; shapes
        stay as deep as the depth `typical` (S, S) on average, if there is one.
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
        self, networks: ShapeNetworks, batch: Batch, shown: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        config, images = self.config, batch.images
        random = Generator(images.device).manual_seed(spread_seed(config.seed + DRAWS, shown))
        masks = self._masks(batch)
        with autocast(images.device, config.precision):
            depth, albedo, view, light = networks.predict(images)
        view = torch.cat([view[:, :YAW], view[:, YAW : YAW + 1].detach(), view[:, YAW + 1 :]], 1)
        depth.register_hook(limit_gradient)
        shapes = Shape.of(depth, albedo, networks.camera)
        painted, *known = self._painted(networks, shapes, view, light, images, masks, random)
        self._pin(view)
        view_error, light_error = self._errors(networks, painted, *known)
        side = shapes
        if config.symmetric:
            draw = torch.rand(len(images), generator=random, device=random.device)
            side = shapes.mirrored(draw < 0.5)
        seen = side.render(view, light, networks.camera, config.renderer)
        compared = masks * seen.mask
        photometric = masked_l1(seen.image, images, compared)
        perceptual = torch.zeros_like(photometric)
        if self.perceptual is not None and config.perceptual_weight:
            perceptual = share_of_distance(
                self.perceptual,
                config.perceptual_share,
                seen.image,
                images,
                compared,
                random,
                config.precision,
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
        return losses, figures

    def _masks(self, batch: Batch) -> Tensor:
        """The objects (B, S, S) in a batch."""
        if batch.masks is not None:
            return batch.masks
        if self.config.mask == "background":
            return object_masks(batch.images, self.config.background_threshold).to(batch.images)
        return torch.ones_like(batch.images[:, 0])

    @torch.no_grad()
    def _painted(
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
        coloured = paint(
            *(shapes, view, light, images, masks, camera, config.renderer),
            symmetric=config.symmetric,
        )
        views = sample_views(len(images), config.view_prior, random)
        lights = sample_lights(light, config.light_prior, random)
        painted = coloured.render(views, lights, camera, config.renderer)
        return painted.image.clamp(-1, 1), views, lights

    def _errors(
        self, networks: ShapeNetworks, painted: Tensor, views: Tensor, lights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean errors (B,) of views and lights found in renderings, in the priors' deviations."""
        config, prior = self.config, self.config.view_prior
        mean, std = (torch.tensor(x, device=views.device) for x in (prior.mean, prior.std))
        taught = views - mean
        taught[:, ROLL] -= self.roll_slope * taught[:, YAW]
        taught[:, YAW] *= self.yaw_factor
        with autocast(painted.device, config.precision):
            view_error = networks.view(painted) - mean - taught
            light_error = networks.light(painted) - lights
        spread = light_spread(config.light_prior).to(lights)
        return _in_deviations(view_error, std), _in_deviations(light_error, spread)

    @torch.no_grad()
    def _pin(self, view: Tensor) -> None:
        """Change what is taught of yaws and rolls by how views (B, 6) found in images are off."""
        prior = self.config.view_prior
        yaw, roll = (view[:, axis] - prior.mean[axis] for axis in (YAW, ROLL))
        found = yaw.square().mean().sqrt()
        if self.yaw_std > 0 and found > 0:
            off = (self.yaw_std / found).log().clamp(-PIN_STEP, PIN_STEP)
            self.yaw_factor.mul_((PIN_RATE * off).exp())
            self.roll_slope.add_(PIN_RATE * ((yaw * roll).mean() / found.square()).clamp(-1, 1))


def trainer(
    config: FinetuneConfig,
    initial: TrainedNetworks,
    perceptual: PerceptualLoss | None = None,
    device: torch.device | str = "cpu",
    teachers: Sequence[TrainedNetworks] = (),
) -> Trainer:
    """A trainer from the networks `initial`, whose settings `config` has; `perceptual` works on
    `device`, `None` leaves it out.

    The trained networks keep the teachers, since `fit_single_images` asks them again. Raises
    `NetworksError` where teachers see images through another camera.
    """
    if teachers:
        initial = initial.with_teachers(teachers)

    def make() -> tuple[ShapeNetworks, SingleImages]:
        # What the networks know at the start is one of the opinions.
        all_teachers = (initial, *teachers) if teachers else ()
        frozen = [each.shape_networks().to(device).requires_grad_(False) for each in all_teachers]
        return initial.shape_networks(), SingleImages(config, perceptual, frozen)

    return Trainer(config, make, device, initial)


def _in_deviations(errors: Tensor, std: Tensor) -> Tensor:
    """Mean absolute errors (B,) of (B, D) in standard deviations (D,), of what varies at all."""
    varies = std > 0
    return (errors[:, varies] / std[varies]).abs().sum(1) / max(int(varies.sum()), 1)
