"""Row 1 of the paper's table: the depth network, taught with true depth.

It learns the depth of the object as the image shows it, so the view is none: the view network's
last layer is zero, as are those of light and albedo (grey, lit from the camera), and the networks
take the same way from image to rendered depth as all others.
"""

from __future__ import annotations

import torch
from torch import nn

from gan2shape.pipeline.networks.shape_networks import ShapeNetworks
from gan2shape.pipeline.perceptual.losses import depth_errors
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.training.trainer import Batch, Evaluation, Objective, Trainer
from gan2shape.schemas.network_training import SupervisedConfig


class TrueDepth(Objective):
    """Error of depth and normals inside the object."""

    def __init__(self, config: SupervisedConfig) -> None:
        super().__init__()
        self.config = config

    def trained(self, networks: ShapeNetworks) -> list[list[nn.Parameter]]:
        return [list(networks.depth_net.parameters())]

    def forward(self, networks: ShapeNetworks, batch: Batch, shown: int) -> Evaluation:
        """Needs `batch.depths`; images that show no object count for nothing."""
        if batch.depths is None:
            raise ValueError("supervised training needs the true depth of every image")
        with autocast(batch.images.device, self.config.precision):
            depth = networks.depth(batch.images)
        far, apart = depth_errors(depth, batch.depths, networks.camera)
        losses = self.config.depth_weight * far + self.config.normal_weight * apart
        figures = {
            "depth": far.detach().mean(),
            "normals_degrees": apart.detach().mean().rad2deg(),
        }
        return Evaluation(losses, figures)


def trainer(config: SupervisedConfig, device: torch.device | str = "cpu") -> Trainer:
    """A trainer whose networks give no view, grey albedo and frontal light from the start."""

    def make() -> tuple[ShapeNetworks, Objective]:
        networks = ShapeNetworks(Camera.from_config(config.camera), config.networks)
        for net in (networks.albedo_net, networks.view_net, networks.light_net):
            nn.init.zeros_(net.head.weight)
        return networks, TrueDepth(config)

    return Trainer(config, make, device)
