"""Settings: presets, overrides, and errors that name what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan2shape.schemas.config import ConfigError, load_config, preset_names


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid_and_bears_its_name(name: str) -> None:
    assert load_config(name).name == name


def test_the_presets_of_the_design_exist() -> None:
    assert {"heads64", "celeba128", "cats128", "cars128", "church128"} <= set(preset_names())


def test_presets_hold_the_papers_schedules() -> None:
    cars = load_config("cars128")
    counts = [(c.step1, c.step2, c.step3) for c in cars.optimization.cycles]
    assert counts == [(700, 700, 600), *[(200, 500, 400)] * 3]
    assert cars.optimization.symmetry_step3 == "never"
    assert cars.latent.mapping_layers == 2
    assert cars.latent.relative is False
    joint = load_config("heads64-joint").optimization.cycles
    assert len(joint) == 8
    assert (joint[7].step1, joint[7].step2, joint[7].step3) == (700, 1000, 1000)
    assert load_config("celeba128").optimization.symmetry_step3 == "first_cycle"


def test_overrides_reach_nested_settings_and_change_the_digest() -> None:
    plain = load_config("heads64")
    changed = load_config("heads64", {"optimization.batch": 8, "networks.width": 16})
    assert changed.optimization.batch == 8
    assert changed.networks.width == 16
    assert plain.digest() == load_config("heads64").digest() != changed.digest()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"optimization.bach": 8}, "optimization.bach: unknown setting"),
        ({"optimization.batch": 0}, "optimization.batch"),
        ({"shard_size": 6, "group_size": 4}, "multiple of"),
        ({"seed.low": 1}, "single value"),
        ({"camera.size": 100}, "power of two"),
    ],
)
def test_wrong_settings_are_named(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("heads64", {"seed": 0, **overrides})


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
