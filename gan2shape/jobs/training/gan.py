"""Train a StyleGAN2 on a folder of images: data set, loop, checkpoints, sample grids, log.

The training directory:

    training.yaml     settings, data and initial weights
    dataset.npy       the images as uint8 (N, S, S, 3), read once
    state.ckpt        all that training goes on from; replaced every few minutes
    gan.safetensors   averaged generator and discriminator, as of the last checkpoint
    log.jsonl         one row of figures every so many images
    samples/          real.png, and the same latents through the averaged generator over time
    fid-real.npz      statistics of the real images' Inception features, where FID is asked for
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan2shape.jobs.checkpoints import Checkpoints
from gan2shape.jobs.files import only_process, storage_error
from gan2shape.jobs.gan.samples import GRID, write_grid, write_weights
from gan2shape.jobs.training.gan_quality import PART, RealImages
from gan2shape.jobs.training.gan_request import Request, check_settings, resume_key, write_settings
from gan2shape.jobs.training.image_array import Pixels, dataset, subset, to_images
from gan2shape.jobs.training.loop import Means, Pace, Stop, append_row, trim_rows
from gan2shape.pipeline.seeds import GRID_LATENTS, QUALITY_LATENTS, batches, spread_seed
from gan2shape.pipeline.stylegan2.training.trainer import Trainer, TrainingError
from gan2shape.schemas.gan_training import GanTrainingConfig

STATE = "state"
WEIGHTS, LOG, SAMPLES, LOCK = "gan.safetensors", "log.jsonl", "samples", ".lock"


@dataclass(frozen=True)
class Status:
    """How far training is."""

    images: int
    total: int
    images_per_second: float | None
    figures: dict[str, float]
    """Means since the last report: losses, logits, probability of augmentation."""
    quality: dict[str, float] | None = None
    """Sliced Wasserstein distances, in the reports that have new ones."""
    fid: float | None = None
    """Fréchet Inception distance, beside them where Inception weights are given."""

    @property
    def seconds_left(self) -> float | None:
        if not self.images_per_second:
            return None
        return max(self.total - self.images, 0) / self.images_per_second


def train(
    request: Request,
    on_progress: Callable[[Status], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Path:
    """Train, or go on where the directory's last checkpoint is; returns the weights file.

    Interrupted (SIGINT, SIGTERM), it saves a checkpoint and raises `KeyboardInterrupt`; killed, it
    loses what came after the last one. Raises `TrainingError` or another `UserError` when the
    images, the settings or the directory do not fit.
    """
    out = request.out
    if out.exists() and not out.is_dir():
        raise TrainingError(f"{out} is a file; name a directory with --out.")
    out.mkdir(parents=True, exist_ok=True)
    busy = f"Another process trains in {out}; wait for it, stop it, or choose another --out."
    try:
        with only_process(out / LOCK, busy):
            _train(request, on_progress or (lambda status: None), on_note or (lambda text: None))
    except OSError as error:
        raise storage_error(error, out, "give the command again") or error from error
    return out / WEIGHTS


def _train(
    request: Request, on_progress: Callable[[Status], None], note: Callable[[str], None]
) -> None:
    config, out = request.config, request.out
    resumed = check_settings(request)
    data = dataset(request.source, config.size, out, note)
    (out / SAMPLES).mkdir(exist_ok=True)
    if not resumed or not (out / SAMPLES / "real.png").exists():
        write_grid(out / SAMPLES / "real.png", to_images(data[subset(len(data), GRID**2)]))
    trainer = Trainer(config, request.device, request.initial)
    checkpoints = Checkpoints(out, resume_key(config))
    state = checkpoints.load(STATE)
    checkpoints.sweep()
    if state is not None:
        trainer.restore(state)
        note(f"going on after {trainer.images} images")
    write_settings(request)
    trim_rows(out / LOG, trainer.images)
    real = RealImages(data, out, request.inception, note=note)
    _loop(request, trainer, data, real, checkpoints, on_progress)


def _loop(
    request: Request,
    trainer: Trainer,
    data: Pixels,
    real: RealImages,
    checkpoints: Checkpoints,
    show: Callable[[Status], None],
) -> None:
    config, out = request.config, request.out
    means = Means()
    z = _latents(GRID**2, config, GRID_LATENTS)
    stop = Stop()
    shown, saved = trainer.images, time.monotonic()
    pace = Pace(trainer.images)

    def due(every: int, before: int) -> bool:
        return before // every != trainer.images // every

    def save() -> None:
        nonlocal saved
        if not all(bool(torch.isfinite(p).all()) for p in trainer.average.parameters()):
            raise _diverged(trainer.images, out)
        checkpoints.save(STATE, trainer.state())
        write_weights(out / WEIGHTS, trainer.gan())
        saved = time.monotonic()

    def judge() -> dict[str, Any]:
        write_grid(out / SAMPLES / f"{trainer.images:08d}.png", trainer.sample(z))
        judged: dict[str, Any] = {"quality": real.wasserstein(draw)}
        return judged | ({"fid": real.fid(draw)} if real.inception else {})

    def draw(count: int) -> Iterable[Tensor]:
        latents = _latents(count, config, QUALITY_LATENTS)
        return (trainer.sample(part) for part in latents.split(PART))

    with stop:
        if trainer.images == 0:
            judged = judge()
            floor = {"quality_of_real_images": real.wasserstein_of_others()}
            append_row(out / LOG, {"images": 0} | judged | floor)
            show(Status(0, config.images, None, {}, **judged))
        for indices in batches(len(data), trainer.images, config.batch, config.seed):
            if trainer.images >= config.images or stop.asked:
                break
            before = trainer.images
            chosen = np.sort(indices.numpy())  # in the order of the disk
            figures = trainer.step(to_images(data[chosen]))
            means.add(figures)
            done = trainer.images >= config.images
            sampled = due(request.sample_images, before) or done
            if sampled or due(request.log_images, before):
                found = means.take()
                _check_finite(found, trainer.images, out)
                speed = pace(trainer.images)
                figures_now = found | {"p": trainer.p}
                judged = judge() if sampled else {}
                row = {"images": trainer.images, "images_per_second": speed, **figures_now}
                append_row(out / LOG, row | judged)
                show(Status(trainer.images, config.images, speed, figures_now, **judged))
                shown = trainer.images
            if sampled or time.monotonic() - saved > request.checkpoint_seconds:
                save()
        if stop.asked or not (out / WEIGHTS).exists() or shown != trainer.images:
            save()
    if stop.asked:
        raise KeyboardInterrupt


def _latents(count: int, config: GanTrainingConfig, purpose: int) -> Tensor:
    """z (count, D), the same every time."""
    random = torch.Generator().manual_seed(spread_seed(config.seed, purpose))
    return torch.randn(count, config.style_dim, generator=random)


def _check_finite(figures: dict[str, float], images: int, out: Path) -> None:
    if not all(np.isfinite(value) for value in figures.values()):
        raise _diverged(images, out)


def _diverged(images: int, out: Path) -> TrainingError:
    return TrainingError(
        f"Training diverged before {images} images (a loss or weight is not finite); give "
        f"the command again with a lower --lr or a higher --r1; it goes on from the checkpoint in "
        f"{out}."
    )
