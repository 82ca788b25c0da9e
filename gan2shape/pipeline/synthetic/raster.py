"""A small z-buffer rasteriser for triangle meshes under a pinhole camera."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def rasterize(points, faces, size, samples, focal):  # type: ignore[no-untyped-def]
    """Which triangle each sample sees, where on it, and how far away.

    points: (V, 3) camera frame, all in front of the camera; faces (F, 3); focal in pixels; the
    principal point is the middle of the image. There are `samples` x `samples` samples in each of
    `size` x `size` pixels, at equal distances: with samples = 1 they are the pixel centres.
    Triangles show on the side that their counter-clockwise product (p1 - p0) x (p2 - p0) points to;
    from behind they are invisible.

    Returns triangle (N, N) int32, -1 for none; barycentric (N, N, 3) perspective-correct weights;
    depth (N, N) float32 z, 0 for none; with N = size * samples.
    """
    n = size * samples
    count = points.shape[0]
    centre = (size - 1) / 2
    # Sample i lies at pixel coordinate (i + 0.5) / samples - 0.5.
    xs = np.empty(count, np.float64)
    ys = np.empty(count, np.float64)
    inverse = np.empty(count, np.float64)
    for v in range(count):
        inverse[v] = 1.0 / points[v, 2]
        xs[v] = (focal * points[v, 0] * inverse[v] + centre + 0.5) * samples - 0.5
        ys[v] = (focal * points[v, 1] * inverse[v] + centre + 0.5) * samples - 0.5
    triangle = np.full((n, n), -1, np.int32)
    barycentric = np.zeros((n, n, 3), np.float32)
    nearest = np.zeros((n, n), np.float64)  # largest 1/z so far
    for f in range(faces.shape[0]):
        i, j, k = faces[f]
        x0, y0, x1, y1, x2, y2 = xs[i], ys[i], xs[j], ys[j], xs[k], ys[k]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area >= 0.0:  # edge-on, or seen from behind
            continue
        left = max(0, int(np.ceil(min(x0, x1, x2))))
        right = min(n - 1, int(np.floor(max(x0, x1, x2))))
        top = max(0, int(np.ceil(min(y0, y1, y2))))
        bottom = min(n - 1, int(np.floor(max(y0, y1, y2))))
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                w0 = ((x1 - x) * (y2 - y) - (x2 - x) * (y1 - y)) / area
                w1 = ((x2 - x) * (y0 - y) - (x0 - x) * (y2 - y)) / area
                w2 = 1.0 - w0 - w1
                if w0 < 0.0 or w1 < 0.0 or w2 < 0.0:
                    continue
                w0 *= inverse[i]
                w1 *= inverse[j]
                w2 *= inverse[k]
                near = w0 + w1 + w2
                if near > nearest[y, x]:
                    nearest[y, x] = near
                    triangle[y, x] = f
                    barycentric[y, x, 0] = w0 / near
                    barycentric[y, x, 1] = w1 / near
                    barycentric[y, x, 2] = w2 / near
    depth = np.zeros((n, n), np.float32)
    for y in range(n):
        for x in range(n):
            if triangle[y, x] >= 0:
                depth[y, x] = 1.0 / nearest[y, x]
    return triangle, barycentric, depth
