"""The steps of GAN2Shape (Pan et al., ICLR 2021, section 3.2), one function each.

As in the paper, D, A, V and L are the networks of depth d, albedo a, view v and light l. Pi renders
and Lambda shades; G is the generator and E the offset encoder. One iteration takes several inputs
at once. `reconstruct.py` hands over what is not in the paper: loss terms, weights of pixels, and
the functions of a group's `Variant`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gan2shape.pipeline.method import projection
from gan2shape.pipeline.method.ellipsoid import ERROR_SCALE, ellipsoid_depth, ellipsoid_error
from gan2shape.pipeline.method.estimate import Estimate
from gan2shape.pipeline.method.group import Group, ProjectedSamples
from gan2shape.pipeline.method.losses import Fit, Terms, reconstruction_loss
from gan2shape.pipeline.method.optimizer import adam, adam_of_shapes, countdown, update
from gan2shape.pipeline.perceptual.losses import masked_l1
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.scene.geometry import smoothness
from gan2shape.pipeline.scene.shading import diffuse_shading
from gan2shape.pipeline.scene.shape import Shape

OnIteration = Callable[[Tensor], None]
"""Called after every iteration with its mean loss (a detached scalar)."""


def fit_ellipsoid(group: Group, on_iteration: OnIteration) -> None:
    """Step 0, the weak shape prior: regress every depth to an ellipsoid over the input's mask.

    Minimises |D(I) - ellipsoid|^2 + weight * smoothness of D(I) over D.
    """
    options = group.config.ellipsoid
    smooth = group.config.optimization.depth_smoothness
    wanted = ellipsoid_depth(group.targets.masks, group.camera, options)
    optimizer = adam(group, depth=group.networks.depth_net)
    optimizer.param_groups[0]["lr"] = options.learning_rate
    for _ in countdown(group, optimizer, options.iterations):
        index = draw_inputs(group)
        with autocast(group.device, group.config.precision):
            depth = group.networks.depth(group.targets.images[index])
        loss = ellipsoid_error(depth, wanted[index])
        loss = loss + ERROR_SCALE * smooth * smoothness(depth)
        on_iteration(update(group, optimizer, index, loss))


def fit_albedo(
    group: Group, on_iteration: OnIteration, *, iterations: int, symmetric: bool
) -> None:
    """Step 1: fit the albedo to the inputs, with depth, view and light held.

    Minimises loss(I, Pi(Lambda(d, A(I), l), d, v)) over A.
    """
    images, masks = group.targets.images, group.input_masks()
    held = Estimate(group)
    depth, normals = held.shapes.depth, held.shapes.normals
    optimizer = adam(group, albedo=group.networks.albedo_net)
    for _ in countdown(group, optimizer, iterations):
        index = draw_inputs(group)
        with autocast(group.device, group.config.precision):
            albedo = group.networks.albedo(images[index])
        shapes = Shape(depth[index], normals[index], albedo)
        view, light = held.view[index], held.light[index]
        loss = reconstruction_loss(
            group, shapes, view, light, images[index], masks[index], symmetric
        )
        on_iteration(update(group, optimizer, index, loss))


def fit_encoder(group: Group, on_iteration: OnIteration, *, iterations: int) -> None:
    """Step 2: teach the encoder to project pseudo samples onto the GAN's images.

    Minimises loss'(I_i, G(w + E(I_i))) + weight * |E(I_i)|^2 over E. The I_i are pseudo samples,
    renderings of the shapes under random views and lights. loss' compares pixels and features of
    the discriminator.
    """
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
def collect_samples(group: Group, sample_masks: Callable[[Tensor], Tensor] | None = None) -> None:
    """Step 2, afterwards: make the projected samples G(w + E(I_i)) that step 3 learns from.

    An image whose samples are all alike fails as collapsed.

    Args:
        sample_masks: gives weights (B, S, S) of the pixels of samples (B, 3, S, S), besides 0 where
            the pseudo sample shows nothing; without it all others weigh 1.
    """
    options = group.config.optimization
    estimate = Estimate(group)
    count, size = len(group.failures), group.camera.size
    shape = (count, options.projected_samples)
    samples = ProjectedSamples(
        images=torch.zeros(*shape, 3, size, size, dtype=torch.float16, device=group.device),
        masks=torch.zeros(*shape, size, size, device=group.device),
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
            weights = 1.0 if sample_masks is None else sample_masks(projected)
            samples.images[image, chunk] = projected.half()
            samples.masks[image, chunk] = pseudo.mask * weights
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


def fit_shape(
    group: Group,
    on_iteration: OnIteration,
    *,
    iterations: int,
    symmetric: bool,
    terms: Terms = (),
    input_masks: Tensor | None = None,
) -> None:
    """Step 3: fit depth, albedo, view and light to inputs and projected samples at once.

    Minimises the mean of loss(I_i, Pi(Lambda(D(I), A(I), L(I_i)), D(I), V(I_i))) over the input
    I = I_0 and its samples I_i, plus weight * smoothness of depth and of shading, over D, A, V, L.
    (In the published code the input counts as much as all of its samples together.)

    Args:
        terms: what is added to the loss besides.
        input_masks: weights (N, S, S) of the inputs' pixels, if not the method's own.
    """
    options, networks, samples = group.config.optimization, group.networks, group.projected
    input_masks = group.input_masks() if input_masks is None else input_masks
    optimizer = adam_of_shapes(group)
    for _ in countdown(group, optimizer, iterations):
        index, picks = draw_samples(group)
        inputs, place = group.targets.images[index], (index[:, None], picks)
        targets = with_samples(group, index, picks)  # (B * (1 + P), 3, S, S)
        masks = torch.cat([input_masks[index][:, None], samples.masks[place]], 1).flatten(0, 1)
        with autocast(group.device, group.config.precision):
            depth, albedo = networks.depth(inputs), networks.albedo(inputs)
            view, light = networks.view(targets), networks.light(targets)
        depth = group.variant.depth(depth)
        shapes = Shape.of(depth, albedo, group.camera)
        copies = 1 + picks.shape[1]
        loss = reconstruction_loss(
            group, shapes.repeat(copies), view, light, targets, masks, symmetric
        )
        loss = loss.unflatten(0, (len(index), copies)).mean(1)
        views = view.unflatten(0, (len(index), copies))
        light = light[::copies]  # the inputs'
        fit = Fit(group, index, samples.turns[place], shapes, view[::copies], light, views)
        for weight, term in terms:
            loss = loss + weight * term(fit)
        shading = diffuse_shading(shapes.normals, light)  # (B, 1, S, S)
        loss = loss + options.depth_smoothness * smoothness(depth)
        loss = loss + options.shading_smoothness * smoothness(shading)
        on_iteration(update(group, optimizer, index, loss))


def latent_offset(group: Group, images: Tensor, index: Tensor) -> Tensor:
    """The offset dw (B, D) that the encoder proposes for `images` (B, 3, S, S) of inputs `index`.

    Where the settings say so it is relative to what the GAN makes of the inputs' latents.
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


def draw_inputs(group: Group) -> Tensor:
    """Indices (B,) of inputs for one iteration of a step that sees inputs alone."""
    return group.draw(min(group.config.optimization.batch, group.alive))


def draw_samples(group: Group) -> tuple[Tensor, Tensor]:
    """Indices of some inputs (B,) and, for each, of some of its projected samples (B, P)."""
    options = group.config.optimization
    index = group.draw(min(options.images_per_batch, group.alive))
    picks = torch.randint(
        options.projected_samples,
        (len(index), max(options.batch // len(index), 1)),
        generator=group.random,
        device=group.random.device,
    )
    return index, picks


def with_samples(group: Group, index: Tensor, picks: Tensor) -> Tensor:
    """Inputs `index` (B,), each followed by its samples `picks` (B, P): (B * (1 + P), 3, S, S)."""
    projected = group.projected.images[index[:, None], picks].float()
    return torch.cat([group.targets.images[index][:, None], projected], 1).flatten(0, 1)


def _spread(images: Tensor) -> float:
    """Mean absolute deviation of images (B, C, H, W) from their mean image."""
    return float((images - images.mean(0)).abs().mean())
