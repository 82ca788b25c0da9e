"""Train a StyleGAN2 on a folder of images: data set, loop, checkpoints, sample grids, log.

The training directory:

    training.yaml     settings, data and initial weights
    dataset.npy       the images as uint8 (N, S, S, 3), read once
    state.ckpt        all that training goes on from; replaced every few minutes
    gan.safetensors   averaged generator and discriminator, as of the last checkpoint
    log.jsonl         one row of figures every so many images
    samples/          real.png, and the same latents through the averaged generator over time
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from torch import Tensor

from gan2shape.jobs.checkpoints import Checkpoints
from gan2shape.jobs.files import TEMPORARY, storage_error, write_whole
from gan2shape.jobs.images import ImageError, load_image
from gan2shape.jobs.scan import Scan, scan
from gan2shape.jobs.synth import _png as png_bytes
from gan2shape.pipeline.stylegan2.checkpoint import Gan, load_gan, save_gan
from gan2shape.pipeline.stylegan2.quality import descriptors, distances
from gan2shape.pipeline.stylegan2.training import Trainer, TrainingError, batches
from gan2shape.schemas.gan_training import ARCHITECTURE, GanTrainingConfig, training_config

Pixels = npt.NDArray[np.uint8]
SETTINGS, DATASET, STATE = "training.yaml", "dataset.npy", "state"
WEIGHTS, LOG, SAMPLES = "gan.safetensors", "log.jsonl", "samples"
GRID = 8
QUALITY_IMAGES = 1024
MIN_IMAGES = 8


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

    @property
    def seconds_left(self) -> float | None:
        if not self.images_per_second:
            return None
        return max(self.total - self.images, 0) / self.images_per_second


@dataclass
class _Means:
    """Means of figures since the last `take`."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, figures: dict[str, Tensor]) -> None:
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums.clear()
        self.counts.clear()
        return means


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
    note = on_note or (lambda text: None)
    config, out = request.config, request.out
    if out.exists() and not out.is_dir():
        raise TrainingError(f"{out} is a file; name a directory with --out.")
    out.mkdir(parents=True, exist_ok=True)
    try:
        resumed = _check_settings(request)
        data = dataset(request.source, config.size, out, note)
        (out / SAMPLES).mkdir(exist_ok=True)
        if not resumed or not (out / SAMPLES / "real.png").exists():
            write_grid(out / SAMPLES / "real.png", to_images(data[_subset(len(data), GRID**2)]))
        trainer = Trainer(config, request.device, request.initial)
        checkpoints = Checkpoints(out, _key(config))
        state = checkpoints.load(STATE)
        checkpoints.sweep()
        if state is not None:
            trainer.restore(state)
            note(f"going on after {trainer.images} images")
        _write_settings(request)
        _trim_log(out / LOG, trainer.images)
        _loop(request, trainer, data, checkpoints, on_progress or (lambda status: None))
    except OSError as error:
        problem = storage_error(error, out)
        if problem is None:
            raise
        sentence = str(problem).split("; make room")[0]
        raise TrainingError(
            f"{sentence}; make room or change the permissions, then give the command again."
        ) from error
    return out / WEIGHTS


def dataset(
    source: str, size: int, out: Path, note: Callable[[str], None] = lambda text: None
) -> Pixels:
    """The images of `source` as memory-mapped uint8 (N, S, S, 3), in `out`; read once.

    Images that cannot be used are left out. Raises `ScanError` or `TrainingError` when too few are
    left.
    """
    path, record = out / DATASET, out / f"{DATASET}.json"
    found = scan(source)
    key = _listing_key(found, size)
    if path.exists() and record.exists() and json.loads(record.read_text()).get("key") == key:
        return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]
    uris = [image.path for image in found.images]
    note(f"reading {len(uris)} images")
    temporary = out / f"{TEMPORARY}{os.getpid()}-{DATASET}"
    try:
        bad = _read_images(uris, size, temporary)
        kept = len(uris) - len(bad)
        if kept < MIN_IMAGES:
            why = f" ({bad[0]})" if bad else ""
            raise TrainingError(
                f"{source} has {kept} usable images{why}; training needs at least {MIN_IMAGES}, "
                "and thousands to be of use."
            )
        if bad:
            note(f"left out {len(bad)} images, the first: {bad[0]}")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    write_whole(record, json.dumps({"key": key, "images": kept, "left_out": bad[:100]}).encode())
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def to_images(pixels: Pixels) -> Tensor:
    """(N, S, S, 3) uint8 as (N, 3, S, S) float32 in [-1, 1], in channels_last."""
    values = torch.from_numpy(np.ascontiguousarray(pixels))
    return values.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def write_grid(path: Path, images: Tensor, columns: int = GRID) -> None:
    """Write images (N, 3, S, S) in [-1, 1] as a PNG of rows of `columns`."""
    count, _, size, _ = images.shape
    rows = -(-count // columns)
    sheet = torch.full((rows * columns, 3, size, size), -1.0)
    sheet[:count] = images.clamp(-1, 1)
    sheet = sheet.view(rows, columns, 3, size, size).permute(0, 3, 1, 4, 2)
    pixels = sheet.reshape(rows * size, columns * size, 3).add(1.0).mul(127.5).round()
    write_whole(path, png_bytes(pixels.to(torch.uint8).numpy()))


def write_weights(path: Path, gan: Gan) -> None:
    """Write weights in our own format; readers see the old file or the new one."""
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        save_gan(gan, temporary)
        temporary.chmod(0o644)  # safetensors makes files that only their owner reads
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _loop(
    request: Request,
    trainer: Trainer,
    data: Pixels,
    checkpoints: Checkpoints,
    show: Callable[[Status], None],
) -> None:
    config, out = request.config, request.out
    means = _Means()
    real = descriptors(to_images(data[_subset(len(data), QUALITY_IMAGES)]))
    z = torch.randn(
        GRID**2, config.style_dim, generator=torch.Generator().manual_seed(config.seed)
    )
    stop = _Stop()
    shown, saved = trainer.images, time.monotonic()
    pace = _Pace(trainer.images)

    def due(every: int, before: int) -> bool:
        return before // every != trainer.images // every

    def save() -> None:
        nonlocal saved
        checkpoints.save(STATE, trainer.state())
        write_weights(out / WEIGHTS, trainer.gan())
        saved = time.monotonic()

    def judge() -> dict[str, float]:
        write_grid(out / SAMPLES / f"{trainer.images:08d}.png", trainer.sample(z))
        return _quality(trainer, real)

    with stop:
        if trainer.images == 0:
            quality = judge()
            _log(out / LOG, {"images": 0, "quality": quality})
            show(Status(0, config.images, None, {}, quality))
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
                quality = judge() if sampled else None
                row = {"images": trainer.images, "images_per_second": speed, **figures_now}
                _log(out / LOG, row | ({"quality": quality} if quality else {}))
                show(Status(trainer.images, config.images, speed, figures_now, quality))
                shown = trainer.images
            if sampled or time.monotonic() - saved > request.checkpoint_seconds:
                save()
        if stop.asked or not (out / WEIGHTS).exists() or shown != trainer.images:
            save()
    if stop.asked:
        raise KeyboardInterrupt


class _Pace:
    """Images per second, averaged over the last few reports."""

    def __init__(self, images: int) -> None:
        self._marks = [(time.monotonic(), images)]

    def __call__(self, images: int) -> float:
        self._marks = [*self._marks[-9:], (time.monotonic(), images)]
        (start, first), (end, last) = self._marks[0], self._marks[-1]
        return (last - first) / max(end - start, 1e-6)


class _Stop:
    """While entered, SIGINT and SIGTERM only set `asked`; a second one ends at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._ask)
            except ValueError:  # not in the main thread: whoever calls takes care
                break
        return self

    def __exit__(self, *args: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def _quality(trainer: Trainer, real: dict[str, Tensor]) -> dict[str, float]:
    count = len(real["layout"])
    random = torch.Generator().manual_seed(1)  # the same latents every time
    z = torch.randn(count, trainer.config.style_dim, generator=random)
    return distances(descriptors(trainer.sample(z)), real)


def _subset(count: int, most: int) -> npt.NDArray[np.int64]:
    """`most` of `count` indices, at random, always the same ones, in order."""
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


def _read_images(uris: list[str], size: int, path: Path) -> list[str]:
    """Write the usable images to `path`; returns a reason for each of the others."""

    def read(uri: str) -> Pixels | str:
        try:
            return np.round(load_image(uri, size).pixels * 255).astype(np.uint8)
        except ImageError as error:
            return f"{uri} {error}"

    bad: list[str] = []
    raw = path.with_name(f"{path.name}.raw")
    kept = 0
    try:
        with open(raw, "wb") as file, ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for result in _in_pieces(pool, read, uris):
                if isinstance(result, str):
                    bad.append(result)
                else:
                    file.write(result.tobytes())
                    kept += 1
        with open(path, "wb") as target:
            header = {
                "descr": "|u1",
                "fortran_order": False,
                "shape": (kept, size, size, 3),
            }
            np.lib.format.write_array_header_2_0(target, header)
            with open(raw, "rb") as source:
                while piece := source.read(1 << 24):
                    target.write(piece)
            target.flush()
            os.fsync(target.fileno())
    finally:
        raw.unlink(missing_ok=True)
    return bad


def _in_pieces(
    pool: ThreadPoolExecutor, read: Callable[[str], Pixels | str], uris: list[str]
) -> Iterator[Pixels | str]:
    """Results in order, with few images in memory at a time."""
    for start in range(0, len(uris), 1024):
        yield from pool.map(read, uris[start : start + 1024])


def _listing_key(found: Scan, size: int) -> str:
    listing = [[image.path, image.size] for image in found.images]
    return hashlib.sha256(json.dumps([size, listing]).encode()).hexdigest()


def _key(config: GanTrainingConfig) -> str:
    return json.dumps({name: getattr(config, name) for name in (*ARCHITECTURE, "seed")})


def _check_settings(request: Request) -> bool:
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


def _write_settings(request: Request) -> None:
    initial = request.initial
    tree = {
        "source": request.source,
        "initial_weights": None
        if initial is None
        else {"source": initial.source, "sha256": initial.sha256},
        "settings": request.config.model_dump(mode="json"),
    }
    write_whole(request.out / SETTINGS, yaml.safe_dump(tree, sort_keys=False).encode())


def _log(path: Path, row: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(_rounded(row)) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value


def read_log(out: Path) -> list[dict[str, Any]]:
    """The rows of a training directory's log; a half-written last line is left out."""
    rows: list[dict[str, Any]] = []
    try:
        lines = (out / LOG).read_text().splitlines()
    except FileNotFoundError:
        return rows
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def _trim_log(path: Path, images: int) -> None:
    """Drop rows of images that will be shown again."""
    rows = [row for row in read_log(path.parent) if row["images"] <= images and images]
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _check_finite(figures: dict[str, float], images: int, out: Path) -> None:
    if not all(np.isfinite(value) for value in figures.values()):
        raise TrainingError(
            f"Training diverged before {images} images (a loss is not finite); give the command "
            f"again with a lower --lr or a higher --r1, and it goes on from the checkpoint in {out}."
        )
