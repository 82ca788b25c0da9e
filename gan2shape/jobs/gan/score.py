"""Measure any StyleGAN2 against any images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.table import Table
from torch import Tensor

from gan2shape.jobs.cluster.local import visible_gpus
from gan2shape.jobs.training.arrays import read_images
from gan2shape.jobs.training.gan_quality import FID_IMAGES, PART, QUALITY_IMAGES, RealImages
from gan2shape.jobs.training.workdir import Cache
from gan2shape.jobs.weights.inception_file import load_inception
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.stylegan2.gan import Gan

SEED = 0
"""Of the samples' latents."""


@dataclass(frozen=True)
class Score:
    """Figures of samples, and of other real images where the folder has enough of them."""

    images: int
    """So many samples against so many real images."""
    wasserstein: dict[str, float]
    wasserstein_of_real: dict[str, float] | None
    fid_images: int
    fid: float | None
    fid_of_real: float | None


def score(
    weights: str,
    source: str,
    inception: Path | None = None,
    images: int | None = None,
    device: str = "auto",
    note: Callable[[str], None] = lambda text: None,
) -> Score:
    """Compare samples of the GAN `weights` with the images of `source`, brought to its size.

    `images` is how many of each, at most all that there are; by default 1,024, and 10,000 for FID.
    Raises `UserError` where the weights, the images or the device do not fit.
    """
    on = "cuda" if visible_gpus(device) else "cpu"
    gan = load_gan(weights, require_discriminator=False).to(on)
    network = None if inception is None else load_inception(inception, on)
    most = images or (FID_IMAGES if network else QUALITY_IMAGES)
    with tempfile.TemporaryDirectory() as scratch:
        cache = Cache(Path(scratch))
        found = read_images(source, gan.generator.size, cache, note, 2 * most)
        real = RealImages(found, cache, network, note, images)
        return Score(
            images=real.count,
            wasserstein=real.wasserstein(partial(_samples, gan)),
            wasserstein_of_real=real.wasserstein_of_others(),
            fid_images=real.fid_count,
            fid=real.fid(partial(_samples, gan)),
            fid_of_real=real.fid_of_others(),
        )


def _samples(gan: Gan, count: int) -> Iterator[Tensor]:
    for part in gan.generator.sample_latents(count, SEED).split(PART):
        yield gan.generator(part).clamp(-1, 1).cpu()


def score_table(found: Score) -> Table:
    """What `gan2shape gan score` prints."""
    title = f"{found.images:,} samples against {found.images:,} images"
    if found.fid is not None and found.fid_images != found.images:
        title += f", {found.fid_images:,} for FID"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for name in ("samples", "other real images"):
        table.add_column(name, justify="right")
    other = found.wasserstein_of_real or {}
    for name, value in found.wasserstein.items():
        table.add_row(f"sliced Wasserstein, {name}", _number(value), _number(other.get(name)))
    if found.fid is not None:
        table.add_row("FID", _number(found.fid), _number(found.fid_of_real))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
