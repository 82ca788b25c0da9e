"""The optimisation end to end on real heads: it finds shapes that a plane does not come near."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gan2shape.jobs.inputs.images import load_depth, load_image, load_mask
from gan2shape.jobs.weights.networks_file import load_networks
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.evaluation.reference_depths import constant_depth
from gan2shape.pipeline.perceptual.inversion import invert
from gan2shape.pipeline.reconstruct import Shapes, Targets, reconstruct
from gan2shape.pipeline.scene.camera import YAW, Camera
from gan2shape.pipeline.scene.metrics import depth_metrics
from gan2shape.pipeline.scene.render import render_depth
from gan2shape.schemas.load import load_settings
from gan2shape.schemas.settings import CameraConfig

HEADS = Path(__file__).parents[2] / "examples" / "heads64"
IDS = ["300001", "300002"]
"""One is turned to the left, one to the right."""
CAMERA = Camera.from_config(CameraConfig(size=64))
SETTINGS: dict[str, Any] = {
    "optimization.cycles": [{"step1": 2, "step2": 4, "step3": 25, "background_weight": 0}],
    "optimization.batch": 2,
    "optimization.images_per_batch": 2,
    "optimization.projected_samples": 8,
    "optimization.turn_calibration_iterations": 0,
    "optimization.perceptual_weight": 0.0,
    "optimization.learning_rates.depth": 0.001,
    "inversion.iterations": 5,
    "inversion.start_samples": 32,
    "precision": "float32",
}
FLATTER = 0.4
"""On the last layer of the depth network: the optimisation has something to find again."""


def files(kind: str, ending: str) -> list[str]:
    return [str(HEADS / kind / f"{name}.{ending}") for name in IDS]


@pytest.fixture(scope="module")
def heads() -> Targets:
    images = np.stack([load_image(file, 64).pixels for file in files("image", "png")])
    masks = np.stack([load_mask(file, 64) for file in files("mask", "png")]).astype(np.float32)
    channels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous() * 2 - 1
    return Targets(IDS, channels, torch.from_numpy(masks), None)


@pytest.fixture(scope="module")
def found(heads: Targets) -> Shapes:
    gan, networks = load_gan("heads64"), load_networks("heads64").with_teachers([])
    head = "depth_net.head.weight"
    flat = networks.parameters | {head: FLATTER * networks.parameters[head]}
    own = {"networks": networks.networks.model_dump()}
    config = load_settings("heads", "refine", priors="heads64", overrides=SETTINGS | own)
    place = (gan, heads.images, config.inversion)
    latents = invert(*place, masks=heads.masks, precision="float32").latents
    start = replace(networks, parameters=flat)
    return reconstruct(replace(heads, latents=latents), gan, config, pretrained=start)


def right(depth: Tensor, covered: Tensor, heads: Targets) -> bool:
    """Whether depths (N, S, S), as seen in the inputs, are those of the heads.

    On three seeds the optimisation came to SIDE 0.0093 to 0.0098 and MAD 17.9 to 18.7 degrees, from
    0.0192 and 25.8. The plane has 0.0232 and 41.6, heads turned to the other side 0.0192 to 0.0232
    and 30.1 to 31.3.
    """
    truth = torch.from_numpy(np.stack([load_depth(file, 64) for file in files("depth", "tiff")]))
    inside = torch.isfinite(truth) & (heads.masks > 0)
    truth = torch.where(inside, truth, CAMERA.max_depth)
    scores = depth_metrics(depth, covered, truth, inside.float(), CAMERA)
    return bool(scores.side.mean() < 0.013) and bool(scores.mad_degrees.mean() < 22)


def test_heads_are_found_and_nothing_else_passes_for_them(found: Shapes, heads: Targets) -> None:
    assert found.failures == [None, None]
    seen, covered = render_depth(found.depth, found.view, CAMERA)
    assert right(seen, covered, heads)
    assert not right(constant_depth(CAMERA, 2), torch.ones_like(covered), heads)
    assert not right(seen.flip(-1), covered.flip(-1), heads)
    other_way = found.view.clone()
    other_way[:, YAW] *= -1
    assert not right(*render_depth(found.depth, other_way, CAMERA), heads)
    inside_out = CAMERA.min_depth + CAMERA.max_depth - seen
    assert not right(inside_out, covered, heads)
