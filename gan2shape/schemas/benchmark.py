"""What `gan2shape benchmark` spends on its rows, as data."""

from __future__ import annotations

from importlib import resources
from typing import Any

from pydantic import Field, ValidationError, field_validator

from gan2shape.schemas.base import Positive, Settings, first_problem
from gan2shape.schemas.errors import ConfigError, nearest
from gan2shape.schemas.load import load_settings
from gan2shape.schemas.network_training import baseline_config, finetune_settings
from gan2shape.schemas.settings import RunConfig
from gan2shape.schemas.yaml_files import mapping

CATEGORY = "heads"
FULL, QUICK = "full", "quick"
"""Names of the recipes on synthetic heads."""


class RunRecipe(Settings):
    """Settings of a run: a recipe, and what is changed in it."""

    recipe: str
    set: dict[str, Any] = Field(default_factory=dict)
    """Dotted keys to values, as `--set` takes them."""

    def config(
        self, seed: int, priors: str | None, overrides: dict[str, Any] | None = None
    ) -> RunConfig:
        """The resolved settings; `overrides` have the last word. Raises `ConfigError`."""
        changes = self.set | (overrides or {}) | {"seed": seed}
        return load_settings(CATEGORY, self.recipe, priors=priors, overrides=changes)


class PretrainRecipe(RunRecipe):
    """A joint training on the first heads of the train split."""

    heads: Positive = 256


class FinetuneRecipe(RunRecipe):
    """Finetuning: losses and priors from the recipe, and what else it is told."""

    training: dict[str, Any] = Field(default_factory=dict)
    """Its budget: images, batch, learning rate, decay."""

    def settings(
        self, seed: int, priors: str | None, overrides: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """All settings, for `baseline_config`. Raises `ConfigError`."""
        return finetune_settings(self.config(seed, priors, overrides)) | self.training


class Recipe(Settings):
    """Heads, budgets of the trainings, and recipes of the runs."""

    name: str = "custom"
    heads: Positive
    """Of the test split."""
    train_heads: Positive
    supervised: dict[str, Any] = Field(default_factory=dict)
    """Settings of that baseline, as `schemas.network_training` names them."""
    unsup3d: dict[str, Any] = Field(default_factory=dict)
    """With symmetry and without."""
    pretrain: PretrainRecipe
    """What rows 5 to 10 start from, except row 7."""
    finetune: FinetuneRecipe
    """From there towards row 10."""
    teach: FinetuneRecipe
    """From there to row 10, with row 4's networks for a teacher."""
    forward: RunRecipe
    """Rows of one forward pass: 1, 4, 7 and 9."""
    tune: RunRecipe
    """From row 10's networks, on the heads alone."""
    refine: RunRecipe
    """The method itself: rows 5, 6 and 8."""

    @field_validator("supervised", "unsup3d")
    @classmethod
    def _left_to_the_rows(cls, value: dict[str, Any]) -> dict[str, Any]:
        fixed = {"method", "symmetric", "seed", "camera"} & set(value)
        if fixed:
            raise ValueError(f"{', '.join(sorted(fixed))} is not up to a recipe")
        return value


def load_recipe(text: str, name: str, source: str) -> Recipe:
    """The recipe `name` of a YAML text; `source` is what messages call the text.

    Raises `ConfigError` with one sentence that names the key.
    """
    tree = mapping(text, source)
    if not isinstance(tree.get(name), dict):
        raise ConfigError(
            f"{source} holds no recipe {name!r} as 'key: value' lines{nearest(name, tree)}."
        )
    try:
        recipe = Recipe.model_validate(tree[name] | {"name": name})
    except ValidationError as error:
        raise ConfigError(f"{source}: {name}.{first_problem(error, Recipe)}.") from error
    for method in ("supervised", "unsup3d"):
        baseline_config({"method": method} | getattr(recipe, method))
    for stage in (recipe.finetune, recipe.teach):
        baseline_config(stage.settings(0, None))
    return recipe


def packaged_recipe(name: str) -> Recipe:
    """The recipe `FULL` or `QUICK`."""
    file = resources.files("gan2shape.schemas") / "benchmarks" / "heads.yaml"
    return load_recipe(file.read_text(), name, "heads.yaml")
