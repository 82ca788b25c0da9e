"""The working state of a group: images whose shapes are found by one set of networks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor

from gan2shape.pipeline.networks.shape_networks import OffsetEncoder, ShapeNetworks
from gan2shape.pipeline.networks.trained import TrainedNetworks, check_networks
from gan2shape.pipeline.perceptual.inversion import pictures
from gan2shape.pipeline.perceptual.losses import PerceptualLoss, discriminator_distance
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.process_group import SINGLE_PROCESS, ProcessGroup
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.masks import object_masks
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import RunConfig

AT_ONCE = 64
"""Images of a group that go through a network together where it is for all of them."""


@dataclass(frozen=True)
class Targets:
    """What is given for N images.

    ids: N names; they, not the order, seed the group's random numbers.
    images: (N, 3, S, S) float32 in [-1, 1].
    masks: (N, S, S) float32, 1 on the object.
    latents: (N, D) in the generator's W; None where pretrained networks are taken as they are.
    """

    ids: list[str]
    images: Tensor
    masks: Tensor
    latents: Tensor | None


@dataclass(frozen=True)
class ProjectedSamples:
    """K images per target that the GAN made of the current shape's renderings (step 2).

    images: (N, K, 3, S, S) float16 in [-1, 1].
    masks: (N, K, S, S) bool, where the rendering that each was made from covers the frame.
    objects: (N, K, S, S) bool, their object, where the background is plain; else all true.
    turns: (N, K, 6), how far the view of that rendering is from the view found for the input.
    """

    images: Tensor
    masks: Tensor
    objects: Tensor
    turns: Tensor

    def weights(self, index: Tensor, picks: Tensor, background: float) -> Tensor:
        """Weights (B, P, S, S) in losses of the pixels of targets' (B,) samples `picks` (B, P)."""
        place = index[:, None], picks
        return self.masks[place] * weighted(self.objects[place].float(), background)


@dataclass
class Group:
    """Targets, networks and progress of one group; the steps change it in place."""

    targets: Targets
    config: RunConfig
    camera: Camera
    gan: Gan
    networks: ShapeNetworks
    teachers: tuple[TrainedNetworks, ...]
    encoder: OffsetEncoder
    perceptual: PerceptualLoss
    features: PerceptualLoss
    random: Generator
    failures: list[str | None]
    samples: ProjectedSamples | None = None
    process_group: ProcessGroup = SINGLE_PROCESS

    @property
    def device(self) -> torch.device:
        return self.targets.images.device

    @property
    def latents(self) -> Tensor:
        """The targets' latents, (N, D)."""
        if self.targets.latents is None:
            raise ValueError("latents are needed, and the targets have none")
        return self.targets.latents

    @cached_property
    def inverted(self) -> Tensor:
        """What the generator makes of the targets' latents, (N, 3, S, S)."""
        with torch.no_grad(), autocast(self.device, self.config.precision):
            return torch.cat([self.generate(part) for part in self.latents.split(AT_ONCE)])

    def active(self) -> Tensor:
        """Indices of the images that have not failed, (A,) int64."""
        alive = [index for index, reason in enumerate(self.failures) if reason is None]
        return torch.tensor(alive, device=self.device, dtype=torch.long)

    @property
    def alive(self) -> int:
        """How many images have not failed."""
        return self.failures.count(None)

    def draw(self, count: int) -> Tensor:
        """Indices of `count` images still active, without repetition while there are enough."""
        active = self.active()
        rounds = -(-count // len(active))
        order = [
            active[torch.randperm(len(active), generator=self.random, device=self.random.device)]
            for _ in range(rounds)
        ]
        return torch.cat(order)[:count]

    def fail(self, index: int, reason: str) -> None:
        """End one image with the first reason given for it."""
        self.failures[index] = self.failures[index] or reason

    def generate(self, latents: Tensor) -> Tensor:
        """The generator's images of latents (B, D), (B, 3, S, S) float32, reduced to S pixels."""
        return pictures(self.gan.generator, latents, self.camera.size)

    def loss_masks(self, index: Tensor, background: float = 1.0) -> Tensor:
        """Weights (B, S, S) in losses of the inputs' pixels, 1 on the object.

        Outside of it 0 where masks are given; a plain background is an observation of its own,
        which tells where the silhouette is, and weighs `background`.
        """
        return weighted(
            self.targets.masks[index], 0.0 if self.config.mask == "given" else background
        )

    def objects(self, images: Tensor) -> Tensor:
        """The object (B, S, S) bool in images (B, 3, S, S), where the background is plain."""
        if self.config.mask != "background":
            return torch.ones_like(images[:, 0], dtype=torch.bool)
        return object_masks(images, self.config.background_threshold)


def weighted(masks: Tensor, background: float) -> Tensor:
    """Masks (..., S, S) with `background` in place of 0."""
    return masks + background * (1 - masks)


def new_group(
    targets: Targets,
    gan: Gan,
    config: RunConfig,
    lpips: PerceptualLoss | None = None,
    pretrained: TrainedNetworks | None = None,
    process_group: ProcessGroup = SINGLE_PROCESS,
) -> Group:
    """A group seeded by the run's seed and the images' ids, its networks pretrained or fresh.

    ProcessGroup begin with equal networks.

    Raises:
        UserError: the sizes of images, masks, latents, GAN and pretrained networks do not fit each
            other, there are no latents for the cycles, or the GAN has no discriminator.
    """
    count, _, size, _ = targets.images.shape
    if gan.discriminator is None:
        raise UserError(
            f"{gan.source} holds no discriminator, whose features compare images; "
            "use a checkpoint that has the key 'd'."
        )
    if size != config.camera.size or size > gan.generator.size:
        raise UserError(
            f"The images have {size} pixels, the settings {config.camera.size} and the GAN "
            f"{gan.source} {gan.generator.size}; the first two must be equal and the last not less."
        )
    if targets.latents is None and config.needs_latents:
        raise UserError(
            "The images come without latents, which cycles need; find them by inversion, or use "
            "pretrained networks and no optimization.cycles."
        )
    if targets.latents is not None and targets.latents.shape != (count, gan.generator.style_dim):
        raise UserError(
            f"The latents have shape {tuple(targets.latents.shape)}, but {count} images and this "
            f"GAN need ({count}, {gan.generator.style_dim})."
        )
    depth = len(gan.generator.mapping) - 1
    if config.latent.mapping_layers > depth:
        raise UserError(
            f"latent.mapping_layers is {config.latent.mapping_layers}, but the mapping network of "
            f"{gan.source} has {depth} layers; set it to {depth} or less."
        )
    device = targets.images.device
    camera = Camera.from_config(config.camera)
    seed = group_seed(config.seed, targets.ids)
    encoder = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if pretrained is None:
            networks = ShapeNetworks(camera, config.networks)
        else:
            check_networks(pretrained, gan, config)
            networks, encoder = pretrained.shape_networks(), pretrained.offset_encoder()
        if encoder is None:
            encoder = OffsetEncoder(size, config.networks, gan.generator.style_dim)
    features = discriminator_distance(gan.discriminator, config.optimization.feature_blocks)
    networks, encoder = networks.to(device), encoder.to(device)
    process_group.share(networks)
    process_group.share(encoder)
    return Group(
        targets=targets,
        config=config,
        camera=camera,
        gan=gan,
        networks=networks,
        teachers=() if pretrained is None else pretrained.teachers,
        encoder=encoder,
        perceptual=lpips or features,
        features=features,
        random=Generator(device=device).manual_seed(seed),
        failures=_unusable(targets),
        process_group=process_group,
    )


def _unusable(targets: Targets) -> list[str | None]:
    """Why images cannot be worked on, None for those that can."""
    if targets.latents is None:
        return [None] * len(targets.ids)
    return [
        None if bool(torch.isfinite(latent).all()) else "its latent is not finite"
        for latent in targets.latents
    ]


def group_seed(seed: int, ids: list[str]) -> int:
    """A 63-bit seed from the run's seed and the images in the group, whatever their order."""
    text = "\n".join([str(seed), *sorted(ids)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def group_state(group: Group) -> dict[str, Any]:
    """All that the steps changed, as plain values and tensors that `torch.save` takes."""
    samples = group.samples
    return {
        "networks": group.networks.state_dict(),
        "encoder": group.encoder.state_dict(),
        "random": group.random.get_state(),
        "failures": list(group.failures),
        "samples": samples and vars(samples).copy(),
    }


def restore_group(group: Group, state: dict[str, Any]) -> None:
    """Put a `group_state` back into a group made from the same targets and settings."""
    group.networks.load_state_dict(state["networks"])
    group.encoder.load_state_dict(state["encoder"])
    if len(state["random"]) == len(group.random.get_state()):
        group.random.set_state(state["random"])  # else it is of another kind of device
    group.failures = list(state["failures"])
    samples = state["samples"]
    group.samples = samples and ProjectedSamples(
        **{name: value.to(group.device) for name, value in samples.items()}
    )
