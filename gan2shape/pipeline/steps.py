"""The steps of one cycle of GAN2Shape (section 3.2): ellipsoid, albedo, projection, shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from gan2shape.pipeline.geometry import normals_from_depth, smoothness
from gan2shape.pipeline.group import Group, ProjectedSamples
from gan2shape.pipeline.losses import masked_l1
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.prior import ellipsoid_depth
from gan2shape.pipeline.render import Rendering, warp
from gan2shape.pipeline.sampling import sample_lights, sample_views
from gan2shape.pipeline.shading import diffuse_shading, shade

OnIteration = Callable[[], None]


class AllFailedError(Exception):
    """No image of the group is left to go on with."""


def fit_ellipsoid(group: Group, on_iteration: OnIteration) -> None:
    """Step 0: regress every image's depth to the ellipsoid over its mask."""
    wanted = ellipsoid_depth(group.targets.masks, group.camera, group.config.ellipsoid)
    optimizer = _adam(group, group.networks.depth_net.parameters())
    for _ in range(group.config.ellipsoid.iterations):
        index = group.draw(_images_per_batch(group))
        with autocast(group.device, group.config.precision):
            depth = group.networks.depth(group.targets.images[index])
        # The object is about 0.1 deep: the factor brings the error to the order of one.
        loss = (100 * (depth - wanted[index])).square().mean((1, 2))
        _update(group, optimizer, index, loss)
        on_iteration()


def fit_albedo(group: Group, iterations: int, symmetric: bool, on_iteration: OnIteration) -> None:
    """Step 1: fit the albedo to the inputs with depth, view and light held."""
    networks, images = group.networks, group.targets.images
    with torch.no_grad(), autocast(group.device, group.config.precision):
        depth, view, light = networks.depth(images), networks.view(images), networks.light(images)
    optimizer = _adam(group, networks.albedo_net.parameters())
    for _ in range(iterations):
        index = group.draw(_images_per_batch(group))
        with autocast(group.device, group.config.precision):
            albedo = networks.albedo(images[index])
        loss = _reconstruction_loss(
            group,
            depth[index],
            albedo,
            view[index],
            light[index],
            images[index],
            group.loss_masks(index),
            symmetric,
        )
        _update(group, optimizer, index, loss)
        on_iteration()


def fit_encoder(group: Group, iterations: int, on_iteration: OnIteration) -> None:
    """Step 2: teach the encoder to project renderings of the current shapes onto the GAN's images."""
    shapes = _Shapes(group)
    optimizer = _adam(group, group.encoder.parameters())
    for _ in range(iterations):
        index = group.draw(group.config.optimization.batch)
        pseudo, _ = shapes.pseudo_samples(index)
        with autocast(group.device, group.config.precision):
            offset = latent_offset(group, pseudo.image, index)
            image = group.gan.generator(group.targets.latents[index] + offset)
            image = image.float()
            loss = masked_l1(image, pseudo.image, pseudo.mask)
            loss = loss + group.features(image, pseudo.image, pseudo.mask)
        if group.config.latent.regularize:
            loss = loss + group.config.latent.norm_weight * offset.square().mean(1)
        _update(group, optimizer, index, loss)
        on_iteration()


@torch.no_grad()
def collect_samples(group: Group) -> None:
    """The projected samples of step 2; an image whose samples are all alike fails as collapsed."""
    options = group.config.optimization
    shapes = _Shapes(group)
    count, size = len(group.failures), group.camera.size
    shape = (count, options.projected_samples)
    samples = ProjectedSamples(
        images=torch.zeros(*shape, 3, size, size, dtype=torch.float16, device=group.device),
        masks=torch.zeros(*shape, size, size, dtype=torch.bool, device=group.device),
        views=torch.zeros(*shape, 6, device=group.device),
    )
    for image in group.active().tolist():
        spread = [0.0, 0.0]
        for chunk in torch.arange(options.projected_samples).split(options.batch):
            index = torch.full((len(chunk),), image, device=group.device)
            pseudo, views = shapes.pseudo_samples(index)
            with autocast(group.device, group.config.precision):
                offset = latent_offset(group, pseudo.image, index)
                projected = group.gan.generator(group.targets.latents[index] + offset).float()
            projected = projected.clamp(-1, 1)
            samples.images[image, chunk] = projected.half()
            samples.masks[image, chunk] = pseudo.mask.bool()
            samples.views[image, chunk] = views
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


def fit_shape(group: Group, iterations: int, symmetric: bool, on_iteration: OnIteration) -> None:
    """Step 3: fit depth, albedo, view and light to the inputs and their projected samples at once."""
    options, networks, samples = group.config.optimization, group.networks, group.samples
    if samples is None:
        raise ValueError("step 3 needs the projected samples of step 2")
    optimizer = _adam(group, networks.parameters())
    images_per_batch = _images_per_batch(group)
    per_image = max(options.batch // images_per_batch, 1)
    for _ in range(iterations):
        index = group.draw(images_per_batch)
        picks = torch.randint(
            options.projected_samples,
            (len(index), per_image),
            generator=group.random,
            device=group.random.device,
        )
        inputs = group.targets.images[index]
        projected = samples.images[index[:, None], picks].float()
        targets = torch.cat([inputs[:, None], projected], 1).flatten(0, 1)
        covered = samples.masks[index[:, None], picks].float()
        masks = torch.cat([group.loss_masks(index)[:, None], covered], 1).flatten(0, 1)
        with autocast(group.device, group.config.precision):
            depth, albedo = networks.depth(inputs), networks.albedo(inputs)
            view, light = networks.view(targets), networks.light(targets)
        copies = 1 + per_image
        loss = _reconstruction_loss(
            group,
            depth.repeat_interleave(copies, 0),
            albedo.repeat_interleave(copies, 0),
            view,
            light,
            targets,
            masks,
            symmetric,
        )
        loss = loss.unflatten(0, (len(index), copies)).mean(1)
        if options.view_weight:
            known = samples.views[index[:, None], picks]
            loss = loss + options.view_weight * _view_error(group, view, known)
        if options.smoothness_weight:
            shading = diffuse_shading(
                normals_from_depth(depth, group.camera), light[::copies]
            )  # (B, 1, S, S)
            loss = loss + options.smoothness_weight * (smoothness(depth) + smoothness(shading))
        _update(group, optimizer, index, loss)
        on_iteration()


def latent_offset(group: Group, images: Tensor, index: Tensor) -> Tensor:
    """The offset dw (B, D) that the encoder proposes for `images` (B, 3, S, S) of targets `index`.

    With latent regularisation the code passes the last layers F of the mapping network,
    dw = F(code + h0) - F(h0), h0 being the hidden code of z = 0 there (section 3.2).
    """
    options = group.config.latent
    code = group.encoder(images)
    if options.relative:
        anchors, place = index.unique(return_inverse=True)
        code = code - group.encoder(group.inverted[anchors])[place]
    if not options.regularize:
        return code
    head, tail = _split_mapping(group.gan.generator.mapping, options.mapping_layers)
    with torch.autocast(code.device.type, enabled=False):
        with torch.no_grad():
            hidden = head(torch.zeros_like(code[:1]))
            origin = tail(hidden)
        return tail(code + hidden) - origin


def render(
    group: Group, depth: Tensor, albedo: Tensor, view: Tensor, light: Tensor
) -> Rendering:
    """Shade canonical shapes (B, ...) by their lights and warp them into their views."""
    texture = shade(albedo, normals_from_depth(depth, group.camera), light)
    return warp(texture, depth, view, group.camera, group.config.renderer)


class _Shapes:
    """Depth, albedo and light of all targets, as they stand before a step that holds them."""

    @torch.no_grad()
    def __init__(self, group: Group) -> None:
        self.group = group
        with autocast(group.device, group.config.precision):
            images = group.targets.images
            self.depth = group.networks.depth(images)
            self.albedo = group.networks.albedo(images)
            self.light = group.networks.light(images)

    @torch.no_grad()
    def pseudo_samples(self, index: Tensor) -> tuple[Rendering, Tensor]:
        """Renderings of targets `index` (B,) under random views (B, 6) and lights."""
        group = self.group
        views = sample_views(len(index), group.config.view_prior, group.random)
        lights = sample_lights(self.light[index], group.config.light_prior, group.random)
        return render(group, self.depth[index], self.albedo[index], views, lights), views


def _reconstruction_loss(
    group: Group,
    depth: Tensor,
    albedo: Tensor,
    view: Tensor,
    light: Tensor,
    targets: Tensor,
    masks: Tensor,
    symmetric: bool,
) -> Tensor:
    """Masked L1 and perceptual distance (B,); with symmetry, also from the mirrored shape."""
    count = len(targets)
    if symmetric:
        depth = torch.cat([depth, depth.flip(-1)])
        albedo = torch.cat([albedo, albedo.flip(-1)])
        view, light = view.repeat(2, 1), light.repeat(2, 1)
        targets, masks = targets.repeat(2, 1, 1, 1), masks.repeat(2, 1, 1)
    rendering = render(group, depth, albedo, view, light)
    masks = masks * rendering.mask
    loss = masked_l1(rendering.image, targets, masks)
    weight = group.config.optimization.perceptual_weight
    if weight:
        with autocast(group.device, group.config.precision):
            loss = loss + weight * group.perceptual(rendering.image, targets, masks)
    return loss.unflatten(0, (-1, count)).sum(0)


def _view_error(group: Group, view: Tensor, known: Tensor) -> Tensor:
    """Distance (B,) of predicted views (B * (1 + K), 6) from the samples' known ones (B, K, 6)."""
    std = torch.tensor(group.config.view_prior.std, device=view.device)
    turns = std > 0
    predicted = view.unflatten(0, (len(known), -1))[:, 1:]
    return ((predicted - known)[..., turns] / std[turns]).abs().mean((1, 2))


def _update(group: Group, optimizer: torch.optim.Optimizer, index: Tensor, loss: Tensor) -> None:
    """One optimiser step on the mean of per-image losses (B,), unless an image has gone wrong.

    A loss that is not finite ends its image; the step is left out, since gradients would carry
    the damage to the other images of the group.
    """
    finite = torch.isfinite(loss)
    if not finite.all():
        for bad in index[~finite].tolist():
            group.fail(bad, "its loss is not finite")
        if not len(group.active()):
            raise AllFailedError
        return
    optimizer.zero_grad(set_to_none=True)
    loss.mean().backward()
    optimizer.step()


def _adam(group: Group, parameters: Iterable[nn.Parameter]) -> torch.optim.Adam:
    options = group.config.optimization
    return torch.optim.Adam(
        parameters,
        lr=options.learning_rate,
        betas=options.betas,
        weight_decay=options.weight_decay,
        fused=True,
    )


def _images_per_batch(group: Group) -> int:
    return min(group.config.optimization.images_per_batch, len(group.active()))


def _split_mapping(layers: nn.Sequential, last: int) -> tuple[nn.Sequential, nn.Sequential]:
    """The mapping network before and from its last `last` linear layers; all of them take the norm."""
    linear = len(layers) - 1
    cut = 0 if last == linear else len(layers) - last
    modules = list(layers)
    return nn.Sequential(*modules[:cut]), nn.Sequential(*modules[cut:])


def _spread(images: Tensor) -> float:
    """Mean absolute deviation of images (B, C, H, W) from their mean image."""
    return float((images - images.mean(0)).abs().mean())
