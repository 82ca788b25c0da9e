"""Category, recipe, model and single parts in place of a model's: brought into agreement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gan2shape.jobs.weights.model import open_model
from gan2shape.jobs.weights.networks_file import load_networks
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.load import NetworksSettings, load_recipe, load_settings, names
from gan2shape.schemas.packaged import GAN_FILE, JOINT_FILE, NETWORKS_FILE
from gan2shape.schemas.settings import RunConfig

STARTS = {"joint": JOINT_FILE, "finetuned": NETWORKS_FILE}
"""Where a model holds the networks that a recipe starts from."""
LATENT = ("regularize", "mapping_layers", "relative")
"""Settings of the latent that an offset encoder was trained with."""


@dataclass(frozen=True)
class Choice:
    """Weights and settings that fit each other."""

    config: RunConfig
    gan: str
    """Empty where none is given and none is needed."""
    networks: str | None
    """Networks to start from; without them, from an ellipsoid."""
    priors: str | None
    """Where the priors in `config` come from, where they are not the category's."""


def choose(
    *,
    model: str | None = None,
    gan: str | None = None,
    category: str | None = None,
    recipe: str | None = None,
    networks: str | None = None,
    priors: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    needs_gan: bool = True,
) -> Choice:
    """Resolve what a command was given.

    A model brings GAN, category, recipe, priors and networks, and each of the other arguments
    replaces one of them. Without a model, `gan` and `category` are needed, and the recipe is
    `paper` unless given. The camera, the widths and the latent settings are those that the networks
    were trained with.

    Raises `UserError` where something is missing, damaged or contradictory.
    """
    opened = None if model is None else open_model(model)
    if opened is not None:
        gan = gan or opened.path(GAN_FILE)
        category = category or opened.category
        recipe = recipe or opened.about.recipe
    if category is None or (gan is None and needs_gan):
        raise UserError(
            "Give --model NAME, or --gan FILE with --category NAME "
            f"({', '.join(names('categories'))})."
        )
    recipe = recipe or "paper"
    start = load_recipe(recipe).networks
    if networks is None and start is not None:
        if opened is None:
            raise UserError(
                f"The recipe {recipe} starts from trained networks; give --model NAME or "
                "--networks FILE, or another --recipe."
            )
        networks = opened.path(STARTS[start])
    config = load_settings(
        category,
        recipe,
        model=None if opened is None else opened.about,
        networks=None if networks is None else networks_settings(networks),
        priors=priors,
        overrides=overrides,
    )
    return Choice(config, gan or "", networks, priors or model)


def networks_settings(name_or_path: str) -> NetworksSettings:
    """What networks were trained with: camera, widths, and settings of the latent."""
    networks = load_networks(name_or_path)
    settings = {"camera": networks.camera.model_dump(), "networks": networks.networks.model_dump()}
    if networks.latent is not None:
        settings["latent"] = networks.latent.model_dump(include=set(LATENT))
    return NetworksSettings(name_or_path, settings)
