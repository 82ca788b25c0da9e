"""Settings: presets, overrides, and errors that name what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan2shape.schemas.errors import ConfigError
from gan2shape.schemas.load import load_settings


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid_and_bears_its_name(name: str) -> None:
    assert load_config(name).name == name


def test_the_presets_of_the_design_exist() -> None:
    assert {"heads64", "celeba128", "cats128", "cars128", "church128"} <= set(preset_names())


def test_presets_hold_the_papers_schedules() -> None:
    cars = load_settings("cars", "paper")
    counts = [(c.step1, c.step2, c.step3) for c in cars.optimization.cycles]
    assert counts == [(700, 700, 600), *[(200, 500, 400)] * 3]
    assert cars.optimization.symmetry_step3 == "never"
    assert cars.latent.mapping_layers == 2
    assert cars.latent.relative is False
    joint = load_settings("heads", "paper-joint").optimization.cycles
    assert len(joint) == 8
    assert (joint[7].step1, joint[7].step2, joint[7].step3) == (700, 1000, 1000)
    assert load_settings("faces", "paper").optimization.symmetry_step3 == "first_cycle"


def test_overrides_reach_nested_settings_and_change_the_digest() -> None:
    plain = load_settings("heads", "paper")
    changed = load_settings(
        "heads", "paper", overrides={"optimization.batch": 8, "networks.width": 16}
    )
    assert changed.optimization.batch == 8
    assert changed.networks.width == 16
    assert plain.digest() == load_settings("heads", "paper").digest() != changed.digest()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"optimization.bach": 8}, "optimization.bach: unknown setting"),
        ({"optimization.batch": 0}, "optimization.batch"),
        ({"shard_size": 6, "group_size": 4}, "multiple of"),
        ({"seed.low": 1}, "single value, as in seed=VALUE"),
        (
            {"optimization.cycles.single_image_passes": 1},
            "a list, given as a whole, as in optimization.cycles=V",
        ),
        ({"camera.size": 100}, "power of two"),
    ],
)
def test_wrong_settings_are_named(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings("heads", "paper", overrides={"seed": 0, **overrides})


PRIORS = """# Found in 256 images.
view_prior:
  mean: [0.1, 0.0, 0.0, 0.0, 0.0, 0.0]
  std: [0.2, 0.4, 0.05, 0.0, 0.0, 0.0]
light_prior:
  mean: [0.0, 0.2, 0.1, 0.3]
  std: [0.1, 0.1, 0.2, 0.2]
provenance: {images: 256}
"""


def test_priors_lie_over_the_preset_and_under_the_overrides(tmp_path: Path) -> None:
    file = tmp_path / "priors.yaml"
    file.write_text(PRIORS)
    plain, config = load_settings("cars", "paper"), load_settings("cars", "paper", priors=file)
    assert config.view_prior.mean[0] == 0.1 != plain.view_prior.mean[0]
    assert config.view_prior.std == (0.2, 0.4, 0.05, 0.0, 0.0, 0.0)
    assert config.light_prior.std == (0.1, 0.1, 0.2, 0.2)
    assert config.light_prior.x == plain.light_prior.x  # not in the file
    assert config.optimization == plain.optimization
    changed = load_settings(
        "cars", "paper", priors=file, overrides={"view_prior.std": [1, 1, 1, 0, 0, 0]}
    )
    assert changed.view_prior.std[0] == 1
    assert changed.view_prior.mean == config.view_prior.mean


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PRIORS + "seed: 1\n", "priors.yaml: seed: unknown setting"),
        ("view_prior: {stdd: 1}", "priors.yaml: view_prior.stdd: unknown setting"),
        ("light_prior: {mean: [0, 0, 0, 0]}", "priors.yaml: light_prior: .*mean and std"),
        ("provenance: none", "neither view_prior nor light_prior"),
        ("- 1", "'key: value' lines"),
        (None, "cannot be read"),
    ],
)
def test_wrong_priors_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "priors.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_settings("heads", "paper", priors=file)


def test_yaml_files_are_read_and_broken_ones_are_named(tmp_path: Path) -> None:
    good = tmp_path / "mine.yaml"
    good.write_text("name: mine\ngroup_size: 2\nshard_size: 2\n")
    assert load_config(good).group_size == 2
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [unclosed\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(broken)
    with pytest.raises(ConfigError, match="the presets are"):
        load_config("heads65")
