"""Forward plus backward of 16 depth grids: ours against pytorch3d's complete rendering.

    python tests/bench/bench_render.py [--threads 1 2] [--size 64] [--batch 16] [--repeats 20]

Both get the same shapes, views and threads in one process. "depth" is the common ground: the depth
map in the view and its gradient by the depth grid and the view. pytorch3d rasterises and
interpolates by itself (`rasterize_meshes`, one face per pixel, no blur); torch moves the vertices.
"warp" adds reading the texture, which pytorch3d has no part in. Without pytorch3d only ours is
timed. Times are the best of the repeats; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch import Tensor

from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.render import render_depth, warp
from gan2shape.pipeline.scene.render.mesh import grid_faces, screen_vertices

try:
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.structures import Meshes

    from gan2shape.pipeline.scene.render.pytorch3d_backend import to_ndc
except ModuleNotFoundError:
    rasterize_meshes = None


def heads(size: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Textures, head-like depths with fine relief, and views as the optimisation draws them."""
    generator = torch.Generator().manual_seed(0)
    line = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(line, line, indexing="ij")
    relief = 0.002 * torch.randn(batch, size, size, generator=generator)
    depth = 1.02 - 0.09 * torch.exp(-3 * (x**2 + y**2)) + relief
    spread = torch.tensor([0.1, 0.35, 0.05, 0.004, 0.004, 0.0])
    view = spread * torch.randn(batch, 6, generator=generator)
    return torch.rand(batch, 3, size, size, generator=generator), depth, view


def ours_depth(texture: Tensor, depth: Tensor, view: Tensor, camera: Camera) -> None:
    rendered, _ = render_depth(depth, view, camera, "numba")
    rendered.sum().backward()


def ours_warp(texture: Tensor, depth: Tensor, view: Tensor, camera: Camera) -> None:
    warp(texture, depth, view, camera, "numba").image.sum().backward()


def pytorch3d_depth(texture: Tensor, depth: Tensor, view: Tensor, camera: Camera) -> None:
    screen = screen_vertices(depth, view, camera)
    vertices = to_ndc(screen, camera.size).flatten(1, 2)
    faces = grid_faces(camera.size).expand(len(depth), -1, -1)
    rendered = rasterize_meshes(
        Meshes(vertices, faces),
        image_size=camera.size,
        blur_radius=0.0,
        faces_per_pixel=1,
        perspective_correct=True,
    )[1][..., 0]
    rendered.sum().backward()


def best(task: Callable[..., None], size: int, batch: int, repeats: int) -> float:
    """Seconds of the fastest run."""
    inputs = [t.requires_grad_() for t in heads(size, batch)]
    camera = Camera(size)
    times = []
    for _ in range(repeats):
        for leaf in inputs:
            leaf.grad = None
        start = time.perf_counter()
        task(*inputs, camera)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--pytorch3d-repeats", type=int, default=2)
    given = parser.parse_args()
    best(ours_warp, given.size, 1, 1)  # compile
    rows = []
    for threads in given.threads:
        torch.set_num_threads(threads)
        row: dict[str, float | int | None] = {
            "threads": threads,
            "batch": given.batch,
            "size": given.size,
            "ours_depth_ms": 1e3 * best(ours_depth, given.size, given.batch, given.repeats),
            "ours_warp_ms": 1e3 * best(ours_warp, given.size, given.batch, given.repeats),
            "pytorch3d_depth_ms": None,
        }
        print(
            f"{threads} threads, {given.batch} grids of {given.size}x{given.size}: "
            f"depth {row['ours_depth_ms']:.2f} ms, warp {row['ours_warp_ms']:.2f} ms"
        )
        if rasterize_meshes is not None:
            slow = 1e3 * best(pytorch3d_depth, given.size, given.batch, given.pytorch3d_repeats)
            row["pytorch3d_depth_ms"] = slow
            row["ratio_depth"] = slow / float(row["ours_depth_ms"] or 1)
            row["ratio_warp"] = slow / float(row["ours_warp_ms"] or 1)
            print(
                f"  pytorch3d depth {slow:.0f} ms: ours takes 1/{row['ratio_depth']:.0f} of it, "
                f"1/{row['ratio_warp']:.0f} with the texture"
            )
        rows.append(row)
    print(json.dumps({"benchmark": "render", "torch": torch.__version__, "rows": rows}))


if __name__ == "__main__":
    main()
