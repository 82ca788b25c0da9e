"""The heads of a finished run: the shapes that it found, and the true heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan2shape.jobs.inputs.images import ImageError, load_image
from gan2shape.jobs.run import store
from gan2shape.jobs.weights.head_model import load_head_model
from gan2shape.pipeline.extensions.input_colours import input_colours
from gan2shape.pipeline.perceptual.inversion import match_size
from gan2shape.pipeline.synthetic.variations import Sitter, Studio
from gan2shape.schemas.errors import UserError

FEWEST = 2
"""Each head is also compared with another head."""
UNLIKE = 0.02
"""An image that differs more from the drawing of its head, on average on [0, 1], is refused."""
ARRAYS = ("depth", "albedo", "view", "light", "mask", "latent")


class TooFewHeadsError(UserError):
    """A run has results for fewer heads than `FEWEST`."""


@dataclass(frozen=True)
class Subjects:
    """Some of the heads, B of them, as the run sees them and as they are."""

    images: Tensor
    """(B, 3, S, S) in [-1, 1]: the run's inputs."""
    found: dict[str, Tensor]
    """The run's arrays `ARRAYS`, (B, ...) float32; latents are NaN where the run had none. The
    albedo is corrected by what the inputs show of it."""
    sitters: list[Sitter]
    others: list[Sitter]
    """Another head of the run for each head."""

    @property
    def lights(self) -> Tensor:
        """True lights of the inputs (B, 4), in the camera's frame."""
        return torch.tensor(np.stack([sitter.parameters.light for sitter in self.sitters])).float()


class RunHeads:
    """The heads of a run that have a result, at the run's size."""

    def __init__(self, run: store.Run, limit: int | None = None) -> None:
        """Use the first `limit` heads with a result.

        Raises `UserError` for images that are no synthetic heads, and `TooFewHeadsError`.
        """
        self.run = run
        view = store.read_rows(run.path, "view", slice(0, run.record.images))
        manifest = store.read_manifest(run)
        done = [row for row in manifest if np.isfinite(view[row["row"]]).all()]
        self.rows = done[:limit]
        self.left_out = len(manifest) - len(done)
        if len(self.rows) < FEWEST:
            raise TooFewHeadsError(
                f"{run.path} has results for {len(self.rows)} heads, and {FEWEST} are needed; "
                f"finish it with 'gan2shape resume {run.path}', or give another run."
            )
        self.studio = Studio(load_head_model(), _side(self.rows[0]["uri"]))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> list[str]:
        return [row["image_id"] for row in self.rows]

    def subjects(self, part: Sequence[int]) -> Subjects:
        """The heads of these numbers. Raises `UserError` for images that are no synthetic heads."""
        rows = [self.rows[number] for number in part]
        sitters = [self._sitter(number) for number in part]
        images = [self._input(row, sitter) for row, sitter in zip(rows, sitters, strict=True)]
        numbers = [row["row"] for row in rows]
        arrays = {name: store.read_rows(self.run.path, name, numbers) for name in ARRAYS}
        found = {name: torch.from_numpy(value.astype(np.float32)) for name, value in arrays.items()}
        inputs = torch.stack(images)
        albedo = input_colours(found, inputs, self.run.record.config)
        return Subjects(
            inputs,
            found | {"albedo": albedo},
            sitters,
            [self._sitter((number + 1) % len(self)) for number in part],
        )

    def draw(self, sitter: Sitter) -> tuple[Tensor, Tensor]:
        """The true rendering (3, S, S) in [-1, 1], and where it shows the head, (S, S) of 0 and 1.

        Drawn at the size of the data set and reduced to the run's, as the inputs are.
        """
        head = self.studio.draw(sitter)
        image = torch.from_numpy(head.image).permute(2, 0, 1)[None] * 2 - 1
        mask = torch.from_numpy(head.mask)[None, None].float()
        image, mask = (match_size(values, self.run.size)[0] for values in (image, mask))
        return image, (mask[0] > 0.5).float()

    def _sitter(self, number: int) -> Sitter:
        row = self.rows[number]
        if not row["image_id"].isdecimal():
            raise _no_head(row)
        return self.studio.sitter(int(row["image_id"]))

    def _input(self, row: dict[str, Any], sitter: Sitter) -> Tensor:
        """The image (3, S, S) in [-1, 1] that the run saw, held against the drawing of its head."""
        try:
            pixels = load_image(row["uri"], self.run.size).pixels
        except ImageError as error:
            raise UserError(f"{row['uri']} {error}; put the run's images back.") from error
        image = torch.from_numpy(pixels).permute(2, 0, 1) * 2 - 1
        if float((image - self.draw(sitter)[0]).abs().mean()) / 2 > UNLIKE:
            raise _no_head(row)
        return image


def _side(uri: str) -> int:
    """Width of the image at `uri`, in pixels."""
    try:
        return load_image(uri, 32).width
    except ImageError as error:
        raise UserError(f"{uri} {error}; put the run's images back.") from error


def _no_head(row: dict[str, Any]) -> UserError:
    return UserError(
        f"{row['uri']} is not the picture of a synthetic head by that number; give a run on heads "
        "that 'gan2shape synth heads' drew."
    )
