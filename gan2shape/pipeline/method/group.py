"""The working state of a group: images whose shapes are found by one set of networks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor

from gan2shape.pipeline.method.variant import PAPER, Variant
from gan2shape.pipeline.networks.shape_networks import OffsetEncoder, ShapeNetworks
from gan2shape.pipeline.networks.trained import TrainedNetworks, check_networks
from gan2shape.pipeline.perceptual.inversion import pictures
from gan2shape.pipeline.perceptual.losses import PerceptualLoss, discriminator_distance
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.process_group import SINGLE_PROCESS, ProcessGroup
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.seeds import group_seed
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import RunConfig

AT_ONCE = 64
"""Images of a group that go through a network together where all of them do: memory bounds it."""


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
    """K images per target that the GAN made of pseudo samples of its shape (step 2).

    images: (N, K, 3, S, S) float16 in [-1, 1].
    masks: (N, K, S, S) float32 in [0, 1], weights of their pixels in losses. They are 0 where the
        pseudo sample shows nothing of the shape.
    turns: (N, K, 6), the view of the pseudo sample less that found for the input: radians and scene
        units.
    """

    images: Tensor
    masks: Tensor
    turns: Tensor


@dataclass
class Group:
    """Targets, networks and progress of one group; the steps change it in place."""

    targets: Targets
    config: RunConfig
    camera: Camera
    gan: Gan
    networks: ShapeNetworks
    encoder: OffsetEncoder
    perceptual: PerceptualLoss
    features: PerceptualLoss
    random: Generator
    failures: list[str | None]
    variant: Variant = PAPER
    samples: ProjectedSamples | None = None
    process_group: ProcessGroup = SINGLE_PROCESS

    @property
    def device(self) -> torch.device:
        """Where the targets are; all tensors of the group are there."""
        return self.targets.images.device

    @property
    def latents(self) -> Tensor:
        """The targets' latents, (N, D)."""
        if self.targets.latents is None:
            raise ValueError("latents are needed, and the targets have none")
        return self.targets.latents

    @property
    def projected(self) -> ProjectedSamples:
        """The projected samples. Raises `ValueError` before step 2 has collected them."""
        if self.samples is None:
            raise ValueError("there are no projected samples yet; step 2 collects them")
        return self.samples

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
        """Draw indices (count,) of images not failed, none twice while there are enough."""
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

    def input_masks(self, outside: float = 1.0) -> Tensor:
        """Weights (N, S, S) of the inputs' pixels in losses: 1 on the object, `outside` elsewhere.

        Where masks are given, what lies outside of them weighs 0.
        """
        masks = self.targets.masks
        return masks + (0.0 if self.config.mask == "given" else outside) * (1 - masks)


def new_group(
    targets: Targets,
    gan: Gan,
    config: RunConfig,
    lpips: PerceptualLoss | None = None,
    pretrained: TrainedNetworks | None = None,
    process_group: ProcessGroup = SINGLE_PROCESS,
    variant: Variant = PAPER,
) -> Group:
    """Make a group whose networks are the pretrained ones, or fresh.

    Random numbers come from the settings' seed and the images' ids.

    Args:
        targets: the images, their masks and latents.
        gan: frozen generator and discriminator.
        config: the run's settings.
        lpips: perceptual loss for steps 1 and 3 in place of the discriminator's features.
        pretrained: networks to start from.
        process_group: processes that train the same networks; all begin with equal ones.
        variant: what takes the place of the paper's choices.
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
        encoder=encoder,
        perceptual=lpips or features,
        features=features,
        random=Generator(device=device).manual_seed(seed),
        failures=_unusable(targets),
        variant=variant,
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
