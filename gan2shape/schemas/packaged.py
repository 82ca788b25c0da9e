"""The models that come with the package, and the names of a model's files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

MODEL_FILE = "model.yaml"
GAN_FILE = "gan.safetensors"
NETWORKS_FILE = "networks.safetensors"
"""Networks to reconstruct from: finetuned after joint training."""
JOINT_FILE = "joint.safetensors"
"""Networks as joint training left them, which refining starts from."""


def asset_names(file: str = MODEL_FILE) -> list[str]:
    """Names of the packaged models ("heads64") that hold `file`."""
    return sorted(folder.name for folder in _root().iterdir() if (folder / file).is_file())


def asset_path(name_or_path: str | Path, file: str) -> Path:
    """Where `file` of a model is, by the model's packaged name or its folder.

    "NAME/FILE" is another file of a packaged model. Any other path is returned as it is.
    """
    name, _, inner = str(name_or_path).partition("/")
    if name in asset_names() and (not inner or not Path(name_or_path).exists()):
        return _root() / name / (inner or file)
    path = Path(name_or_path)
    return path / file if (path / MODEL_FILE).is_file() else path


def _root() -> Path:
    return Path(str(resources.files("gan2shape.assets")))
