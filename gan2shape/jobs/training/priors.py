"""Estimate the priors of a folder of images: how views and lights are spread over them.

The folder of the estimation is a work directory. It also holds:

    priors.yaml    view_prior and light_prior as settings take them, and where they come from
    priors.html    what the networks see in the images, the Gaussians, the truth where it is known
    rounds.json    the Gaussians after each round
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml

from gan2shape.jobs.files import write_whole
from gan2shape.jobs.progress import Note, Show, steps_of
from gan2shape.jobs.training.priors_page import (
    distributions,
    read_truth,
    table,
    write_priors_page,
)
from gan2shape.jobs.training.processes import Compute
from gan2shape.jobs.training.step_states import StepStates
from gan2shape.jobs.training.training_set import TrainingImages, TrainingSet, load_training_set
from gan2shape.jobs.training.workdir import WorkDirectory, rounded, work_directory
from gan2shape.jobs.weights.stylegan2_file import check_gan_size, load_gan
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.pipeline.training.priors import Gaussians, Priors, estimate_priors
from gan2shape.schemas.settings import RunConfig

PRIORS = "priors"
RESULT, PAGE, ROUNDS = "priors.yaml", "priors.html", "rounds.json"


@dataclass(frozen=True)
class PriorsEstimation:
    """What an estimation of priors is asked for."""

    images: TrainingImages
    gan: str
    out: Path
    config: RunConfig
    rounds: int = 6
    """At most so many; more may be asked for when the estimation goes on."""
    compute: Compute = field(default_factory=Compute)


def find_priors(request: PriorsEstimation, show: Show, note: Note) -> Path:
    """Estimate the priors, or go on after the last step that is done; returns priors.yaml.

    Interrupted or killed, it loses the step under way. Raises `UserError` for what the user can put
    right: paths, weights, settings that do not fit, a directory that holds other work.
    """
    request.compute.prepare()
    gan = load_gan(request.gan)
    check_gan_size(gan, request.config.camera.size)
    found = request.images.find(gan.generator.style_dim)
    fixed = found.fixed(gan, request.config)
    about = {"source": request.images.source, "gan": request.gan, "rounds": request.rounds}
    result = request.out / RESULT
    with work_directory(request.out, "priors", fixed, about) as work:
        done = work.finished()
        if done and (done["stable"] or done["rounds"] >= request.rounds) and result.exists():
            note(f"{request.out} is finished already")
            return result
        priors = _estimate(request, found, gan, work, show, note)
        _write(request, _origin(request, found, gan), priors, note)
        work.finish(rounds=len(priors.rounds), stable=priors.stable)
        if priors.stable:
            work.clear_checkpoints()
    return result


def _estimate(
    request: PriorsEstimation,
    found: TrainingSet,
    gan: Gan,
    work: WorkDirectory,
    show: Show,
    note: Note,
) -> Priors:
    config, device = request.config, request.compute.device
    checkpoints = work.checkpoints()
    gan = gan.to(device)
    targets = load_training_set(found, gan, config, device, checkpoints, show, note)
    states = StepStates(checkpoints)
    state = states.last()
    if state is not None:
        note(f"going on after {state['steps']} steps")

    def on_round(fits: Sequence[Gaussians]) -> None:
        rows = [{"round": n, **asdict(fit)} for n, fit in enumerate(fits, 1)]
        text = json.dumps(rounded(rows), indent=1) + "\n"
        write_whole(work.path / ROUNDS, text.encode())
        std, degrees = fits[-1].view_std, 180 / torch.pi
        note(
            f"round {len(fits)}: standard deviation of pitch {std[0] * degrees:.1f}°, yaw "
            f"{std[1] * degrees:.1f}°, roll {std[2] * degrees:.1f}°"
        )

    return estimate_priors(
        targets,
        gan,
        config,
        request.rounds,
        state=state,
        on_progress=steps_of(show, PRIORS),
        on_round=on_round,
        on_checkpoint=states.save,
    )


def _origin(request: PriorsEstimation, found: TrainingSet, gan: Gan) -> dict[str, Any]:
    """Where priors come from, for people."""
    return {
        "source": request.images.source,
        "images": len(found),
        "images_sha256": found.sha256,
        "masks": request.images.masks,
        "latents": request.images.latents,
        "gan": {"source": request.gan, "sha256": gan.sha256},
        "recipe": request.config.recipe,
        "settings_sha256": request.config.digest(),
        "seed": request.config.seed,
        "version": metadata.version("gan2shape"),
    }


def _write(request: PriorsEstimation, origin: dict[str, Any], result: Priors, note: Note) -> None:
    out, truth = request.out, read_truth(request.images.source, result.ids)
    found = distributions(result, truth)
    for line in table(found).text.to_string().splitlines():
        note(line)
    if not result.stable:
        note(
            f"the Gaussians still changed in round {len(result.rounds)}; take them with care, or "
            "give the same command with more --rounds to go on"
        )
    write_priors_page(out / PAGE, result, found, origin)
    fit = result.rounds[-1]
    figures = {item.component.name: item.figures() for item in found}
    tree = {
        "view_prior": {"mean": list(fit.view_mean), "std": list(fit.view_std)},
        "light_prior": {"mean": list(fit.light_mean), "std": list(fit.light_std)},
        "provenance": origin
        | {"images_used": len(result.ids), "rounds": len(result.rounds), "stable": result.stable}
        | ({} if truth is None else {"against_truth": figures}),
    }
    write_whole(out / RESULT, yaml.safe_dump(rounded(tree), sort_keys=False).encode())
