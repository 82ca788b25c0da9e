"""The same head again: turned together with its light, under another light, or both at random.

Who it is, its expression and its colours stay. The recipe's light belongs to the camera: a head
that turns under it is lit from another side. The paper's formation fixes the light to the object;
`turned` does so too, so that its pictures are what `edit.turn` of a perfect shape shows.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from gan2shape.pipeline.scene.camera import YAW
from gan2shape.pipeline.scene.shading import turn_light
from gan2shape.pipeline.synthetic.mesh import rotation_matrix
from gan2shape.pipeline.synthetic.model import HeadModel
from gan2shape.pipeline.synthetic.parameters import HeadParameters, random_light, random_view
from gan2shape.pipeline.synthetic.render import (
    MAX_ATTEMPTS,
    Head,
    Surface,
    draw,
    fits,
    fitting_head,
    template_surface,
)
from gan2shape.schemas.settings import CameraConfig


@dataclass(frozen=True)
class Sitter:
    """A head whose shape is worked out once, to be drawn many times."""

    parameters: HeadParameters
    mesh: NDArray[np.float32]  # (V, 3) frontal, without hair

    def turned(self, yaw: float) -> Sitter:
        """Turned by `yaw` radians more, with the light fixed to the head."""
        view = self.parameters.view.copy()
        view[YAW] += yaw
        change = rotation_matrix(view[:3]) @ rotation_matrix(self.parameters.view[:3]).T
        light = turn_light(torch.from_numpy(self.parameters.light)[None], torch.from_numpy(change))
        return self.posing(view, light[0].numpy())

    def relit(self, light: Sequence[float]) -> Sitter:
        """Under a light (4,) of raw numbers, in the camera's frame like the recipe's."""
        return self.posing(self.parameters.view, np.asarray(light, np.float64))

    def posing(self, view: NDArray[np.float64], light: NDArray[np.float64]) -> Sitter:
        """Under a view (6,) and a light (4,)."""
        return replace(self, parameters=replace(self.parameters, view=view, light=light))


class Studio:
    """Draws heads at one size."""

    def __init__(self, model: HeadModel, size: int) -> None:
        self.model = model
        self.camera = CameraConfig(size=size)
        self.surface: Surface = template_surface(model)

    def sitter(self, seed: int) -> Sitter:
        """Identity `seed` under its own view and light, as data sets show it."""
        return Sitter(*fitting_head(seed, self.model))

    def draw(self, sitter: Sitter) -> Head:
        return draw(sitter.parameters, sitter.mesh, self.model, self.surface, self.camera)

    def portraits(self, seed: int, count: int) -> Iterator[Head]:
        """`count` drawings of identity `seed` under views and lights of the recipe's spread; the
        same ones every time.
        """
        sitter = self.sitter(seed)
        rng = np.random.RandomState(zlib.crc32(f"portraits of {seed}".encode()))
        for _ in range(count):
            for _ in range(MAX_ATTEMPTS):
                posing = sitter.posing(random_view(rng), random_light(rng))
                if fits(posing.mesh, posing.parameters, self.model):
                    break
            yield self.draw(posing)
