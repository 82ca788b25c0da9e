"""Row 10, ours: GAN2Shape's networks, taught by Unsup3d's losses on many images.

Projected samples fix what single images leave open, relief against rotation, but they are all a
little alike, and so are the shapes that come of them. Single images have what tells one object
from another, in symmetry and shading, but from nothing they take long to find views, and a relief
of their own with them. So one comes after the other, and the view network stays as it was.
"""

from __future__ import annotations

import torch

from gan2shape.pipeline.baselines.training import Trainer
from gan2shape.pipeline.baselines.unsup3d import Features, Reconstruction
from gan2shape.pipeline.networks import ShapeNetworks
from gan2shape.pipeline.pretrained import Pretrained
from gan2shape.schemas.baseline_training import FinetuneConfig


def trainer(
    config: FinetuneConfig,
    initial: Pretrained,
    features: Features | None = None,
    device: torch.device | str = "cpu",
) -> Trainer:
    """A trainer from the networks `initial`, whose settings `config` has; `features` are on
    `device` and frozen, `None` leaves the perceptual loss out.
    """

    def make() -> tuple[ShapeNetworks, Reconstruction]:
        networks = initial.shape_networks()
        networks.view_net.requires_grad_(False)
        return networks, Reconstruction(config, networks.depth_net.head.in_channels, features)

    return Trainer(config, make, device, initial)
