"""The images of a folder with masks and latents, all in memory: what joint training works on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gan2shape.jobs.checkpoints import Checkpoints
from gan2shape.jobs.inputs.input_image import InputImage, load_input_image
from gan2shape.jobs.inputs.latents import load_latents
from gan2shape.jobs.inputs.scan import Scan
from gan2shape.pipeline.method.group import Targets
from gan2shape.pipeline.perceptual.inversion import invert
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import RunConfig

PART = 32
"""Images from one checkpoint of the inversion to the next."""


def load_training_set(
    rows: list[dict[str, Any]],
    gan: Gan,
    config: RunConfig,
    device: torch.device,
    checkpoints: Checkpoints,
    lpips: Any = None,
    given: Tensor | None = None,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
    note: Callable[[str], None] = lambda text: None,
) -> Targets:
    """Read images and masks, and find the latents that the manifest's `rows` name no file for.

    `given` are latents (len(rows), D) that come for all images at once.

    Images that cannot be used are left out, with a note. Latents that were found are kept in the
    checkpoint "latents". `gan` is on `device`, where the tensors will be.

    Raises `UserError` when no image is left.
    """
    loaded = [load_input_image(row, config) for row in rows]
    usable = [position for position, item in enumerate(loaded) if item.error is None]
    items = [loaded[position] for position in usable]
    _tell([item.error for item in loaded if item.error], note)
    ids = [item.id for item in items]
    images = _stack([item.pixels for item in items], device)
    masks = _stack([item.mask for item in items], device)

    saved = checkpoints.load("latents") or {}
    known: dict[str, Tensor] = {name: latent for name, latent in saved.items() if name in ids}
    for position, item in zip(usable, items, strict=True):
        if given is not None:
            known[item.id] = given[position]
        elif item.manifest["latent_uri"] is not None:
            known[item.id] = _given(item, gan)
    wanted = [index for index, name in enumerate(ids) if name not in known]
    for start in range(0, len(wanted), PART):
        part = torch.tensor(wanted[start : start + PART], device=device)
        found = invert(
            gan,
            images[part],
            config.inversion,
            masks=masks[part],
            lpips=lpips,
            seed=config.seed,
            precision=config.precision,
            on_progress=_offset(on_progress, start, len(part), len(wanted)),
        )
        known |= dict(zip((ids[i] for i in part.tolist()), found.latents.cpu(), strict=True))
        checkpoints.save("latents", known)

    latents = _stack([known[name] for name in ids], device)
    good = torch.isfinite(latents).all(1).nonzero()[:, 0]
    _tell(["the inversion of an image failed"] * (len(ids) - len(good)), note)
    if not len(good):
        raise UserError("No image can be used for training; the notes above say why.")
    return Targets(
        [ids[index] for index in good.tolist()], images[good], masks[good], latents[good]
    )


def shared_latents(found: Scan, style_dim: int) -> Tensor | None:
    """Latents (N, D) of all images of a scan where one file, array or run holds them."""
    if found.shared_latents is None:
        return None
    return load_latents(found.shared_latents, list(found.ids), style_dim)


def _offset(
    on_progress: Callable[[str, int, int], None], start: int, size: int, count: int
) -> Callable[[int, int], None]:
    """Progress of one part, told as images of all."""
    return lambda done, total: on_progress("inversion", start + size * done // max(total, 1), count)


def _given(item: InputImage, gan: Gan) -> Tensor:
    return load_latents(item.manifest["latent_uri"], [item.id], gan.generator.style_dim)[0]


def _stack(tensors: list[Tensor | None], device: torch.device) -> Tensor:
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(present).float().to(device) if present else torch.zeros(0, 1, device=device)


def _tell(reasons: list[str], note: Callable[[str], None]) -> None:
    if reasons:
        note(f"{len(reasons)} images are left out; the first: {reasons[0]}")
