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
def visible_faces(screen: Array, near: float, ids: Array, first: int, last: int) -> None:
    """Nearest face ids (B, S, S) of screen vertices (B, S, S, 3) = (x, y, z)."""
    size = ids.shape[1]
    vertices = np.empty((size, size, 3))
    nearest = np.empty((size, size))
    for image in range(first, last):
        for v in range(size):
            for u in range(size):
                x, y, z = screen[image, v, u, 0], screen[image, v, u, 1], screen[image, v, u, 2]
                seen = z > near and abs(x) < FARTHEST_PIXEL and abs(y) < FARTHEST_PIXEL
                vertices[v, u, 0] = x
                vertices[v, u, 1] = y
                vertices[v, u, 2] = 1.0 / z if seen else 0.0
        rasterize(vertices, ids[image], nearest)


@njit(**_options)
def _place_vertices(depth: Array, shift: Array, r: Array, lens: Lens, vertices: Array) -> None:
    """Vertices (S, S, 3) of one depth map (S, S) under rotation r (3, 3) and shift (3,)."""
    focal, center, near, pivot = lens.focal, lens.center, lens.near, lens.pivot
    size = depth.shape[0]
    shift_x = shift[0] - r[0, 2] * pivot
    shift_y = shift[1] - r[1, 2] * pivot
    shift_z = shift[2] - r[2, 2] * pivot + pivot
    step = 1.0 / focal
    for v in range(size):
        ray_y = (v - center) * step
        start_x = r[0, 1] * ray_y + r[0, 2]
        start_y = r[1, 1] * ray_y + r[1, 2]
        start_z = r[2, 1] * ray_y + r[2, 2]
        for u in range(size):
            ray_x = (u - center) * step
            d = depth[v, u]
            z = d * (r[2, 0] * ray_x + start_z) + shift_z
            q = 1.0 / z
            column = (d * (r[0, 0] * ray_x + start_x) + shift_x) * q * focal + center
            row = (d * (r[1, 0] * ray_x + start_y) + shift_y) * q * focal + center
            seen = z > near and abs(column) < FARTHEST_PIXEL and abs(row) < FARTHEST_PIXEL
            vertices[v, u, 0] = column
            vertices[v, u, 1] = row
            vertices[v, u, 2] = q if seen else 0.0


@njit(**_options)
def depth_forward(
    depth: Array, view: Array, lens: Lens, ids: Array, rendered: Array, first: int, last: int
) -> None:
    """Depth `rendered` and face ids (B, S, S) of `depth` (B, S, S) seen under `view` (B, 6)."""
    size = depth.shape[1]
    rotation = np.empty((3, 3))
    slopes = np.empty((3, 3, 3))
    vertices = np.empty((size, size, 3))
    nearest = np.empty((size, size))
    for image in range(first, last):
        pose(view[image], rotation, slopes)
        _place_vertices(depth[image], view[image, 3:], rotation, lens, vertices)
        rasterize(vertices, ids[image], nearest)
        for v in range(size):
            for u in range(size):
                # Nothing seen leaves q = 0, whose infinite depth becomes the upper clamp.
                rendered[image, v, u] = min(max(1.0 / nearest[v, u], lens.low), lens.high)


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
def _pull_vertices(vertex: Array, ids: Array, grad: Array, lens: Lens, push: Array) -> None:
    """Gradient `push` (S, S, 3) by one image's vertices (x, y, q) from that by its depth (S, S).

    With q the inverse depth of the pixel, w_i its barycentric weights and (gx, gy) the gradient
    of q over the face: dq/dq_i = w_i, dq/dx_i = -w_i gx, dq/dy_i = -w_i gy.
    """
    size = ids.shape[0]
    push[:] = 0.0
    for row in range(size):
        for column in range(size):
            face = ids[row, column]
            pull = float(grad[row, column])
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
            if z < lens.low or z > lens.high:
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


@njit(**_options)
def _pull_angles(slopes: Array, turned: Array, grad_view: Array) -> None:
    """Gradient by the three angles of one view from that by R (3, 3)."""
    for axis in range(3):
        total = 0.0
        for row in range(3):
            for column in range(3):
                total += slopes[axis, row, column] * turned[row, column]
        grad_view[axis] = total


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
    focal, center, pivot = lens.focal, lens.center, lens.pivot
    size = depth.shape[1]
    step = 1.0 / focal
    r = np.empty((3, 3))
    slopes = np.empty((3, 3, 3))
    turned = np.empty((3, 3))
    vertex = np.empty((size, size, 3))
    push = np.empty((size, size, 3))
    for image in range(first, last):
        pose(view[image], r, slopes)
        _place_vertices(depth[image], view[image, 3:], r, lens, vertex)
        _pull_vertices(vertex, ids[image], grad[image], lens, push)
        tx = ty = tz = 0.0
        xx = xy = xz = yx = yy = yz = zx = zy = zz = 0.0
        for v in range(size):
            ray_y = (v - center) * step
            for u in range(size):
                q = vertex[v, u, 2]
                ray_x = (u - center) * step
                d = depth[image, v, u]
                gx = push[v, u, 0] * focal * q
                gy = push[v, u, 1] * focal * q
                along = push[v, u, 0] * (vertex[v, u, 0] - center)
                along += push[v, u, 1] * (vertex[v, u, 1] - center)
                gz = -q * (push[v, u, 2] * q + along)
                # The gradient in the canonical frame, R^T g: its pull along the pixel's ray.
                bx = r[0, 0] * gx + r[1, 0] * gy + r[2, 0] * gz
                by = r[0, 1] * gx + r[1, 1] * gy + r[2, 1] * gz
                bz = r[0, 2] * gx + r[1, 2] * gy + r[2, 2] * gz
                grad_depth[image, v, u] = ray_x * bx + ray_y * by + bz
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
        turned[0, 0], turned[0, 1], turned[0, 2] = xx, xy, xz
        turned[1, 0], turned[1, 1], turned[1, 2] = yx, yy, yz
        turned[2, 0], turned[2, 1], turned[2, 2] = zx, zy, zz
        _pull_angles(slopes, turned, grad_view[image])
        grad_view[image, 3] = tx
        grad_view[image, 4] = ty
        grad_view[image, 5] = tz


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
    """Texture (B, C, S, S) read where the points of `depth` (B, S, S), seen under view, come from.

    Positions beyond the image read its border, those that are not finite read NaN.
    """
    focal, center, pivot, near = lens.focal, lens.center, lens.pivot, lens.near
    channels, size = texture.shape[1], depth.shape[1]
    edge = size - 1.0
    step = 1.0 / focal
    r = np.empty((3, 3))
    slopes = np.empty((3, 3, 3))
    for image in range(first, last):
        pose(view[image], r, slopes)
        sx, sy, sz = view[image, 3], view[image, 4], view[image, 5] + pivot
        for v in range(size):
            ray_y = (v - center) * step
            for u in range(size):
                ray_x = (u - center) * step
                z = depth[image, v, u]
                ax, ay, az = z * ray_x - sx, z * ray_y - sy, z - sz
                px = r[0, 0] * ax + r[1, 0] * ay + r[2, 0] * az
                py = r[0, 1] * ax + r[1, 1] * ay + r[2, 1] * az
                pz = r[0, 2] * ax + r[1, 2] * ay + r[2, 2] * az + pivot
                q = focal / max(pz, near)
                x = px * q + center
                y = py * q + center
                if not (abs(x) < FARTHEST_PIXEL and abs(y) < FARTHEST_PIXEL):
                    for channel in range(channels):
                        output[image, channel, v, u] = math.nan
                    continue
                x, y = min(max(x, 0.0), edge), min(max(y, 0.0), edge)
                left, top = min(int(x), size - 2), min(int(y), size - 2)
                fx, fy = x - left, y - top
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
    (B, C, S, S) if `with_texture`.
    """
    focal, center, pivot, near = lens.focal, lens.center, lens.pivot, lens.near
    channels, size = texture.shape[1], depth.shape[1]
    edge = size - 1.0
    step = 1.0 / focal
    r = np.empty((3, 3))
    slopes = np.empty((3, 3, 3))
    turned = np.empty((3, 3))
    for image in range(first, last):
        pose(view[image], r, slopes)
        sx, sy, sz = view[image, 3], view[image, 4], view[image, 5] + pivot
        tx = ty = tz = 0.0
        xx = xy = xz = yx = yy = yz = zx = zy = zz = 0.0
        for v in range(size):
            ray_y = (v - center) * step
            for u in range(size):
                ray_x = (u - center) * step
                z = depth[image, v, u]
                ax, ay, az = z * ray_x - sx, z * ray_y - sy, z - sz
                px = r[0, 0] * ax + r[1, 0] * ay + r[2, 0] * az
                py = r[0, 1] * ax + r[1, 1] * ay + r[2, 1] * az
                pz = r[0, 2] * ax + r[1, 2] * ay + r[2, 2] * az + pivot
                q = focal / max(pz, near)
                x = px * q + center
                y = py * q + center
                if not (abs(x) < FARTHEST_PIXEL and abs(y) < FARTHEST_PIXEL):
                    grad_depth[image, v, u] = math.nan
                    continue
                held_x, held_y = min(max(x, 0.0), edge), min(max(y, 0.0), edge)
                left, top = min(int(held_x), size - 2), min(int(held_y), size - 2)
                fx, fy = held_x - left, held_y - top
                gx = gy = 0.0
                for channel in range(channels):
                    pull = float(grad[image, channel, v, u])
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
                # A position held at the border does not move.
                px = gx * q if 0.0 < x < edge else 0.0
                py = gy * q if 0.0 < y < edge else 0.0
                along = (px * (x - center) + py * (y - center)) / focal
                pz = -along if pz > near else 0.0
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
        turned[0, 0], turned[0, 1], turned[0, 2] = xx, xy, xz
        turned[1, 0], turned[1, 1], turned[1, 2] = yx, yy, yz
        turned[2, 0], turned[2, 1], turned[2, 2] = zx, zy, zz
        _pull_angles(slopes, turned, grad_view[image])
        grad_view[image, 3] = tx
        grad_view[image, 4] = ty
        grad_view[image, 5] = tz
