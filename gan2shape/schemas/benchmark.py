"""What `gan2shape benchmark` spends on its rows, as data."""

from __future__ import annotations

from importlib import resources
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, field_validator

from gan2shape.schemas.network_training import baseline_config, finetune_settings
from gan2shape.schemas.settings import ConfigError, RunConfig, Settings, first_problem, load_config

Positive = Annotated[int, Field(gt=0)]

FULL, QUICK = "full", "quick"
"""Names of the recipes on synthetic heads."""


class RunRecipe(Settings):
    """Settings of a run: a preset, and what is changed in it."""

    preset: str
    set: dict[str, Any] = Field(default_factory=dict)
    """Dotted keys to values, as `--set` takes them."""

    def config(
        self, seed: int, priors: str | None, overrides: dict[str, Any] | None = None
    ) -> RunConfig:
        """The resolved settings; `overrides` have the last word. Raises `ConfigError`."""
        return load_config(self.preset, self.set | (overrides or {}) | {"seed": seed}, priors)


class PretrainRecipe(RunRecipe):
    """A joint training on the first heads of the train split."""

    heads: Positive = 256


class FinetuneRecipe(RunRecipe):
    """Finetuning: losses and priors from the preset, and what else it is told."""

    training: dict[str, Any] = Field(default_factory=dict)
    """Its budget: images, batch, learning rate, decay."""

    def settings(
        self, seed: int, priors: str | None, overrides: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """All settings, for `baseline_config`. Raises `ConfigError`."""
        return finetune_settings(self.config(seed, priors, overrides)) | self.training


class Recipe(Settings):
    """Heads, budgets of the trainings, and presets of the runs."""

    name: str = "custom"
    heads: Positive
    """Of the test split."""
    train_heads: Positive
    supervised: dict[str, Any] = Field(default_factory=dict)
    """Settings of that baseline, as `schemas.baseline_training` names them."""
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
    try:
        tree = yaml.safe_load(text)
        recipe = Recipe.model_validate(tree[name] | {"name": name})
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(f"{source} holds no recipe {name!r} as 'key: value' lines.") from error
    except ValidationError as error:
        raise ConfigError(f"{source}: {name}.{first_problem(error)}.") from error
    for method in ("supervised", "unsup3d"):
        baseline_config({"method": method} | getattr(recipe, method))
    for stage in (recipe.finetune, recipe.teach):
        baseline_config(stage.settings(0, None))
    return recipe


def packaged_recipe(name: str) -> Recipe:
    """The recipe `FULL` or `QUICK`."""
    file = resources.files("gan2shape.schemas") / "benchmarks" / "heads.yaml"
    return load_recipe(file.read_text(), name, "heads.yaml")
