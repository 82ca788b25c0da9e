"""New pictures of a reconstructed shape: turned, relit, and the shape alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gan2shape.pipeline.scene.camera import Camera, rotation_matrix
from gan2shape.pipeline.scene.geometry import normals_from_depth
from gan2shape.pipeline.scene.render import Backend, render_depth, resample
from gan2shape.pipeline.scene.shading import shade

STUDIO_LIGHT = (-0.5, 0.4, 0.4, 0.5)
"""Light of shape pictures: ambient 0.25, diffuse 0.7, from the upper left (it shines to +x, +y)."""


def turn(
    depth: Tensor,
    albedo: Tensor,
    view: Tensor,
    light: Tensor,
    rotations: Tensor,
    camera: Camera,
    *,
    relative: bool = True,
    background: float | None = -1.0,
    backend: Backend = "auto",
) -> Tensor:
    """Images (B, K, 3, S, S) in [-1, 1] of B shapes, each under K rotations (K, 3) in radians.

    Rotations are offsets to the shape's own view (B, 6), or absolute ones if not `relative`; the
    shift is kept. The light (B, 4) stays fixed to the shape, as in the paper: its shading turns
    with it. Pixels that show nothing get `background`, or the nearest texture if that is None.
    """
    _check(depth, albedo, view, light)
    texture = shade(albedo, normals_from_depth(depth, camera), light)  # (B, 3, S, S)
    views = _turned_views(view, rotations, relative)
    return _pictures(texture, depth, views, camera, background, backend)


def coverage(
    depth: Tensor, view: Tensor, rotations: Tensor, camera: Camera, *, backend: Backend = "auto"
) -> Tensor:
    """Where pictures of `turn` show something of the shape: (B, K, S, S) of 0 and 1."""
    _check(depth, view)
    views = _turned_views(view, rotations, relative=True)
    count = rotations.shape[0]
    _, mask = render_depth(depth.repeat_interleave(count, 0), views.flatten(0, 1), camera, backend)
    return mask.unflatten(0, (len(depth), count))


def relight(
    depth: Tensor,
    albedo: Tensor,
    view: Tensor,
    lights: Tensor,
    camera: Camera,
    *,
    with_camera: bool = False,
    background: float | None = -1.0,
    backend: Backend = "auto",
) -> Tensor:
    """Images (B, K, 3, S, S) in [-1, 1] of B shapes in their own view under K lights.

    Lights are (K, 4), or (B, K, 4) where every shape has its own. Their directions are those of the
    canonical frame, as a reconstruction's own light; `with_camera` takes them to be the camera's,
    which the shape's view (B, 6) is turned against.
    """
    _check(depth, albedo, view)
    batch, size = depth.shape[0], camera.size
    if lights.ndim == 2:
        lights = lights.expand(batch, *lights.shape)
    if lights.ndim != 3 or lights.shape[0] != batch or lights.shape[2] != 4:
        raise ValueError(f"lights must be (K, 4) or ({batch}, K, 4), not {tuple(lights.shape)}")
    count = lights.shape[1]
    normals = normals_from_depth(depth, camera)
    if with_camera:
        normals = torch.einsum("bij,bvuj->bvui", rotation_matrix(view[:, :3]).to(normals), normals)
    textures = shade(
        albedo.repeat_interleave(count, 0),
        normals.repeat_interleave(count, 0),
        lights.to(albedo).flatten(0, 1),
    )  # (B * K, 3, S, S)
    # One rasterisation per shape: all its lights share the view.
    stacked = textures.reshape(batch, count * 3, size, size)
    images = _pictures(stacked, depth, view[:, None], camera, background, backend)
    return images.reshape(batch, count, 3, size, size)


def shape_picture(
    depth: Tensor,
    view: Tensor | None,
    camera: Camera,
    *,
    mask: Tensor | None = None,
    background: float = 1.0,
    backend: Backend = "auto",
) -> Tensor:
    """Grey pictures (B, 3, S, S) in [-1, 1] of the shape alone under a fixed studio light.

    Depth (B, S, S) is seen under view (B, 6), or as it lies where view is None; the light stays
    with the camera. Pixels outside the shape, or outside mask (B, S, S) of the picture, get
    `background`.
    """
    normals, inside = _seen_normals(depth, view, mask, camera, backend)
    light = depth.new_tensor(STUDIO_LIGHT).expand(len(depth), 4)
    grey = torch.ones_like(inside)[:, None].expand(-1, 3, -1, -1)
    image = shade(grey, normals, light).clamp(-1, 1)
    return torch.where(inside[:, None] > 0.5, image, background)


def normal_picture(
    depth: Tensor,
    view: Tensor | None,
    camera: Camera,
    *,
    mask: Tensor | None = None,
    background: float = 1.0,
    backend: Backend = "auto",
) -> Tensor:
    """Normal maps (B, 3, S, S) in [-1, 1]: red, green, blue = right, up, towards the camera."""
    normals, inside = _seen_normals(depth, view, mask, camera, backend)
    # Ours point inwards with y down: right = -x, up = y, towards the camera = z.
    image = (normals * normals.new_tensor([-1.0, 1.0, 1.0])).permute(0, 3, 1, 2)
    return torch.where(inside[:, None] > 0.5, image, background)


def _seen_normals(
    depth: Tensor, view: Tensor | None, mask: Tensor | None, camera: Camera, backend: Backend
) -> tuple[Tensor, Tensor]:
    """Normals (B, S, S, 3) in the view's frame and mask (B, S, S) of what a picture shows.

    They are those of the depth grid, carried to the view like a texture: normals of the rendered
    depth would draw a line along every outline.
    """
    inner = normals_from_depth(depth, camera)[:, 1:-1, 1:-1].permute(0, 3, 1, 2)
    normals = functional.pad(inner, (1, 1, 1, 1), mode="replicate")  # (B, 3, S, S)
    inside = torch.ones_like(depth)
    if view is not None:
        rendered, inside = render_depth(depth, view, camera, backend)
        carried = resample(normals, rendered, view, camera, backend)
        turned = torch.einsum("bij,bjvu->bivu", rotation_matrix(view[:, :3]).to(carried), carried)
        normals = functional.normalize(turned, dim=1)
    if mask is not None:
        inside = inside * mask.to(inside)
    return normals.permute(0, 2, 3, 1), inside


def _turned_views(view: Tensor, rotations: Tensor, relative: bool) -> Tensor:
    """Views (B, K, 6) of shapes under rotations (K, 3), with the shifts of their own (B, 6)."""
    if rotations.ndim != 2 or rotations.shape[1] != 3:
        raise ValueError(f"rotations must be (K, 3), not {tuple(rotations.shape)}")
    count = rotations.shape[0]
    angles = rotations.to(view).expand(len(view), count, 3)
    if relative:
        angles = angles + view[:, None, :3]
    return torch.cat([angles, view[:, None, 3:].expand(-1, count, -1)], dim=-1)


def _pictures(
    texture: Tensor,
    depth: Tensor,
    views: Tensor,
    camera: Camera,
    background: float | None,
    backend: Backend,
) -> Tensor:
    """Texture (B, C, S, S) on depth (B, S, S) under views (B, K, 6): (B, K, C, S, S) in [-1, 1]."""
    batch, count = views.shape[:2]
    flat = views.reshape(-1, 6)
    rendered, mask = render_depth(depth.repeat_interleave(count, 0), flat, camera, backend)
    textures = texture.repeat_interleave(count, 0)
    image = resample(textures, rendered, flat, camera, backend).clamp(-1, 1)
    if background is not None:
        image = torch.where(mask[:, None] > 0.5, image, background)
    return image.reshape(batch, count, *image.shape[1:])


def _check(depth: Tensor, *others: Tensor) -> None:
    for other in others:
        if other.shape[0] != depth.shape[0]:
            raise ValueError(
                f"{depth.shape[0]} depths for {other.shape[0]} albedos, views or lights"
            )
