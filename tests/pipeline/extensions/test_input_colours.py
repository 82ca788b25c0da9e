"""Albedo from inputs: right where the input shows it, by symmetry (if any) where it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.extensions.input_colours import with_input_colours
from gan2shape.pipeline.method.estimate import Estimate, render
from gan2shape.pipeline.method.group import Group, new_group
from gan2shape.pipeline.reconstruct import variant_of
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.shape import Shape
from gan2shape.schemas.settings import CameraConfig, RunConfig
from tests.pipeline.gan_targets import gan_targets
from tests.pipeline.shapes import depth_map, symmetric_albedo

CAMERA = Camera.from_config(CameraConfig(size=64))
LIGHT = torch.tensor([[0.0, 0.4, 0.3, 0.1]])


def corrected(yaw: float, symmetric: bool = True) -> tuple[Tensor, Tensor]:
    """True albedo, and grey albedo corrected by an input seen under `yaw`."""
    depth = depth_map("bump", CAMERA, 1).float()
    true = Shape.of(depth, symmetric_albedo(CAMERA), CAMERA)
    view = torch.tensor([[0.0, yaw, 0.0, 0.0, 0.0, 0.0]])
    seen = true.render(view, LIGHT, CAMERA).image
    grey = replace(true, albedo=torch.zeros_like(true.albedo))
    masks = torch.ones_like(depth)
    found = with_input_colours(grey, view, LIGHT, seen, masks, CAMERA, symmetric=symmetric)
    return true.albedo, found.albedo


@pytest.mark.parametrize("yaw", [0.0, 0.6, -0.6])
def test_it_finds_what_the_input_shows_and_its_mirror_image(yaw: float) -> None:
    albedo, found = corrected(yaw)
    inside = slice(6, -6)
    error = (found - albedo)[..., inside, inside].abs()
    assert error.mean() < 0.03
    assert error.mean() < 0.12 * albedo[..., inside, inside].abs().mean()


def test_without_symmetry_a_hidden_side_stays_as_it_is() -> None:
    mirrored, plain = (corrected(0.6, symmetric)[1].squeeze(0) for symmetric in (True, False))
    changed = (mirrored - plain).abs().amax(0) > 0.05
    assert changed.any()
    assert plain[:, changed].abs().mean() < 0.5 * mirrored[:, changed].abs().mean()


def test_what_nothing_shows_stays() -> None:
    depth = depth_map("plane", CAMERA, 1).float()
    albedo = symmetric_albedo(CAMERA)
    masks = torch.ones_like(depth)
    masks[:, :32] = 0
    shapes = Shape.of(depth, albedo, CAMERA)
    white = torch.ones_like(albedo)
    view = torch.zeros(1, 6)
    found = with_input_colours(shapes, view, LIGHT, white, masks, CAMERA, symmetric=True).albedo
    torch.testing.assert_close(found[..., :30, :], albedo[..., :30, :])
    assert (found[..., 34:-1, 1:-1] > albedo[..., 34:-1, 1:-1] + 0.1).all()


def test_pseudo_samples_have_input_colours_where_the_settings_say_so() -> None:
    gan = load_gan("heads64")
    targets = gan_targets(gan, "ab")
    images = targets.images

    def made(albedo: str) -> Group:
        settings: dict[str, Any] = {
            "networks": {"width": 8},
            "view_prior": {"std": [0.0] * 6},
            "optimization": {"pseudo_albedo": albedo, "feature_blocks": 1},
            "precision": "float32",
        }
        config = RunConfig.model_validate(settings)
        return new_group(targets, gan, config, variant=variant_of(config))

    plain, coloured = (Estimate(made(albedo)) for albedo in ("network", "input"))
    assert plain.pseudo_shapes is plain.shapes
    torch.testing.assert_close(coloured.pseudo_shapes.depth, plain.shapes.depth)
    index = torch.arange(2)
    errors = []
    for estimate in (plain, coloured):
        group = estimate.group
        estimate.view = torch.zeros(2, 6)
        seen = render(group, estimate.pseudo_shapes, estimate.view, estimate.light)
        errors.append((seen.image - images)[targets.masks[:, None].expand_as(images) > 0].abs())
        assert estimate.pseudo_samples(index)[0].image.shape == images.shape
    assert errors[1].mean() < 0.5 * errors[0].mean()
