"""What both experiments work with: the run, the GAN, the networks, and what is kept between them.

out/checkpoints/   latents of the heads, directions in W, and heads of an experiment that are
                   scored; the last go when the experiment is finished
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan2shape.benchmark.manipulation.heads import RunHeads, Subjects
from gan2shape.jobs.checkpoints import Checkpoints
from gan2shape.jobs.run import store
from gan2shape.jobs.weights.files import file_digest
from gan2shape.jobs.weights.lpips_file import load_lpips
from gan2shape.jobs.weights.networks_file import load_networks
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.evaluation.projector import Projector
from gan2shape.pipeline.networks.shape_networks import ShapeNetworks
from gan2shape.pipeline.networks.trained import NetworksError, check_gan
from gan2shape.pipeline.perceptual.inversion import invert
from gan2shape.pipeline.perceptual.lpips import Lpips
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.stylegan2.directions import Direction
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import InversionConfig, LatentConfig, plain_digest

CHECKPOINTS = "checkpoints"
REFINEMENT = InversionConfig(iterations=40, batch=48, learning_rate=0.2, perceptual_weight=0.0)
"""How projected latents are refined; chosen on validation heads. Without it projections do not
resemble the head that they begin with."""
DIRECTIONS = ("gan", "networks", "program")
"""Names of the sources that directions in W are found from."""
Show = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Tools:
    """Everything that both experiments load, checked to fit together."""

    run: store.Run
    heads: RunHeads
    camera: Camera
    gan: Gan
    networks: ShapeNetworks
    encoder: nn.Module
    latent: LatentConfig
    """How its codes become offsets."""
    lpips: Lpips | None
    out: Path
    sources: dict[str, Any]
    """Digests of what the scores are made from, and the program's version."""

    def checkpoints(self, *made_of: Any) -> Checkpoints:
        """The checkpoints in the directory that belong to `made_of`."""
        return Checkpoints(self.out / CHECKPOINTS, plain_digest(made_of))

    @cached_property
    def project(self) -> Projector:
        """Gives what the GAN makes of renderings of objects."""
        precision = self.run.record.config.precision
        return Projector(self.gan, self.encoder, self.latent, REFINEMENT, precision)

    def direction(self, name: str, find: Callable[[], list[Direction]], show: Show) -> Tensor:
        """Vectors (A, D) of directions in W, found once."""
        checkpoints = self.checkpoints(*(self.sources[name] for name in DIRECTIONS))
        vectors = checkpoints.load(name)
        if vectors is None:
            show(f"direction of {name} in W", 0, 1)
            try:
                vectors = torch.stack([direction.vector for direction in find()])
            except ValueError as error:
                raise NetworksError(
                    f"The networks see the same {name} in all samples of {self.gan.source}; give "
                    "networks that were trained on its category."
                ) from error
            checkpoints.save(name, vectors)
            show(f"direction of {name} in W", 1, 1)
        return vectors

    def latents(self, subjects: Subjects, ids: Sequence[str], show: Show) -> Tensor:
        """Latents (B, D) of the heads: the run's, or found by inversion where it has none."""
        latents = subjects.found["latent"].clone()
        missing = (~torch.isfinite(latents).all(1)).nonzero()[:, 0]
        if not len(missing):
            return latents
        checkpoints = self.checkpoints(self.sources, list(ids))
        name = f"latents-{ids[0]}"
        found = checkpoints.load(name)
        if found is None:
            config = self.run.record.config
            found = invert(
                self.gan,
                subjects.images[missing],
                config.inversion,
                masks=subjects.found["mask"][missing],
                lpips=self.lpips,
                seed=config.seed,
                precision=config.precision,
                on_progress=lambda done, total: show("inversion", done, total),
            ).latents
            checkpoints.save(name, found)
        latents[missing] = found
        return latents


def load_tools(
    run_path: Path,
    gan: str,
    networks: str,
    out: Path,
    lpips: Path | None,
    limit: int | None,
) -> Tools:
    """Load everything. Raises `UserError` where something is missing or does not fit the rest."""
    run = store.open_run(run_path)
    weights = load_gan(gan)
    if weights.sha256 != run.record.gan.sha256:
        raise UserError(
            f"{run_path} was made with another GAN than {gan}; give the one that its run.yaml "
            "names."
        )
    pretrained = load_networks(networks)
    check_gan(pretrained, weights)
    encoder, config = pretrained.offset_encoder(), run.record.config
    if encoder is None or pretrained.latent is None:
        raise NetworksError(
            f"The networks {networks} have no offset encoder; give networks that 'gan2shape train "
            "networks' trained."
        )
    if pretrained.camera != config.camera or weights.generator.size != config.camera.size:
        raise NetworksError(
            f"The networks {networks}, the GAN {gan} and {run_path} are for images of different "
            "sizes or cameras; give networks and a GAN like the run's."
        )
    heads = RunHeads(run, limit)
    return Tools(
        run=run,
        heads=heads,
        camera=Camera.from_config(config.camera),
        gan=weights,
        networks=pretrained.shape_networks(),
        encoder=encoder,
        latent=pretrained.latent,
        lpips=None if lpips is None else load_lpips(lpips),
        out=out,
        sources={
            "run": run.record.config_hash,
            "heads": heads.ids,
            "gan": weights.sha256,
            "networks": pretrained.sha256,
            "program": metadata.version("gan2shape"),
            "lpips": None if lpips is None else file_digest(lpips),
        },
    )
