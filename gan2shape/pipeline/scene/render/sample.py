"""Reading a canonical texture from another view, in plain torch (any device)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from gan2shape.pipeline.scene.camera import Camera, project, transform, unproject


def sampling_positions(depth: Tensor, view: Tensor, camera: Camera) -> Tensor:
    """Shape pixel coordinates (B, S, S, 2) of what depth (B, S, S), seen under view, shows."""
    return project(transform(unproject(depth, camera), view, camera, inverse=True), camera)


def sample_texture(texture: Tensor, positions: Tensor) -> Tensor:
    """Texture (B, C, S, S) read bilinearly at pixel coordinates (B, S, S, 2).

    Positions outside the image read its border. `align_corners=True` is what "pixel centres are
    0 .. S-1" means to grid_sample.
    """
    grid = positions * (2 / (texture.shape[-1] - 1)) - 1
    return functional.grid_sample(
        texture, grid, mode="bilinear", padding_mode="border", align_corners=True
    )
