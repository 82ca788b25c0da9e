"""Train a baseline of the paper's table, or our own last word, on a folder of images.

The training directory:

    baseline.yaml         settings, where the images are, whose features images are compared by
    dataset.npy           the images as uint8 (N, S, S, 3), read once
    truth.npy             supervised: their true depth (N, S, S), NaN outside the objects
    state.ckpt            all that training goes on from; replaced every few minutes
    networks.safetensors  the networks as of the last checkpoint
    log.jsonl             one row of figures every so many images
    pictures/             some images as the networks see them, over time
    validation/           images and depth of the validation data, where it is given
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from gan2shape.jobs.checkpoints import Checkpoints
from gan2shape.jobs.cluster.local import usable_cores, visible_gpus
from gan2shape.jobs.files import only_process, storage_error, write_whole
from gan2shape.jobs.inputs.scan import scan
from gan2shape.jobs.progress.steps_display import Note, Show
from gan2shape.jobs.training.depth_array import Examples, true_dataset
from gan2shape.jobs.training.image_array import dataset, subset
from gan2shape.jobs.training.loop import Means, Pace, Stop, append_row, trim_rows
from gan2shape.jobs.training.pictures import SHOWN, write_sheet
from gan2shape.jobs.training.processes import tune_allocator
from gan2shape.jobs.weights.files import file_digest
from gan2shape.jobs.weights.lpips_file import load_lpips
from gan2shape.jobs.weights.networks_file import load_networks, networks_bytes
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.networks.trained import TrainedNetworks, check_gan
from gan2shape.pipeline.perceptual.losses import PerceptualLoss, discriminator_distance
from gan2shape.pipeline.perceptual.lpips import Lpips
from gan2shape.pipeline.seeds import batches
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.pipeline.training import finetune, supervised, unsup3d
from gan2shape.pipeline.training.trainer import Batch, Trainer
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.network_training import (
    CHANGEABLE,
    AnyBaseline,
    FinetuneConfig,
    SupervisedConfig,
    baseline_config,
)

RECORD, NETWORKS, LOG, STATE = "baseline.yaml", "networks.safetensors", "log.jsonl", "state"
PICTURES, VALIDATION, LOCK = "pictures", "validation", ".lock"
VALIDATED = 64


class DivergedError(UserError):
    """Training came to losses or weights that are out of bounds."""


@dataclass(frozen=True)
class Request:
    """What `gan2shape baseline` was asked to do."""

    source: str
    out: Path
    config: AnyBaseline
    networks: str | None = None
    """What finetuning starts from."""
    teachers: tuple[str, ...] = ()
    """Whose shapes it learns besides."""
    gan: str | None = None
    """Its discriminator's features compare images in the perceptual loss of Unsup3d."""
    lpips: Path | None = None
    """VGG16's features do, in place of them."""
    validation: str | None = None
    """Data set with true depth whose first images are scored now and then."""
    device: str = "cpu"
    checkpoint_seconds: float = 300.0
    picture_images: int = 20_000
    """Images from one sheet of pictures, score and checkpoint to the next."""
    log_images: int = 1_000


def request(
    source: str,
    out: Path,
    settings: dict[str, Any],
    device: str = "auto",
    threads: int | None = None,
    **options: Any,
) -> Request:
    """Check the settings, choose the device, prepare this process for the work.

    `options` are the other fields of the request; `networks` among them decide the settings of the
    same name and the camera. Raises `ConfigError`, `NetworksError` or `ClusterError` (a GPU that
    is not there).
    """
    if options.get("networks"):
        initial = load_networks(options["networks"])
        settings |= {"networks": initial.networks, "camera": initial.camera}
    config = baseline_config(settings)
    on = "cuda" if visible_gpus(device) else "cpu"
    tune_allocator()
    torch.set_num_threads(threads or usable_cores())
    return Request(source, out, config, device=on, **options)


def train(request: Request, show: Show, note: Note) -> Path:
    """Train, or go on where the directory's last checkpoint is; returns the networks file.

    Interrupted (SIGINT, SIGTERM), it saves a checkpoint and raises `KeyboardInterrupt`; killed, it
    loses what came after the last one. Raises `UserError` when the images, the weights or the
    directory do not fit.
    """
    out = request.out
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a directory with --out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        busy = f"Another process trains in {out}; wait for it, stop it, or choose another --out."
        with only_process(out / LOCK, busy):
            _train(request, show, note)
    except OSError as error:
        raise storage_error(error, out, "give the same command again") or error from error
    return out / NETWORKS


def _train(request: Request, show: Show, note: Note) -> None:
    out = request.out
    teachers = [load_networks(name) for name in request.teachers]
    trainer, perceptual = _trainer(request, teachers)
    record: dict[str, Any] = {
        "source": request.source,
        "images_sha256": scan(request.source).ids_sha256,
        "perceptual": perceptual,
        "settings": request.config.model_dump(mode="json"),
    }
    if trainer.initial is not None:
        record["networks"] = trainer.initial.sha256
    if teachers:
        record["teachers"] = [teacher.sha256 for teacher in teachers]
    _check_record(out, record)
    if perceptual is None and request.config.method != "supervised":
        note("without a perceptual loss: --lpips or --gan would give one")
    examples = _examples(request, note)
    checkpoints = Checkpoints(out, json.dumps(_fixed(record), sort_keys=True))
    state = checkpoints.load(STATE)
    checkpoints.sweep()
    if state is not None:
        trainer.restore(state)
        note(f"going on after {trainer.images} images")
    write_whole(out / RECORD, yaml.safe_dump(record, sort_keys=False).encode())
    trim_rows(out / LOG, trainer.images)
    _loop(request, trainer, examples, checkpoints, _judge(request, examples, trainer, note), show)


def _trainer(
    request: Request, teachers: Sequence[TrainedNetworks]
) -> tuple[Trainer, dict[str, str] | None]:
    """The trainer, and whose features it compares images by."""
    config = request.config
    if isinstance(config, SupervisedConfig):
        return supervised.trainer(config, request.device), None
    gan = None if request.gan is None else load_gan(request.gan).to(request.device)
    lpips = None if request.lpips is None else load_lpips(request.lpips).to(request.device)
    about = None
    if lpips is not None and request.lpips is not None:
        about = {"network": "vgg16", "sha256": file_digest(request.lpips)}
    elif gan is not None:
        about = {"network": "discriminator", "sha256": gan.sha256}
    if isinstance(config, FinetuneConfig):
        assert request.networks is not None
        initial = load_networks(request.networks)
        if gan is not None:
            check_gan(initial, gan)
        distance = _distance(gan, lpips, config.feature_blocks)
        return finetune.trainer(config, initial, distance, request.device, teachers), about
    return unsup3d.trainer(config, _features(gan, lpips), request.device), about


def _features(gan: Gan | None, lpips: Lpips | None) -> unsup3d.Features | None:
    """Whose features Unsup3d compares images by."""
    if lpips is not None:
        return unsup3d.vgg_features(lpips)
    if gan is not None and gan.discriminator is not None:
        return unsup3d.discriminator_features(gan.discriminator)
    return None


def _distance(gan: Gan | None, lpips: Lpips | None, blocks: int) -> PerceptualLoss | None:
    """How finetuning compares images, as step 3 does."""
    if lpips is not None:
        return partial(lpips)  # the module itself would become a part of the trained ones
    if gan is not None and gan.discriminator is not None:
        return discriminator_distance(gan.discriminator, blocks)
    return None


def _examples(request: Request, note: Note) -> Examples:
    config = request.config
    if isinstance(config, SupervisedConfig):
        return true_dataset(request.source, config.camera, request.out, note)
    return Examples(dataset(request.source, config.camera.size, request.out, note))


def _check_record(out: Path, record: dict[str, Any]) -> None:
    """Raise `UserError` when the directory holds another training."""
    try:
        before = yaml.safe_load((out / RECORD).read_text())
        known = _fixed(before)
    except FileNotFoundError:
        return
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{out / RECORD} is damaged; train into another directory.") from error
    wanted = _fixed(record)
    changed = sorted(name for name in known | wanted if known.get(name) != wanted.get(name))
    if changed:
        raise UserError(
            f"{out} holds a training with other {', '.join(changed)}; give the same command to go "
            "on with it, or train into another directory."
        )


def _fixed(record: dict[str, Any]) -> dict[str, Any]:
    """What stays the same when a training goes on."""
    settings = {k: v for k, v in record["settings"].items() if k not in CHANGEABLE}
    others = ("images_sha256", "perceptual", "networks", "teachers")
    return settings | {name: record[name] for name in others if name in record}


def _judge(
    request: Request, examples: Examples, trainer: Trainer, note: Note
) -> Callable[[], dict[str, float]]:
    """A function that writes a sheet of pictures and gives the scores on the validation data."""
    held: Batch | None = None
    if request.validation is not None:
        folder = request.out / VALIDATION
        folder.mkdir(exist_ok=True)
        given = true_dataset(request.validation, request.config.camera, folder, note)
        held = given.batch(torch.arange(min(VALIDATED, len(given))).numpy())
    shown = held or examples.batch(subset(len(examples), SHOWN))
    images = shown.images[:SHOWN].to(trainer.device)

    def judge() -> dict[str, float]:
        look = trainer.predict(images)
        name = f"{trainer.images:08d}.png"
        write_sheet(
            request.out / PICTURES / name,
            images,
            look.rendering.image,
            look.depth,
            look.albedo,
            look.view,
            look.light,
            look.rendering.mask,
            trainer.shape_networks.camera,
        )
        if held is None:
            return {}
        scores = trainer.score(held)
        return {
            "side": float(scores.side.nanmean()),
            "mad_degrees": float(scores.mad_degrees.nanmean()),
            "relief_scale": float(scores.relief_scale.nanmedian()),
        }

    return judge


def _loop(
    request: Request,
    trainer: Trainer,
    examples: Examples,
    checkpoints: Checkpoints,
    judge: Callable[[], dict[str, float]],
    show: Show,
) -> None:
    config, out = request.config, request.out
    means, pace, stop = Means(), Pace(trainer.images), Stop()
    saved = time.monotonic()

    def due(every: int, before: int) -> bool:
        return before // every != trainer.images // every

    def save() -> None:
        nonlocal saved
        networks = trainer.networks()
        # The file holds them in half precision.
        if not all(bool(torch.isfinite(p.half()).all()) for p in networks.parameters.values()):
            raise _diverged(trainer.images, out)
        checkpoints.save(STATE, trainer.state())
        write_whole(out / NETWORKS, networks_bytes(networks))
        saved = time.monotonic()

    with stop:
        if trainer.images == 0:
            append_row(out / LOG, {"images": 0} | judge())
        for indices in batches(len(examples), trainer.images, config.batch, config.seed):
            if trainer.images >= config.images or stop.asked:
                break
            before = trainer.images
            means.add(trainer.step(examples.batch(indices.numpy())))
            done = trainer.images >= config.images
            judged = due(request.picture_images, before) or done
            if judged or due(request.log_images, before):
                figures = means.take()
                if not all(abs(value) < float("inf") for value in figures.values()):
                    raise _diverged(trainer.images, out)
                row = {"images": trainer.images, "images_per_second": pace(trainer.images)}
                append_row(out / LOG, row | figures | (judge() if judged else {}))
                stage = f"{config.method}, loss {figures['loss']:.3f}, images"
                show(stage, trainer.images, config.images)
            if judged or time.monotonic() - saved > request.checkpoint_seconds:
                save()
        if stop.asked or not (out / NETWORKS).exists():
            save()
    if stop.asked:
        raise KeyboardInterrupt


def _diverged(images: int, out: Path) -> DivergedError:
    return DivergedError(
        f"Training diverged before {images} images (a loss or weight is out of bounds); give the "
        f"command again with a lower --lr; it goes on from the checkpoint in {out}."
    )
