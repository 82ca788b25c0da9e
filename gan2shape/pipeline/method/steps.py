"""The steps of one cycle of GAN2Shape (section 3.2): ellipsoid, albedo, projection, shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from gan2shape.pipeline.extensions.colour_constancy import colour_loss
from gan2shape.pipeline.extensions.input_colours import on_shapes, paint
from gan2shape.pipeline.method import projection
from gan2shape.pipeline.method.ellipsoid import ellipsoid_depth, ellipsoid_error
from gan2shape.pipeline.method.group import AT_ONCE, Group, ProjectedSamples
from gan2shape.pipeline.method.optimizer import adam, adam_of_shapes, countdown, update
from gan2shape.pipeline.method.sampling import sample_lights, sample_views
from gan2shape.pipeline.perceptual.losses import masked_l1, share_of_distance
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.scene.geometry import smoothness
from gan2shape.pipeline.scene.render import Rendering, warp
from gan2shape.pipeline.scene.shading import diffuse_shading
from gan2shape.pipeline.scene.shape import Shape

OnIteration = Callable[[Tensor], None]
"""Called after every iteration with its mean loss (a detached scalar)."""

GRADIENT_LIMIT = 5.0
MEAN_VIEW_ERRORS = 2.0
"""Standard errors of the prior's mean that the mean view of some inputs may be away from it."""


def fit_ellipsoid(group: Group, on_iteration: OnIteration) -> None:
    """Step 0: regress every image's depth to the ellipsoid over its mask."""
    options = group.config.ellipsoid
    smooth = group.config.optimization.depth_smoothness
    wanted = ellipsoid_depth(group.targets.masks, group.camera, options)
    optimizer = adam(group, depth=group.networks.depth_net)
    optimizer.param_groups[0]["lr"] = options.learning_rate
    for _ in countdown(group, optimizer, options.iterations):
        index = group.draw(_batch(group))
        with autocast(group.device, group.config.precision):
            depth = group.networks.depth(group.targets.images[index])
        loss = ellipsoid_error(depth, wanted[index])
        loss = loss + 100 * smooth * smoothness(depth)
        on_iteration(update(group, optimizer, index, loss))


def fit_albedo(group: Group, iterations: int, symmetric: bool, on_iteration: OnIteration) -> None:
    """Step 1: fit the albedo to the inputs with depth, view and light held."""
    networks, images = group.networks, group.targets.images
    held = Estimate(group)
    depth, normals = held.shapes.depth, held.shapes.normals
    optimizer = adam(group, albedo=networks.albedo_net)
    for _ in countdown(group, optimizer, iterations):
        index = group.draw(_batch(group))
        with autocast(group.device, group.config.precision):
            albedo = networks.albedo(images[index])
        loss = _reconstruction_loss(
            group,
            Shape(depth[index], normals[index], albedo),
            held.view[index],
            held.light[index],
            images[index],
            group.loss_masks(index),
            symmetric,
        )
        on_iteration(update(group, optimizer, index, loss))


def fit_encoder(group: Group, iterations: int, on_iteration: OnIteration) -> None:
    """Step 2: teach the encoder to project renderings of the shapes onto the GAN's images."""
    estimate = Estimate(group)
    optimizer = adam(group, encoder=group.encoder)
    for _ in countdown(group, optimizer, iterations):
        index = group.draw(group.config.optimization.batch)
        pseudo, _ = estimate.pseudo_samples(index)
        with autocast(group.device, group.config.precision):
            offset = latent_offset(group, pseudo.image, index)
            image = group.generate(group.latents[index] + offset)
            loss = masked_l1(image, pseudo.image, pseudo.mask)
            loss = loss + group.features(image, pseudo.image, pseudo.mask)
        if group.config.latent.regularize:
            loss = loss + group.config.latent.norm_weight * offset.square().mean(1)
        on_iteration(update(group, optimizer, index, loss))


@torch.no_grad()
def collect_samples(group: Group, objects: bool = True) -> None:
    """The projected samples of step 2; an image whose samples are all alike fails as collapsed.

    Without `objects` all that samples show counts as such: enough where the background weighs 1.
    """
    options = group.config.optimization
    estimate = Estimate(group)
    count, size = len(group.failures), group.camera.size
    shape = (count, options.projected_samples)
    samples = ProjectedSamples(
        images=torch.zeros(*shape, 3, size, size, dtype=torch.float16, device=group.device),
        masks=torch.zeros(*shape, size, size, dtype=torch.bool, device=group.device),
        objects=torch.ones(*shape, size, size, dtype=torch.bool, device=group.device),
        turns=torch.zeros(*shape, 6, device=group.device),
    )
    for image in group.active().tolist():
        spread = [0.0, 0.0]
        for chunk in torch.arange(options.projected_samples).split(options.batch):
            index = torch.full((len(chunk),), image, device=group.device)
            pseudo, views = estimate.pseudo_samples(index)
            with autocast(group.device, group.config.precision):
                offset = latent_offset(group, pseudo.image, index)
                projected = group.generate(group.latents[index] + offset)
            projected = projected.clamp(-1, 1)
            samples.images[image, chunk] = projected.half()
            samples.masks[image, chunk] = pseudo.mask.bool()
            if objects:
                samples.objects[image, chunk] = group.objects(projected)
            samples.turns[image, chunk] = views - estimate.view[image]
            spread[0] += _spread(projected)
            spread[1] += _spread(pseudo.image)
        if not torch.isfinite(samples.images[image]).all():
            group.fail(image, "its projected samples are not finite")
        elif spread[0] < options.collapse_ratio * spread[1]:
            group.fail(
                image,
                "its projected samples are all alike (collapse): the GAN cannot follow the shape",
            )
    group.samples = samples


def fit_views(group: Group, iterations: int, on_iteration: OnIteration) -> None:
    """Between steps 2 and 3: teach the view network the known turns of projected samples.

    This fixes the scale of rotations, which relief would otherwise trade against, and costs no
    rendering.
    """
    optimizer = adam(group, view=group.networks.view_net)
    for _ in countdown(group, optimizer, iterations):
        index, picks = _draw_samples(group)
        targets = _with_samples(group, index, picks)
        with autocast(group.device, group.config.precision):
            view = group.networks.view(targets)
        loss = _view_error(group, view, _samples(group).turns[index[:, None], picks])
        on_iteration(update(group, optimizer, index, loss))


def fit_shape(
    group: Group,
    iterations: int,
    symmetric: bool,
    background: float,
    on_iteration: OnIteration,
) -> None:
    """Step 3: fit depth, albedo, view and light to inputs and projected samples at once.

    Pixels of a plain background weigh `background`, those of the object 1.
    """
    options, networks, samples = group.config.optimization, group.networks, _samples(group)
    optimizer = adam_of_shapes(group)
    for _ in countdown(group, optimizer, iterations):
        index, picks = _draw_samples(group)
        inputs, targets = group.targets.images[index], _with_samples(group, index, picks)
        seen = samples.weights(index, picks, background)
        masks = torch.cat([group.loss_masks(index, background)[:, None], seen], 1).flatten(0, 1)
        with autocast(group.device, group.config.precision):
            depth, albedo = networks.depth(inputs), networks.albedo(inputs)
            view, light = networks.view(targets), networks.light(targets)
        depth.register_hook(limit_gradient)
        shapes = Shape.of(depth, albedo, group.camera)
        copies = 1 + picks.shape[1]
        loss = _reconstruction_loss(
            group, shapes.repeat(copies), view, light, targets, masks, symmetric
        )
        loss = loss.unflatten(0, (len(index), copies)).mean(1)
        if options.view_weight:
            turns = samples.turns[index[:, None], picks]
            loss = loss + options.view_weight * _view_error(group, view, turns)
        view, light = view[::copies], light[::copies]  # the inputs'
        objects = group.targets.masks[index]
        unlike, _ = colour_loss(
            *(shapes, view, light, inputs, objects, group.camera, group.config.renderer),
            symmetry=options.colour_symmetry if symmetric else 0.0,
            evenness=options.colour_evenness,
        )
        loss = loss + unlike
        shading = diffuse_shading(shapes.normals, light)  # (B, 1, S, S)
        loss = loss + options.depth_smoothness * smoothness(depth)
        loss = loss + options.shading_smoothness * smoothness(shading)
        on_iteration(update(group, optimizer, index, loss))


def latent_offset(group: Group, images: Tensor, index: Tensor) -> Tensor:
    """The offset dw (B, D) that the encoder proposes for `images` (B, 3, S, S) of targets `index`.

    It is relative to the GAN's rendition of the targets where the settings say so.
    """
    options = group.config.latent
    anchors, place = index.unique(return_inverse=True)
    return projection.latent_offset(
        group.encoder,
        group.gan.generator.mapping,
        options,
        images,
        group.inverted[anchors] if options.relative else None,
        place,
    )


def render(group: Group, shapes: Shape, view: Tensor, light: Tensor) -> Rendering:
    """Shade canonical shapes by their lights (B, 4) and warp them into their views (B, 6)."""
    return shapes.render(view, light, group.camera, group.config.renderer)


class Estimate:
    """What the networks make of all targets as they stand now."""

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
        """Numbers of targets, some at a time."""
        return torch.arange(len(self.view), device=self.view.device).split(AT_ONCE)

    @cached_property
    def painted(self) -> Shape:
        """The shapes with the albedo that pseudo samples have."""
        if self.group.config.optimization.pseudo_albedo == "network":
            return self.shapes
        group = self.group
        albedos = [
            paint(
                self.shapes[part],
                self.view[part],
                self.light[part],
                group.targets.images[part],
                group.targets.masks[part],
                group.camera,
                group.config.renderer,
                symmetric=group.config.optimization.symmetric,
            ).albedo
            for part in self.parts
        ]
        return replace(self.shapes, albedo=torch.cat(albedos))

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
        """Renderings of targets `index` (B,) under random views (B, 6) and lights."""
        group = self.group
        views = sample_views(len(index), group.config.view_prior, group.random)
        lights = sample_lights(self.light[index], group.config.light_prior, group.random)
        seen = render(group, self.painted[index], views, lights)
        if group.config.mask == "given":  # nothing was fitted to what lies outside
            depth, objects = self.shapes.depth[index], self.objects[index]
            inside = warp(objects, depth, views, group.camera, group.config.renderer).image[:, 0]
            seen = replace(seen, mask=seen.mask * (inside > 0.5))
        return seen, views


def _reconstruction_loss(
    group: Group,
    shapes: Shape,
    view: Tensor,
    light: Tensor,
    targets: Tensor,
    masks: Tensor,
    symmetric: bool,
) -> Tensor:
    """Masked L1 and perceptual distance (B,) of the shapes as rendered from the targets.

    With symmetry a random half of the targets is compared with the mirrored shape in place of the
    shape itself: the same objective on average as rendering both, at half the cost.
    """
    if symmetric:
        draw = torch.rand(len(view), generator=group.random, device=group.random.device)
        shapes = shapes.mirrored(draw < 0.5)
    rendering = render(group, shapes, view, light)
    masks = masks * rendering.mask
    loss = masked_l1(rendering.image, targets, masks)
    options = group.config.optimization
    if not options.perceptual_weight:
        return loss
    distance = share_of_distance(
        group.perceptual,
        options.perceptual_share,
        rendering.image,
        targets,
        masks,
        group.random,
        group.config.precision,
    )
    return loss + options.perceptual_weight * distance


def _samples(group: Group) -> ProjectedSamples:
    if group.samples is None:
        raise ValueError("projected samples are needed, which step 2 collects")
    return group.samples


def _draw_samples(group: Group) -> tuple[Tensor, Tensor]:
    """Some targets (B,) and, for each, the numbers of some of its projected samples (B, K)."""
    options = group.config.optimization
    index = group.draw(min(options.images_per_batch, group.alive))
    picks = torch.randint(
        options.projected_samples,
        (len(index), max(options.batch // len(index), 1)),
        generator=group.random,
        device=group.random.device,
    )
    return index, picks


def _with_samples(group: Group, index: Tensor, picks: Tensor) -> Tensor:
    """Every input followed by its picked samples, (B * (1 + K), 3, S, S)."""
    projected = _samples(group).images[index[:, None], picks].float()
    return torch.cat([group.targets.images[index][:, None], projected], 1).flatten(0, 1)


def limit_gradient(gradient: Tensor) -> Tensor:
    """Hold a depth's gradient (B, S, S) within a few times its image's mean.

    Triangles seen edge-on have gradients hundreds of times the usual; a few of them would
    otherwise decide the update.
    """
    limit = GRADIENT_LIMIT * gradient.abs().mean((1, 2), keepdim=True)
    return gradient.clamp(-limit, limit)


def _view_error(group: Group, view: Tensor, turns: Tensor) -> Tensor:
    """Error (B,) of views (B * (1 + K), 6), those of every input and of its K projected samples.

    The turns from inputs to samples are known, (B, K, 6), up to what was wrong about the input's
    view at the time. Which way an input looks is for symmetry to find out, but all together must
    not look elsewhere than the prior says: nothing else keeps their mean pitch from drifting. Both
    in standard deviations of the prior.
    """
    prior = group.config.view_prior
    mean, std = (torch.tensor(x, device=view.device) for x in (prior.mean, prior.std))
    moves = std > 0
    mean, std = mean[moves], std[moves]
    view = view[:, moves].unflatten(0, (len(turns), -1))
    found = view[:, 1:] - view[:, :1]
    error = ((found - turns[..., moves]) / std).abs().mean((1, 2))
    drift = ((view[:, 0].mean(0) - mean) / std).abs() - MEAN_VIEW_ERRORS / len(turns) ** 0.5
    return error + drift.relu().mean()


def _batch(group: Group) -> int:
    """Inputs in one iteration of the steps that see nothing but inputs."""
    return min(group.config.optimization.batch, group.alive)


def _spread(images: Tensor) -> float:
    """Mean absolute deviation of images (B, C, H, W) from their mean image."""
    return float((images - images.mean(0)).abs().mean())
