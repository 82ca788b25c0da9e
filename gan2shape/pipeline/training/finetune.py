"""Row 10, ours: GAN2Shape's networks, taught by many single images.

Joint training comes first. Then the networks are fitted to as many images as there are, by the
losses of `extensions/single_image_losses.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gan2shape.pipeline.extensions.single_image_losses import SingleImages
from gan2shape.pipeline.networks.shape_networks import ShapeNetworks
from gan2shape.pipeline.networks.trained import TrainedNetworks
from gan2shape.pipeline.perceptual.losses import PerceptualLoss
from gan2shape.pipeline.scene.masks import object_masks
from gan2shape.pipeline.training.trainer import Batch, Evaluation, Objective, Trainer
from gan2shape.schemas.network_training import FinetuneConfig


class Finetuning(Objective):
    """The losses of single images, whose masks are known or found before a plain background."""

    def __init__(
        self,
        config: FinetuneConfig,
        perceptual: PerceptualLoss | None = None,
        teachers: Sequence[ShapeNetworks] = (),
    ) -> None:
        super().__init__()
        self.single = SingleImages(config, perceptual, teachers)

    def forward(self, networks: ShapeNetworks, batch: Batch, shown: int) -> Evaluation:
        """Losses, figures, and the correction that `advance` takes over."""
        losses = self.single(networks, batch.images, self._masks(batch), shown)
        return Evaluation(*losses)

    def advance(self, changes: Mapping[str, Tensor]) -> None:
        """Take over the correction of what renderings teach."""
        self.single.advance(changes)

    def _masks(self, batch: Batch) -> Tensor:
        """The objects (B, S, S) in a batch."""
        config = self.single.config
        if batch.masks is not None:
            return batch.masks
        if config.mask == "background":
            return object_masks(batch.images, config.background_threshold).to(batch.images)
        return torch.ones_like(batch.images[:, 0])


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

    def make() -> tuple[ShapeNetworks, Finetuning]:
        # The networks as they are at the start are among the teachers.
        all_teachers = (initial, *teachers) if teachers else ()
        frozen = [each.shape_networks().to(device).requires_grad_(False) for each in all_teachers]
        return initial.shape_networks(), Finetuning(config, perceptual, frozen)

    return Trainer(config, make, device, initial)
