"""Heads turned from where their pictures show them: the paper's face rotation.

Every method is told by how much the yaw changes, and nothing else. The light turns with the head,
as in the paper's formation.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from gan2shape.benchmark.manipulation.heads import Subjects
from gan2shape.benchmark.manipulation.identity import FULL, IdentityBudget
from gan2shape.benchmark.manipulation.scoring import Experiment, run_experiment
from gan2shape.benchmark.manipulation.table import Views
from gan2shape.benchmark.manipulation.tools import Show, Tools, load_tools
from gan2shape.pipeline.evaluation.gan_turning import yaw_direction
from gan2shape.pipeline.evaluation.picture_edits import moved_latents, turned_card
from gan2shape.pipeline.scene.pictures import coverage, turn

DEGREES = (-30, -20, -10, 10, 20, 30)


def rotation(
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
    """Turn the heads of a run by several methods and score them against true renderings.

    Writes `rotation.parquet` and `rotation.png` in `out`; where they are finished, they are read.
    Interrupted at any moment, it goes on after the last heads that were scored.

    Args:
        run_path: run on heads of 'gan2shape synth heads', all of whose results are used.
        gan: the weights that the run was made with.
        networks: networks with an offset encoder for this GAN.
        lpips: VGG16-LPIPS weights, for one more score.
        limit: only the first heads with a result.
        identity: what the network behind the score of identity learns from.
        cache: folder that keeps this network; the user's cache folder unless given.
        show: called with (what is being done, done, in all).
    Raises:
        UserError: the run, the weights and the networks do not fit each other, or the run's images
            are no synthetic heads.
    """
    tools = load_tools(run_path, gan, networks, out, lpips, limit)
    return run_experiment(EXPERIMENT, tools, identity, cache, show)


def _turned(tools: Tools, subjects: Subjects, latents: Tensor, show: Show) -> dict[str, Tensor]:
    found = subjects.found
    yaws = torch.tensor([math.radians(degrees) for degrees in DEGREES])
    rotations = torch.stack([torch.zeros_like(yaws), yaws, torch.zeros_like(yaws)], dim=1)
    shape = (found["depth"], found["albedo"], found["view"], found["light"], rotations)
    generator = tools.gan.generator
    vector = tools.direction("yaw", lambda: [yaw_direction(generator, tools.networks)], show)[0]
    steps = (yaws[:, None] * vector).expand(len(latents), -1, -1)  # (B, K, D)
    filled = turn(*shape, tools.camera, background=None)
    covered = coverage(found["depth"], found["view"], rotations, tools.camera)
    return {
        "mesh": turn(*shape, tools.camera),
        "gan": tools.project(filled, covered, latents),
        "linear": moved_latents(generator, latents, steps, tools.camera.size),
        "card": turned_card(subjects.images, yaws, tools.camera),
    }


EXPERIMENT = Experiment(
    name="rotation",
    changes=tuple(str(degrees) for degrees in DEGREES),
    titles=tuple(f"{degrees:+d}°" for degrees in DEGREES),
    meaning="degrees of yaw from the input",
    inputs_at=len(DEGREES) // 2,
    settings=DEGREES,
    change=lambda sitter, number: sitter.turned(math.radians(DEGREES[number])),
    edit=_turned,
)
