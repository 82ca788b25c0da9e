"""Prediction at a StyleGAN2 and carry it from one file format to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan2shape.jobs.files import replacing
from gan2shape.jobs.pictures import COLUMNS, write_grid
from gan2shape.jobs.synthetic import parse_seeds
from gan2shape.jobs.weights.files import CheckpointError
from gan2shape.jobs.weights.stylegan2_file import export_rosinality, load_gan, save_gan
from gan2shape.pipeline.stylegan2 import Discriminator, Gan, Generator
from gan2shape.schemas.packaged import GAN_FILE, asset_path

MOST_SEEDS = 4096
BATCH = 16


def draw(
    source: str,
    out: Path,
    seeds: str = "0:64",
    truncation: float = 1.0,
    interpolate: int | None = None,
    columns: int = COLUMNS,
) -> None:
    """Write a picture of samples, or of interpolations in `interpolate` steps, of `seeds` "A:B".

    Raises `UserError` where the seeds, the file or the weights do not fit.
    """
    numbers = list(parse_seeds(seeds))
    if len(numbers) > MOST_SEEDS:
        raise CheckpointError(f"--seeds {seeds} asks for more than {MOST_SEEDS} images.")
    if out.suffix.lower() != ".png" or not out.parent.is_dir():
        raise CheckpointError(f"{out} should be a .png file in an existing folder; change --out.")
    gan = load_gan(source, require_discriminator=False)
    if interpolate is None:
        write_grid(out, sample_grid(gan, numbers, truncation), columns)
        return
    if len(numbers) < 2:
        raise CheckpointError(f"--seeds {seeds} is one seed; --interpolate needs two or more.")
    write_grid(out, interpolation_grid(gan, numbers, interpolate, truncation), interpolate)


@torch.no_grad()
def sample_grid(gan: Gan, seeds: list[int], truncation: float = 1.0) -> Tensor:
    """One image for each seed: (N, 3, S, S). `truncation` < 1 pulls latents towards their mean."""
    return _draw(gan, _latents(gan, seeds, truncation))


@torch.no_grad()
def interpolation_grid(gan: Gan, seeds: list[int], steps: int, truncation: float = 1.0) -> Tensor:
    """Straight lines in W from each seed to the next, `steps` images each: rows of a grid.

    Returns ((len(seeds) - 1) * steps, 3, S, S).
    """
    ends = _latents(gan, seeds, truncation)
    share = torch.linspace(0, 1, steps)[None, :, None].to(ends)
    lines = torch.lerp(ends[:-1, None], ends[1:, None], share)  # (N - 1, steps, D)
    return _draw(gan, lines.flatten(0, 1))


def write_weights(path: Path, gan: Gan, half: bool = False) -> None:
    """Write weights in our own format (see `save_gan`); readers see the old file or the new one."""
    with replacing(path) as file:
        temporary = Path(file.name)
        save_gan(gan, temporary, half=half)
        temporary.chmod(0o644)  # safetensors makes files that only their owner reads


def convert(source: str, target: Path, half: bool = False) -> None:
    """Write the weights of `source` (any format that `load_gan` reads) in the format of `target`.

    `.safetensors` is our own format (in half precision with `half`), `.pt` that of the rosinality
    port; a generator alone stays alone. Raises `CheckpointError`.
    """
    if target.suffix not in (".pt", ".safetensors"):
        raise CheckpointError(
            f"{target} should end in .safetensors (our format) or .pt (rosinality's)."
        )
    if target.is_dir() or not target.parent.is_dir():
        raise CheckpointError(f"{target} cannot be written; name a file in an existing folder.")
    gan = load_gan(source, require_discriminator=False)
    if target.suffix == ".safetensors":
        write_weights(target, gan, half)
        return
    if half:
        raise CheckpointError(f"--half is for .safetensors files, and {target} is none.")
    with replacing(target) as file:
        export_rosinality(gan, Path(file.name))


def describe(source: str) -> list[tuple[str, str]]:
    """Name and value of what there is to know of a checkpoint, in the order to print them."""
    gan = load_gan(source, require_discriminator=False)
    path = asset_path(source, GAN_FILE)
    generator, discriminator = gan.generator, gan.discriminator
    kind = "safetensors, our own" if path.suffix == ".safetensors" else ".pt, rosinality's names"
    rows = [
        ("file", str(path)),
        ("format", f"{kind}, {path.stat().st_size / 1e6:.1f} MB"),
        ("sha256", gan.sha256),
        ("image size", f"{generator.size} x {generator.size}"),
        (
            "latent",
            f"{generator.style_dim} numbers, {generator.mapping_depth} mapping layers, "
            f"{generator.num_layers} inputs",
        ),
        ("generator", f"{_count(generator)} parameters, channels {_widths(generator.channels)}"),
    ]
    if discriminator is None:
        rows.append(("discriminator", "none (reconstruction needs one for its losses)"))
    else:
        widths = _widths(discriminator.channels)
        rows.append(("discriminator", f"{_count(discriminator)} parameters, channels {widths}"))
    rows.append(("mean latent", "stored" if gan.latent_avg is not None else "estimated when used"))
    rows += _spread(gan)
    return rows


@torch.no_grad()
def _spread(gan: Gan) -> list[tuple[str, str]]:
    """Whether samples differ: the one sign of trouble that shows without other images."""
    images = _draw(gan, gan.generator.sample_latents(2 * BATCH, 0))
    low, high = float(images.min()), float(images.max())
    spread = float(images.std(dim=0).mean())
    verdict = "" if spread > 0.02 else ": samples are nearly alike, the generator has collapsed"
    return [
        ("values", f"{low:.2f} to {high:.2f} in {2 * BATCH} samples"),
        ("variety", f"{spread:.3f}, mean spread of a pixel over samples{verdict}"),
    ]


def _latents(gan: Gan, seeds: list[int], truncation: float) -> Tensor:
    """w (N, D), each of its own seed."""
    latents = torch.cat([gan.generator.sample_latents(1, seed) for seed in seeds])
    if truncation == 1.0:
        return latents
    mean = gan.latent_avg if gan.latent_avg is not None else gan.generator.mean_latent()
    return torch.lerp(mean.to(latents), latents, truncation)


def _draw(gan: Gan, latents: Tensor) -> Tensor:
    images = [gan.generator(part).clamp(-1, 1).cpu() for part in latents.split(BATCH)]
    return torch.cat(images)


def _count(network: Generator | Discriminator) -> str:
    return f"{sum(p.numel() for p in network.parameters()):,}"


def _widths(channels: Any) -> str:
    return ", ".join(f"{side}: {width}" for side, width in sorted(channels.items()))
