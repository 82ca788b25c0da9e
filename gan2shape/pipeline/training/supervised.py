"""Row 1 of the paper's table: the depth network, taught with true depth.

It learns the depth of the object as the image shows it, so the view is none: the view network's
last layer is zero, as are those of light and albedo (grey, lit from the camera), and the networks
take the same way from image to rendered depth as all others.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gan2shape.pipeline.networks.shape_networks import BORDER_COLUMNS, ShapeNetworks
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.geometry import normals_from_depth
from gan2shape.pipeline.scene.metrics import erode
from gan2shape.pipeline.training.trainer import Batch, Objective, Trainer
from gan2shape.schemas.network_training import SupervisedConfig

TINY = 1e-8


class TrueDepth(Objective):
    """Error of depth and normals inside the object."""

    def __init__(self, config: SupervisedConfig) -> None:
        super().__init__()
        self.config = config

    def trained(self, networks: ShapeNetworks) -> list[list[nn.Parameter]]:
        return [list(networks.depth_net.parameters())]

    def forward(
        self, networks: ShapeNetworks, batch: Batch, shown: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Needs `batch.depths`; images that show no object count for nothing."""
        if batch.depths is None:
            raise ValueError("supervised training needs the true depth of every image")
        with autocast(batch.images.device, self.config.precision):
            depth = networks.depth(batch.images)
        far, apart = depth_errors(depth, batch.depths, networks.camera)
        losses = self.config.depth_weight * far + self.config.normal_weight * apart
        return losses, {
            "depth": far.detach().mean(),
            "normals_degrees": apart.detach().mean().rad2deg(),
        }


def trainer(config: SupervisedConfig, device: torch.device | str = "cpu") -> Trainer:
    """A trainer whose networks give no view, grey albedo and frontal light from the start."""

    def make() -> tuple[ShapeNetworks, Objective]:
        networks = ShapeNetworks(Camera.from_config(config.camera), config.networks)
        for net in (networks.albedo_net, networks.view_net, networks.light_net):
            nn.init.zeros_(net.head.weight)
        return networks, TrueDepth(config)

    return Trainer(config, make, device)


def depth_errors(depth: Tensor, truth: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Mean absolute error of depth, and mean distance of unit normals: (B,) each.

    Args:
        depth: (B, S, S) in scene units.
        truth: (B, S, S), NaN outside the object.
    Returns:
        The first in scene units, after the mean error over the object is taken out: the network
        knows no absolute distance (its raw output loses its mean), and SIDE asks for none. The
        second is nearly the mean angle in radians. Both over the object without the columns at the
        sides, where networks' depth is fixed, normals also without the object's outermost pixels;
        0 where nothing is left.
    """
    inside = torch.isfinite(truth)
    inside[:, :, :BORDER_COLUMNS] = False
    inside[:, :, -BORDER_COLUMNS:] = False
    error = torch.where(inside, depth - truth, 0.0)
    offset = error.sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
    far = _mean((error - offset[:, None, None]).abs(), inside)
    filled = torch.where(torch.isfinite(truth), truth, camera.max_depth)
    gap = normals_from_depth(depth, camera) - normals_from_depth(filled, camera)
    return far, _mean((gap.square().sum(-1) + TINY).sqrt(), erode(inside))


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean (B,) of values (B, S, S) over the pixels that are true in `where`; 0 without any."""
    return torch.where(where, values, 0.0).sum((1, 2)) / where.sum((1, 2)).clamp(min=1)
