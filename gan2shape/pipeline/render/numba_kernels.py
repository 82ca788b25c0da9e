"""Compiled CPU kernels for warping a depth grid: rasterising, resampling and their adjoints.

All arithmetic is float64 whatever the arrays hold: scalars cost the same, and it keeps an
identity view exact. Every kernel works on the images first .. last-1 of a batch, touches nothing
else and releases the GIL, so callers may split a batch over threads. A vertex is (x, y, q): its
pixel coordinates and its inverse depth q = 1/z, which is linear over a projected triangle; q = 0
marks a vertex that has no projection (behind the camera or not finite), and triangles with such a
vertex are left out.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

OUTSIDE = -1
"""Face id of a pixel that no triangle covers."""

TOLERANCE = 1e-7
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
def _fill_triangle(
    ax: float,
    ay: float,
    aq: float,
    bx: float,
    by: float,
    bq: float,
    cx: float,
    cy: float,
    cq: float,
    face: int,
    ids: Array,
    nearest: Array,
) -> None:
    """Draw one triangle into face ids and inverse depths (S, S) of one image."""
    size = ids.shape[0]
    left = max(math.ceil(min(ax, bx, cx) - TOLERANCE), 0.0)
    right = min(math.floor(max(ax, bx, cx) + TOLERANCE), size - 1.0)
    top = max(math.ceil(min(ay, by, cy) - TOLERANCE), 0.0)
    bottom = min(math.floor(max(ay, by, cy) + TOLERANCE), size - 1.0)
    if left > right or top > bottom:
        return
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if abs(area) < MIN_AREA:
        return
    scale = 1.0 / area
    for row in range(int(top), int(bottom) + 1):
        for column in range(int(left), int(right) + 1):
            wa = ((bx - column) * (cy - row) - (by - row) * (cx - column)) * scale
            wb = ((cx - column) * (ay - row) - (cy - row) * (ax - column)) * scale
            wc = 1.0 - wa - wb
            if wa >= -TOLERANCE and wb >= -TOLERANCE and wc >= -TOLERANCE:
                q = wa * aq + wb * bq + wc * cq
                if q > nearest[row, column]:
                    nearest[row, column] = q
                    ids[row, column] = face


@njit(**_options)
def rasterize(vertices: Array, ids: Array, nearest: Array) -> None:
    """Nearest face id and inverse depth (S, S) of one image's grid of vertices (S, S, 3).

    Quad k = v * (S-1) + u has the faces 2k: (v,u) (v,u+1) (v+1,u) and 2k+1: (v,u+1) (v+1,u+1)
    (v+1,u).
    """
    size = ids.shape[0]
    for row in range(size):
        for column in range(size):
            ids[row, column] = OUTSIDE
            nearest[row, column] = 0.0
    for v in range(size - 1):
        bx, by, bq = vertices[v, 0, 0], vertices[v, 0, 1], vertices[v, 0, 2]
        dx, dy, dq = vertices[v + 1, 0, 0], vertices[v + 1, 0, 1], vertices[v + 1, 0, 2]
        for u in range(size - 1):
            ax, ay, aq = bx, by, bq
            cx, cy, cq = dx, dy, dq
            bx, by, bq = vertices[v, u + 1, 0], vertices[v, u + 1, 1], vertices[v, u + 1, 2]
            dx, dy, dq = (
                vertices[v + 1, u + 1, 0],
                vertices[v + 1, u + 1, 1],
                vertices[v + 1, u + 1, 2],
            )
            if bq > 0.0 and cq > 0.0:
                face = 2 * (v * (size - 1) + u)
                if aq > 0.0:
                    _fill_triangle(ax, ay, aq, bx, by, bq, cx, cy, cq, face, ids, nearest)
                if dq > 0.0:
                    _fill_triangle(bx, by, bq, dx, dy, dq, cx, cy, cq, face + 1, ids, nearest)


@njit(**_options)
def visible_faces(
    screen: Array, near: float, ids: Array, vertices: Array, nearest: Array, first: int, last: int
) -> None:
    """Nearest face ids (B, S, S) of screen vertices (B, S, S, 3) = (x, y, z)."""
    size = ids.shape[1]
    for image in range(first, last):
        for v in range(size):
            for u in range(size):
                x, y, z = screen[image, v, u, 0], screen[image, v, u, 1], screen[image, v, u, 2]
                seen = z > near and abs(x) < FARTHEST_PIXEL and abs(y) < FARTHEST_PIXEL
                vertices[image, v, u, 0] = x
                vertices[image, v, u, 1] = y
                vertices[image, v, u, 2] = 1.0 / z if seen else 0.0
        rasterize(vertices[image], ids[image], nearest[image])


@njit(**_options)
def depth_forward(
    depth: Array,
    view: Array,
    lens: Lens,
    poses: Array,
    vertices: Array,
    ids: Array,
    nearest: Array,
    rendered: Array,
    first: int,
    last: int,
) -> None:
    """Depth `rendered` (B, S, S) of `depth` (B, S, S) seen under `view` (B, 6).

    Fills for the adjoint: poses (B, 4, 3, 3) = R and its three derivatives, vertices (B, S, S, 3)
    and face ids (B, S, S); nearest (B, S, S) is scratch.
    """
    focal, center, pivot, near, low, high = (
        lens.focal,
        lens.center,
        lens.pivot,
        lens.near,
        lens.low,
        lens.high,
    )
    size = depth.shape[1]
    for image in range(first, last):
        rotation = poses[image, 0]
        pose(view[image], rotation, poses[image, 1:])
        shift_x = view[image, 3] - rotation[0, 2] * pivot
        shift_y = view[image, 4] - rotation[1, 2] * pivot
        shift_z = view[image, 5] - rotation[2, 2] * pivot + pivot
        for v in range(size):
            ray_y = (v - center) / focal
            for u in range(size):
                ray_x = (u - center) / focal
                d = depth[image, v, u]
                x = d * (rotation[0, 0] * ray_x + rotation[0, 1] * ray_y + rotation[0, 2]) + shift_x
                y = d * (rotation[1, 0] * ray_x + rotation[1, 1] * ray_y + rotation[1, 2]) + shift_y
                z = d * (rotation[2, 0] * ray_x + rotation[2, 1] * ray_y + rotation[2, 2]) + shift_z
                q = 1.0 / z
                column = focal * x * q + center
                row = focal * y * q + center
                seen = z > near and abs(column) < FARTHEST_PIXEL and abs(row) < FARTHEST_PIXEL
                vertices[image, v, u, 0] = column
                vertices[image, v, u, 1] = row
                vertices[image, v, u, 2] = q if seen else 0.0
        rasterize(vertices[image], ids[image], nearest[image])
        for v in range(size):
            for u in range(size):
                # Nothing seen leaves q = 0, whose infinite depth becomes the upper clamp.
                rendered[image, v, u] = min(max(1.0 / nearest[image, v, u], low), high)


@njit(**_options)
def _corner_rows(face: int, size: int) -> tuple[int, int, int, int, int, int]:
    """Rows and columns of the three corners of a face, in the order of `rasterize`."""
    quad = face >> 1
    v = quad // (size - 1)
    u = quad - v * (size - 1)
    if face & 1:
        return v, u + 1, v + 1, u + 1, v + 1, u
    return v, u, v, u + 1, v + 1, u


@njit(**_options)
def depth_backward(
    depth: Array,
    poses: Array,
    vertices: Array,
    ids: Array,
    grad: Array,
    lens: Lens,
    scratch: Array,
    grad_depth: Array,
    grad_view: Array,
    first: int,
    last: int,
) -> None:
    """Adjoint of `depth_forward`: from grad (B, S, S) to grad_depth (B, S, S) and grad_view (B, 6).

    With q the inverse depth of the pixel, w_i its barycentric weights and (gx, gy) the gradient
    of q over the face: dq/dq_i = w_i, dq/dx_i = -w_i gx, dq/dy_i = -w_i gy. scratch is (B, S, S,
    3).
    """
    focal, center, pivot, low, high = lens.focal, lens.center, lens.pivot, lens.low, lens.high
    size = depth.shape[1]
    for image in range(first, last):
        push = scratch[image]
        push[:] = 0.0
        vertex = vertices[image]
        for row in range(size):
            for column in range(size):
                face = ids[image, row, column]
                pull = grad[image, row, column]
                if face == OUTSIDE or pull == 0.0:
                    continue
                av, au, bv, bu, cv, cu = _corner_rows(face, size)
                ax, ay, aq = vertex[av, au, 0], vertex[av, au, 1], vertex[av, au, 2]
                bx, by, bq = vertex[bv, bu, 0], vertex[bv, bu, 1], vertex[bv, bu, 2]
                cx, cy, cq = vertex[cv, cu, 0], vertex[cv, cu, 1], vertex[cv, cu, 2]
                scale = 1.0 / ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
                wa = ((bx - column) * (cy - row) - (by - row) * (cx - column)) * scale
                wb = ((cx - column) * (ay - row) - (cy - row) * (ax - column)) * scale
                wc = 1.0 - wa - wb
                q = wa * aq + wb * bq + wc * cq
                z = 1.0 / q
                if z < low or z > high:
                    continue
                pull *= -z * z
                gx = ((bq - aq) * (cy - ay) - (cq - aq) * (by - ay)) * scale
                gy = ((cq - aq) * (bx - ax) - (bq - aq) * (cx - ax)) * scale
                wa *= pull
                wb *= pull
                wc *= pull
                push[av, au, 0] -= wa * gx
                push[av, au, 1] -= wa * gy
                push[av, au, 2] += wa
                push[bv, bu, 0] -= wb * gx
                push[bv, bu, 1] -= wb * gy
                push[bv, bu, 2] += wb
                push[cv, cu, 0] -= wc * gx
                push[cv, cu, 1] -= wc * gy
                push[cv, cu, 2] += wc
        r = poses[image, 0]
        tx = ty = tz = 0.0
        xx = xy = xz = yx = yy = yz = zx = zy = zz = 0.0
        for v in range(size):
            ray_y = (v - center) / focal
            for u in range(size):
                q = vertex[v, u, 2]
                if q == 0.0:
                    grad_depth[image, v, u] = 0.0
                    continue
                ray_x = (u - center) / focal
                d = depth[image, v, u]
                gx = push[v, u, 0] * focal * q
                gy = push[v, u, 1] * focal * q
                gz = (
                    -push[v, u, 2] * q * q
                    - (
                        push[v, u, 0] * (vertex[v, u, 0] - center)
                        + push[v, u, 1] * (vertex[v, u, 1] - center)
                    )
                    * q
                )
                grad_depth[image, v, u] = (
                    (r[0, 0] * ray_x + r[0, 1] * ray_y + r[0, 2]) * gx
                    + (r[1, 0] * ray_x + r[1, 1] * ray_y + r[1, 2]) * gy
                    + (r[2, 0] * ray_x + r[2, 1] * ray_y + r[2, 2]) * gz
                )
                px, py, pz = d * ray_x, d * ray_y, d - pivot
                tx += gx
                ty += gy
                tz += gz
                xx += gx * px
                xy += gx * py
                xz += gx * pz
                yx += gy * px
                yy += gy * py
                yz += gy * pz
                zx += gz * px
                zy += gz * py
                zz += gz * pz
        for axis in range(3):
            s = poses[image, axis + 1]
            grad_view[image, axis] = (
                s[0, 0] * xx
                + s[0, 1] * xy
                + s[0, 2] * xz
                + s[1, 0] * yx
                + s[1, 1] * yy
                + s[1, 2] * yz
                + s[2, 0] * zx
                + s[2, 1] * zy
                + s[2, 2] * zz
            )
        grad_view[image, 3] = tx
        grad_view[image, 4] = ty
        grad_view[image, 5] = tz


@njit(**_options)
def resample_forward(
    texture: Array,
    depth: Array,
    view: Array,
    lens: Lens,
    poses: Array,
    positions: Array,
    output: Array,
    first: int,
    last: int,
) -> None:
    """Texture (B, C, S, S) read where the points of `depth` (B, S, S), seen under view, come from.

    Fills for the adjoint: poses (B, 4, 3, 3) and positions (B, S, S, 2), the pixel coordinates in
    the canonical frame before they are held inside the image. A position that is not finite reads
    NaN.
    """
    focal, center, pivot, near = lens.focal, lens.center, lens.pivot, lens.near
    channels, size = texture.shape[1], depth.shape[1]
    for image in range(first, last):
        r = poses[image, 0]
        pose(view[image], r, poses[image, 1:])
        # P = R^T (z ray - pivot - t) + pivot
        sx, sy, sz = view[image, 3], view[image, 4], view[image, 5] + pivot
        ox = -(r[0, 0] * sx + r[1, 0] * sy + r[2, 0] * sz)
        oy = -(r[0, 1] * sx + r[1, 1] * sy + r[2, 1] * sz)
        oz = -(r[0, 2] * sx + r[1, 2] * sy + r[2, 2] * sz) + pivot
        for v in range(size):
            ray_y = (v - center) / focal
            for u in range(size):
                ray_x = (u - center) / focal
                z = depth[image, v, u]
                px = z * (r[0, 0] * ray_x + r[1, 0] * ray_y + r[2, 0]) + ox
                py = z * (r[0, 1] * ray_x + r[1, 1] * ray_y + r[2, 1]) + oy
                pz = max(z * (r[0, 2] * ray_x + r[1, 2] * ray_y + r[2, 2]) + oz, near)
                q = focal / pz
                x = px * q + center
                y = py * q + center
                positions[image, v, u, 0] = x
                positions[image, v, u, 1] = y
                if not (abs(x) < FARTHEST_PIXEL and abs(y) < FARTHEST_PIXEL):
                    for channel in range(channels):
                        output[image, channel, v, u] = math.nan
                    continue
                x = min(max(x, 0.0), size - 1.0)
                y = min(max(y, 0.0), size - 1.0)
                left = min(int(x), size - 2)
                top = min(int(y), size - 2)
                fx = x - left
                fy = y - top
                for channel in range(channels):
                    t = texture[image, channel]
                    upper = t[top, left] + (t[top, left + 1] - t[top, left]) * fx
                    lower = t[top + 1, left] + (t[top + 1, left + 1] - t[top + 1, left]) * fx
                    output[image, channel, v, u] = upper + (lower - upper) * fy


@njit(**_options)
def resample_backward(
    texture: Array,
    depth: Array,
    view: Array,
    poses: Array,
    positions: Array,
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

    Fills grad_depth (B, S, S) and grad_view (B, 6), and adds to a zeroed grad_texture (B, C, S,
    S) if `with_texture`.
    """
    focal, center, pivot, near = lens.focal, lens.center, lens.pivot, lens.near
    channels, size = texture.shape[1], depth.shape[1]
    edge = size - 1.0
    for image in range(first, last):
        r = poses[image, 0]
        sx, sy, sz = view[image, 3], view[image, 4], view[image, 5] + pivot
        tx = ty = tz = 0.0
        xx = xy = xz = yx = yy = yz = zx = zy = zz = 0.0
        for v in range(size):
            ray_y = (v - center) / focal
            for u in range(size):
                x, y = positions[image, v, u, 0], positions[image, v, u, 1]
                grad_depth[image, v, u] = 0.0
                if not (abs(x) < FARTHEST_PIXEL and abs(y) < FARTHEST_PIXEL):
                    grad_depth[image, v, u] = math.nan
                    continue
                free_x, free_y = 0.0 < x < edge, 0.0 < y < edge
                held_x, held_y = min(max(x, 0.0), edge), min(max(y, 0.0), edge)
                left, top = min(int(held_x), size - 2), min(int(held_y), size - 2)
                fx, fy = held_x - left, held_y - top
                gx = gy = 0.0
                for channel in range(channels):
                    pull = grad[image, channel, v, u]
                    if pull == 0.0:
                        continue
                    t = texture[image, channel]
                    a, b = t[top, left], t[top, left + 1]
                    c, d = t[top + 1, left], t[top + 1, left + 1]
                    gx += pull * ((b - a) * (1.0 - fy) + (d - c) * fy)
                    gy += pull * ((c - a) * (1.0 - fx) + (d - b) * fx)
                    if with_texture:
                        g = grad_texture[image, channel]
                        lower = pull * fy
                        upper = pull - lower
                        g[top, left] += upper * (1.0 - fx)
                        g[top, left + 1] += upper * fx
                        g[top + 1, left] += lower * (1.0 - fx)
                        g[top + 1, left + 1] += lower * fx
                gx = gx if free_x else 0.0
                gy = gy if free_y else 0.0
                if gx == 0.0 and gy == 0.0:
                    continue
                ray_x = (u - center) / focal
                z = depth[image, v, u]
                ax, ay, az = z * ray_x - sx, z * ray_y - sy, z - sz
                pz = r[0, 2] * ax + r[1, 2] * ay + r[2, 2] * az + pivot
                behind = pz < near
                q = 1.0 / max(pz, near)
                px = gx * focal * q
                py = gy * focal * q
                pz = 0.0 if behind else -(gx * (x - center) + gy * (y - center)) * q
                bx = r[0, 0] * px + r[0, 1] * py + r[0, 2] * pz
                by = r[1, 0] * px + r[1, 1] * py + r[1, 2] * pz
                bz = r[2, 0] * px + r[2, 1] * py + r[2, 2] * pz
                grad_depth[image, v, u] = ray_x * bx + ray_y * by + bz
                tx -= bx
                ty -= by
                tz -= bz
                xx += ax * px
                xy += ax * py
                xz += ax * pz
                yx += ay * px
                yy += ay * py
                yz += ay * pz
                zx += az * px
                zy += az * py
                zz += az * pz
        for axis in range(3):
            s = poses[image, axis + 1]
            grad_view[image, axis] = (
                s[0, 0] * xx
                + s[0, 1] * xy
                + s[0, 2] * xz
                + s[1, 0] * yx
                + s[1, 1] * yy
                + s[1, 2] * yz
                + s[2, 0] * zx
                + s[2, 1] * zy
                + s[2, 2] * zz
            )
        grad_view[image, 3] = tx
        grad_view[image, 4] = ty
        grad_view[image, 5] = tz
