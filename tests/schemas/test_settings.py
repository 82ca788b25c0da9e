"""Settings: categories, recipes, overrides, and one sentence for whatever is wrong."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from gan2shape.jobs.weights.networks_file import load_networks
from gan2shape.pipeline.reconstruct import make_schedule
from gan2shape.schemas.errors import ConfigError
from gan2shape.schemas.fields import setting_fields, settings_under
from gan2shape.schemas.gan_training import GanTrainingConfig, training_config
from gan2shape.schemas.load import load_category, load_recipe, load_settings, names
from gan2shape.schemas.network_training import FinetuneConfig, SupervisedConfig, Unsup3dConfig
from gan2shape.schemas.settings import ORIGIN, RunConfig

V020 = json.loads((Path(__file__).parents[1] / "data" / "v020-presets.json").read_text())
"""The presets of version 0.2.0, resolved. They were written once, by that version's loader, and
bear the names that settings have now."""
PRESETS = {
    "heads64": ("heads", "paper"),
    "heads64-joint": ("heads", "paper-joint"),
    "celeba128": ("faces", "paper"),
    "cats128": ("cats", "paper"),
    "cars128": ("cars", "paper"),
    "church128": ("churches", "paper"),
    "heads64-scratch": ("heads", "scratch"),
    "heads64-refine": ("heads", "refine"),
    "heads64-tune": ("heads", "single-image"),
    "heads64-forward": ("heads", "forward"),
    "heads64-pretrain": ("heads", "joint"),
    "heads64-priors": ("heads", "priors"),
    "heads64-finetune": ("heads", "finetune"),
}


CONSTANTS = {
    "optimization": {"gradient_limit": 5.0, "symmetry_sides": "random"},
    "inversion": {"start_samples": 256},
}
"""What v0.2.0 had fixed in its code."""


def test_every_preset_of_v020_has_its_category_and_recipe() -> None:
    assert PRESETS.keys() == V020.keys()


@pytest.mark.parametrize("preset", PRESETS)
def test_category_and_recipe_give_the_settings_of_the_preset(preset: str) -> None:
    category, recipe = PRESETS[preset]
    config = load_settings(category, recipe)
    ours, theirs = config.model_dump(mode="json", exclude=set(ORIGIN)), deepcopy(V020[preset])
    for part, constants in CONSTANTS.items():
        theirs[part] |= constants
    if load_recipe(recipe).networks:
        # The category has an ellipsoid, those presets had the default's; no step uses it.
        assert "ellipsoid" not in {
            step.name for step in make_schedule(config, load_networks("heads64"))
        }
        del ours["ellipsoid"], theirs["ellipsoid"]
    assert ours == theirs
    assert (config.category, config.recipe, config.model) == (category, recipe, None)


@pytest.mark.parametrize("name", names("categories"))
def test_every_category_gives_its_published_settings(name: str) -> None:
    published = load_category(name).published
    assert "paper" in published
    for recipe in published:
        assert load_settings(name, recipe).optimization.cycles


@pytest.mark.parametrize("category", names("categories"))
@pytest.mark.parametrize("recipe", [name for name in names("recipes") if "paper" not in name])
def test_every_recipe_serves_every_category(category: str, recipe: str) -> None:
    """A category without symmetry keeps it out of recipes that have it."""
    config = load_settings(category, recipe)
    assert config.camera == load_settings(category, "paper").camera
    assert config.optimization.symmetric == load_category(category).symmetric


def test_categories_and_recipes_can_be_files(tmp_path: Path) -> None:
    bikes, twice = tmp_path / "bikes.yaml", tmp_path / "twice.yml"
    bikes.write_text(
        "description: Bicycles\nsymmetric: false\nsettings: {camera: {size: 32}}\n"
        "published: {paper: {group_size: 2}}\n"
    )
    twice.write_text("description: Short\npublished: paper\nsettings: {optimization: {batch: 2}}\n")
    config = load_settings(bikes, twice)
    assert (config.category, config.recipe) == ("bikes", "twice")
    assert (config.camera.size, config.group_size, config.optimization.batch) == (32, 2, 2)
    assert config.optimization.symmetry_step3 == "never"


def test_overrides_reach_nested_settings_and_change_the_digest() -> None:
    plain = load_settings("heads", "paper")
    overrides = {"optimization.batch": 8, "networks.width": 16}
    changed = load_settings("heads", "paper", overrides=overrides)
    assert changed.optimization.batch == 8
    assert changed.networks.width == 16
    assert plain.digest() == load_settings("heads", "paper").digest() != changed.digest()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optimization.bach", 8, "optimization.bach: unknown setting; the nearest is 'batch'"),
        ("optimisation.batch", 8, "optimisation: unknown setting; the nearest is 'optimization'"),
        ("optimization.cycles", [{"stpe1": 3}], "cycles.0.stpe1: .* the nearest is 'step1'"),
        ("optimization.batch", 0, "optimization.batch must be greater than or equal to 1"),
        ("optimization.batch", 2.5, "optimization.batch must be a valid integer"),
        ("optimization.betas", [0.9, 1.2], "optimization.betas.1 must be less than 1"),
        ("optimization.betas", [-0.1, 0.9], "betas.0 must be greater than or equal to 0"),
        ("optimization.weight_decay", -1.0, "weight_decay must be greater than or equal to 0"),
        ("optimization.perceptual_weight", 1e300, "perceptual_weight must be less than"),
        ("optimization.cycles", [{"step1": 10**7}], "step1 must be less than or equal to 1000000"),
        ("optimization.cycles", [{}] * 101, "at most 100 items"),
        ("view_prior.view_scale", float("inf"), "view_prior.view_scale must be a finite number"),
        ("view_prior.std", [50, 0, 0, 0, 0, 0], "view_prior.std.0 must be less than"),
        ("view_prior.std", [0, -0.1, 0, 0, 0, 0], "std.1 must be greater than or equal to 0"),
        ("view_prior.std", [0, float("nan"), 0, 0, 0, 0], "std.1 must be a finite number"),
        ("view_prior.std", [0.1] * 5, "view_prior.std.5 is missing"),
        ("view_prior.mean", [0, 0, 0, 2, 0, 0], "view_prior.mean.3 must be less than"),
        ("light_prior.x", [0.5, -0.5], "the first number of x must not be above the second"),
        ("light_prior.mean", [0, 0, 0, 0], "light_prior: mean and std go together"),
        ("camera.size", 10**20, "camera.size must be less than or equal to 1024"),
        ("camera.size", 16, "camera.size must be greater than or equal to 32"),
        ("camera.size", 100, "camera: size must be a power of two"),
        ("ellipsoid.far", 0.5, "ellipsoid: far must be above near"),
        ("networks.width", 10**9, "networks.width must be less than"),
        ("seed", -1, "seed must be greater than or equal to 0"),
        ("seed", 2**40, "seed must be less than"),
        ("seed.low", 1, "seed is a single value, as in seed=VALUE"),
        ("optimization.cycles.step1", 1, "cycles is a list, given as a whole, as in optimi"),
        ("group_size", 5, r"shard_size \(16\) must be a multiple of group_size \(5\)"),
        ("recipe", "paper", "'--set recipe' is not possible; use --recipe"),
    ],
)
def test_wrong_settings_are_named(key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings("heads", "paper", overrides={key: value})
    assert "\n" not in str(caught.value)
    if key not in ("group_size", "recipe"):
        assert str(caught.value).startswith("--set: ")


def test_gan_training_has_ranges_too() -> None:
    for values, message in (
        ({"augment": {"scale": float("nan")}}, "augment.scale must be a finite number"),
        ({"channels": [0] * 5}, "channels.0 must be greater than or equal to 1"),
        ({"size": 10**20}, "size must be less than or equal to 1024"),
        ({"learning_rate": 11}, "learning_rate must be less than or equal to 10"),
        ({"learning_rat": 1}, "learning_rat: .* the nearest is 'learning_rate'"),
    ):
        with pytest.raises(ConfigError, match=message):
            training_config(values)


def _nest(depth: int) -> str:
    return "[" * depth + "]" * depth


def _bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"settings: " + _nest(5000).encode(), "nested more than 50 levels deep"),
        (b"{a: " * 5000, "nested more than 50 levels deep"),
        (_bomb().encode(), "holds more than 100000 values"),
        (b"a: &a [*a]", "holds more than 100000 values"),
        (b"\xff\xfe\x00bad", "not a text file"),
        (b"a: [unclosed", "not valid YAML"),
        (b"a: " + b"9" * 5000, "not valid YAML"),
        (b"a: 2020-99-99", "not valid YAML"),
        (b"a: !!python/object:os.system x", "not valid YAML"),
        (b"a: \x00", "not valid YAML"),
        (b"- 1", "'key: value' lines"),
        (b"1: 2", "'key: value' lines"),
        (b"x: " + b"y" * 2_000_000, "too large"),
        (b"descripton: x\nsymmetric: true", "descripton: .* the nearest is 'description'"),
        (b"symmetric: true", "description is missing"),
        (None, "is a folder"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "hostile.yaml"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    for arguments in ((file, "paper"), ("heads", file)):
        if b"symmetric" in (content or b"") and arguments[0] != file:
            continue
        with pytest.raises(ConfigError, match=message) as caught:
            load_settings(*arguments)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_names_that_are_not_there() -> None:
    with pytest.raises(ConfigError, match=r"no category 'face'; the nearest is 'faces'; .* cars, "):
        load_settings("face", "paper")
    with pytest.raises(ConfigError, match=r"no recipe 'forwrd'; the nearest is 'forward'; .*paper"):
        load_settings("heads", "forwrd")
    with pytest.raises(ConfigError, match="gives no settings 'paper-joint' for the category cars"):
        load_settings("cars", "paper-joint")
    with pytest.raises(ConfigError, match=r"'absent.yaml' cannot be read"):
        load_settings("absent.yaml", "paper")


def test_a_wrong_setting_names_the_file_that_has_it(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("description: x\nsettings: {optimization: {batch: -1}}")
    with pytest.raises(ConfigError, match=rf"recipe {recipe}: optimization.batch must be"):
        load_settings("heads", recipe)


PRIORS = """# Found in 256 images.
view_prior:
  mean: [0.1, 0.0, 0.0, 0.0, 0.0, 0.0]
  std: [0.2, 0.4, 0.05, 0.0, 0.0, 0.0]
light_prior:
  mean: [0.0, 0.2, 0.1, 0.3]
  std: [0.1, 0.1, 0.2, 0.2]
provenance: {images: 256}
"""


def test_priors_lie_over_the_recipe_and_under_the_overrides(tmp_path: Path) -> None:
    file = tmp_path / "priors.yaml"
    file.write_text(PRIORS)
    plain = load_settings("cars", "paper")
    config = load_settings("cars", "paper", priors=file)
    assert config.view_prior.mean[0] == 0.1 != plain.view_prior.mean[0]
    assert config.view_prior.std == (0.2, 0.4, 0.05, 0.0, 0.0, 0.0)
    assert config.light_prior.std == (0.1, 0.1, 0.2, 0.2)
    assert config.light_prior.x == plain.light_prior.x  # not in the file
    assert config.optimization == plain.optimization
    overrides = {"view_prior.std": [1, 1, 1, 0, 0, 0]}
    changed = load_settings("cars", "paper", priors=file, overrides=overrides)
    assert changed.view_prior.std[0] == 1
    assert changed.view_prior.mean == config.view_prior.mean
    scaled = load_settings("heads", "refine", priors=file).view_prior.view_scale
    assert scaled == 1.3  # the recipe's, which the file does not tell


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PRIORS + "seed: 1\n", "priors.yaml: seed: unknown setting"),
        ("view_prior: {stdd: 1}", "priors.yaml: view_prior.stdd: unknown setting.* 'std'"),
        ("light_prior: {mean: [0, 0, 0, 0]}", "priors.yaml: light_prior: .*mean and std"),
        ("view_prior: {std: [.nan, 0, 0, 0, 0, 0]}", "std.0 must be a finite number"),
        ("provenance: none", "neither view_prior nor light_prior"),
        ("- 1", "'key: value' lines"),
        (None, "no priors"),
    ],
)
def test_wrong_priors_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "priors.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_settings("heads", "paper", priors=file)


def test_every_run_setting_has_a_sentence_and_every_number_a_range() -> None:
    for field in setting_fields(RunConfig):
        assert field.text.endswith("."), field.key
        assert "any" not in field.range, field.key
    for model in (GanTrainingConfig, SupervisedConfig, Unsup3dConfig, FinetuneConfig):
        for field in setting_fields(model):
            assert "any" not in field.range, (model, field.key)


def test_settings_are_found_by_key() -> None:
    (decay,) = settings_under("optimization.decay")
    assert (decay.default_text, decay.range) == ("0.0", "0 to 1")
    assert "fall to zero" in decay.text
    cycles = settings_under("optimization.cycles")
    assert cycles[0].default_text == "[{step1: 500, step2: 500, step3: 200}]"
    assert "optimization.cycles[].step1" in [field.key for field in cycles]
    assert {field.key for field in settings_under("camera")} >= {"camera.size", "camera.min_depth"}
    with pytest.raises(ConfigError, match=r"no setting 'optimization\.deca'; the nearest is 'opt"):
        settings_under("optimization.deca")
