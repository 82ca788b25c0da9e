"""Albedo of a head at any point of its surface, and the lit image of a whole one.

Region masks (lips, eyelids) are read through the UVs. All else is placed by the position of the
same surface point on the template head, in eye distances from the middle between the eyes: x right,
y down, z away, as seen by someone facing the subject.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from gan2shape.pipeline.synthetic.model import EYE_LEFT, EYE_RIGHT, EYE_SOCKET, MOUTH, TONGUE
from gan2shape.pipeline.synthetic.parameters import Colours

TEMPLATE_EYE_DISTANCE = 0.0627
_EYE_Z = 0.0
RGB = tuple[float, float, float]
_jit = njit(cache=True, nogil=True)


class Paint(NamedTuple):
    """The colours of a head as compiled functions take them; meanings as in `Colours`."""

    skin: RGB
    lips: RGB
    hair: RGB
    brows: RGB
    iris: RGB
    blush: float
    stubble: float
    brow_height: float
    brow_thickness: float
    brow_strength: float
    hairline: float
    gaze_x: float
    gaze_y: float


def paint_of(colours: Colours) -> Paint:
    """`colours` for compiled functions."""
    rgb = {
        name: tuple(float(x) for x in getattr(colours, name))
        for name in ("skin", "lips", "hair", "brows", "iris")
    }
    return Paint(
        **rgb,  # type: ignore[arg-type]
        blush=colours.blush,
        stubble=colours.stubble,
        brow_height=colours.brow_height,
        brow_thickness=colours.brow_thickness,
        brow_strength=colours.brow_strength,
        hairline=colours.hairline,
        gaze_x=float(colours.gaze[0]),
        gaze_y=float(colours.gaze[1]),
    )


@_jit  # type: ignore[untyped-decorator]
def smoothstep(low, high, x):  # type: ignore[no-untyped-def]
    t = min(1.0, max(0.0, (x - low) / (high - low)))
    return t * t * (3.0 - 2.0 * t)


@_jit  # type: ignore[untyped-decorator]
def _lattice(x, y, z, seed):  # type: ignore[no-untyped-def]
    h = np.uint32(seed) ^ (np.uint32(x) * np.uint32(0x9E3779B1))
    h = (h ^ (np.uint32(y) * np.uint32(0x85EBCA77))) * np.uint32(0xC2B2AE3D)
    h = (h ^ (np.uint32(z) * np.uint32(0x27D4EB2F))) * np.uint32(0x165667B1)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x2C1B3C6D)
    h ^= h >> np.uint32(13)
    return np.float64(h & np.uint32(0xFFFFFF)) / 8388607.5 - 1.0


@_jit  # type: ignore[untyped-decorator]
def noise(x, y, z, seed):  # type: ignore[no-untyped-def]
    """Smooth value noise in [-1, 1] with unit cells."""
    fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
    ix, iy, iz = int(fx), int(fy), int(fz)
    tx, ty, tz = x - fx, y - fy, z - fz
    tx, ty, tz = tx * tx * (3 - 2 * tx), ty * ty * (3 - 2 * ty), tz * tz * (3 - 2 * tz)
    total = 0.0
    for dx in range(2):
        for dy in range(2):
            for dz in range(2):
                w = (tx if dx else 1 - tx) * (ty if dy else 1 - ty) * (tz if dz else 1 - tz)
                total += w * _lattice(ix + dx, iy + dy, iz + dz, seed)
    return total


@_jit  # type: ignore[untyped-decorator]
def hair_weight(x, y, z, ear, hairline):  # type: ignore[no-untyped-def]
    """How much of a surface point is hair, 0 to 1: all above a line that drops towards the nape."""
    # The line's height by distance from the face: forehead, temple, sideburn, behind the ear, nape.
    if z < 0.1:
        line = -0.92
    elif z < 0.55:
        line = -0.92 + (z - 0.1) / 0.45 * 0.40
    elif z < 0.8:
        line = -0.52 + (z - 0.55) / 0.25 * 0.75
    elif z < 1.3:
        line = 0.23
    elif z < 1.7:
        line = 0.23 + (z - 1.3) / 0.4 * 0.65
    else:
        line = 0.88 + (z - 1.7) * 0.3
    return smoothstep(-0.06, 0.10, line + hairline - y) * (1.0 - smoothstep(0.15, 0.5, ear))


@_jit  # type: ignore[untyped-decorator]
def grow_hair(points, surface, ear, normals, hairline, thickness):  # type: ignore[no-untyped-def]
    """Points (V, 3) raised by up to `thickness` where hair grows; normals point into the head."""
    raised = points.copy()
    for v in range(points.shape[0]):
        x, y, z = surface[v]
        w = thickness * hair_weight(x, y, z, ear[v], hairline)
        for c in range(3):
            raised[v, c] -= w * normals[v, c]
    return raised


@_jit  # type: ignore[untyped-decorator]
def _mix(rgb, other, weight):  # type: ignore[no-untyped-def]
    for c in range(3):
        rgb[c] += weight * (other[c] - rgb[c])


@_jit  # type: ignore[untyped-decorator]
def _texture(mask, box, u, v):  # type: ignore[no-untyped-def]
    """Bilinear value 0..1 of a region mask at (u, v), 0 outside of it."""
    h, w = mask.shape
    x = (u - box[0]) / (box[2] - box[0]) * w - 0.5
    y = (box[3] - v) / (box[3] - box[1]) * h - 0.5
    if x < 0 or y < 0 or x >= w - 1 or y >= h - 1:
        return 0.0
    i, j = int(y), int(x)
    fy, fx = y - i, x - j
    top = mask[i, j] * (1 - fx) + mask[i, j + 1] * fx
    bottom = mask[i + 1, j] * (1 - fx) + mask[i + 1, j + 1] * fx
    return (top * (1 - fy) + bottom * fy) / 255.0


@_jit  # type: ignore[untyped-decorator]
def _blob(x, y, cx, cy, rx, ry):  # type: ignore[no-untyped-def]
    return np.exp(-(((x - cx) / rx) ** 2) - ((y - cy) / ry) ** 2)


@_jit  # type: ignore[untyped-decorator]
def _eye(rgb, x, y, z, side, paint):  # type: ignore[no-untyped-def]
    # Direction of the surface point from the centre of its eyeball.
    dx, dy, dz = x - 0.5 * side, y, z - _EYE_Z
    gx, gy = np.tan(paint.gaze_x), np.tan(paint.gaze_y)
    length = np.sqrt(dx * dx + dy * dy + dz * dz) * np.sqrt(gx * gx + gy * gy + 1)
    angle = np.arccos(min(1.0, max(-1.0, (dx * gx + dy * gy - dz) / length)))
    for c in range(3):
        rgb[c] = 0.88 - 0.03 * c
    rim = smoothstep(0.44, 0.54, angle)
    iris = 1.0 - smoothstep(0.48, 0.54, angle)
    shade = 0.75 + 0.45 * smoothstep(0.22, 0.42, angle) - 0.5 * rim
    for c in range(3):
        rgb[c] += iris * (paint.iris[c] * shade - rgb[c])
    _mix(rgb, (0.02, 0.02, 0.02), 1.0 - smoothstep(0.19, 0.25, angle))


@_jit  # type: ignore[untyped-decorator]
def albedo_at(rgb, x, y, z, u, v, ear, material, masks, box, paint, seed):  # type: ignore[no-untyped-def]
    """Write the albedo (0 to 1) of one surface point into rgb (3,); seed: of its noise."""
    if material == EYE_LEFT:
        _eye(rgb, x, y, z, 1.0, paint)
        return
    if material == EYE_RIGHT:
        _eye(rgb, x, y, z, -1.0, paint)
        return
    if material == MOUTH:
        for c in range(3):
            rgb[c] = (0.22, 0.07, 0.06)[c]
        return
    if material == TONGUE:
        for c in range(3):
            rgb[c] = (0.55, 0.25, 0.24)[c]
        return
    coarse = noise(1.3 * x, 1.3 * y, 1.3 * z, seed)
    middle = noise(4.1 * x, 4.1 * y, 4.1 * z, seed + 1)
    fine = noise(11.0 * x, 11.0 * y, 11.0 * z, seed + 2)
    tone = 1.0 + 0.05 * coarse + 0.045 * middle + 0.03 * fine
    for c in range(3):
        rgb[c] = paint.skin[c] * tone * (1.0 + (0.03, 0.0, -0.03)[c] * middle)
    if material == EYE_SOCKET:
        for c in range(3):
            rgb[c] *= (0.6, 0.42, 0.4)[c]
        return
    ax = abs(x)
    front = 1.0 - smoothstep(0.3, 0.7, z)
    # Blood: cheeks, nose tip, ears, chin.
    blush = front * (
        0.8 * _blob(ax, y, 0.55, 0.62, 0.30, 0.26) + 0.7 * _blob(x, y, 0.0, 0.55, 0.22, 0.2)
    )
    blush = paint.blush * min(
        1.0, blush + 0.6 * ear + 0.3 * front * _blob(x, y, 0.0, 1.7, 0.3, 0.15)
    )
    for c in range(3):
        rgb[c] *= 1.0 + blush * (0.06, -0.09, -0.10)[c]
    # Deeper colour where eyes lie in their sockets and under the nose (no light is blocked here).
    socket = front * _blob(ax, y, 0.47, -0.02, 0.30, 0.17)
    nostril = front * _blob(ax, y, 0.125, 0.685, 0.065, 0.04)
    for c in range(3):
        rgb[c] *= (1.0 - 0.22 * socket) * (1.0 - 0.65 * nostril)
    # Beard shadow.
    jaw = (
        smoothstep(0.82, 1.1, y)
        * (1.0 - smoothstep(0.75, 1.1, z))
        * (1.0 - smoothstep(1.9, 2.2, y))
    )
    jaw *= 1.0 - 0.9 * _blob(ax, y, 0.55, 0.75, 0.25, 0.22)
    dark = (
        0.5 * paint.hair[0] + 0.06,
        0.5 * paint.hair[1] + 0.06,
        0.5 * paint.hair[2] + 0.07,
    )
    _mix(rgb, dark, paint.stubble * jaw * (0.8 + 0.3 * fine))
    lid = _texture(masks[1], box, u, v)
    for c in range(3):
        rgb[c] *= 1.0 - 0.35 * lid * (0.8, 1.0, 1.0)[c]
    lip = _texture(masks[0], box, u, v)
    _mix(rgb, paint.lips, lip)
    # Brows: a band that rises outwards and then falls, thinner at its outer end.
    t = (ax - 0.52) / 0.40
    arch = -0.31 + paint.brow_height - 0.06 * (1 - t * t) + 0.02 * t
    half = (
        paint.brow_thickness
        * (1.0 - 0.55 * smoothstep(-0.2, 1.0, t))
        * (1.0 - 0.3 * smoothstep(0.6, 1.0, -t))
    )
    band = 1.0 - smoothstep(0.6 * half, 1.25 * half, abs(y - arch))
    band *= 1.0 - smoothstep(0.8, 1.15, abs(t))
    if z < 0.6:
        _mix(rgb, paint.brows, paint.brow_strength * band * (0.92 + 0.12 * fine))
    hair = hair_weight(x, y, z, ear, paint.hairline + 0.05 * coarse + 0.04 * middle)
    if hair > 0:
        strands = noise(9.0 * x, 2.5 * y, 2.5 * z, seed + 3)
        locks = 1.0 + 0.18 * strands + 0.08 * middle
        _mix(rgb, (paint.hair[0] * locks, paint.hair[1] * locks, paint.hair[2] * locks), hair)


@_jit  # type: ignore[untyped-decorator]
def shade_image(  # type: ignore[no-untyped-def]
    triangle,
    barycentric,
    faces,
    corner_uv,
    material,
    surface,
    normals,
    ear,
    masks,
    box,
    paint,
    seed,
    light,
    samples,
):
    """Colour every sample and average them to pixels.

    triangle, barycentric: from `rasterize` with `samples` per pixel side; surface (V, 3): template
    positions in eye distances; normals (V, 3): posed, into the surface; light (4,): ambient a,
    diffuse b, x and y of the direction. Returns image (S, S, 3) over black and albedo (S, S, 3)
    averaged over covered samples, both 0..1.
    """
    n = triangle.shape[0]
    size = n // samples
    image = np.zeros((size, size, 3), np.float64)
    albedo = np.zeros((size, size, 3), np.float64)
    covered = np.zeros((size, size), np.int32)
    rgb = np.zeros(3, np.float64)
    norm = np.sqrt(light[2] ** 2 + light[3] ** 2 + 1)
    for y in range(n):
        for x in range(n):
            f = triangle[y, x]
            if f < 0:
                continue
            px = py = pz = nx = ny = nz = u = v = e = 0.0
            for c in range(3):
                w = barycentric[y, x, c]
                k = faces[f, c]
                px += w * surface[k, 0]
                py += w * surface[k, 1]
                pz += w * surface[k, 2]
                nx += w * normals[k, 0]
                ny += w * normals[k, 1]
                nz += w * normals[k, 2]
                u += w * corner_uv[f, c, 0]
                v += w * corner_uv[f, c, 1]
                e += w * ear[k]
            albedo_at(rgb, px, py, pz, u, v, e, material[f], masks, box, paint, seed)
            facing = (nx * light[2] + ny * light[3] + nz) / norm
            length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
            shading = light[0] + light[1] * max(0.0, facing / length)
            i, j = y // samples, x // samples
            covered[i, j] += 1
            for c in range(3):
                value = min(1.0, max(0.0, rgb[c]))
                albedo[i, j, c] += value
                image[i, j, c] += min(1.0, value * shading)
    for i in range(size):
        for j in range(size):
            for c in range(3):
                image[i, j, c] /= samples * samples
                if covered[i, j] > 0:
                    albedo[i, j, c] /= covered[i, j]
    return image, albedo
