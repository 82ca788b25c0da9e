"""Warp a canonical depth grid and its texture into a view (Unsup3D, section 3.1).

The grid is a triangle mesh. It is moved by the view and rasterised with a z-buffer to a depth map
there; every pixel is then lifted with that depth, moved back into the canonical frame and
projected, and the texture is read at that place. Gradients flow through the target depth (the
vertices' z, and their x and y through the interpolation weights) and the sampling positions;
visibility itself is not differentiated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gan2shape.pipeline.scene.camera import Camera, check_depth, check_view
from gan2shape.pipeline.scene.render import numba_backend, pytorch3d_backend
from gan2shape.pipeline.scene.render.mesh import depth_from_faces, screen_vertices
from gan2shape.pipeline.scene.render.sample import sample_texture, sampling_positions

Backend = Literal["auto", "numba", "pytorch3d"]


@dataclass(frozen=True)
class Rendering:
    """What a view shows of a shape."""

    image: Tensor
    """(B, C, S, S) texture; where nothing is seen it goes on as on a plane at the largest depth."""
    depth: Tensor
    """(B, S, S) scene units, in the view's own frame; the largest depth where nothing is seen."""
    mask: Tensor
    """(B, S, S) 1 where the shape is seen, else 0; the dtype of depth, no gradient."""


def warp(
    texture: Tensor, depth: Tensor, view: Tensor, camera: Camera, backend: Backend = "auto"
) -> Rendering:
    """Render texture (B, C, S, S) on canonical depth (B, S, S) under view (B, 6).

    A single texture or depth (batch 1) is shared by all views. Differentiable in all three
    tensors. Computes in the precision of depth, at least float32: half-precision inputs come back
    as float32.
    Raises ValueError when shapes or the backend do not fit.
    """
    rendered, mask = render_depth(depth, view, camera, backend)
    return Rendering(resample(texture, rendered, view, camera, backend), rendered, mask)


def render_depth(
    depth: Tensor, view: Tensor, camera: Camera, backend: Backend = "auto"
) -> tuple[Tensor, Tensor]:
    """Depth and mask (B, S, S) of canonical depth (B, S, S) seen under view (B, 6)."""
    check_depth(depth, camera)
    check_view(view)
    depth = _shared(full_precision(depth), view.shape[0], "depth")
    view = view.to(depth.dtype)
    if choose(backend, depth) == "numba":
        return numba_backend.render_depth(depth, view, camera)
    screen = screen_vertices(depth, view, camera)
    faces = pytorch3d_backend.visible_faces(screen, camera)
    return depth_from_faces(screen, faces, camera), (faces >= 0).to(depth.dtype)


def resample(
    texture: Tensor, rendered: Tensor, view: Tensor, camera: Camera, backend: Backend = "auto"
) -> Tensor:
    """Image (B, C, S, S) of a texture (B, C, S, S), given the rendered depth (B, S, S) in the view.

    `rendered` comes from `render_depth`. Reading several textures costs one rasterisation this way.
    """
    check_depth(rendered, camera)
    check_view(view)
    if texture.ndim != 4 or texture.shape[2:] != rendered.shape[1:]:
        raise ValueError(
            f"texture must be (B, C, {camera.size}, {camera.size}), not {tuple(texture.shape)}"
        )
    rendered = _shared(full_precision(rendered), view.shape[0], "depth")
    texture = _shared(texture.to(rendered.dtype), view.shape[0], "texture")
    view = view.to(rendered.dtype)
    if choose(backend, rendered) == "numba":
        return numba_backend.resample(texture, rendered, view, camera)
    return sample_texture(texture, sampling_positions(rendered, view, camera))


def choose(backend: Backend, tensor: Tensor) -> Literal["numba", "pytorch3d"]:
    """The backend for this tensor's device: "auto" is numba on the CPU and pytorch3d elsewhere."""
    on_cpu = tensor.device.type == "cpu"
    if backend == "auto":
        return "numba" if on_cpu else "pytorch3d"
    if backend not in ("numba", "pytorch3d"):
        raise ValueError(f"renderer must be auto, numba or pytorch3d, not {backend!r}")
    if backend == "numba" and not on_cpu:
        raise ValueError(
            f"The numba renderer works on the CPU only; {tensor.device} needs pytorch3d."
        )
    return backend


def full_precision(tensor: Tensor) -> Tensor:
    """The tensor in float32 if it is in half precision, which is too coarse for positions."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _shared(tensor: Tensor, batch: int, name: str) -> Tensor:
    """`tensor` for `batch` views, one for all or one for each."""
    if tensor.shape[0] == batch:
        return tensor
    if tensor.shape[0] != 1:
        raise ValueError(f"{name} has {tensor.shape[0]} images for {batch} views")
    return tensor.expand(batch, *tensor.shape[1:])
