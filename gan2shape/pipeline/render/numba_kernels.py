"""Compiled CPU kernels for warping a depth grid: rasterising, resampling and their adjoints.

All arithmetic is float64 whatever the arrays hold: scalars cost the same, and it keeps an
identity view exact. Every kernel works on the images first .. last-1 of a batch, touches nothing
else and releases the GIL, so callers may split a batch over threads. Loops that only compute
stand apart from those that look things up, so that the compiler can vectorise them. A vertex is
(x, y, q): its pixel coordinates and its inverse depth q = 1/z, which is linear over a projected
triangle; q = 0 marks a vertex that has no projection (behind the camera or not finite), and
triangles with such a vertex are left out.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

OUTSIDE = -1
"""Face id of a pixel that no triangle covers."""

TOLERANCE = 1e-5
"""Barycentric slack: rounding opens no cracks between triangles and no gap at the border."""

MIN_AREA = 1e-9
"""Twice the area (pixels^2) under which a triangle is seen edge-on and skipped."""

FARTHEST_PIXEL = 1e7
"""Pixel coordinates beyond this are treated as no projection."""

_options: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
}


_sums: dict[str, Any] = {**_options, "fastmath": {"contract", "reassoc", "nsz"}}
"""For loops that add up: their order is free, NaN and infinity keep their meaning."""


class Lens(NamedTuple):
    """What the kernels need to know of a camera, in pixels and scene units."""

    focal: float
    center: float
    pivot: float
    """Depth of the rotation centre."""
    near: float
    low: float
    high: float
    """Ends of the range that rendered depths are held in."""


@njit(**_options)
def pose(view: Array, rotation: Array, slopes: Array) -> None:
    """Fill R (3, 3) = Rz Ry Rx and its derivatives (3, 3, 3) by the angles of one view (6,)."""
    sx, cx = math.sin(view[0]), math.cos(view[0])
    sy, cy = math.sin(view[1]), math.cos(view[1])
    sz, cz = math.sin(view[2]), math.cos(view[2])
    rotation[0, 0], rotation[0, 1], rotation[0, 2] = (
        cz * cy,
        cz * sy * sx - sz * cx,
        cz * sy * cx + sz * sx,
    )
    rotation[1, 0], rotation[1, 1], rotation[1, 2] = (
        sz * cy,
        sz * sy * sx + cz * cx,
        sz * sy * cx - cz * sx,
    )
    rotation[2, 0], rotation[2, 1], rotation[2, 2] = -sy, cy * sx, cy * cx
    for row in range(3):
        # d/dx mixes the last two columns, d/dz the first two rows.
        slopes[0, row, 0] = 0.0
        slopes[0, row, 1] = rotation[row, 2]
        slopes[0, row, 2] = -rotation[row, 1]
        slopes[2, 0, row] = -rotation[1, row]
        slopes[2, 1, row] = rotation[0, row]
        slopes[2, 2, row] = 0.0
    slopes[1, 0, 0], slopes[1, 0, 1], slopes[1, 0, 2] = -cz * sy, cz * cy * sx, cz * cy * cx
    slopes[1, 1, 0], slopes[1, 1, 1], slopes[1, 1, 2] = -sz * sy, sz * cy * sx, sz * cy * cx
    slopes[1, 2, 0], slopes[1, 2, 1], slopes[1, 2, 2] = -cy, -sy * sx, -sy * cx


@njit(**_options)
def rasterize(xs: Array, ys: Array, qs: Array, ids: Array, nearest: Array) -> None:
    """Nearest face id and inverse depth (S, S) of one image's grid of vertices, (S, S) each.

    Quad k = v * (S-1) + u has the faces 2k: (v,u) (v,u+1) (v+1,u) = a b c, and
    2k+1: (v,u+1) (v+1,u+1) (v+1,u) = b d c.
    """
    size = ids.shape[0]
    for row in range(size):
        for column in range(size):
            ids[row, column] = OUTSIDE
            nearest[row, column] = 0.0
    for v in range(size - 1):
        for u in range(size - 1):
            bx, by, bq = xs[v, u + 1], ys[v, u + 1], qs[v, u + 1]
            cx, cy, cq = xs[v + 1, u], ys[v + 1, u], qs[v + 1, u]
            if bq == 0.0 or cq == 0.0:
                continue
            ax, ay, aq = xs[v, u], ys[v, u], qs[v, u]
            dx, dy, dq = xs[v + 1, u + 1], ys[v + 1, u + 1], qs[v + 1, u + 1]
            if aq == 0.0:
                ax, ay = bx, by
            if dq == 0.0:
                dx, dy = bx, by
            left = max(math.ceil(min(min(ax, bx), min(cx, dx)) - TOLERANCE), 0.0)
            right = min(math.floor(max(max(ax, bx), max(cx, dx)) + TOLERANCE), size - 1.0)
            if left > right:
                continue
            top = max(math.ceil(min(min(ay, by), min(cy, dy)) - TOLERANCE), 0.0)
            bottom = min(math.floor(max(max(ay, by), max(cy, dy)) + TOLERANCE), size - 1.0)
            face = 2 * (v * (size - 1) + u)
            for row in range(int(top), int(bottom) + 1):
                for column in range(int(left), int(right) + 1):
                    # Twice the signed areas that the pixel spans with the sides.
                    bc = (bx - column) * (cy - row) - (by - row) * (cx - column)
                    ca = (cx - column) * (ay - row) - (cy - row) * (ax - column)
                    ab = (ax - column) * (by - row) - (ay - row) * (bx - column)
                    q = _hit(bc, ca, ab, aq, bq, cq)
                    if q > nearest[row, column]:
                        nearest[row, column] = q
                        ids[row, column] = face
                    dc = (dx - column) * (cy - row) - (dy - row) * (cx - column)
                    bd = (bx - column) * (dy - row) - (by - row) * (dx - column)
                    q = _hit(dc, -bc, bd, bq, dq, cq)
                    if q > nearest[row, column]:
                        nearest[row, column] = q
                        ids[row, column] = face + 1


@njit(**_options)
def _hit(wa: float, wb: float, wc: float, aq: float, bq: float, cq: float) -> float:
    """Inverse depth of a triangle at a pixel with weights wa, wb, wc (unscaled); 0 if outside."""
    area = wa + wb + wc
    slack = -TOLERANCE * abs(area)
    if area < 0.0:
        wa, wb, wc = -wa, -wb, -wc
    if abs(area) < MIN_AREA or min(wa, min(wb, wc)) < slack:
        return 0.0
    return (wa * aq + wb * bq + wc * cq) / abs(area)


@njit(**_options)
def visible_faces(screen: Array, near: float, ids: Array, first: int, last: int) -> None:
    """Nearest face ids (B, S, S) of screen vertices (B, S, S, 3) = (x, y, z)."""
    size = ids.shape[1]
    xs, ys, qs = np.empty((size, size)), np.empty((size, size)), np.empty((size, size))
    nearest = np.empty((size, size))
    for image in range(first, last):
        for v in range(size):
            for u in range(size):
                x, y, z = screen[image, v, u, 0], screen[image, v, u, 1], screen[image, v, u, 2]
                seen = z > near and abs(x) < FARTHEST_PIXEL and abs(y) < FARTHEST_PIXEL
                xs[v, u] = x
                ys[v, u] = y
                qs[v, u] = 1.0 / z if seen else 0.0
        rasterize(xs, ys, qs, ids[image], nearest)


@njit(**_options)
def _place_vertices(
    depth: Array, shift: Array, r: Array, lens: Lens, xs: Array, ys: Array, qs: Array
) -> None:
    """Vertices, (S, S) each, of one depth map (S, S) under rotation r (3, 3) and shift (3,)."""
    focal, center, near, pivot = lens.focal, lens.center, lens.near, lens.pivot
    size = depth.shape[0]
    shift_x = shift[0] - r[0, 2] * pivot
    shift_y = shift[1] - r[1, 2] * pivot
    shift_z = shift[2] - r[2, 2] * pivot + pivot
    step = 1.0 / focal
    rx, ry, rz = r[0, 0], r[1, 0], r[2, 0]
    for v in range(size):
        ray_y = (v - center) * step
        start_x = r[0, 1] * ray_y + r[0, 2]
        start_y = r[1, 1] * ray_y + r[1, 2]
        start_z = r[2, 1] * ray_y + r[2, 2]
        for u in range(size):
            ray_x = (u - center) * step
            d = depth[v, u]
            z = d * (rz * ray_x + start_z) + shift_z
            q = 1.0 / z
            column = (d * (rx * ray_x + start_x) + shift_x) * q * focal + center
            row = (d * (ry * ray_x + start_y) + shift_y) * q * focal + center
            seen = (z > near) & (abs(column) < FARTHEST_PIXEL) & (abs(row) < FARTHEST_PIXEL)
            # No NaN may stay here: the adjoint multiplies by it.
            xs[v, u] = column if seen else 0.0
            ys[v, u] = row if seen else 0.0
            qs[v, u] = q if seen else 0.0


@njit(**_options)
def depth_forward(
    depth: Array, view: Array, lens: Lens, ids: Array, rendered: Array, first: int, last: int
) -> None:
    """Depth `rendered` and face ids (B, S, S) of `depth` (B, S, S) seen under `view` (B, 6)."""
    size = depth.shape[1]
    rotation = np.empty((3, 3))
    slopes = np.empty((3, 3, 3))
    xs, ys, qs = np.empty((size, size)), np.empty((size, size)), np.empty((size, size))
    nearest = np.empty((size, size))
    for image in range(first, last):
        pose(view[image], rotation, slopes)
        _place_vertices(depth[image], view[image, 3:], rotation, lens, xs, ys, qs)
        rasterize(xs, ys, qs, ids[image], nearest)
        for v in range(size):
            for u in range(size):
                # Nothing seen leaves q = 0, whose infinite depth becomes the upper clamp.
                rendered[image, v, u] = min(max(1.0 / nearest[v, u], lens.low), lens.high)


@njit(**_options)
def _corners(face: int, size: int) -> tuple[int, int, int, int, int, int]:
    """Rows and columns of the three corners of a face, in the order of `rasterize`."""
    quad = face >> 1
    v = quad // (size - 1)
    u = quad - v * (size - 1)
    if face & 1:
        return v, u + 1, v + 1, u + 1, v + 1, u
    return v, u, v, u + 1, v + 1, u


@njit(**_options)
def _pull_vertices(
    xs: Array,
    ys: Array,
    qs: Array,
    ids: Array,
    grad: Array,
    lens: Lens,
    pull_x: Array,
    pull_y: Array,
    pull_q: Array,
) -> None:
    """Gradients, (S, S) each, by one image's vertices (x, y, q) from that by its depth (S, S).

    With q the inverse depth of the pixel, w_i its barycentric weights and (gx, gy) the gradient
    of q over the face: dq/dq_i = w_i, dq/dx_i = -w_i gx, dq/dy_i = -w_i gy.
    """
    size = ids.shape[0]
    pull_x[:] = 0.0
    pull_y[:] = 0.0
    pull_q[:] = 0.0
    for row in range(size):
        for column in range(size):
            face = ids[row, column]
            pull = float(grad[row, column])
            if face == OUTSIDE or pull == 0.0:
                continue
            av, au, bv, bu, cv, cu = _corners(face, size)
            ax, ay, aq = xs[av, au], ys[av, au], qs[av, au]
            bx, by, bq = xs[bv, bu], ys[bv, bu], qs[bv, bu]
            cx, cy, cq = xs[cv, cu], ys[cv, cu], qs[cv, cu]
            scale = 1.0 / ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
            wa = ((bx - column) * (cy - row) - (by - row) * (cx - column)) * scale
            wb = ((cx - column) * (ay - row) - (cy - row) * (ax - column)) * scale
            wc = 1.0 - wa - wb
            z = 1.0 / (wa * aq + wb * bq + wc * cq)
            if z < lens.low or z > lens.high:
                continue
            pull *= -z * z
            gx = ((bq - aq) * (cy - ay) - (cq - aq) * (by - ay)) * scale
            gy = ((cq - aq) * (bx - ax) - (bq - aq) * (cx - ax)) * scale
            wa *= pull
            wb *= pull
            wc *= pull
            pull_x[av, au] -= wa * gx
            pull_y[av, au] -= wa * gy
            pull_q[av, au] += wa
            pull_x[bv, bu] -= wb * gx
            pull_y[bv, bu] -= wb * gy
            pull_q[bv, bu] += wb
            pull_x[cv, cu] -= wc * gx
            pull_y[cv, cu] -= wc * gy
            pull_q[cv, cu] += wc


@njit(**_options)
def _pull_angles(slopes: Array, turned: Array, grad_view: Array) -> None:
    """Gradient by the three angles of one view from that by R (3, 3)."""
    for axis in range(3):
        total = 0.0
        for row in range(3):
            for column in range(3):
                total += slopes[axis, row, column] * turned[row, column]
        grad_view[axis] = total


@njit(**_sums)
def _pull_grid(
    depth: Array,
    r: Array,
    lens: Lens,
    xs: Array,
    ys: Array,
    qs: Array,
    pull_x: Array,
    pull_y: Array,
    pull_q: Array,
    grad_depth: Array,
    turned: Array,
    moved: Array,
) -> None:
    """From the gradients by vertices to those by depth (S, S), R (3, 3) and the shift (3,)."""
    focal, center, pivot = lens.focal, lens.center, lens.pivot
    size = depth.shape[0]
    step = 1.0 / focal
    r00, r01, r02 = r[0, 0], r[0, 1], r[0, 2]
    r10, r11, r12 = r[1, 0], r[1, 1], r[1, 2]
    r20, r21, r22 = r[2, 0], r[2, 1], r[2, 2]
    turned[:] = 0.0
    moved[:] = 0.0
    for v in range(size):
        ray_y = (v - center) * step
        tx = ty = tz = 0.0
        xx = xz = yx = yz = zx = zz = xd = yd = zd = 0.0
        for u in range(size):
            q = qs[v, u]
            ray_x = (u - center) * step
            d = float(depth[v, u])
            gx = pull_x[v, u] * focal * q
            gy = pull_y[v, u] * focal * q
            along = pull_x[v, u] * (xs[v, u] - center) + pull_y[v, u] * (ys[v, u] - center)
            gz = -q * (pull_q[v, u] * q + along)
            # The gradient in the canonical frame, R^T g: its pull along the pixel's ray.
            bx = r00 * gx + r10 * gy + r20 * gz
            by = r01 * gx + r11 * gy + r21 * gz
            bz = r02 * gx + r12 * gy + r22 * gz
            grad_depth[v, u] = ray_x * bx + ray_y * by + bz
            px, pz = d * ray_x, d - pivot
            tx += gx
            ty += gy
            tz += gz
            xx += gx * px
            yx += gy * px
            zx += gz * px
            xd += gx * d
            yd += gy * d
            zd += gz * d
            xz += gx * pz
            yz += gy * pz
            zz += gz * pz
        moved[0] += tx
        moved[1] += ty
        moved[2] += tz
        turned[0, 0] += xx
        turned[0, 1] += xd * ray_y
        turned[0, 2] += xz
        turned[1, 0] += yx
        turned[1, 1] += yd * ray_y
        turned[1, 2] += yz
        turned[2, 0] += zx
        turned[2, 1] += zd * ray_y
        turned[2, 2] += zz


@njit(**_options)
def depth_backward(
    depth: Array,
    view: Array,
    ids: Array,
    grad: Array,
    lens: Lens,
    grad_depth: Array,
    grad_view: Array,
    first: int,
    last: int,
) -> None:
    """Adjoint of `depth_forward`: from grad (B, S, S) to grad_depth (B, S, S), grad_view (B, 6)."""
    size = depth.shape[1]
    r, slopes = np.empty((3, 3)), np.empty((3, 3, 3))
    turned, moved = np.empty((3, 3)), np.empty(3)
    xs, ys, qs = np.empty((size, size)), np.empty((size, size)), np.empty((size, size))
    px, py, pq = np.empty((size, size)), np.empty((size, size)), np.empty((size, size))
    for image in range(first, last):
        pose(view[image], r, slopes)
        _place_vertices(depth[image], view[image, 3:], r, lens, xs, ys, qs)
        _pull_vertices(xs, ys, qs, ids[image], grad[image], lens, px, py, pq)
        _pull_grid(depth[image], r, lens, xs, ys, qs, px, py, pq, grad_depth[image], turned, moved)
        _pull_angles(slopes, turned, grad_view[image])
        for axis in range(3):
            grad_view[image, 3 + axis] = moved[axis]


@njit(**_options)
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


@njit(**_options)
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


@njit(**_options)
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


@njit(**_options)
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


@njit(**_options)
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


@njit(**_options)
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


@njit(**_sums)
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


@njit(**_options)
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
        _pull_angles(slopes, turned, grad_view[image])
        for axis in range(3):
            grad_view[image, 3 + axis] = moved[axis]
