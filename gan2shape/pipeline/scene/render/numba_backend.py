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

from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.render import numba_depth, numba_texture
from gan2shape.pipeline.scene.render.numba_common import Lens


def visible_faces(screen: Tensor, camera: Camera) -> Tensor:
    """Nearest face ids (B, S, S) int64 of screen vertices (B, S, S, 3), -1 where there is none."""
    batch, size = screen.shape[:2]
    ids = np.empty((batch, size, size), np.int32)
    _run(numba_depth.visible_faces, batch, _array(screen), float(camera.near), ids)
    return torch.from_numpy(ids).long()


def render_depth(depth: Tensor, view: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Depth (B, S, S) and mask (B, S, S) of `depth` (B, S, S) under `view` (B, 6)."""
    rendered, mask = _RenderDepth.apply(depth, view, camera)
    return rendered, mask


def resample(texture: Tensor, depth: Tensor, view: Tensor, camera: Camera) -> Tensor:
    """Texture (B, C, S, S) as it looks where `depth` (B, S, S) is seen under `view` (B, 6)."""
    image: Tensor = _Resample.apply(texture, depth, view, camera)
    return image


class _RenderDepth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, depth: Tensor, view: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
        ids = torch.empty(depth.shape, dtype=torch.int32)
        rendered = torch.empty(depth.shape, dtype=depth.dtype)
        _run(
            numba_depth.depth_forward,
            depth.shape[0],
            _array(depth),
            _array(view),
            _lens(camera),
            ids.numpy(),
            rendered.numpy(),
        )
        ctx.save_for_backward(depth, view, ids)
        ctx.camera = camera
        mask = (ids >= 0).to(depth.dtype)
        ctx.mark_non_differentiable(mask)
        return rendered, mask

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _mask: Tensor) -> tuple[Tensor, Tensor, None]:
        depth, view, ids = ctx.saved_tensors
        grad_depth = torch.empty(depth.shape, dtype=depth.dtype)
        grad_view = torch.empty(view.shape, dtype=view.dtype)
        _run(
            numba_depth.depth_backward,
            depth.shape[0],
            _array(depth),
            _array(view),
            _array(ids),
            _array(grad),
            _lens(ctx.camera),
            grad_depth.numpy(),
            grad_view.numpy(),
        )
        return grad_depth, grad_view, None


class _Resample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, texture: Tensor, depth: Tensor, view: Tensor, camera: Camera) -> Tensor:
        image = torch.empty(texture.shape, dtype=texture.dtype)
        _run(
            numba_texture.resample_forward,
            depth.shape[0],
            _array(texture.flatten(2)),
            _array(depth),
            _array(view),
            _lens(camera),
            image.numpy(),
        )
        ctx.save_for_backward(texture, depth, view)
        ctx.camera = camera
        return image

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        texture, depth, view = ctx.saved_tensors
        with_texture = bool(ctx.needs_input_grad[0])
        grad_texture = depth.new_zeros(texture.shape if with_texture else (1, 1, 1, 1))
        grad_depth = torch.empty(depth.shape, dtype=depth.dtype)
        grad_view = torch.empty(view.shape, dtype=view.dtype)
        _run(
            numba_texture.resample_backward,
            depth.shape[0],
            _array(texture.flatten(2)),
            _array(depth),
            _array(view),
            _array(grad),
            _lens(ctx.camera),
            with_texture,
            grad_texture.flatten(2).numpy(),
            grad_depth.numpy(),
            grad_view.numpy(),
        )
        return grad_texture if with_texture else None, grad_depth, grad_view, None


def _lens(camera: Camera) -> Lens:
    return Lens(
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
