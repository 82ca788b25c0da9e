"""Files that come with the package, for one category each: a GAN, networks, priors."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

GAN_FILE = "gan.safetensors"
NETWORKS_FILE = "networks.safetensors"
PRIORS_FILE = "priors.yaml"


def asset_names(file: str) -> list[str]:
    """Categories ("heads64") that come with `file`, one of the above."""
    root = resources.files("gan2shape.assets")
    return sorted(folder.name for folder in root.iterdir() if (folder / file).is_file())


def asset_path(name_or_path: str | Path, file: str) -> Path:
    """A packaged file by its category's name, or any by its path."""
    if str(name_or_path) in asset_names(file):
        return Path(str(resources.files("gan2shape.assets"))) / str(name_or_path) / file
    return Path(name_or_path)
