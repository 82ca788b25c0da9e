"""What a GAN training is asked for, checked against its weights and its directory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from gan2shape.jobs.cluster.local import usable_cores, visible_gpus
from gan2shape.jobs.files import write_whole
from gan2shape.jobs.training.processes import tune_allocator
from gan2shape.jobs.weights.inception_file import load_inception
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.pipeline.stylegan2.training.fid import Inception
from gan2shape.pipeline.stylegan2.training.trainer import TrainingError
from gan2shape.schemas.gan_training import (
    ARCHITECTURE,
    GanTrainingConfig,
    default_channels,
    training_config,
)

SETTINGS = "training.yaml"


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    source: str
    out: Path
    config: GanTrainingConfig
    initial: Gan | None = None
    device: str = "cpu"
    checkpoint_seconds: float = 300.0
    sample_images: int = 10_000
    """Images from one sample grid, quality figure and checkpoint to the next."""
    log_images: int = 500
    inception: Inception | None = None
    """Feature network of the Fréchet Inception distance, if it is wanted."""


def architecture(
    sizes: dict[str, int | None], channels: str | None, init: str | None
) -> tuple[dict[str, Any], Gan | None]:
    """Sizes of the networks: those asked for, else those of the initial weights, else defaults.

    `sizes` may have size, style_dim and mapping_layers; `channels` is "128/128/...". Returns
    settings and the initial weights, if any. Raises `TrainingError` where they contradict.
    """
    asked: dict[str, Any] = {name: value for name, value in sizes.items() if value is not None}
    if channels is not None:
        try:
            asked["channels"] = tuple(int(part) for part in channels.split("/"))
        except ValueError as error:
            raise TrainingError(
                f"--channels {channels!r} is not a list of widths; write, say, 128/128/128/64/32."
            ) from error
    if init is None:
        asked.setdefault("channels", default_channels(asked.get("size", 64)))
        return asked, None
    gan = load_gan(init)
    generator = gan.generator
    given: dict[str, Any] = {
        "size": generator.size,
        "style_dim": generator.style_dim,
        "mapping_layers": generator.mapping_depth,
        "channels": tuple(width for _, width in sorted(generator.channels.items())),
    }
    for name, value in asked.items():
        if value != given[name]:
            flag = "--" + name.replace("_", "-")
            raise TrainingError(
                f"{init} has {name.replace('_', ' ')} {_plain(given[name])}, not {_plain(value)}; "
                f"leave out {flag} to begin with it."
            )
    return given, gan


def request(
    source: str,
    out: Path,
    settings: dict[str, Any],
    initial: Gan | None,
    device: str = "auto",
    threads: int | None = None,
    sample_images: int = 10_000,
    checkpoint_minutes: float = 5.0,
    inception: Path | None = None,
) -> Request:
    """Check the settings, choose the device, prepare this process for the work.

    Raises `ConfigError`, `ClusterError` (a GPU that is not there) or `CheckpointError` (Inception
    weights that are none).
    """
    config = training_config(settings)
    on = "cuda" if visible_gpus(device) else "cpu"
    tune_allocator()
    torch.set_num_threads(threads or usable_cores())
    return Request(
        source,
        out,
        config,
        initial,
        device=on,
        checkpoint_seconds=60 * checkpoint_minutes,
        sample_images=sample_images,
        log_images=min(500, sample_images),
        inception=None if inception is None else load_inception(inception, on),
    )


def resume_key(config: GanTrainingConfig) -> str:
    return json.dumps({name: getattr(config, name) for name in (*ARCHITECTURE, "seed")})


def check_settings(request: Request) -> bool:
    """Whether the directory holds this training already; `TrainingError` if it holds another."""
    path = request.out / SETTINGS
    if not path.exists():
        return False
    try:
        tree = yaml.safe_load(path.read_text())
        before = training_config(tree["settings"])
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise TrainingError(f"{path} is damaged; train into another directory.") from error
    for name in (*ARCHITECTURE, "seed"):
        old, new = getattr(before, name), getattr(request.config, name)
        if old != new:
            raise TrainingError(
                f"{request.out} holds a training with {name} {_plain(old)}, not {_plain(new)}; go "
                "on with the same sizes and seed, or train into another directory."
            )
    return True


def _plain(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)


def write_settings(request: Request) -> None:
    initial = request.initial
    tree = {
        "source": request.source,
        "initial_weights": None
        if initial is None
        else {"source": initial.source, "sha256": initial.sha256},
        "settings": request.config.model_dump(mode="json"),
    }
    write_whole(request.out / SETTINGS, yaml.safe_dump(tree, sort_keys=False).encode())
