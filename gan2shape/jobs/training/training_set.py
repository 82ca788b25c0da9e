"""All images of a training together, with masks and latents: what joint training works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from gan2shape.jobs.checkpoints import Checkpoints
from gan2shape.jobs.inputs.input_image import InputImage, load_input_image
from gan2shape.jobs.inputs.latents import load_latents
from gan2shape.jobs.inputs.scan import scan
from gan2shape.jobs.progress import Note, Show
from gan2shape.pipeline.method.group import Targets
from gan2shape.pipeline.perceptual.inversion import invert
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import RunConfig

PART = 32
"""Images from one checkpoint of the inversion to the next."""
INVERSION = "inversion"


@dataclass(frozen=True)
class TrainingImages:
    """Where the images of a training are, and what lies beside them."""

    source: str
    masks: str | None = None
    latents: str | None = None
    limit: int | None = None
    """Only the first ones are taken."""

    def find(self, style_dim: int) -> TrainingSet:
        """List the images. Raises `UserError` where they, or their latents, cannot be used."""
        found = scan(self.source, masks=self.masks, latents=self.latents, limit=self.limit)
        shared = None
        if found.shared_latents is not None:
            shared = load_latents(found.shared_latents, list(found.ids), style_dim)
        rows = found.manifest(len(found)).to_pylist()
        return TrainingSet(self, rows, shared, found.ids_sha256)


@dataclass(frozen=True)
class TrainingSet:
    """Images that were found; plain data for all processes."""

    images: TrainingImages
    rows: Sequence[dict[str, Any]]
    """An entry of a manifest for each image."""
    latents: Tensor | None
    """(N, D), where they come for all images at once."""
    sha256: str
    """Of the images' names."""

    def __len__(self) -> int:
        return len(self.rows)

    def fixed(self, gan: Gan, config: RunConfig) -> dict[str, Any]:
        """What decides the result of a training on these images; files may have moved."""
        return {
            "images": len(self),
            "images_sha256": self.sha256,
            "masks": self.images.masks,
            "latents": self.images.latents,
            "gan_sha256": gan.sha256,
            "version": metadata.version("gan2shape"),
            "settings": config.model_dump(mode="json"),
        }

    def share(self, rank: int, count: int) -> TrainingSet:
        """The images of process `rank` of `count`."""
        mine = slice(rank, None, count)
        latents = None if self.latents is None else self.latents[mine]
        return TrainingSet(self.images, self.rows[mine], latents, self.sha256)


def load_training_set(
    found: TrainingSet,
    gan: Gan,
    config: RunConfig,
    device: torch.device,
    checkpoints: Checkpoints,
    show: Show,
    note: Note,
    lpips: Any = None,
) -> Targets:
    """Read images and masks, and invert the images whose latents are not given.

    Images that cannot be used are left out, with a note. Latents that were found are kept in the
    checkpoint "latents". `gan` is on `device`, where the tensors will be.

    Raises `UserError` when no image is left.
    """
    loaded = [load_input_image(row, config) for row in found.rows]
    usable = [position for position, item in enumerate(loaded) if item.error is None]
    items = [loaded[position] for position in usable]
    _tell([item.error for item in loaded if item.error], note)
    ids = [item.id for item in items]
    images = _stack([item.pixels for item in items], device)
    masks = _stack([item.mask for item in items], device)

    saved = checkpoints.load("latents") or {}
    known: dict[str, Tensor] = {name: latent for name, latent in saved.items() if name in ids}
    for position, item in zip(usable, items, strict=True):
        if found.latents is not None:
            known[item.id] = found.latents[position]
        elif item.manifest["latent_uri"] is not None:
            known[item.id] = _given(item, gan)
    wanted = [index for index, name in enumerate(ids) if name not in known]
    for start in range(0, len(wanted), PART):
        part = torch.tensor(wanted[start : start + PART], device=device)

        def told(done: int, total: int, before: int = start, size: int = len(part)) -> None:
            show(INVERSION, INVERSION, before + size * done // max(total, 1), len(wanted))

        inverted = invert(
            gan,
            images[part],
            config.inversion,
            masks=masks[part],
            lpips=lpips,
            seed=config.seed,
            precision=config.precision,
            on_progress=told,
        )
        known |= dict(zip((ids[i] for i in part.tolist()), inverted.latents.cpu(), strict=True))
        checkpoints.save("latents", known)

    latents = _stack([known[name] for name in ids], device)
    good = torch.isfinite(latents).all(1).nonzero()[:, 0]
    _tell(["the inversion of an image failed"] * (len(ids) - len(good)), note)
    if not len(good):
        raise UserError("No image can be used for training; the notes above say why.")
    return Targets(
        [ids[index] for index in good.tolist()], images[good], masks[good], latents[good]
    )


def _given(item: InputImage, gan: Gan) -> Tensor:
    return load_latents(item.manifest["latent_uri"], [item.id], gan.generator.style_dim)[0]


def _stack(tensors: Sequence[Tensor | None], device: torch.device) -> Tensor:
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(present).float().to(device) if present else torch.zeros(0, 1, device=device)


def _tell(reasons: Sequence[str], note: Note) -> None:
    if reasons:
        note(f"{len(reasons)} images are left out; the first: {reasons[0]}")
