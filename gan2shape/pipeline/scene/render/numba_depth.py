"""Compiled kernels that rasterise a depth grid in a view, and their adjoint.

A vertex is (x, y, q): its pixel coordinates and its inverse depth q = 1/z, which is linear over a
projected triangle. q = 0 marks a vertex that has no projection (behind the camera or not finite),
and triangles with such a vertex are left out.
"""

from __future__ import annotations

import math

import numpy as np

from gan2shape.pipeline.scene.render.numba_common import Array, Lens, compiled, pose, pull_angles

OUTSIDE = -1
"""Face id of a pixel that no triangle covers."""

TOLERANCE = 1e-5
"""Barycentric slack: rounding opens no cracks between triangles and no gap at the border."""

MIN_AREA = 1e-9
"""Twice the area (pixels^2) under which a triangle is seen edge-on and skipped."""

FARTHEST_PIXEL = 1e7
"""Pixel coordinates beyond this are treated as no projection."""


@compiled()
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


@compiled()
def _hit(wa: float, wb: float, wc: float, aq: float, bq: float, cq: float) -> float:
    """Inverse depth of a triangle at a pixel with weights wa, wb, wc (unscaled); 0 if outside."""
    area = wa + wb + wc
    slack = -TOLERANCE * abs(area)
    if area < 0.0:
        wa, wb, wc = -wa, -wb, -wc
    if abs(area) < MIN_AREA or min(wa, min(wb, wc)) < slack:
        return 0.0
    return (wa * aq + wb * bq + wc * cq) / abs(area)


@compiled()
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


@compiled()
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


@compiled()
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


@compiled()
def _corners(face: int, size: int) -> tuple[int, int, int, int, int, int]:
    """Rows and columns of the three corners of a face, in the order of `rasterize`."""
    quad = face >> 1
    v = quad // (size - 1)
    u = quad - v * (size - 1)
    if face & 1:
        return v, u + 1, v + 1, u + 1, v + 1, u
    return v, u, v, u + 1, v + 1, u


@compiled()
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


@compiled("reassoc", "nsz")  # free order of sums; NaN and infinity keep their meaning
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


@compiled()
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
        pull_angles(slopes, turned, grad_view[image])
        for axis in range(3):
            grad_view[image, 3 + axis] = moved[axis]
