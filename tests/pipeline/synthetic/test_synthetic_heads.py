"""Drawn heads and their ground truth, seen through the product's camera, normals and shading."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from gan2shape.pipeline.scene.camera import Camera, project, rotation_matrix, transform, unproject
from gan2shape.pipeline.scene.geometry import normals_from_depth
from gan2shape.pipeline.scene.metrics import erode
from gan2shape.pipeline.scene.shading import shade
from gan2shape.pipeline.synthetic import mesh as mesh_module
from gan2shape.pipeline.synthetic.model import HeadModel
from gan2shape.pipeline.synthetic.paint import grow_hair, noise
from gan2shape.pipeline.synthetic.parameters import sample_head
from gan2shape.pipeline.synthetic.raster import rasterize
from gan2shape.pipeline.synthetic.render import Head, Surface, draw, draw_head, draw_heads, fits
from gan2shape.schemas.settings import CameraConfig

CAMERA = Camera(64)


@pytest.fixture(scope="module")
def heads(model: HeadModel) -> list[Head]:
    return list(draw_heads(range(200_000, 200_024), model))


def test_a_head_does_not_depend_on_its_company(heads: list[Head], model: HeadModel) -> None:
    for alone in draw_heads([200_017, 200_003], model):
        among = heads[alone.seed - 200_000]
        for name in ("image", "albedo", "depth", "mask", "view", "light"):
            assert getattr(alone, name).tobytes() == getattr(among, name).tobytes(), name


def test_seeds_give_different_heads(heads: list[Head]) -> None:
    assert len({head.image.tobytes() for head in heads}) == len(heads)
    assert len({round(float(head.view[1]), 6) for head in heads}) == len(heads)


def test_rotation_and_pose_are_the_cameras(model: HeadModel) -> None:
    view = np.array([0.1, -0.5, 0.07, 0.004, -0.003, 0.01])
    ours = mesh_module.rotation_matrix(view[:3])
    theirs = rotation_matrix(torch.from_numpy(view[None, :3]))[0].numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    points = mesh_module.frontal_mesh(sample_head(0, model), model)
    moved = transform(torch.from_numpy(points)[None].double(), torch.from_numpy(view)[None], CAMERA)
    np.testing.assert_allclose(mesh_module.posed(points, view), moved[0].numpy(), atol=2e-7)


def test_depth_turned_back_by_the_view_is_the_frontal_heads_depth(
    heads: list[Head], model: HeadModel, surface: Surface
) -> None:
    def misfit(head: Head, view: np.ndarray) -> float:
        frontal = replace(head.parameters, view=np.zeros(6))
        mesh = mesh_module.frontal_mesh(frontal, model)
        front = draw(frontal, mesh, model, surface, CameraConfig(size=64))
        points = unproject(torch.from_numpy(head.depth)[None], CAMERA)
        back = transform(points, torch.from_numpy(view)[None].float(), CAMERA, inverse=True)[0]
        back = back[torch.from_numpy(head.mask)]
        pixel = project(back, CAMERA)
        where = (pixel / 31.5 - 1)[None, None]
        depth = torch.from_numpy(front.depth)[None, None]
        seen = torch.from_numpy(front.mask)[None, None].float()
        there = functional.grid_sample(depth, where, align_corners=True).flatten()
        whole = functional.grid_sample(seen, where, align_corners=True).flatten() > 0.999
        return float((back[:, 2] - there)[whole].abs().median())

    turned = [head for head in heads if abs(head.view[1]) > 0.3][:4]
    assert len(turned) == 4
    for head in turned:
        wrong = head.view * [1, -1, 1, 1, 1, 1]
        assert misfit(head, head.view) < 2e-4
        assert misfit(head, wrong) > 3e-3


def test_normals_albedo_and_light_give_back_the_image(heads: list[Head]) -> None:
    depth = torch.from_numpy(np.stack([head.depth for head in heads]))
    mask = erode(torch.from_numpy(np.stack([head.mask for head in heads])))
    albedo, image = (
        torch.from_numpy(np.stack([getattr(head, name) for head in heads])).permute(0, 3, 1, 2)
        for name in ("albedo", "image")
    )
    light = torch.from_numpy(np.stack([head.light for head in heads])).float()

    def error(light: torch.Tensor) -> float:
        lit = shade(albedo * 2 - 1, normals_from_depth(depth, CAMERA), light) / 2 + 0.5
        return float((lit - image).abs().mean(1)[mask].mean())

    assert error(light) < 0.012
    assert error(light * torch.tensor([1, 1, -1, 1])) > 0.05
    assert error(light * torch.tensor([1, 1, 1, -1])) > 0.03


def test_depth_is_sampled_at_pixel_centres_not_averaged(model: HeadModel, surface: Surface) -> None:
    """Drawing at 127 pixels has the 64-pixel image's centres among its own."""
    for seed in (3, 4):
        small = draw_head(seed, model, 64)
        parameters, colours = small.parameters, small.parameters.colours
        mesh = grow_hair(
            mesh_module.frontal_mesh(parameters, model),
            surface.positions,
            surface.ear,
            surface.normals,
            colours.hairline,
            colours.hair_thickness,
        )
        points = mesh_module.posed(mesh, parameters.view)
        _, _, fine = rasterize(points, model.faces, 127, 1, Camera(127).focal)
        np.testing.assert_array_equal(fine[::2, ::2] > 0, small.mask)
        np.testing.assert_allclose(fine[::2, ::2][small.mask], small.depth[small.mask], rtol=1e-6)


def test_heads_stay_in_the_frame_and_the_depth_range(heads: list[Head]) -> None:
    for head in heads:
        assert head.image.min() >= 0
        assert head.image.max() <= 1
        assert 0.5 < head.mask.mean() < 0.9
        assert head.depth[head.mask].min() > 0.9
        assert head.depth.max() == np.float32(1.1)
        assert not head.image[0, 0].any() or head.mask[0, :8].any()
        columns = np.flatnonzero(head.mask[28:36].any(0))
        assert 16 < columns.mean() < 47


def test_a_head_that_leaves_the_frame_is_drawn_anew(model: HeadModel) -> None:
    redrawn = [head for head in draw_heads(range(24), model) if head.attempt > 0]
    assert redrawn
    first = sample_head(redrawn[0].seed, model, 0)
    assert not fits(mesh_module.frontal_mesh(first, model), first, model)
    shifted = replace(redrawn[0].parameters, view=np.add(redrawn[0].view, [0, 0, 0, 0, 0.03, 0]))
    assert not fits(mesh_module.frontal_mesh(shifted, model), shifted, model)


def test_poses_and_lights_follow_the_recipe(model: HeadModel) -> None:
    drawn = [sample_head(seed, model) for seed in range(600)]
    views = np.stack([head.view for head in drawn])
    np.testing.assert_allclose(views.std(0)[:3], [0.07, 0.32, 0.04], rtol=0.1)
    assert np.abs(views[:, 1]).max() <= 0.8
    assert not views[:, 5].any()
    lights = np.stack([head.light for head in drawn])
    assert np.abs(lights).max() < 1
    ambient, diffuse = lights[:, 0] / 2 + 0.5, lights[:, 1] / 2 + 0.5
    assert 0.35 <= ambient.min() < ambient.max() <= 0.6
    assert 0.45 <= diffuse.min() < diffuse.max() <= 0.85


def test_noise_is_smooth_centred_and_repeatable() -> None:
    at = np.random.RandomState(0).uniform(-50, 50, (4000, 3))
    values = np.array([noise(*p, 7) for p in at])
    assert abs(values.mean()) < 0.03
    assert np.abs(values).max() <= 1
    nearby = np.array([noise(*(p + 1e-4), 7) for p in at])
    assert np.abs(values - nearby).max() < 2e-3
    other = np.array([noise(*p, 8) for p in at])
    assert abs(np.corrcoef(values, other)[0, 1]) < 0.05
