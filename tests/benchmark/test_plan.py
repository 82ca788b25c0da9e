"""What a benchmark is made of, before anything is: rows, trainings, and what keys tell apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gan2shape.benchmark.plan as plan_module
from gan2shape.benchmark.methods import METHODS, TRAININGS, paper_ratio, parse_rows
from gan2shape.benchmark.plan import HeadSet, Plan, Request, Training, make_plan
from gan2shape.jobs.run.store import Weights
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.networks.trained import TrainedNetworks
from gan2shape.schemas.benchmark import load_recipe, packaged_recipe
from gan2shape.schemas.errors import ConfigError, UserError
from gan2shape.schemas.settings import RunConfig
from tests.benchmark import tiny
from tests.networks import tiny_networks


def plan(**changes: Any) -> Plan:
    return make_plan(replace(Request(Path("out"), tiny.recipe()), **changes))


@pytest.fixture(scope="module")
def whole() -> Plan:
    return plan()


def test_the_rows_are_those_of_the_paper_and_two_of_ours() -> None:
    assert [method.number for method in METHODS] == list(range(1, 11))
    assert [method.symmetry for method in METHODS] == list("N//YYYNNYY")
    ratios = [paper_ratio(method) for method in METHODS]
    assert [f"{ratio.side:.3f}" for ratio in ratios if ratio] == (
        ["0.154", "1.000", "0.726", "0.296", "0.340", "0.278", "0.490", "0.376"]
    )
    assert [f"{ratio.mad_degrees:.3f}" for ratio in ratios if ratio] == (
        ["0.251", "1.000", "0.532", "0.378", "0.380", "0.343", "0.782", "0.395"]
    )
    assert len({method.folder for method in METHODS}) == 10
    assert len({method.short_label for method in METHODS}) == 10


def test_rows_differ_in_what_they_are_about_and_in_nothing_else(whole: Plan) -> None:
    rows = {row.method.number: row for row in whole.rows}
    assert sorted(rows) == [1, 4, 5, 6, 7, 8, 9, 10]
    starts = {number: row.start for number, row in rows.items()}
    assert starts[6] == starts[9]
    last = starts[10]
    assert isinstance(last, Training)
    assert last.start is not None
    assert last.chain == (starts[6], last.start, starts[4], last)
    assert last.config.networks.model_dump() == config_of(starts[6]).networks.model_dump()
    assert rows[10].config.recipe == "single-image"
    assert len(whole.trainings) == 8
    changed = {
        5: {"latent": {"regularize": False}},
        8: {"optimization": {"symmetry_step1": "never", "symmetry_step3": "never"}},
    }
    runs = {8: {"optimization": {"calibrate_yaw": True}}}  # symmetry keeps the relief of the others
    for number, parts in changed.items():
        for ours, theirs, further in (
            (rows[number].config, rows[6].config, runs.get(number, {})),
            (config_of(starts[number]), config_of(starts[6]), {}),
        ):
            expected = theirs.model_dump()
            for part, values in (*parts.items(), *further.items()):
                expected[part] |= values
            assert ours.model_dump() == expected
    ours, theirs = config_of(starts[7]).model_dump(), config_of(starts[4]).model_dump()
    assert theirs["symmetric"] is True
    assert ours == theirs | {"symmetric": False}
    assert rows[1].config == rows[4].config == rows[7].config == rows[9].config
    assert "training supervised-" in str(whole)
    assert len(str(whole).splitlines()) == 2 + 8 + 8


def config_of(start: Any) -> Any:
    assert isinstance(start, Training)
    return start.config


def test_keys_change_with_everything_that_matters() -> None:
    def key(number: int, **changes: Any) -> tuple[str, str]:
        (row,) = plan(rows=(number,), **changes).rows
        assert isinstance(row.start, Training)
        return row.key, row.start.key

    for number in (1, 4, 6):
        before = key(number)
        assert key(number) == before
        assert key(number, out=Path("elsewhere"), cache=Path("cache")) == before
        for changes in ({"seed": 1}, {"recipe": tiny.recipe(train_heads=5)}):
            now = key(number, **changes)
            assert now[0] != before[0]
            assert now[1] != before[1]
        row, training = key(number, count=2)
        assert (row != before[0], training) == (True, before[1])
    more = tiny.recipe(pretrain=tiny.RECIPE["pretrain"] | {"heads": 3})
    assert key(10, recipe=more)[1] != key(10)[1]
    before = key(6)
    for part in ("pretrain", "refine"):
        changed = tiny.RECIPE[part]["set"] | {"optimization.decay": 0.25}
        recipe = tiny.recipe(**{part: tiny.RECIPE[part] | {"set": changed}})
        now = key(6, recipe=recipe)
        assert (now[0] != before[0], now[1] != before[1]) == (True, part == "pretrain")
    assert key(6, recipe=more)[1] != before[1]


def test_a_training_knows_gan_version_and_priors(whole: Plan, tmp_path: Path) -> None:
    training = named(whole, "pretrain")
    assert training.gan is not None
    other = replace(training, gan=Weights("x", "0" * 64))
    assert other.key != training.key
    assert replace(training, gan=Weights("moved", training.gan.sha256)).key == training.key
    assert replace(training, version="9").key != training.key
    assert replace(training, kind=TRAININGS["pretrain-no-symmetry"]).key != training.key
    assert replace(training, heads=replace(training.heads, recipe=9)).key != training.key
    priors = tmp_path / "priors.yaml"
    priors.write_text("view_prior: {view_scale: 1.25}")
    (row,) = plan(rows=(9,), priors=str(priors)).rows
    assert isinstance(row.start, Training)
    assert isinstance(row.start.config, RunConfig)
    assert row.start.config.view_prior.view_scale == row.config.view_prior.view_scale == 1.25
    assert row.start.key != training.key
    assert named(whole, "supervised").gan is None  # which it never meets


def named(made: Plan, name: str) -> Training:
    return next(training for training in made.trainings if training.name == name)


def test_packaged_networks_start_three_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    gan = load_gan("heads64")
    with monkeypatch.context() as patch:
        patch.setattr(plan_module, "asset_path", lambda name, file: Path("absent"))
        with pytest.raises(
            UserError, match=r"No networks heads64/joint\.safetensors come with this"
        ):
            plan(packaged=True)
    networks = tiny_networks(gan.sha256, gan.generator.style_dim, 64)
    digests = {"heads64": "5" * 64, "heads64/joint.safetensors": "6" * 64}

    def load(name: str) -> TrainedNetworks:
        return replace(networks, sha256=digests[name], source=name)

    monkeypatch.setattr(plan_module, "load_networks", load)
    made = plan(packaged=True)
    starts = {row.method.number: row.start for row in made.rows}
    pretrained = Weights("heads64/joint.safetensors", "6" * 64)
    assert starts[6] == starts[9] == pretrained
    assert starts[10] == Weights("heads64", "5" * 64)
    trained = [n for n, start in starts.items() if isinstance(start, Training)]
    assert trained == [1, 4, 5, 7, 8]
    assert "row 9 Pretrained networks, one forward pass: forward from packaged" in str(made)
    networks = replace(networks, gan_sha256="0" * 64)
    with pytest.raises(UserError, match="were trained with another GAN"):
        plan(packaged=True)


def test_row_lists() -> None:
    assert parse_rows("1,4,6-8") == (1, 4, 6, 7, 8)
    assert parse_rows("10, 9-9") == (9, 10)
    for text in ("", "0", "11", "3-", "8-6", "a", "1,,2"):
        with pytest.raises(UserError, match="numbers from 1 to 10"):
            parse_rows(text)


def test_heads_that_a_split_has_not() -> None:
    with pytest.raises(UserError, match="holds 100000 heads"):
        plan(count=100_001)
    assert HeadSet("val", 2, 64).seeds == range(200_000, 200_002)
    assert str(HeadSet("test", 1, 64)) == "1 head of the test split at 64 pixels"


@pytest.mark.parametrize("name", ["full", "quick"])
def test_the_packaged_recipes_make_plans(name: str) -> None:
    made = make_plan(Request(Path("out"), packaged_recipe(name)))
    assert len(made.rows) == 8
    assert made.heads.count == {"full": 200, "quick": 16}[name]
    assert made.train_heads.count == {"full": 16_000, "quick": 2_000}[name]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tiny: {heads: 0}", r"x.yaml: tiny.heads must be greater than or equal to 1"),
        ("tiny: {budget: 3}", "x.yaml: tiny.*(unknown setting|required)"),
        ("other: {}", "x.yaml holds no recipe 'tiny'"),
        ("[", "x.yaml is not valid YAML"),
    ],
)
def test_wrong_recipes_are_explained(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_recipe(text, "tiny", "x.yaml")


def test_what_is_not_up_to_a_recipe() -> None:
    with pytest.raises(ConfigError, match=r"tiny\.unsup3d: symmetric is not up to a recipe"):
        tiny.recipe(unsup3d={"symmetric": False})
    with pytest.raises(ConfigError, match=r"tiny\.budget: unknown setting"):
        tiny.recipe(budget=3)
    with pytest.raises(ConfigError, match="Training: widht: unknown setting"):
        tiny.recipe(supervised={"widht": 8})
