"""Heads under other lights than those of their pictures.

Lights are given in the camera's frame, where the synthetic heads have theirs; the shapes' normals
are brought there by the run's own view. Ambient and diffuse strength count relative to the input's
true light, which every method is told: how bright a light is cannot be told from how bright the
object is, so a run may take all lights for stronger than they are, and all albedo for darker.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gan2shape.benchmark.manipulation.heads import Subjects
from gan2shape.benchmark.manipulation.identity import FULL, IdentityBudget
from gan2shape.benchmark.manipulation.scoring import Experiment, run_experiment
from gan2shape.benchmark.manipulation.table import Views
from gan2shape.benchmark.manipulation.tools import Show, Tools, load_tools
from gan2shape.pipeline.evaluation.gan_turning import light_directions
from gan2shape.pipeline.evaluation.picture_edits import moved_latents
from gan2shape.pipeline.scene.camera import rotation_matrix
from gan2shape.pipeline.scene.pictures import coverage, relight
from gan2shape.pipeline.scene.shading import light_like, turn_light

LIGHTS = {
    "left": (-0.2, 0.5, 0.8, 0.0),
    "right": (-0.2, 0.5, -0.8, 0.0),
    "above": (-0.2, 0.5, 0.0, 0.5),
    "dim": (-0.3, -0.1, 0.0, 0.0),
}
"""Where the light comes from: ambient and diffuse 0.4 and 0.75 (dim: 0.35 and 0.45, from the
front), and the direction that it travels in."""


def relighting(
    run_path: Path,
    gan: str,
    networks: str,
    out: Path,
    *,
    lpips: Path | None = None,
    limit: int | None = None,
    identity: IdentityBudget = FULL,
    cache: Path | None = None,
    show: Show = lambda stage, done, total: None,
) -> Views:
    """Relight the heads of a run by several methods and score them against true renderings.

    Writes `relighting.parquet` and `relighting.png` in `out`.
    Arguments and errors are those of `rotation`.
    """
    tools = load_tools(run_path, gan, networks, out, lpips, limit)
    return run_experiment(EXPERIMENT, tools, identity, cache, show)


def _relit(tools: Tools, subjects: Subjects, latents: Tensor, show: Show) -> dict[str, Tensor]:
    found = subjects.found
    depth, albedo, view, light = (found[name] for name in ("depth", "albedo", "view", "light"))
    own = turn_light(light, rotation_matrix(view[:, :3]))  # (B, 4), in the camera's frame
    wanted = [light_like(own, subjects.lights, torch.tensor(new)) for new in LIGHTS.values()]
    lights = torch.stack(wanted, dim=1)  # (B, K, 4)
    generator = tools.gan.generator
    vectors = tools.direction("light", lambda: light_directions(generator, tools.networks), show)
    steps = (lights - own[:, None]) @ vectors  # (B, K, D)
    shape = (depth, albedo, view, lights, tools.camera)
    filled = relight(*shape, with_camera=True, background=None)
    covered = coverage(depth, view, torch.zeros(1, 3), tools.camera)  # (B, 1, S, S)
    return {
        "mesh": relight(*shape, with_camera=True),
        "gan": tools.project(filled, covered.expand(-1, len(LIGHTS), -1, -1), latents),
        "linear": moved_latents(generator, latents, steps, tools.camera.size),
    }


EXPERIMENT = Experiment(
    name="relighting",
    changes=tuple(LIGHTS),
    titles=tuple(name.capitalize() for name in LIGHTS),
    meaning="light in the camera's frame",
    inputs_at=0,
    settings=LIGHTS,
    change=lambda sitter, number: sitter.relit(list(LIGHTS.values())[number]),
    edit=_relit,
)
