"""Train networks on single images: the paper's baselines, or finetuning after joint training.

The folder of the training is a work directory. It also holds:

    networks.safetensors  the networks as of the last checkpoint
    pictures/             some images as the networks see them, over time
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gan2shape.jobs.files import write_whole
from gan2shape.jobs.inputs.scan import scan
from gan2shape.jobs.pictures import SHOWN, write_sheet
from gan2shape.jobs.progress import Note, Show
from gan2shape.jobs.training.arrays import Examples, read_examples, read_images, subset
from gan2shape.jobs.training.loop import Intervals, Training, run_loop
from gan2shape.jobs.training.processes import Compute
from gan2shape.jobs.training.workdir import Cache, work_directory
from gan2shape.jobs.weights.files import file_digest
from gan2shape.jobs.weights.lpips_file import load_lpips
from gan2shape.jobs.weights.networks_file import load_networks, networks_bytes
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.networks.trained import TrainedNetworks, check_gan
from gan2shape.pipeline.perceptual.losses import PerceptualLoss, discriminator_distance
from gan2shape.pipeline.perceptual.lpips import Lpips
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.pipeline.training import finetune, supervised, unsup3d
from gan2shape.pipeline.training.trainer import Batch, Trainer
from gan2shape.schemas.network_training import (
    CHANGEABLE,
    AnyBaseline,
    FinetuneConfig,
    SupervisedConfig,
)

NETWORKS, PICTURES = "networks.safetensors", "pictures"
VALIDATED = 64
"""Most images of the validation data that are scored."""


@dataclass(frozen=True)
class NetworkTraining:
    """What a training of networks on single images is asked for."""

    source: str
    out: Path
    config: AnyBaseline
    networks: str | None = None
    """What finetuning starts from: a file, or a packaged name."""
    teachers: tuple[str, ...] = ()
    """Networks whose shapes finetuning learns too."""
    gan: str | None = None
    """The perceptual loss compares images by the features of this GAN's discriminator."""
    lpips: Path | None = None
    """VGG16-LPIPS weights: the perceptual loss compares images by VGG16's features instead."""
    validation: str | None = None
    """Data set with true depth. Its first images are scored now and then."""
    intervals: Intervals = field(default_factory=lambda: Intervals(20_000, 1_000))
    compute: Compute = field(default_factory=Compute)


def inherited_settings(networks: str) -> dict[str, Any]:
    """The settings that finetuning takes over from the networks it starts from.

    Raises `NetworksError`.
    """
    initial = load_networks(networks)
    return {"networks": initial.networks, "camera": initial.camera}


def train_networks(request: NetworkTraining, show: Show, note: Note) -> Path:
    """Train, or go on where the last checkpoint is; returns the networks file.

    Interrupted (SIGINT, SIGTERM), it saves a checkpoint and raises `KeyboardInterrupt`; killed, it
    loses what came after the last one. Raises `UserError` when the images, the weights or the
    directory do not fit.
    """
    config, out = request.config, request.out
    request.compute.prepare()
    teachers = [load_networks(name) for name in request.teachers]
    trainer, perceptual = _trainer(request, teachers)
    settings = config.model_dump(mode="json")
    fixed = {
        "images_sha256": scan(request.source).ids_sha256,
        "perceptual": perceptual,
        "networks_sha256": trainer.initial and trainer.initial.sha256,
        "teachers": [teacher.sha256 for teacher in teachers],
        "settings": {name: value for name, value in settings.items() if name not in CHANGEABLE},
    }
    changeable = {name: settings[name] for name in CHANGEABLE}
    about = {"source": request.source, "networks": request.networks, "settings": changeable}
    with work_directory(out, "networks", fixed, about) as work:
        done = work.finished()
        if done and done["images"] >= config.images and (out / NETWORKS).exists():
            note(f"{out} is finished already")
            return out / NETWORKS
        if perceptual is None and config.method != "supervised":
            note("without a perceptual loss: --lpips or --gan would give one")
        training = _NetworkTraining(request, trainer, work.cache, note)
        run_loop(training, work, request.intervals, show, note)
    return out / NETWORKS


class _NetworkTraining(Training):
    """A training of networks as the loop sees it."""

    remedy = "Give a lower --learning-rate."

    def __init__(
        self, request: NetworkTraining, trainer: Trainer, cache: Cache, note: Note
    ) -> None:
        self.config = request.config
        self.trainer = trainer
        self.name = request.config.method
        self.result = request.out / NETWORKS
        self.pictures = request.out / PICTURES
        self.examples = _examples(request, cache, note)
        self.count = len(self.examples)
        self.validation: Batch | None = None
        if request.validation is not None:
            given = read_examples(
                request.validation, request.config.camera, cache, note, "validation-"
            )
            self.validation = given.batch(np.arange(min(VALIDATED, len(given))))
        shown = self.validation or self.examples.batch(subset(self.count, SHOWN))
        self.shown = shown.images[:SHOWN].to(trainer.device)

    def step(self, rows: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        return self.trainer.step(self.examples.batch(rows))

    def words(self, figures: dict[str, float]) -> str:
        return f"loss {figures['loss']:.3f}, images"

    def judge(self) -> dict[str, Any]:
        found = self.trainer.predict(self.shown)
        write_sheet(
            self.pictures / f"{self.trainer.images:08d}.png",
            self.shown,
            self.trainer.shape_networks.camera,
            reconstruction=found.rendering.image,
            depth=found.depth,
            albedo=found.albedo,
            view=found.view,
            light=found.light,
            mask=found.rendering.mask,
        )
        if self.validation is None:
            return {}
        scores = self.trainer.score(self.validation)
        return {
            "side": float(scores.side.nanmean()),
            "mad_degrees": float(scores.mad_degrees.nanmean()),
            "relief_scale": float(scores.relief_scale.nanmedian()),
        }

    def finite(self) -> bool:
        # The file holds them in half precision.
        values = self.trainer.networks().parameters.values()
        return all(bool(torch.isfinite(value.half()).all()) for value in values)

    def save(self) -> None:
        write_whole(self.result, networks_bytes(self.trainer.networks()))


def _examples(request: NetworkTraining, cache: Cache, note: Note) -> Examples:
    camera = request.config.camera
    if isinstance(request.config, SupervisedConfig):
        return read_examples(request.source, camera, cache, note)
    return Examples(read_images(request.source, camera.size, cache, note).values)


def _trainer(
    request: NetworkTraining, teachers: Sequence[TrainedNetworks]
) -> tuple[Trainer, dict[str, str] | None]:
    """The trainer, and whose features its perceptual loss compares images by."""
    config, device = request.config, request.compute.device
    if isinstance(config, SupervisedConfig):
        return supervised.trainer(config, device), None
    gan = None if request.gan is None else load_gan(request.gan).to(device)
    lpips = None if request.lpips is None else load_lpips(request.lpips).to(device)
    about = None
    if request.lpips is not None:
        about = {"network": "vgg16", "sha256": file_digest(request.lpips)}
    elif gan is not None:
        about = {"network": "discriminator", "sha256": gan.sha256}
    if isinstance(config, FinetuneConfig):
        assert request.networks is not None
        initial = load_networks(request.networks)
        if gan is not None:
            check_gan(initial, gan)
        distance = _distance(gan, lpips, config.feature_blocks)
        return finetune.trainer(config, initial, distance, device, teachers), about
    return unsup3d.trainer(config, _features(gan, lpips), device), about


def _features(gan: Gan | None, lpips: Lpips | None) -> unsup3d.Features | None:
    """The features that Unsup3d compares images by."""
    if lpips is not None:
        return unsup3d.vgg_features(lpips)
    if gan is not None and gan.discriminator is not None:
        return unsup3d.discriminator_features(gan.discriminator)
    return None


def _distance(gan: Gan | None, lpips: Lpips | None, blocks: int) -> PerceptualLoss | None:
    """The distance by which finetuning compares images, as step 3 does."""
    if lpips is not None:
        return partial(lpips)  # the module itself would become a part of the trained ones
    if gan is not None and gan.discriminator is not None:
        return discriminator_distance(gan.discriminator, blocks)
    return None
