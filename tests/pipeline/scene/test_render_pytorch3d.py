"""Our rasteriser against pytorch3d's, pixel for pixel. Runs where pytorch3d is installed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.render import numba_backend, warp
from gan2shape.pipeline.scene.render.mesh import (
    barycentric,
    depth_from_faces,
    grid_faces,
    screen_vertices,
)
from tests.pipeline.shapes import KINDS, depth_map, textures, views

pytest.importorskip("pytorch3d")

from gan2shape.pipeline.scene.render import pytorch3d_backend


def at_an_edge(screen: Tensor, width: float) -> Tensor:
    """Pixels (B, S, S) that lie within `width` pixels of the outline of any triangle.

    Shrinking or growing that triangle by `width` would change whether it is hit.
    """
    batch, size = screen.shape[:2]
    corners = screen[..., :2].reshape(batch, -1, 2)[:, grid_faces(size)]  # (B, F, 3, 2)
    index = torch.arange(size, dtype=screen.dtype)
    row, column = torch.meshgrid(index, index, indexing="ij")
    result = torch.zeros(batch, size * size, dtype=torch.bool)
    pixels = torch.stack([column, row], -1).reshape(-1, 1, 2)
    for image in range(batch):
        a, b, c = corners[image].unbind(1)
        area = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).abs()
        longest = torch.stack([(b - c).norm(dim=-1), (c - a).norm(dim=-1), (a - b).norm(dim=-1)], 1)
        height = area[:, None] / longest.clamp(min=1e-12)  # (F, 3): a weight of 1 in pixels
        for part in pixels.split(256):
            away = barycentric(corners[image][None], part) * height  # signed distance to each side
            inner = away.amin(-1)
            start = part.shape[0]
            touched = (inner.abs() < width) | (area < width * longest.amax(1))[None] & (
                inner > -width
            )
            first = int(part[0, 0, 1] * size + part[0, 0, 0])
            result[image, first : first + start] = touched.any(1)
    return result.reshape(batch, size, size)


@pytest.mark.parametrize("kind", KINDS)
def test_same_pixels_as_pytorch3d_away_from_edges(kind):
    camera = Camera(64)
    depth, view = depth_map(kind, camera, 2).float(), views(2, seed=7).float()
    screen = screen_vertices(depth, view, camera)
    ours = numba_backend.visible_faces(screen, camera)
    theirs = pytorch3d_backend.visible_faces(screen, camera)
    inside = ~at_an_edge(screen.double(), 2e-3)
    assert inside.double().mean() > 0.7
    assert (ours >= 0).double().mean() > 0.3
    torch.testing.assert_close(ours[inside], theirs[inside], rtol=0, atol=0)
    # At edges two neighbours meet: hardly any pixel differs in depth.
    a, b = (depth_from_faces(screen, faces, camera) for faces in (ours, theirs))
    assert ((a - b).abs() > 1e-4).double().mean() < 2e-3


@pytest.mark.parametrize("kind", ["bump", "folded"])
def test_renderings_and_gradients_agree(kind):
    camera = Camera(32)
    inputs = [
        t.float().requires_grad_()
        for t in (textures(camera, 2), depth_map(kind, camera, 2), views(2, seed=4))
    ]
    screen = screen_vertices(inputs[1], inputs[2], camera)
    inside = ~at_an_edge(screen.detach().double(), 5e-3)
    # The fused renderer is compared where the two saw the same face.
    same = inside & (
        numba_backend.visible_faces(screen.detach(), camera)
        == pytorch3d_backend.visible_faces(screen.detach(), camera)
    )
    results = []
    for backend in ("numba", "pytorch3d"):
        seen = warp(*inputs, camera, backend)
        total = (seen.image.square() * same[:, None]).sum() + (seen.depth * same).sum()
        results.append((seen, torch.autograd.grad(total, inputs)))
    (ours, our_grads), (theirs, their_grads) = results
    torch.testing.assert_close(ours.depth[same], theirs.depth[same], rtol=0, atol=1e-4)
    assert (ours.image - theirs.image).abs().amax(1)[same].quantile(0.99) < 1e-2
    for a, b in zip(our_grads, their_grads, strict=True):
        assert (a - b).norm() / b.norm() < 1e-2


def test_identity_view_is_exact_with_pytorch3d():
    camera = Camera(64)
    depth, texture = depth_map("rough", camera, 2).float(), textures(camera, 2).float()
    seen = warp(texture, depth, torch.zeros(2, 6), camera, "pytorch3d")
    assert seen.mask.min() == 1
    torch.testing.assert_close(seen.depth, depth, rtol=0, atol=1e-5)
    torch.testing.assert_close(seen.image, texture, rtol=0, atol=1e-4)


def test_triangles_behind_the_camera_and_broken_images_are_left_out():
    camera = Camera(16)
    depth, view = depth_map("bump", camera, 3).float(), torch.zeros(3, 6)
    view[0, 5] = -2
    depth[1] = float("nan")
    seen = warp(textures(camera, 3).float(), depth, view, camera, "pytorch3d")
    assert seen.mask.amax((1, 2)).tolist() == [0, 0, 1]
    assert seen.depth[2].isfinite().all()
