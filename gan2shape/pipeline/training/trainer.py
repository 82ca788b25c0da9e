"""What all trainings on single images share: batches in, networks out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gan2shape.pipeline.networks.shape_networks import ShapeNetworks
from gan2shape.pipeline.networks.trained import TrainedNetworks, parameters_of
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.scene.metrics import DepthMetrics, depth_metrics
from gan2shape.pipeline.scene.render import Rendering
from gan2shape.pipeline.scene.shape import Shape, mirrored_where
from gan2shape.pipeline.seeds import INITIAL, spread_seed
from gan2shape.schemas.network_training import AnyBaseline


@dataclass(frozen=True)
class Batch:
    """Images to learn from.

    images: (B, 3, S, S) float32 in [-1, 1].
    depths: (B, S, S) true depth in scene units, NaN outside the object; `None` where not needed.
    masks: (B, S, S) float32, 1 on the object; `None` where they are not known.
    """

    images: Tensor
    depths: Tensor | None = None
    masks: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`."""
        depths, masks = (part if part is None else part.to(device) for part in self._maps)
        return Batch(self.images.to(device), depths, masks)

    def mirrored(self, where: Tensor) -> Batch:
        """The batch with those images mirrored left to right that are true in `where` (B,)."""
        depths, masks = (
            part if part is None else mirrored_where(part, where) for part in self._maps
        )
        return Batch(mirrored_where(self.images, where), depths, masks)

    @property
    def _maps(self) -> tuple[Tensor | None, Tensor | None]:
        return self.depths, self.masks


@dataclass(frozen=True)
class Prediction:
    """Depth, albedo, view and light in the units of the scene, and the image rendered from them."""

    depth: Tensor
    albedo: Tensor
    view: Tensor
    light: Tensor
    rendering: Rendering


class Evaluation(NamedTuple):
    """An objective on a batch."""

    losses: Tensor
    """(B,) float32, one of every image."""
    figures: dict[str, Tensor]
    """For people: detached scalars by name."""
    changes: Mapping[str, Tensor] = MappingProxyType({})
    """What the objective's buffers become with this batch, by name."""


class Objective(nn.Module):
    """What a training minimises, with the networks that only training needs, if there are any."""

    def trained(self, networks: ShapeNetworks) -> list[list[nn.Parameter]]:
        """The parameters that training changes, in groups."""
        every = (*networks.parameters(), *self.parameters())
        return [[parameter for parameter in every if parameter.requires_grad]]

    def rates(self, shown: int) -> Sequence[float]:
        """The groups' shares of the learning rate."""
        return (1.0,)

    def forward(self, networks: ShapeNetworks, batch: Batch, shown: int) -> Evaluation:
        """Evaluate a batch, before which `shown` images were shown. Changes nothing."""
        raise NotImplementedError

    def advance(self, changes: Mapping[str, Tensor]) -> None:
        """Take over the `changes` of an evaluation."""


class Trainer:
    """Networks, their objective, Adam, and how many images have been shown.

    `step` trains on one batch; `state` and `restore` carry everything over to another process. All
    randomness comes from the seed and the number of images shown, so that a training that goes on
    from a state gives what it would have given without a break.
    """

    def __init__(
        self,
        config: AnyBaseline,
        make: Callable[[], tuple[ShapeNetworks, Objective]],
        device: torch.device | str = "cpu",
        initial: TrainedNetworks | None = None,
    ) -> None:
        """`make` makes the networks to train and their objective, seeded by the settings' seed;
        what else the `initial` networks have, if they come from some, is kept as it is.
        """
        self.config = config
        self.initial = initial
        self.device = torch.device(device)
        self.images = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spread_seed(config.seed, INITIAL))
            shape_networks, objective = make()
        self.shape_networks = shape_networks.to(self.device).train()
        self.objective = objective.to(self.device).train()
        self.optimizer = torch.optim.Adam(
            [{"params": group} for group in self.objective.trained(self.shape_networks)],
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Train on one batch; returns its mean loss and what it is made of, detached scalars."""
        config = self.config
        batch = batch.to(self.device)
        count = len(batch.images)
        if config.mirror:
            random = torch.Generator().manual_seed(spread_seed(config.seed, self.images))
            batch = batch.mirrored((torch.rand(count, generator=random) < 0.5).to(self.device))
        shares = self.objective.rates(self.images)
        for group, share in zip(self.optimizer.param_groups, shares, strict=True):
            group["lr"] = config.learning_rate * share * self._rate()
        losses, figures, changes = self.objective(self.shape_networks, batch, self.images)
        self.objective.advance(changes)
        self.optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        self.optimizer.step()
        self.images += count
        return {"loss": losses.detach().mean(), **figures}

    @torch.no_grad()
    def predict(self, images: Tensor) -> Prediction:
        """What the networks make of images (B, 3, S, S) in [-1, 1]."""
        networks, images = self.shape_networks, images.to(self.device)
        with autocast(self.device, self.config.precision):
            depth, albedo, view, light = networks.predict(images)
        shapes = Shape.of(depth, albedo, networks.camera)
        seen = shapes.render(view, light, networks.camera, self.config.renderer)
        return Prediction(depth, albedo, view, light, seen)

    def score(self, batch: Batch) -> DepthMetrics:
        """SIDE and MAD of the depth as rendered in the images' views; needs `batch.depths`."""
        if batch.depths is None:
            raise ValueError("scores need the true depth of every image")
        seen = self.predict(batch.images).rendering
        truth = batch.depths.to(self.device)
        inside = torch.isfinite(truth)
        camera = self.shape_networks.camera
        truth = torch.where(inside, truth, camera.max_depth)
        return depth_metrics(seen.depth, seen.mask, truth, inside.to(truth), camera)

    def networks(self) -> TrainedNetworks:
        """The networks as they stand; without initial ones they serve every GAN."""
        trained = parameters_of(self.shape_networks)
        if self.initial is not None:
            parameters = self.initial.parameters | trained
            return replace(self.initial, parameters=parameters, sha256="", source="")
        return TrainedNetworks(trained, self.config.networks, self.config.camera)

    def state(self) -> dict[str, Any]:
        """All that `step` changes, as plain values and tensors."""
        return {
            "networks": self.shape_networks.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "images": self.images,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state` of a trainer with the same networks."""
        self.shape_networks.load_state_dict(state["networks"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.images = state["images"]

    def _rate(self) -> float:
        """Share of the learning rate: falling to zero over the end of the budget."""
        ramp = self.config.decay * self.config.images
        left = max(self.config.images - self.images, 0)
        return min(1.0, left / ramp) if ramp else 1.0
