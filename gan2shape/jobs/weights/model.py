"""Models: folders that hold all that has been learnt about a category.

    model.yaml               what the model is: `schemas.model.ModelFile`; written last
    gan.safetensors          the StyleGAN2
    networks.safetensors     networks to reconstruct from: finetuned after joint training
    joint.safetensors        networks as joint training left them, which refining starts from
    category.yaml            the category, where it does not come with the package

Only model.yaml is always there. The others are there when model.yaml lists them, each with its
SHA-256. A folder can be copied and shared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gan2shape.jobs.files import write_whole
from gan2shape.schemas.errors import UserError, nearest
from gan2shape.schemas.load import validated
from gan2shape.schemas.model import CATEGORY_FILE, MODEL_FORMAT, ModelFile
from gan2shape.schemas.packaged import (
    GAN_FILE,
    JOINT_FILE,
    MODEL_FILE,
    NETWORKS_FILE,
    asset_names,
    asset_path,
)
from gan2shape.schemas.yaml_files import read_yaml

FILES = {
    GAN_FILE: "GAN",
    NETWORKS_FILE: "finetuned networks",
    JOINT_FILE: "jointly trained networks",
    CATEGORY_FILE: "category",
}
"""The files that a model can hold, and what messages call them."""


class ModelError(UserError):
    """A model is missing, damaged or of another version; the message is one sentence."""


@dataclass(frozen=True)
class Model:
    """An open model: its files are there and are those that model.yaml lists."""

    folder: Path
    about: ModelFile
    packaged: bool = False

    @property
    def category(self) -> str:
        """The category as `load_settings` takes it: a name, or the model's own file."""
        own = CATEGORY_FILE in self.about.files
        return str(self.folder / CATEGORY_FILE) if own else self.about.category

    def has(self, file: str) -> bool:
        """Whether the model holds this one of `FILES`."""
        return file in self.about.files

    def path(self, file: str) -> str:
        """One of `FILES` as loaders take it: packaged ones by name, others by absolute path.

        Raises `ModelError` where the model does not hold it.
        """
        if not self.has(file):
            raise ModelError(
                f"The model {self.about.name} holds no {FILES[file]} ({file}); use another model, "
                "or another --recipe, or name the file with an option."
            )
        if self.packaged:
            return f"{self.folder.name}/{file}"
        return str((self.folder / file).resolve())


def open_model(name_or_path: str | Path) -> Model:
    """Open a packaged model by its name, or any by its folder, and check its files.

    Raises `ModelError` or `ConfigError` where it is missing, damaged or of another version.
    """
    path = asset_path(name_or_path, MODEL_FILE)
    if path.name != MODEL_FILE:
        known = asset_names()
        if path.is_dir():
            raise ModelError(f"{path} is not a model: it holds no {MODEL_FILE}.")
        raise ModelError(
            f"There is no model {str(name_or_path)!r}{nearest(str(name_or_path), known)}; give "
            f"the folder of a model, or the name of a packaged one ({', '.join(known)})."
        )
    tree = read_yaml(path)
    if tree.get("format") != MODEL_FORMAT:
        raise ModelError(
            f"The model {path.parent} has the format {tree.get('format')!r}, and this version "
            f"reads {MODEL_FORMAT!r}; install the version that wrote it, or train it again."
        )
    about = validated(ModelFile, tree, path)
    for name, digest in about.files.items():
        _check(path.parent / name, name, digest)
    return Model(path.parent, about, packaged=str(name_or_path) in asset_names())


def write_model(
    folder: Path,
    *,
    name: str,
    category: str | Path,
    recipe: str,
    size: int,
    files: Mapping[str, Path],
    priors: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    figures: Mapping[str, Any] | None = None,
) -> Model:
    """Copy files into a model's folder, and write model.yaml last.

    Args:
        folder: is made if need be; a model that is there already is replaced.
        category: a name, or a YAML file, which is copied.
        recipe: what runs with this model take unless they name another recipe.
        files: those of `FILES` that the model holds, and where they are now.
        priors: `view_prior` and `light_prior` as settings.
        provenance, figures: for people.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = dict(files)
    if Path(category).is_file():
        wanted[CATEGORY_FILE] = Path(category)
    digests = {}
    for target, source in wanted.items():
        content = source.read_bytes()
        digests[target] = hashlib.sha256(content).hexdigest()
        if source != folder / target:
            write_whole(folder / target, content)
    tree = {
        "format": MODEL_FORMAT,
        "name": name,
        "category": Path(category).stem,
        "recipe": recipe,
        "size": size,
        "files": digests,
        **(priors or {}),
        "provenance": dict(provenance or {}),
        "figures": dict(figures or {}),
    }
    about = validated(ModelFile, tree, folder / MODEL_FILE)
    write_whole(folder / MODEL_FILE, yaml.safe_dump(tree, sort_keys=False).encode())
    return Model(folder, about)


def _check(path: Path, name: str, digest: str) -> None:
    if name not in FILES:
        known = ", ".join(FILES)
        raise ModelError(
            f"{path.parent / MODEL_FILE} lists {name!r}{nearest(name, FILES)}; a model holds "
            f"{known}."
        )
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise ModelError(
            f"The model {path.parent} is incomplete: {path} is missing; copy the model again."
        ) from None
    if found != digest:
        raise ModelError(
            f"The model {path.parent} is damaged: the SHA-256 of {path} is not the one in "
            f"{MODEL_FILE}; copy the model again."
        )
