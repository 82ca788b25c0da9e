"""Turn a StyleGAN2's samples along the direction of yaw in its latents."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch

from gan2shape.jobs.cluster.local import visible_gpus
from gan2shape.jobs.gan.samples import MOST_SEEDS
from gan2shape.jobs.pictures import write_grid
from gan2shape.jobs.synthetic import parse_seeds
from gan2shape.jobs.weights.files import CheckpointError
from gan2shape.jobs.weights.networks_file import load_networks
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.evaluation.gan_turning import (
    LABELLED,
    MEASURED,
    Turning,
    measure_turning,
    rows,
    yaw_direction,
)
from gan2shape.pipeline.networks.trained import NetworksError


def turn(
    weights: str,
    networks: str,
    out: Path,
    seeds: str = "0:8",
    degrees: float = 30.0,
    steps: int = 7,
    device: str = "auto",
    note: Callable[[str], None] = lambda text: None,
) -> Turning:
    """Draw a row for each of `seeds`: the sample, then turned from -degrees to degrees.

    The view network of `networks` tells the yaw. Raises `UserError` where weights, networks, seeds
    or the file do not fit.
    """
    numbers = parse_seeds(seeds)
    if len(numbers) * (steps + 1) > MOST_SEEDS:
        raise CheckpointError(
            f"--seeds {seeds} and --steps {steps} ask for more than {MOST_SEEDS} images."
        )
    if out.suffix.lower() != ".png" or not out.parent.is_dir():
        raise CheckpointError(f"{out} should be a .png file in an existing folder; change --out.")
    on = "cuda" if visible_gpus(device) else "cpu"
    generator = load_gan(weights, require_discriminator=False).to(on).generator
    shape = load_networks(networks).shape_networks().to(on)
    if shape.camera.size != generator.size:
        raise NetworksError(
            f"{networks} holds networks for {shape.camera.size} px images, but {weights} draws "
            f"{generator.size} px; give networks of that size with --networks."
        )
    note(f"yaw of {LABELLED} samples")
    try:
        direction = yaw_direction(generator, shape, LABELLED)
    except ValueError as error:
        raise NetworksError(
            f"The view network of {networks} sees the same yaw in all samples of {weights}; give "
            "networks that were trained on its category."
        ) from error
    limit = math.radians(degrees)
    yaws = torch.linspace(-limit, limit, steps, device=on)
    note(f"turning {MEASURED} others")
    found = measure_turning(generator, shape, direction, yaws, MEASURED)
    latents = torch.cat([generator.sample_latents(1, seed) for seed in numbers])
    pictures = list(rows(generator, shape, direction.vector, latents, yaws))
    write_grid(out, torch.cat(pictures).cpu(), steps + 1)
    return found


def turning_rows(found: Turning, degrees: float) -> list[tuple[str, str]]:
    """Name and value of what there is to tell, in the order to print them."""
    changes = ", ".join(f"{name} {share:.0%}" for name, share in found.changes.items())
    return [
        ("R^2", f"{found.r2:.3f} of the yaw is linear in W ({LABELLED} samples, cross-validated)"),
        (
            "slope",
            f"{found.slope:.2f} degrees seen for a degree asked, from {-degrees:g} to {degrees:g} "
            f"({MEASURED} other samples)",
        ),
        ("correlation", f"{found.correlation:.3f} of the yaw seen with the yaw asked"),
        ("also changed", f"{changes} of the difference of two samples"),
    ]
