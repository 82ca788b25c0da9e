from __future__ import annotations

import numpy as np
import pytest

from gan2shape.pipeline.synthetic.raster import rasterize


def brute_force(
    points: np.ndarray, faces: np.ndarray, size: int, samples: int, focal: float
) -> tuple[np.ndarray, np.ndarray]:
    """Intersect every sample's ray with every triangle's plane, one at a time, in float64."""
    n = size * samples
    nearest = np.full((n, n), np.inf)
    which = np.full((n, n), -1)
    for y in range(n):
        for x in range(n):
            u, v = (np.array([x, y]) + 0.5) / samples - 0.5
            ray = np.array([(u - (size - 1) / 2) / focal, (v - (size - 1) / 2) / focal, 1.0])
            for f, face in enumerate(faces):
                a, b, c = points[face].astype(float)
                if np.cross(b - a, c - a) @ a >= 0:
                    continue  # seen from behind
                # a + s (b - a) + t (c - a) = z ray
                system = np.stack([b - a, c - a, -ray], 1)
                if abs(np.linalg.det(system)) < 1e-12:
                    continue
                s, t, z = np.linalg.solve(system, -a)
                if s >= 0 and t >= 0 and s + t <= 1 and z < nearest[y, x]:
                    nearest[y, x], which[y, x] = z, f
    return which, nearest


@pytest.mark.parametrize("samples", [1, 2])
def test_agrees_with_ray_casting(samples: int) -> None:
    rng = np.random.RandomState(3)
    points = rng.uniform([-0.08, -0.08, 0.9], [0.08, 0.08, 1.1], (36, 3)).astype(np.float32)
    faces = np.arange(36, dtype=np.int32).reshape(12, 3)
    size, focal = 12, 11 / 2 / np.tan(np.radians(5))
    triangle, weights, depth = rasterize(points, faces, size, samples, focal)
    which, nearest = brute_force(points, faces, size, samples, focal)
    seen = which >= 0
    assert 0.1 < seen.mean() < 0.95
    np.testing.assert_array_equal(triangle, which)
    np.testing.assert_allclose(depth[seen], nearest[seen], rtol=1e-6)
    assert not depth[~seen].any()
    hits = np.einsum("nc,ncd->nd", weights[seen], points[faces[triangle[seen]]])
    np.testing.assert_allclose(hits[:, 2], nearest[seen], rtol=1e-6)


def test_one_sample_per_pixel_lies_at_its_centre() -> None:
    size, focal = 16, 100.0
    # A plane whose 1/z is linear in u: z = 1 / (1 + 0.01 (u - centre)).
    corners = np.array([[-20.0, -20.0], [20.0, -20.0], [20.0, 20.0], [-20.0, 20.0]])
    z = 1 / (1 + 0.01 * corners[:, 0])
    points = np.column_stack([corners * z[:, None] / focal, z]).astype(np.float32)
    _, _, depth = rasterize(points, np.array([[0, 2, 1], [0, 3, 2]], np.int32), size, 1, focal)
    u = np.arange(size) - (size - 1) / 2
    np.testing.assert_allclose(depth, np.tile(1 / (1 + 0.01 * u), (size, 1)), rtol=1e-6)
