"""Networks trained on a whole category: where the reconstruction of an image may start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gan2shape.pipeline.networks.shape_networks import OffsetEncoder, ShapeNetworks
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.schemas.base import Settings
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import CameraConfig, LatentConfig, NetworkConfig, RunConfig

ENCODER = "encoder."
"""Begins the names of the offset encoder's parameters."""


class NetworksError(UserError):
    """A networks file cannot be used; the message is one sentence with the remedy."""


@dataclass(frozen=True)
class TrainedNetworks:
    """Parameters of the shape networks and the offset encoder, and what they were trained for.

    Networks trained without a GAN have no encoder, `style_dim`, `gan_sha256` or `latent`; they
    serve every GAN.
    """

    parameters: dict[str, Tensor]
    """By the names in the file; float32."""
    networks: NetworkConfig
    camera: CameraConfig
    style_dim: int | None = None
    gan_sha256: str | None = None
    """Of the GAN's file: the encoder speaks that GAN's latents."""
    latent: LatentConfig | None = None
    """How the encoder's codes become latent offsets."""
    teachers: tuple[TrainedNetworks, ...] = ()
    """Networks trained in another way, which were asked too when these were taught. They have no
    encoders, and see images through the same camera."""
    sha256: str = ""
    """Of the file that they came from."""
    source: str = ""

    def shape_networks(self) -> ShapeNetworks:
        """The shape networks, on the CPU, in evaluation mode.

        Raises `NetworksError` where the parameters are not those of such networks.
        """
        with torch.random.fork_rng(devices=[]):
            networks = ShapeNetworks(Camera.from_config(self.camera), self.networks)
        return self._fill(networks, lambda name: not name.startswith(ENCODER), "")

    def offset_encoder(self) -> OffsetEncoder | None:
        """The offset encoder, likewise; `None` where the networks were trained without one."""
        if self.style_dim is None:
            return None
        with torch.random.fork_rng(devices=[]):
            encoder = OffsetEncoder(self.camera.size, self.networks, self.style_dim)
        return self._fill(encoder, lambda name: name.startswith(ENCODER), ENCODER)

    def with_teachers(self, teachers: Sequence[TrainedNetworks]) -> TrainedNetworks:
        """These networks with others as their teachers, in place of what teachers they had.

        Raises `NetworksError` where teachers see images through another camera.
        """
        for teacher in teachers:
            if teacher.camera != self.camera:
                raise NetworksError(
                    f"The networks {teacher.source} see images through another camera than "
                    f"{self.source}; give teachers that were trained on images of the same size."
                )
        return replace(self, teachers=tuple(teacher._alone() for teacher in teachers))

    def _alone(self) -> TrainedNetworks:
        """The shape networks, without encoder and teachers."""
        own = {k: v for k, v in self.parameters.items() if not k.startswith(ENCODER)}
        return TrainedNetworks(own, self.networks, self.camera, source=self.source)

    def _fill(self, module, wanted, prefix):  # type: ignore[no-untyped-def]
        own = {name.removeprefix(prefix): v for name, v in self.parameters.items() if wanted(name)}
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            raise NetworksError(
                f"{self.source} does not hold the networks that it says it does; make it again "
                "with 'gan2shape train networks'."
            ) from error
        return module.eval()


def check_gan(pretrained: TrainedNetworks, gan: Gan) -> None:
    """Raise `NetworksError` unless the networks know this GAN."""
    if pretrained.gan_sha256 not in (None, gan.sha256):
        raise NetworksError(
            f"The networks {pretrained.source} were trained with another GAN than {gan.source}; "
            "give that GAN with --gan, or train networks for this one ('gan2shape train networks')."
        )


def check_networks(pretrained: TrainedNetworks, gan: Gan, config: RunConfig) -> None:
    """Raise `NetworksError` unless the networks know this GAN and have the run's settings.

    Those of the offset encoder matter where there are cycles, which use it.
    """
    check_gan(pretrained, gan)
    parts: dict[str, tuple[Settings, tuple[str, ...]]] = {
        part: (theirs, tuple(theirs.model_dump()))
        for part, theirs in (("camera", pretrained.camera), ("networks", pretrained.networks))
    }
    if pretrained.latent is not None and config.needs_latents:
        parts["latent"] = (pretrained.latent, ("regularize", "mapping_layers", "relative"))
    for part, (theirs, names) in parts.items():
        for name in names:
            value, ours = getattr(theirs, name), getattr(getattr(config, part), name)
            if value != ours:
                raise NetworksError(
                    f"The networks {pretrained.source} were trained with {part}.{name} {value}, "
                    f"not {ours}; use '--set {part}.{name}={value}' or another --recipe."
                )


def parameters_of(networks: nn.Module, encoder: nn.Module | None = None) -> dict[str, Tensor]:
    """Copies of both modules' parameters under the names of the file."""
    theirs = {} if encoder is None else encoder.state_dict()
    named = {**networks.state_dict(), **{ENCODER + name: v for name, v in theirs.items()}}
    return {name: value.detach().clone() for name, value in named.items()}
