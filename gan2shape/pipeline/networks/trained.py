"""Networks trained on a whole category, as a file: where the reconstruction of an image may start.

A safetensors file with the shape networks' parameters under `depth_net.`, `albedo_net.`,
`view_net.` and `light_net.`, the offset encoder's under `encoder.`, all in half precision. The
metadata has one entry, `gan2shape`, a JSON object with `format` = "gan2shape.networks/2" and the
fields of `TrainedNetworks`: safetensors stores several entries in an order of its own, and equal
networks would make different files. Networks trained without a GAN have no encoder. Those of
teachers are under `teacher0.`, `teacher1.` and so on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from gan2shape.pipeline.networks.shape_networks import OffsetEncoder, ShapeNetworks
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.stylegan2.checkpoint import Gan, file_digest, read_safetensors
from gan2shape.schemas.base import Settings
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.packaged import NETWORKS_FILE, asset_names, asset_path
from gan2shape.schemas.settings import CameraConfig, LatentConfig, NetworkConfig, RunConfig

FORMAT = "gan2shape.networks/2"
ENCODER, TEACHER = "encoder.", "teacher"


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
                "with 'gan2shape pretrain'."
            ) from error
        return module.eval()


def load_networks(name_or_path: str | Path) -> TrainedNetworks:
    """Read a networks file: a packaged one by its name ("heads64"), or any by its path.

    Raises `NetworksError` or `CheckpointError` where the file is missing, broken or of another
    kind.
    """
    path = asset_path(name_or_path, NETWORKS_FILE)
    if not path.is_file():
        known = ", ".join(asset_names(NETWORKS_FILE)) or "none"
        raise NetworksError(
            f"There is no networks file {path}; give the path of one that 'gan2shape pretrain' "
            f"wrote, or the name of packaged networks ({known})."
        )
    tensors, metadata = read_safetensors(path, "pretrained networks")
    about = _json(metadata.get("gan2shape", ""))
    if about.get("format") != FORMAT:
        raise NetworksError(
            f"{path} is not a networks file of this program (format {FORMAT!r}); give one that "
            "'gan2shape pretrain' wrote."
        )
    try:
        camera = CameraConfig.model_validate(about["camera"])
        teachers = tuple(
            TrainedNetworks(
                parameters=_named(tensors, f"{TEACHER}{number}."),
                networks=NetworkConfig.model_validate(networks),
                camera=camera,
                source=f"{name_or_path} (teacher {number})",
            )
            for number, networks in enumerate(about.get("teachers", []))
        )
        return TrainedNetworks(
            parameters={
                name: tensor.float()
                for name, tensor in tensors.items()
                if not name.startswith(TEACHER)
            },
            networks=NetworkConfig.model_validate(about["networks"]),
            camera=camera,
            style_dim=int(about["style_dim"]) if "style_dim" in about else None,
            gan_sha256=about["gan_sha256"] if "style_dim" in about else None,
            latent=LatentConfig.model_validate(about["latent"]) if "style_dim" in about else None,
            teachers=teachers,
            sha256=file_digest(path),
            source=str(name_or_path),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise NetworksError(
            f"{path} was written by another version of this program; make it again with "
            "'gan2shape pretrain'."
        ) from error


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, as float32 under the rest of their names."""
    return {
        name.removeprefix(prefix): tensor.float()
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _json(text: str) -> dict[str, Any]:
    """The JSON object in a text; empty where there is none."""
    try:
        tree = json.loads(text)
    except ValueError:
        return {}
    return tree if isinstance(tree, dict) else {}


def check_gan(pretrained: TrainedNetworks, gan: Gan) -> None:
    """Raise `NetworksError` unless the networks know this GAN."""
    if pretrained.gan_sha256 not in (None, gan.sha256):
        raise NetworksError(
            f"The networks {pretrained.source} were trained with another GAN than {gan.source}; "
            "give the one they know with --gan, or pretrain networks with this one."
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
                    f"not {ours}; use '--set {part}.{name}={value}' or other networks."
                )


def networks_bytes(pretrained: TrainedNetworks) -> bytes:
    """The content of a networks file. Equal parameters make equal files."""
    about: dict[str, Any] = {
        "format": FORMAT,
        "networks": pretrained.networks.model_dump(mode="json"),
        "camera": pretrained.camera.model_dump(mode="json"),
    }
    if pretrained.style_dim is not None:
        assert pretrained.latent is not None  # an encoder comes with all three
        about |= {"style_dim": pretrained.style_dim, "gan_sha256": pretrained.gan_sha256}
        about |= {"latent": pretrained.latent.model_dump(mode="json")}
    parameters = dict(pretrained.parameters)
    if pretrained.teachers:
        about["teachers"] = [each.networks.model_dump(mode="json") for each in pretrained.teachers]
        for number, teacher in enumerate(pretrained.teachers):
            prefix = f"{TEACHER}{number}."
            parameters |= {prefix + name: value for name, value in teacher.parameters.items()}
    halves = {name: t.detach().cpu().half().contiguous() for name, t in parameters.items()}
    return save(halves, metadata={"gan2shape": json.dumps(about)})


def parameters_of(networks: nn.Module, encoder: nn.Module | None = None) -> dict[str, Tensor]:
    """Copies of both modules' parameters under the names of the file."""
    theirs = {} if encoder is None else encoder.state_dict()
    named = {**networks.state_dict(), **{ENCODER + name: v for name, v in theirs.items()}}
    return {name: value.detach().clone() for name, value in named.items()}
