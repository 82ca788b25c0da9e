"""Models: what is written is read back, copies work, and what is damaged is refused by name."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from gan2shape.jobs.weights.choice import choose
from gan2shape.jobs.weights.model import open_model, write_model
from gan2shape.jobs.weights.networks_file import load_networks, networks_bytes
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.load import load_settings
from gan2shape.schemas.packaged import (
    GAN_FILE,
    JOINT_FILE,
    MODEL_FILE,
    NETWORKS_FILE,
    asset_names,
    asset_path,
)
from tests.networks import tiny_networks


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The packaged model, copied elsewhere."""
    packaged = asset_path("heads64", MODEL_FILE).parent
    return Path(shutil.copytree(packaged, tmp_path / "copied"))


@pytest.mark.parametrize("name", asset_names())
def test_packaged_models_are_whole(name: str) -> None:
    model = open_model(name)
    assert model.about.name == name
    config = load_settings(model.category, model.about.recipe, model=model.about)
    assert config.model == name
    assert load_gan(model.path(GAN_FILE)).generator.size == model.about.size
    for file in (NETWORKS_FILE, JOINT_FILE):
        assert load_networks(model.path(file)).sha256 == model.about.files[file]


def test_a_model_copied_elsewhere_works(copied: Path) -> None:
    packaged, moved = choose(model="heads64"), choose(model=str(copied))
    assert moved.config == packaged.config
    assert (packaged.gan, packaged.networks) == (f"heads64/{GAN_FILE}", f"heads64/{NETWORKS_FILE}")
    assert (moved.gan, moved.networks) == (str(copied / GAN_FILE), str(copied / NETWORKS_FILE))
    for load, weights in ((load_gan, "gan"), (load_networks, "networks")):
        ours, theirs = (load(getattr(each, weights)) for each in (moved, packaged))
        assert ours.sha256 == theirs.sha256
    assert load_gan(copied).sha256 == load_gan("heads64").sha256  # the folder is enough


def _flip(model: Path) -> None:
    file = model / NETWORKS_FILE
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _remove(model: Path) -> None:
    (model / JOINT_FILE).unlink()


def _change(**changes: object) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        tree = yaml.safe_load((model / MODEL_FILE).read_text()) | changes
        (model / MODEL_FILE).write_text(yaml.safe_dump(tree))

    return change


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_flip, "copied is damaged: the SHA-256 of .*networks.safetensors is not the one in"),
        (_remove, "copied is incomplete: .*joint.safetensors is missing"),
        (_change(format="gan2shape.model/9"), "copied has the format 'gan2shape.model/9', and"),
        (_change(format=None), "copied has the format None"),
        (_change(files={"gan.safetensor": "0" * 64}), "lists 'gan.safetensor'; the nearest is"),
        (_change(files={"../x": "0" * 64}), r"lists '../x'; a model holds gan\.safetensors"),
        (_change(files={GAN_FILE: "0"}), "files.gan.safetensors: String should match"),
        (_change(categry="heads"), "categry: unknown setting; the nearest is 'category'"),
        (_change(size=10**20), "size must be less than or equal to 1024"),
        (_change(view_prior={"std": [50, 0, 0, 0, 0, 0]}), "view_prior.std.0 must be less"),
        (lambda model: (model / MODEL_FILE).unlink(), "copied is not a model: it holds no model"),
        (lambda model: (model / MODEL_FILE).write_text("[" * 5000), "nested more than 50 levels"),
    ],
)
def test_models_that_cannot_be_used(
    copied: Path, damage: Callable[[Path], None], sentence: str
) -> None:
    damage(copied)
    with pytest.raises(UserError, match=sentence) as caught:
        open_model(copied)
    assert "\n" not in str(caught.value)


def test_names_that_are_not_there() -> None:
    with pytest.raises(UserError, match=r"no model 'head64'; the nearest is 'heads64';"):
        open_model("head64")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    gan = load_gan("heads64")
    networks = tmp_path / "some.safetensors"
    networks.write_bytes(networks_bytes(tiny_networks(gan.sha256, gan.generator.style_dim, 64)))
    category = tmp_path / "bikes.yaml"
    category.write_text("description: Bicycles\nsymmetric: false\nsettings: {mask: background}\n")
    made = write_model(
        tmp_path / "model",
        name="bikes64",
        category=category,
        recipe="forward",
        size=64,
        files={GAN_FILE: asset_path("heads64", GAN_FILE), NETWORKS_FILE: networks},
        priors={"view_prior": {"std": [0.1, 0.2, 0.0, 0.0, 0.0, 0.0]}},
        provenance={"images": 3},
        figures={"loss": 0.5},
    )
    shutil.move(tmp_path / "model", tmp_path / "moved")
    category.unlink()
    model = open_model(tmp_path / "moved")
    assert model.about == made.about
    assert model.about.files[NETWORKS_FILE] == hashlib.sha256(networks.read_bytes()).hexdigest()
    chosen = choose(model=str(tmp_path / "moved"))
    config = chosen.config
    assert (config.category, config.recipe, config.model) == ("category", "forward", "bikes64")
    assert (config.mask, config.networks.width) == ("background", 8)
    assert config.view_prior.std[1] == 0.2
    with pytest.raises(UserError, match="bikes64 holds no jointly trained networks"):
        choose(model=str(tmp_path / "moved"), recipe="refine")


def test_networks_bring_the_settings_that_they_were_trained_with(tmp_path: Path) -> None:
    refine = choose(model="heads64", recipe="refine")
    assert refine.networks == f"heads64/{JOINT_FILE}"
    assert (refine.config.networks.width, refine.config.latent.mapping_layers) == (24, 2)
    assert refine.config.view_prior.std[1] == 0.2302  # the model's
    assert refine.config.view_prior.view_scale == 1.3  # the recipe's
    scratch = choose(model="heads64", recipe="scratch")
    assert (scratch.networks, scratch.config.networks.width) == (None, 32)
    own = tmp_path / "own.safetensors"
    gan = load_gan("heads64")
    own.write_bytes(networks_bytes(tiny_networks(gan.sha256, gan.generator.style_dim, 64)))
    paper = choose(gan="heads64", category="faces", networks=str(own))
    assert (paper.config.recipe, paper.config.camera.size) == ("paper", 64)
    assert (paper.config.networks.width, paper.config.latent.mapping_layers) == (8, 8)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, r"Give --model NAME, or --gan FILE with --category NAME \(cars, "),
        ({"gan": "heads64"}, "with --category NAME"),
        ({"category": "heads"}, "--gan FILE"),
        (
            {"gan": "heads64", "category": "heads", "recipe": "forward"},
            "recipe forward starts from trained networks; give --model",
        ),
        (
            {"model": "heads64", "overrides": {"networks.width": 16}},
            "were trained with networks.width 24, not 16; leave out '--set networks.width'",
        ),
        ({"model": "heads64", "overrides": {"camera.size": 32}}, "with camera.size 64, not 32"),
        ({"model": "heads64", "recipe": "refine", "priors": "nowhere"}, "no priors 'nowhere'"),
    ],
)
def test_contradictions_are_named(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        choose(**options)  # type: ignore[arg-type]


def test_the_same_value_is_no_contradiction() -> None:
    same = {"networks.width": 24, "camera.size": 64}
    chosen = choose(model="heads64", overrides=same)
    assert chosen.config == choose(model="heads64").config
