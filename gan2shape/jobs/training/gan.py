"""Train a StyleGAN2 on a folder of images.

The folder of the training is a work directory. It also holds:

    gan.safetensors   averaged generator and discriminator, as of the last checkpoint
    samples/          real.png, and the same latents through the averaged generator over time
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gan2shape.jobs.gan.samples import write_weights
from gan2shape.jobs.inputs.scan import scan
from gan2shape.jobs.pictures import COLUMNS, write_grid
from gan2shape.jobs.progress import Note, Show
from gan2shape.jobs.training.arrays import Pixels, read_images, subset, to_images
from gan2shape.jobs.training.gan_quality import PART, RealImages
from gan2shape.jobs.training.loop import Intervals, Training, run_loop
from gan2shape.jobs.training.processes import Compute
from gan2shape.jobs.training.workdir import work_directory
from gan2shape.jobs.weights.inception_file import load_inception
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.seeds import GRID_LATENTS, QUALITY_LATENTS
from gan2shape.pipeline.stylegan2.training.trainer import Trainer, TrainingError, spread_seed
from gan2shape.schemas.gan_training import ARCHITECTURE, GanTrainingConfig, default_channels

WEIGHTS, SAMPLES = "gan.safetensors", "samples"
GRID = COLUMNS**2
FIXED = (*ARCHITECTURE, "seed")
"""Settings that may not change when a training goes on; all others may."""


@dataclass(frozen=True)
class GanTraining:
    """What a GAN training is asked for."""

    source: str
    out: Path
    config: GanTrainingConfig
    init: str | None = None
    """Weights to begin with: a file, or a packaged name."""
    inception: Path | None = None
    """Inception weights, for the log to have the FID too."""
    intervals: Intervals = field(default_factory=Intervals)
    compute: Compute = field(default_factory=Compute)


def architecture(asked: dict[str, Any], init: str | None) -> dict[str, Any]:
    """Settings of a training, with the sizes of the weights `init` where there are any.

    Without them, `channels` that are not in `asked` follow from the size. Raises `TrainingError`
    where `asked` contradicts the weights.
    """
    if init is None:
        return {"channels": default_channels(asked.get("size", 64))} | asked
    generator = load_gan(init).generator
    given: dict[str, Any] = {
        "size": generator.size,
        "style_dim": generator.style_dim,
        "mapping_layers": generator.mapping_depth,
        "channels": tuple(width for _, width in sorted(generator.channels.items())),
    }
    for name, value in given.items():
        if asked.get(name, value) != value:
            theirs, wanted = (
                "/".join(map(str, each)) if isinstance(each, tuple) else each
                for each in (value, asked[name])
            )
            raise TrainingError(
                f"{init} has {name.replace('_', ' ')} {theirs}, not {wanted}; leave out "
                f"--{name.replace('_', '-')} or --init."
            )
    return asked | given


def train_gan(request: GanTraining, show: Show, note: Note) -> Path:
    """Train, or go on where the last checkpoint is; returns the weights file.

    Interrupted (SIGINT, SIGTERM), it saves a checkpoint and raises `KeyboardInterrupt`; killed, it
    loses what came after the last one. Raises `UserError` when the images, the settings or the
    directory do not fit.
    """
    config, out = request.config, request.out
    request.compute.prepare()
    device = request.compute.device
    initial = None if request.init is None else load_gan(request.init)
    inception = None if request.inception is None else load_inception(request.inception, device)
    scan(request.source)  # its errors before anything is made
    settings = config.model_dump(mode="json")
    about = {
        "source": request.source,
        "init": initial and {"source": request.init, "sha256": initial.sha256},
        "settings": settings,
    }
    with work_directory(out, "gan", {name: settings[name] for name in FIXED}, about) as work:
        done = work.finished()
        if done and done["images"] >= config.images and (out / WEIGHTS).exists():
            note(f"{out} is finished already")
            return out / WEIGHTS
        found = read_images(request.source, config.size, work.cache, note)
        trainer = Trainer(config, device, initial)
        real = RealImages(found, work.cache, inception, note)
        training = _GanTraining(config, trainer, found.values, real, out, note)
        run_loop(training, work, request.intervals, show, note)
    return out / WEIGHTS


class _GanTraining(Training):
    """A GAN training as the loop sees it."""

    name = "GAN"
    remedy = "Give a lower --learning-rate or a higher --r1."

    def __init__(
        self,
        config: GanTrainingConfig,
        trainer: Trainer,
        pixels: Pixels,
        real: RealImages,
        out: Path,
        note: Note,
    ) -> None:
        self.config = config
        self.trainer = trainer
        self.pixels = pixels
        self.count = len(pixels)
        self.result = out / WEIGHTS
        self.real, self.samples, self.note = real, out / SAMPLES, note
        self.samples.mkdir(exist_ok=True)
        if not (self.samples / "real.png").exists():
            self._write("real", to_images(pixels[subset(len(pixels), GRID)]))

    def step(self, rows: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        return self.trainer.step(to_images(self.pixels[rows]))

    def figures(self, means: dict[str, float]) -> dict[str, float]:
        return means | {"p": self.trainer.p}

    def words(self, figures: dict[str, float]) -> str:
        augmented = f", augmented {figures['p']:.0%}" if figures["p"] else ""
        return f"losses D {figures['d']:.2f} G {figures['g']:.2f}{augmented}, images"

    def judge(self) -> dict[str, Any]:
        images = self.trainer.images
        self._write(f"{images:08d}", self.trainer.sample(self._latents(GRID, GRID_LATENTS)))
        quality, fid = self.real.wasserstein(self._draw), self.real.fid(self._draw)
        self.note(judgement(images, quality, fid))
        return (
            {"quality": quality}
            | ({} if fid is None else {"fid": fid})
            | ({} if images else {"quality_of_real_images": self.real.wasserstein_of_others()})
        )

    def finite(self) -> bool:
        return all(bool(torch.isfinite(p).all()) for p in self.trainer.average.parameters())

    def save(self) -> None:
        write_weights(self.result, self.trainer.gan())

    def _draw(self, count: int) -> Iterable[Tensor]:
        latents = self._latents(count, QUALITY_LATENTS)
        return (self.trainer.sample(part) for part in latents.split(PART))

    def _latents(self, count: int, purpose: int) -> Tensor:
        """z (count, D), the same every time."""
        random = torch.Generator().manual_seed(spread_seed(self.config.seed, purpose))
        return torch.randn(count, self.trainer.config.style_dim, generator=random)

    def _write(self, name: str, images: Tensor) -> None:
        write_grid(self.samples / f"{name}.png", images)


def judgement(images: int, quality: dict[str, float], fid: float | None) -> str:
    """The quality figures after so many images, in a sentence."""
    levels = ", ".join(f"{name} {value:.0f}" for name, value in quality.items() if name != "mean")
    mean = quality.get("mean", float("nan"))
    more = "" if fid is None else f", FID {fid:.1f}"
    return f"after {images} images: sliced Wasserstein distance {mean:.0f} ({levels}){more}"
