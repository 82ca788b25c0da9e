"""From names and files to a run's settings: category, recipe, model, priors, networks, overrides.

Later ones go before earlier ones, and all of them before the defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from gan2shape.schemas.base import Settings, first_problem, main_error
from gan2shape.schemas.errors import ConfigError, nearest
from gan2shape.schemas.model import ModelFile
from gan2shape.schemas.packaged import MODEL_FILE, asset_names, asset_path
from gan2shape.schemas.settings import ORIGIN, PriorsFile, RunConfig
from gan2shape.schemas.yaml_files import read_yaml

Tree = dict[str, Any]
_Model = TypeVar("_Model", bound=BaseModel)
NO_SYMMETRY: Tree = {"optimization": {"symmetry_step1": "never", "symmetry_step3": "never"}}


class Category(Settings):
    """What kind of thing the images show."""

    description: str
    symmetric: bool
    """Whether left and right are alike. Where they are not, no recipe takes them for alike."""
    settings: Tree = Field(default_factory=dict)
    """Camera, mask, ellipsoid and priors."""
    published: dict[str, Tree] = Field(default_factory=dict)
    """Settings that the paper gives for the category, by the names of recipes."""


class Recipe(Settings):
    """How much work to spend."""

    description: str
    published: str | None = None
    """The category's published settings that it takes."""
    networks: Literal["joint", "finetuned"] | None = None
    """Which of a model's networks it starts from; none starts from an ellipsoid."""
    settings: Tree = Field(default_factory=dict)


@dataclass(frozen=True)
class NetworksSettings:
    """What networks were trained with, which the settings of their runs have to share."""

    source: str
    """What messages call the networks."""
    settings: Tree = field(default_factory=dict)


def names(kind: Literal["categories", "recipes"]) -> list[str]:
    """The categories or recipes that come with the package."""
    folder = resources.files("gan2shape.schemas") / kind
    return sorted(
        file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")
    )


def load_category(name_or_path: str | Path) -> Category:
    """A category by its name, or from a YAML file. Raises `ConfigError`."""
    return _load(Category, "categories", "category", name_or_path)


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe by its name, or from a YAML file. Raises `ConfigError`."""
    return _load(Recipe, "recipes", "recipe", name_or_path)


def load_settings(
    category: str | Path,
    recipe: str | Path,
    *,
    model: ModelFile | None = None,
    networks: NetworksSettings | None = None,
    priors: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> RunConfig:
    """The settings of a run.

    Args:
        category, recipe: names, or YAML files.
        model: brings its camera size and its priors.
        networks: bring the settings that they were trained with.
        priors: a file that 'gan2shape train priors' wrote, or a model's name or folder.
        overrides: dotted keys to values, as `{"optimization.batch": 8}`.
    Raises:
        ConfigError: with one sentence that names the file or option and the key.
    """
    kind, work = load_category(category), load_recipe(recipe)
    layers: list[tuple[str, Tree]] = [(f"category {category}", kind.settings)]
    if work.published is not None:
        layers.append((f"category {category}", _published(kind, category, work.published)))
    layers.append((f"recipe {recipe}", work.settings))
    if not kind.symmetric:
        layers.append((f"category {category}", NO_SYMMETRY))
    if model is not None:
        layers.append((f"model {model.name}", model.settings()))
    if priors is not None:
        layers.append((str(priors), load_priors(priors)))
    given = nested(overrides or {})
    if networks is not None:
        _check_agreement(networks, given)
        layers.append((networks.source, networks.settings))
    layers.append(("--set", given))
    tree: Tree = {}
    for _, layer in layers:
        tree = _merged(tree, layer)
    origin = {"category": Path(category).stem, "recipe": Path(recipe).stem}
    tree |= origin | {"model": None if model is None else model.name}
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        main = main_error(error)
        source = _source(layers, main["loc"][: -1 if main["type"] == "missing" else None])
        raise ConfigError(f"{source}: {first_problem(error, RunConfig)}.") from error


def load_priors(name_or_path: str | Path) -> Tree:
    """The settings that a priors file tells, or a model's `model.yaml`. Raises `ConfigError`."""
    path = asset_path(name_or_path, MODEL_FILE)
    if not path.exists():
        known = ", ".join(asset_names())
        raise ConfigError(
            f"There are no priors {str(name_or_path)!r}; give a file that 'gan2shape train priors' "
            f"wrote, or the name or folder of a model ({known})."
        )
    if path.name == MODEL_FILE:
        settings = validated(ModelFile, read_yaml(path), path).settings()
        return {name: part for name, part in settings.items() if name != "camera"}
    return validated(PriorsFile, read_yaml(path), path).settings()


def nested(overrides: Mapping[str, Any]) -> Tree:
    """Dotted keys as a tree: `{"a.b": 1}` is `{"a": {"b": 1}}`. Raises `ConfigError`."""
    tree: Tree = {}
    for dotted, value in overrides.items():
        if dotted in ORIGIN:
            raise ConfigError(f"'--set {dotted}' is not possible; use --{dotted}.")
        *parents, leaf = dotted.split(".")
        branch = tree
        for key in parents:
            branch = branch.setdefault(key, {})
            if not isinstance(branch, dict):
                raise ConfigError(f"--set gives {key!r} both as a whole and in part; give it once.")
        branch[leaf] = value
    return tree


def validated(model: type[_Model], tree: Tree, source: str | Path) -> _Model:
    """The tree as this model. Raises `ConfigError` that names the source and the key."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {first_problem(error, model)}.") from error


def _load(
    model: type[_Model],
    folder: Literal["categories", "recipes"],
    word: str,
    name_or_path: str | Path,
) -> _Model:
    known = names(folder)
    if str(name_or_path) in known:
        path = Path(str(resources.files("gan2shape.schemas"))) / folder / f"{name_or_path}.yaml"
    else:
        path = Path(name_or_path)
        if not path.exists() and path.suffix not in (".yaml", ".yml"):
            raise ConfigError(
                f"There is no {word} {str(name_or_path)!r}{nearest(str(name_or_path), known)}; the "
                f"{folder} are {', '.join(known)}, or give a YAML file."
            )
    return validated(model, read_yaml(path), path)


def _published(category: Category, name: str | Path, wanted: str) -> Tree:
    if wanted not in category.published:
        known = ", ".join(category.published) or "none"
        raise ConfigError(
            f"The paper gives no settings {wanted!r} for the category {name} (known: {known}); "
            "use another --recipe."
        )
    return category.published[wanted]


def _check_agreement(networks: NetworksSettings, given: Tree) -> None:
    """Raise `ConfigError` where an override contradicts what the networks were trained with."""
    wanted = dict(_leaves(given))
    for key, value in _leaves(networks.settings):
        if key in wanted and wanted[key] != value:
            raise ConfigError(
                f"The networks {networks.source} were trained with {key} {value}, not "
                f"{wanted[key]}; leave out '--set {key}', or give other networks."
            )


def _leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _merged(below: Tree, above: Tree) -> Tree:
    """Both trees; where they differ, the value of `above`."""
    merged = dict(below)
    for key, value in above.items():
        before = merged.get(key)
        both = isinstance(value, dict) and isinstance(before, dict)
        merged[key] = _merged(before, value) if both else value  # type: ignore[arg-type]
    return merged


def _source(layers: list[tuple[str, Tree]], keys: tuple[int | str, ...]) -> str:
    """The last layer that holds the setting with these keys, or the first of them."""
    for length in range(len(keys), 0, -1):
        for source, layer in reversed(layers):
            if _holds(layer, keys[:length]):
                return source
    return "The settings"


def _holds(tree: Any, keys: tuple[int | str, ...]) -> bool:
    try:
        for key in keys:
            tree = tree[key]
    except (KeyError, IndexError, TypeError):
        return False
    return True
