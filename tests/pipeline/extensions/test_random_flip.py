"""A random half of the shapes is mirrored."""

from __future__ import annotations

import torch

from gan2shape.pipeline.extensions.random_flip import random_side
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.shape import Shape
from gan2shape.schemas.settings import CameraConfig
from tests.pipeline.shapes import depth_map, textures

CAMERA = Camera.from_config(CameraConfig(size=32))


def test_every_shape_is_itself_or_its_mirror_image() -> None:
    albedo = textures(CAMERA, 40).float()
    shapes = Shape.of(depth_map("rough", CAMERA, 40).float(), albedo, CAMERA)
    (side,) = random_side(shapes, torch.Generator().manual_seed(0))
    mirrored = shapes.mirrored()
    count = 0
    for name in ("depth", "normals", "albedo"):
        found, own, other = (getattr(each, name) for each in (side, shapes, mirrored))
        same = [torch.equal(a, b) for a, b in zip(found, own, strict=True)]
        flipped = [torch.equal(a, b) for a, b in zip(found, other, strict=True)]
        assert all(a != b for a, b in zip(same, flipped, strict=True))
        count = sum(flipped)
    assert 10 < count < 30
    again = Shape.of(mirrored.depth, mirrored.albedo, CAMERA)
    torch.testing.assert_close(again.normals, mirrored.normals, rtol=0, atol=1e-5)
