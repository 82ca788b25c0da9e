"""Training of StyleGAN2: non-saturating loss with lazy R1, style mixing, averaged weights.

Karras et al., "Analyzing and improving the image quality of StyleGAN" (CVPR 2020) and "Training
generative adversarial networks with limited data" (NeurIPS 2020). One deviation saves time: both
networks' updates use the same generated images, so each iteration synthesises once.

All randomness of an iteration comes from the seed and the number of the iteration, so a training
that goes on from a state gives what it would have given without a break.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.seeds import INITIAL, spread_generator, spread_seed
from gan2shape.pipeline.stylegan2.discriminator import Discriminator
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.pipeline.stylegan2.generator import Generator
from gan2shape.pipeline.stylegan2.training.augment import (
    adapt,
    augment,
    mirror_images,
    shift_images,
)
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.gan_training import GanTrainingConfig

ADA_INTERVAL = 4
"""Iterations from one change of the probability of augmentation to the next."""
PATH_DECAY = 0.01
"""Share that a new path length has in the running mean, as published."""
LATENT_SAMPLES = 10_000
"""Random latents that the mean w is taken over."""


class TrainingError(UserError):
    """Training cannot begin or go on; the message says what to change."""


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean of softplus(-D(x)) + softplus(D(G(z))) over logits (B,) each."""
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Non-saturating: mean of softplus(-D(G(z))) over logits (B,)."""
    return functional.softplus(-fake).mean()


def r1_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Squared norm of D's gradient at real images (B, 3, S, S), mean over the batch; differentiable
    once more (StyleGAN2 multiplies it by gamma / 2).
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def path_lengths(images: Tensor, latents: Tensor, random: torch.Generator) -> Tensor:
    """Norms (B,) of the generator's Jacobian, applied to random images, at latents (B, L, D)."""
    noise = torch.randn(images.shape, generator=random, device=images.device)
    noise = noise / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * noise).sum(), latents, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def mixed_latents(
    generator: Generator, count: int, mixing: float, random: torch.Generator
) -> Tensor:
    """Random latents (count, num_layers, D); a share `mixing` of them is one w up to a random layer
    and another after it.
    """
    device, layers = generator.input.input.device, generator.num_layers
    z = torch.randn(2 * count, generator.style_dim, generator=random, device=device)
    first, second = generator.mapping(z).chunk(2)
    cut = torch.randint(1, layers, (count,), generator=random, device=device)
    mix = torch.rand(count, generator=random, device=device) < mixing
    cut = torch.where(mix, cut, layers)
    later = torch.arange(layers, device=device) >= cut[:, None]  # (count, layers)
    return torch.where(later[:, :, None], second[:, None], first[:, None])


@torch.no_grad()
def average_weights(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the parameters of `average` towards those of `network`: a <- decay a + (1 - decay) n."""
    for own, other in zip(average.parameters(), network.parameters(), strict=True):
        own.lerp_(other, 1.0 - decay)


def average_decay(config: GanTrainingConfig, seen: int, from_weights: bool) -> float:
    """Decay of the averaged weights for one batch after `seen` images.

    The half-life grows with the images seen, except where training began from given weights, whose
    average is good from the start.
    """
    half_life = float(config.ema_half_life)
    if config.ema_ramp_up > 0 and not from_weights:
        half_life = min(half_life, seen * config.ema_ramp_up)
    return float(0.5 ** (config.batch / max(half_life, 1e-8)))


class Trainer:
    """Generator, discriminator, averaged generator, their optimisers and counters.

    `step` trains on one batch. `state` and `restore` carry everything over to another process.
    """

    def __init__(
        self,
        config: GanTrainingConfig,
        device: torch.device | str = "cpu",
        initial: Gan | None = None,
    ) -> None:
        """Fresh networks from `config.seed`, or copies of `initial` (with a discriminator).

        Raises `TrainingError` when `initial` has other sizes than `config` asks for.
        """
        self.config = config
        self.device = torch.device(device)
        self.iteration = 0
        self.images = 0
        self.p = 0.0
        self.path_mean = 0.0
        self.sureness: list[float] = []
        self.from_weights = initial is not None
        with torch.random.fork_rng(devices=[]):
            # never a plain seed: its first numbers are what users draw latents from, and the first
            # layer of the mapping network would answer to its own weights
            torch.manual_seed(spread_seed(config.seed, INITIAL))
            generator = Generator(
                config.size, config.style_dim, config.mapping_layers, config.widths
            )
            discriminator = Discriminator(config.size, config.widths)
        if initial is not None:
            _copy_weights(generator, discriminator, initial)
        self.generator = generator.to(self.device).train()
        self.discriminator = discriminator.to(self.device).train()
        self.average: Generator = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.generator_optimizer = _adam(
            self.generator, config, config.path_length_interval if config.path_length else 0
        )
        self.discriminator_optimizer = _adam(
            self.discriminator, config, config.r1_interval if config.r1 else 0
        )

    def step(self, images: Tensor) -> dict[str, Tensor]:
        """One update of both networks on real `images` (B, 3, S, S) in [-1, 1], on any device.

        Returns figures as scalar tensors: "d" and "g" (losses), "real" and "fake" (mean logits),
        "r1" and "path" (in the iterations that have these penalties).
        """
        config = self.config
        random = spread_generator(self.device, config.seed, self.iteration)
        rate = config.learning_rate * min(1.0, (self.images + len(images)) / max(config.warm_up, 1))
        self._set_rate(rate)
        real = images.to(self.device)
        real = shift_images(real, config.shift, random)
        if config.mirror:
            real = mirror_images(real, random)
        real = augment(real, self.p, config.augment, random).detach()

        latents = mixed_latents(self.generator, len(real), config.style_mixing, random)
        with autocast(self.device, config.precision):
            fake = self.generator(latents, noise="random", random=random)
        fake = augment(fake, self.p, config.augment, random)

        figures = self._train_discriminator(real, fake.detach())
        figures |= self._train_generator(fake)
        if config.path_length and self.iteration % config.path_length_interval == 0:
            figures["path"] = self._regularise_generator(random)
        self.images += len(real)
        self.iteration += 1
        decay = average_decay(config, self.images, self.from_weights)
        average_weights(self.average, self.generator, decay)
        self._adapt(figures.pop("sureness"))
        return figures

    @torch.no_grad()
    def sample(self, z: Tensor, batch: int = 32) -> Tensor:
        """Images (N, 3, S, S) of the averaged generator for z (N, D), on the CPU, clamped."""
        images = []
        for part in z.to(self.device).split(batch):
            with autocast(self.device, self.config.precision):
                drawn = self.average(self.average.mapping(part), noise="fixed")
            images.append(drawn.float().clamp(-1, 1).cpu())
        return torch.cat(images)

    @torch.no_grad()
    def gan(self) -> Gan:
        """Averaged generator and discriminator as they are now, not copied."""
        mean = self.average.mean_latent(LATENT_SAMPLES)
        return Gan(self.average, self.discriminator, "", "training", mean)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values that `restore` takes."""
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "iteration": self.iteration,
            "images": self.images,
            "p": self.p,
            "path_mean": self.path_mean,
            "sureness": list(self.sureness),
            "from_weights": self.from_weights,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.average.load_state_dict(state["average"])
        for optimizer, name in (
            (self.generator_optimizer, "generator_optimizer"),
            (self.discriminator_optimizer, "discriminator_optimizer"),
        ):
            # settings may have changed since: keep ours, take the moments
            groups = [dict(group) for group in optimizer.param_groups]
            optimizer.load_state_dict(state[name])
            for group, own in zip(optimizer.param_groups, groups, strict=True):
                group |= {name: value for name, value in own.items() if name != "params"}
        self.iteration = state["iteration"]
        self.images = state["images"]
        self.p = state["p"]
        self.path_mean = state["path_mean"]
        self.sureness = list(state["sureness"])
        self.from_weights = state["from_weights"]

    def _train_discriminator(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        config = self.config
        figures: dict[str, Tensor] = {}
        penalise = config.r1 > 0 and self.iteration % config.r1_interval == 0
        real.requires_grad_(penalise)
        with autocast(self.device, config.precision):
            real_logits = self.discriminator(real)
            fake_logits = self.discriminator(fake)
        loss = discriminator_loss(real_logits, fake_logits)
        figures["d"] = loss.detach()
        if penalise:
            penalty = r1_penalty(real_logits, real)
            loss = loss + penalty * (config.r1 / 2 * config.r1_interval)
            figures["r1"] = penalty.detach()
        figures["real"] = real_logits.detach().mean()
        figures["fake"] = fake_logits.detach().mean()
        figures["sureness"] = real_logits.detach().sign().mean()
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.discriminator_optimizer.step()
        return figures

    def _train_generator(self, fake: Tensor) -> dict[str, Tensor]:
        with _frozen(self.discriminator), autocast(self.device, self.config.precision):
            loss = generator_loss(self.discriminator(fake))
        self.generator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.generator_optimizer.step()
        return {"g": loss.detach()}

    def _regularise_generator(self, random: torch.Generator) -> Tensor:
        config = self.config
        count = max(1, config.batch // 2)
        latents = mixed_latents(self.generator, count, config.style_mixing, random)
        with autocast(self.device, config.precision):
            images = self.generator(latents, noise="random", random=random)
        lengths = path_lengths(images, latents, random)
        self.path_mean += PATH_DECAY * (float(lengths.detach().mean()) - self.path_mean)
        penalty = (lengths - self.path_mean).square().mean()
        self.generator_optimizer.zero_grad(set_to_none=True)
        (penalty * (config.path_length * config.path_length_interval)).backward()
        self.generator_optimizer.step()
        return penalty.detach()

    def _adapt(self, sureness: Tensor) -> None:
        config = self.config
        self.sureness.append(float(sureness))
        if len(self.sureness) >= ADA_INTERVAL:
            mean = sum(self.sureness) / len(self.sureness)
            seen = config.batch * len(self.sureness)
            self.p = adapt(self.p, mean, seen, config.ada_target, config.ada_images)
            self.sureness.clear()

    def _set_rate(self, rate: float) -> None:
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            for group in optimizer.param_groups:
                group["lr"] = rate * group["lazy"]


def _adam(network: nn.Module, config: GanTrainingConfig, interval: int) -> torch.optim.Adam:
    """Adam; a penalty every `interval` iterations slows it down accordingly (StyleGAN2, B)."""
    lazy = interval / (interval + 1) if interval else 1.0
    optimizer = torch.optim.Adam(
        network.parameters(), lr=config.learning_rate * lazy, betas=(0.0, 0.99**lazy), fused=True
    )
    for group in optimizer.param_groups:
        group["lazy"] = lazy
    return optimizer


def _copy_weights(generator: Generator, discriminator: Discriminator, initial: Gan) -> None:
    if initial.discriminator is None:
        raise TrainingError(
            f"{initial.source} holds no discriminator to go on from; give a training checkpoint "
            "with 'd'."
        )
    for network, given in ((generator, initial.generator), (discriminator, initial.discriminator)):
        wanted, found = network.state_dict(), given.state_dict()
        if {k: v.shape for k, v in wanted.items()} != {k: v.shape for k, v in found.items()}:
            raise TrainingError(
                f"{initial.source} has other sizes than this training; leave out --size, "
                "--channels, --style-dim and --mapping-layers to take over its own."
            )
        network.load_state_dict(found)


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """No gradients to the parameters of `network`, only through it."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
