"""Trained networks as a file.

A safetensors file with the shape networks' parameters under `depth_net.`, `albedo_net.`,
`view_net.` and `light_net.`, the offset encoder's under `encoder.`, all in half precision. The
metadata has one entry, `gan2shape`, a JSON object with `format` = "gan2shape.networks/2" and the
fields of `TrainedNetworks`: safetensors stores several entries in an order of its own, and equal
networks would make different files. Networks trained without a GAN have no encoder. Those of
teachers are under `teacher0.`, `teacher1.` and so on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from gan2shape.jobs.weights.files import file_digest, read_safetensors
from gan2shape.pipeline.networks.trained import NetworksError, TrainedNetworks
from gan2shape.schemas.packaged import NETWORKS_FILE, asset_names, asset_path
from gan2shape.schemas.settings import CameraConfig, LatentConfig, NetworkConfig

FORMAT = "gan2shape.networks/2"
TEACHER = "teacher"


def load_networks(name_or_path: str | Path) -> TrainedNetworks:
    """Read a networks file: a packaged one by its name ("heads64"), or any by its path.

    Raises `NetworksError` or `CheckpointError` where the file is missing, broken or of another
    kind.
    """
    path = asset_path(name_or_path, NETWORKS_FILE)
    if not path.is_file():
        known = ", ".join(asset_names(NETWORKS_FILE)) or "none"
        raise NetworksError(
            f"There is no networks file {path}; give a file that 'gan2shape train networks' wrote, "
            f"or the name or folder of a model ({known})."
        )
    tensors, metadata = read_safetensors(path, "pretrained networks")
    about = _json(metadata.get("gan2shape", ""))
    if about.get("format") != FORMAT:
        raise NetworksError(
            f"{path} is not a networks file of this program (format {FORMAT!r}); give one that "
            "'gan2shape train networks' wrote."
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
            "'gan2shape train networks'."
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
