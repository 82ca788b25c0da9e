"""Compiled kernels that read a canonical texture from a view's depth, and their adjoint."""

from __future__ import annotations

import numpy as np

from gan2shape.pipeline.scene.render.numba_common import Array, Lens, compiled, pose, pull_angles


@compiled()
def _trace_row(
    depth: Array, shift: Array, r: Array, lens: Lens, ray_y: float, xs: Array, ys: Array, qs: Array
) -> None:
    """Where the points of one row of depth (S,) lie in the canonical image.

    Fills pixel positions x and y (S,), and focal / z (S,) of the canonical frame.
    """
    focal, center, pivot, near = lens.focal, lens.center, lens.pivot, lens.near
    step = 1.0 / focal
    sx, sy, sz = shift[0], shift[1], shift[2] + pivot
    r00, r01, r02 = r[0, 0], r[0, 1], r[0, 2]
    r10, r11, r12 = r[1, 0], r[1, 1], r[1, 2]
    r20, r21, r22 = r[2, 0], r[2, 1], r[2, 2]
    for u in range(depth.shape[0]):
        z = float(depth[u])
        ax, ay, az = z * ((u - center) * step) - sx, z * ray_y - sy, z - sz
        px = r00 * ax + r10 * ay + r20 * az
        py = r01 * ax + r11 * ay + r21 * az
        pz = r02 * ax + r12 * ay + r22 * az + pivot
        q = focal / (near if pz < near else pz)
        xs[u] = px * q + center
        ys[u] = py * q + center
        qs[u] = q


@compiled()
def _split_row(xs: Array, ys: Array, cell: Array, fx: Array, fy: Array) -> None:
    """Positions x, y (S,), held inside the image, as a cell v * S + u (S,) and what is beyond it.

    A position that is not finite gets some cell and NaN beyond it.
    """
    size = xs.shape[0]
    edge, last = size - 1.0, size - 2
    for u in range(size):
        x, y = xs[u], ys[u]
        held_x = x if x > 0.0 else 0.0
        held_x = held_x if held_x < edge else edge
        held_y = y if y > 0.0 else 0.0
        held_y = held_y if held_y < edge else edge
        left, top = int(held_x), int(held_y)
        left = left if left < last else last
        top = top if top < last else last
        cell[u] = top * size + left
        fx[u] = held_x - left + 0.0 * x
        fy[u] = held_y - top + 0.0 * y


@compiled()
def _read_row(texture: Array, cell: Array, fx: Array, fy: Array, output: Array) -> None:
    """One row (S,) of texture (S*S,) read bilinearly."""
    size = cell.shape[0]
    for u in range(size):
        # Unsigned: spares a look for negative indices.
        upper, lower = np.uint64(cell[u]), np.uint64(cell[u] + size)
        a, b = texture[upper], texture[upper + np.uint64(1)]
        c, d = texture[lower], texture[lower + np.uint64(1)]
        first = a + (b - a) * fx[u]
        second = c + (d - c) * fx[u]
        output[u] = first + (second - first) * fy[u]


@compiled()
def resample_forward(
    texture: Array,
    depth: Array,
    view: Array,
    lens: Lens,
    output: Array,
    first: int,
    last: int,
) -> None:
    """Texture (B, C, S*S) read where the points of `depth` (B, S, S), seen under view, come from.

    Fills output (B, C, S, S). Positions beyond the image read its border, those that are not
    finite read NaN.
    """
    channels, size = texture.shape[1], depth.shape[1]
    r, slopes = np.empty((3, 3)), np.empty((3, 3, 3))
    xs, ys, qs = np.empty(size), np.empty(size), np.empty(size)
    fx, fy, cell = np.empty(size), np.empty(size), np.empty(size, np.int64)
    for image in range(first, last):
        pose(view[image], r, slopes)
        for v in range(size):
            ray_y = (v - lens.center) / lens.focal
            _trace_row(depth[image, v], view[image, 3:], r, lens, ray_y, xs, ys, qs)
            _split_row(xs, ys, cell, fx, fy)
            for channel in range(channels):
                _read_row(texture[image, channel], cell, fx, fy, output[image, channel, v])


@compiled()
def _pull_row(
    texture: Array, cell: Array, fx: Array, fy: Array, grad: Array, gx: Array, gy: Array
) -> None:
    """Add the gradient by positions (S,) from that by one row (S,) read from texture (S*S,)."""
    size = cell.shape[0]
    for u in range(size):
        upper, lower = np.uint64(cell[u]), np.uint64(cell[u] + size)
        a, b = texture[upper], texture[upper + np.uint64(1)]
        c, d = texture[lower], texture[lower + np.uint64(1)]
        pull = float(grad[u])
        gx[u] += pull * ((b - a) * (1.0 - fy[u]) + (d - c) * fy[u])
        gy[u] += pull * ((c - a) * (1.0 - fx[u]) + (d - b) * fx[u])


@compiled()
def _spread_row(grad: Array, cell: Array, fx: Array, fy: Array, grad_texture: Array) -> None:
    """Add one row's gradient (S,) to the texture's (S*S,)."""
    size = cell.shape[0]
    for u in range(size):
        upper, lower = np.uint64(cell[u]), np.uint64(cell[u] + size)
        below = grad[u] * fy[u]
        above = grad[u] - below
        grad_texture[upper] += above * (1.0 - fx[u])
        grad_texture[upper + np.uint64(1)] += above * fx[u]
        grad_texture[lower] += below * (1.0 - fx[u])
        grad_texture[lower + np.uint64(1)] += below * fx[u]


@compiled("reassoc", "nsz")  # free order of sums; NaN and infinity keep their meaning
def _pull_trace(
    depth: Array,
    shift: Array,
    r: Array,
    lens: Lens,
    ray_y: float,
    xs: Array,
    ys: Array,
    qs: Array,
    gx: Array,
    gy: Array,
    grad_depth: Array,
    turned: Array,
    moved: Array,
) -> None:
    """Adjoint of `_trace_row`: fills grad_depth (S,), adds to those by R (3, 3) and shift (3,)."""
    focal, center, pivot, near = lens.focal, lens.center, lens.pivot, lens.near
    size = depth.shape[0]
    edge = size - 1.0
    step = 1.0 / focal
    farthest = focal / near
    sx, sy, sz = shift[0], shift[1], shift[2] + pivot
    r00, r01, r02 = r[0, 0], r[0, 1], r[0, 2]
    r10, r11, r12 = r[1, 0], r[1, 1], r[1, 2]
    r20, r21, r22 = r[2, 0], r[2, 1], r[2, 2]
    tx = ty = tz = 0.0
    xx = xy = xz = yx = yy = yz = zx = zy = zz = 0.0
    for u in range(size):
        x, y, q = xs[u], ys[u], qs[u]
        # A position held at the border does not move; one that is NaN passes it on.
        px = 0.0 if (x <= 0.0) | (x >= edge) else gx[u] * q
        py = 0.0 if (y <= 0.0) | (y >= edge) else gy[u] * q
        pz = -(px * (x - center) + py * (y - center)) * step
        pz = 0.0 if q >= farthest else pz
        bx = r00 * px + r01 * py + r02 * pz
        by = r10 * px + r11 * py + r12 * pz
        bz = r20 * px + r21 * py + r22 * pz
        ray_x = (u - center) * step
        grad_depth[u] = ray_x * bx + ray_y * by + bz
        z = float(depth[u])
        ax, ay, az = z * ray_x - sx, z * ray_y - sy, z - sz
        tx += bx
        ty += by
        tz += bz
        xx += ax * px
        xy += ax * py
        xz += ax * pz
        yx += ay * px
        yy += ay * py
        yz += ay * pz
        zx += az * px
        zy += az * py
        zz += az * pz
    moved[0] -= tx
    moved[1] -= ty
    moved[2] -= tz
    turned[0, 0] += xx
    turned[0, 1] += xy
    turned[0, 2] += xz
    turned[1, 0] += yx
    turned[1, 1] += yy
    turned[1, 2] += yz
    turned[2, 0] += zx
    turned[2, 1] += zy
    turned[2, 2] += zz


@compiled()
def resample_backward(
    texture: Array,
    depth: Array,
    view: Array,
    grad: Array,
    lens: Lens,
    with_texture: bool,
    grad_texture: Array,
    grad_depth: Array,
    grad_view: Array,
    first: int,
    last: int,
) -> None:
    """Adjoint of `resample_forward` from grad (B, C, S, S).

    Fills grad_depth (B, S, S) and grad_view (B, 6), and adds to a zeroed grad_texture
    (B, C, S*S) if `with_texture`.
    """
    channels, size = texture.shape[1], depth.shape[1]
    r, slopes = np.empty((3, 3)), np.empty((3, 3, 3))
    turned, moved = np.empty((3, 3)), np.empty(3)
    xs, ys, qs = np.empty(size), np.empty(size), np.empty(size)
    gx, gy = np.empty(size), np.empty(size)
    fx, fy, cell = np.empty(size), np.empty(size), np.empty(size, np.int64)
    for image in range(first, last):
        pose(view[image], r, slopes)
        shift = view[image, 3:]
        turned[:] = 0.0
        moved[:] = 0.0
        for v in range(size):
            ray_y = (v - lens.center) / lens.focal
            row = depth[image, v]
            _trace_row(row, shift, r, lens, ray_y, xs, ys, qs)
            _split_row(xs, ys, cell, fx, fy)
            gx[:] = 0.0
            gy[:] = 0.0
            for channel in range(channels):
                pulls = grad[image, channel, v]
                _pull_row(texture[image, channel], cell, fx, fy, pulls, gx, gy)
                if with_texture:
                    _spread_row(pulls, cell, fx, fy, grad_texture[image, channel])
            _pull_trace(
                row,
                shift,
                r,
                lens,
                ray_y,
                xs,
                ys,
                qs,
                gx,
                gy,
                grad_depth[image, v],
                turned,
                moved,
            )
        pull_angles(slopes, turned, grad_view[image])
        for axis in range(3):
            grad_view[image, 3 + axis] = moved[axis]
