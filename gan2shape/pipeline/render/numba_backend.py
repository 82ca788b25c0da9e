"""The CPU backend: fused forward and adjoint kernels as autograd functions.

Threads: a batch is split over at most `torch.get_num_threads()` threads of our own, each running
nogil kernels. Numba's parallel layers were not taken: `workqueue` aborts
the process when two threads enter it, `omp` is missing on macOS and brings a second OpenMP pool
next to torch's, and `tbb` is one more dependency. With one thread no pool is made at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan2shape.pipeline.camera import Camera
from gan2shape.pipeline.render import numba_kernels as kernels


def visible_faces(screen: Tensor, camera: Camera) -> Tensor:
    """Nearest face ids (B, S, S) int64 of screen vertices (B, S, S, 3), -1 where there is none."""
    batch, size = screen.shape[:2]
    ids = np.empty((batch, size, size), np.int32)
    vertices = np.empty((batch, size, size, 3))
    nearest = np.empty((batch, size, size))
    _run(kernels.visible_faces, batch, _array(screen), camera.near, ids, vertices, nearest)
    return torch.from_numpy(ids).long()


def render_depth(depth: Tensor, view: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Depth (B, S, S) and mask (B, S, S) of `depth` (B, S, S) under `view` (B, 6)."""
    rendered, mask = _RenderDepth.apply(depth, view.to(depth.dtype), camera)
    return rendered, mask


def resample(texture: Tensor, depth: Tensor, view: Tensor, camera: Camera) -> Tensor:
    """Texture (B, C, S, S) as it looks where `depth` (B, S, S) is seen under `view` (B, 6)."""
    image: Tensor = _Resample.apply(texture.to(depth.dtype), depth, view.to(depth.dtype), camera)
    return image


class _RenderDepth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, depth: Tensor, view: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
        batch, size = depth.shape[:2]
        poses = np.empty((batch, 4, 3, 3))
        vertices = np.empty((batch, size, size, 3))
        ids = np.empty((batch, size, size), np.int32)
        nearest = np.empty((batch, size, size))
        rendered = torch.empty_like(depth, memory_format=torch.contiguous_format)
        _run(
            kernels.depth_forward,
            batch,
            _array(depth),
            _array(view),
            _lens(camera),
            poses,
            vertices,
            ids,
            nearest,
            rendered.numpy(),
        )
        ctx.save_for_backward(depth)
        ctx.kept = (camera, poses, vertices, ids)
        mask = torch.from_numpy(ids >= 0).to(depth.dtype)
        ctx.mark_non_differentiable(mask)
        return rendered, mask

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _mask: Tensor) -> tuple[Tensor, Tensor, None]:
        (depth,) = ctx.saved_tensors
        camera, poses, vertices, ids = ctx.kept
        grad_depth = torch.empty_like(depth, memory_format=torch.contiguous_format)
        grad_view = depth.new_empty(depth.shape[0], 6)
        _run(
            kernels.depth_backward,
            depth.shape[0],
            _array(depth),
            poses,
            vertices,
            ids,
            _array(grad),
            _lens(camera),
            np.empty_like(vertices),
            grad_depth.numpy(),
            grad_view.numpy(),
        )
        return grad_depth, grad_view, None


class _Resample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, texture: Tensor, depth: Tensor, view: Tensor, camera: Camera) -> Tensor:
        batch, size = depth.shape[:2]
        poses = np.empty((batch, 4, 3, 3))
        positions = np.empty((batch, size, size, 2))
        image = torch.empty_like(texture, memory_format=torch.contiguous_format)
        _run(
            kernels.resample_forward,
            batch,
            _array(texture),
            _array(depth),
            _array(view),
            _lens(camera),
            poses,
            positions,
            image.numpy(),
        )
        ctx.save_for_backward(texture, depth, view)
        ctx.kept = (camera, poses, positions)
        return image

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        texture, depth, view = ctx.saved_tensors
        camera, poses, positions = ctx.kept
        with_texture = bool(ctx.needs_input_grad[0])
        grad_texture = texture.new_zeros(texture.shape if with_texture else (1, 1, 1, 1))
        grad_depth = torch.empty_like(depth, memory_format=torch.contiguous_format)
        grad_view = torch.empty_like(view, memory_format=torch.contiguous_format)
        _run(
            kernels.resample_backward,
            depth.shape[0],
            _array(texture),
            _array(depth),
            _array(view),
            poses,
            positions,
            _array(grad),
            _lens(camera),
            with_texture,
            grad_texture.numpy(),
            grad_depth.numpy(),
            grad_view.numpy(),
        )
        return grad_texture if with_texture else None, grad_depth, grad_view, None


def _lens(camera: Camera) -> kernels.Lens:
    return kernels.Lens(
        focal=float(camera.focal),
        center=float(camera.center),
        pivot=float(camera.rotation_depth),
        near=float(camera.near),
        low=float(camera.lower_clamp),
        high=float(camera.upper_clamp),
    )


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _run(kernel: Callable[..., None], batch: int, *args: Any) -> None:
    """Call `kernel(*args, first, last)` so that the spans [first, last) make up the batch."""
    threads = min(torch.get_num_threads(), batch)
    if threads <= 1:
        kernel(*args, 0, batch)
        return
    bounds = [batch * part // threads for part in range(threads + 1)]
    helpers = _pool(threads - 1, os.getpid())
    futures = [helpers.submit(kernel, *args, first, last) for first, last in pairwise(bounds[1:])]
    kernel(*args, bounds[0], bounds[1])
    for future in futures:
        future.result()


@lru_cache(maxsize=4)
def _pool(threads: int, _process: int) -> ThreadPoolExecutor:
    """Helper threads, made once per process: threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix="render")
