"""Visibility from pytorch3d's rasteriser (CPU or CUDA); the interpolation stays ours."""

from __future__ import annotations

import torch
from torch import Tensor

from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.render.mesh import grid_faces

BORDER_PIXELS = 1e-3
"""Width of the rim, in pixels, that still belongs to a triangle.

pytorch3d leaves pixel centres on an edge out, so an identity view would be all holes without it.
"""


def visible_faces(screen: Tensor, camera: Camera) -> Tensor:
    """Nearest face ids (B, S, S) int64 of screen vertices (B, S, S, 3), -1 where nothing is seen.

    Raises ModuleNotFoundError with a remedy when pytorch3d is not installed.
    """
    try:
        from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
        from pytorch3d.structures import Meshes
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "The pytorch3d renderer is not installed: run pip install 'gan2shape[cuda]', "
            "or choose renderer: numba."
        ) from error
    batch, size = screen.shape[:2]
    screen = screen.detach().float()
    corners = to_ndc(screen, size).reshape(batch, -1, 3)[:, grid_faces(size, screen.device)]
    # A triangle that reaches behind the camera is drawn as a point, that is, left out.
    sound = ((corners[..., 2] > camera.near) & corners.isfinite().all(-1)).all(-1)  # (B, F)
    corners = torch.where(sound[..., None, None], corners, torch.zeros_like(corners))
    count = corners.shape[1]
    own = torch.arange(3 * count, device=screen.device).reshape(count, 3).expand(batch, -1, -1)
    found = rasterize_meshes(
        Meshes(corners.reshape(batch, -1, 3), own),
        image_size=size,
        blur_radius=(BORDER_PIXELS * 2 / size) ** 2,
        faces_per_pixel=1,
        max_faces_per_bin=max(10_000, count // 4),
        perspective_correct=True,
        clip_barycentric_coords=True,
        cull_backfaces=False,
    )[0][..., 0]  # (B, S, S), numbered through the batch
    first = torch.arange(batch, device=screen.device).reshape(-1, 1, 1) * count
    return torch.where(found >= 0, found - first, found)


def to_ndc(screen: Tensor, size: int) -> Tensor:
    """Pixel x and y (..., 3) in pytorch3d's frame, z kept.

    There +x points left and +y up, the image spans [-1, 1], and pixel centre i lies at
    1 - (2 i + 1) / size.
    """
    xy = 1 - (2 * screen[..., :2] + 1) / size
    return torch.cat([xy, screen[..., 2:]], dim=-1)
