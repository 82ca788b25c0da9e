"""Rotation and relighting of a run whose shapes are the true ones, with an untrained GAN."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import gan2shape.pipeline.evaluation.gan_turning as turning
from gan2shape.benchmark import experiments
from gan2shape.benchmark.manipulation import heads as heads_module
from gan2shape.benchmark.manipulation import identity as identities
from gan2shape.benchmark.manipulation import parts as manipulations
from gan2shape.benchmark.manipulation import scoring, tools
from gan2shape.benchmark.manipulation.identity import IdentityBudget, load_identity
from gan2shape.benchmark.manipulation.relighting import relighting
from gan2shape.benchmark.manipulation.rotation import rotation
from gan2shape.benchmark.manipulation.table import ALL, METHODS, SCORES, Views, read_views
from gan2shape.benchmark.plan import HeadSet
from gan2shape.benchmark.record import Bench, Record
from gan2shape.jobs.inputs.scan import scan
from gan2shape.jobs.run import store
from gan2shape.jobs.synthetic import write_heads
from gan2shape.jobs.weights.head_model import load_head_model
from gan2shape.jobs.weights.networks_file import networks_bytes
from gan2shape.jobs.weights.stylegan2_file import load_gan, save_gan
from gan2shape.pipeline.evaluation.identity import IdentityTraining
from gan2shape.pipeline.networks.trained import TrainedNetworks
from gan2shape.pipeline.scene.camera import rotation_matrix
from gan2shape.pipeline.scene.shading import turn_light
from gan2shape.pipeline.stylegan2 import Gan, Generator
from gan2shape.pipeline.stylegan2.discriminator import Discriminator
from gan2shape.pipeline.synthetic.model import HeadModel
from gan2shape.pipeline.synthetic.variations import Studio
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.load import load_settings
from tests.benchmark.tiny import quiet
from tests.networks import lpips_weights, tiny_networks

SIZE, STYLE = 32, 8
SEEDS = (200_000, 200_001, 200_002, 200_003)
BUDGET = IdentityBudget(
    identities=8, portraits=3, judged=6, training=IdentityTraining(steps=4, batch=12)
)


@dataclass(frozen=True)
class Given:
    """Files that both experiments are made from."""

    run: Path
    gan: Path
    networks: Path
    cache: Path

    def arguments(self, out: Path) -> dict[str, Any]:
        return {
            "run_path": self.run,
            "gan": str(self.gan),
            "networks": str(self.networks),
            "out": out,
            "identity": BUDGET,
            "cache": self.cache,
        }


@pytest.fixture(scope="module", autouse=True)
def small() -> Any:
    """One thread, few samples and small parts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for function in (turning.yaw_direction, turning.light_directions):
            patch.setattr(function, "__defaults__", (40,))
        patch.setattr(scoring, "PART", 3)
        patch.setattr(tools, "REFINEMENT", tools.REFINEMENT.model_copy(update={"iterations": 3}))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model() -> HeadModel:
    pytest.importorskip("anny", reason="needs the extra [synth]")
    return load_head_model()


@pytest.fixture(scope="module")
def given(model: HeadModel, tmp_path_factory: pytest.TempPathFactory) -> Given:
    folder = tmp_path_factory.mktemp("given")
    write_heads(folder / "heads", SEEDS, size=SIZE, model=model)
    torch.manual_seed(0)
    widths = dict.fromkeys((4, 8, 16, 32), 8)
    gan = Gan(Generator(SIZE, STYLE, 2, widths), Discriminator(SIZE, widths), "", "")
    save_gan(gan, folder / "gan.safetensors")
    sha = load_gan(folder / "gan.safetensors").sha256
    networks = folder / "networks.safetensors"
    networks.write_bytes(networks_bytes(tiny_networks(sha, STYLE, SIZE)))
    weights = store.Weights(str(networks), sha)
    make_run(folder / "run", folder / "heads", sha, Studio(model, SIZE), networks=weights)
    return Given(folder / "run", folder / "gan.safetensors", networks, folder / "cache")


def make_run(
    path: Path,
    heads: Path,
    sha: str,
    studio: Studio,
    known: int = len(SEEDS),
    networks: store.Weights | None = None,
) -> None:
    """A run that found the true shapes of the first `known` heads, and failed at the others."""
    settings = {
        "camera.size": SIZE,
        "latent.mapping_layers": 2,
        "inversion.iterations": 2,
        "inversion.start_samples": 16,
    }
    found = scan(str(heads))
    record = store.RunRecord(
        config=load_settings("heads", "paper", overrides=settings),
        gan=store.Weights("gan.safetensors", sha),
        lpips=None,
        latent_size=STYLE,
        networks=networks,
    )
    run = store.create_run(path, record, found.manifest(record.config.shard_size))
    entries = store.read_manifest(run)
    made = [perfect(run, studio, int(entry["image_id"])) for entry in entries]
    missing = {s.name: np.full(s.shape, s.missing, s.dtype) for s in run.specs()}
    made[known:] = [missing] * len(made[known:])
    arrays = {spec.name: np.stack([values[spec.name] for values in made]) for spec in run.specs()}
    rows = [
        {
            "image_id": entry["image_id"],
            "row": entry["row"],
            "shard": 0,
            "status": "done" if entry["row"] < known else "failed",
            "config_hash": run.record.config_hash,
            "device": "cpu",
        }
        for entry in entries
    ]
    store.commit_shard(run, 0, arrays, rows)


def perfect(run: store.Run, studio: Studio, seed: int) -> dict[str, Any]:
    """The arrays of a head that was found as it is; its latent is not known."""
    sitter = studio.sitter(seed)
    own = sitter.parameters
    frontal = studio.draw(sitter.posing(np.zeros(6), own.light))
    view = torch.from_numpy(own.view)[None]
    light = turn_light(torch.from_numpy(own.light)[None], rotation_matrix(view[:, :3]).mT)
    values = {spec.name: np.full(spec.shape, spec.missing, spec.dtype) for spec in run.specs()}
    return values | {
        "depth": frontal.depth,
        "albedo": frontal.albedo.transpose(2, 0, 1) * 2 - 1,
        "mask": studio.draw(sitter).mask,
        "view": own.view,
        "light": light[0].numpy(),
    }


@pytest.fixture(scope="module")
def turned(given: Given, tmp_path_factory: pytest.TempPathFactory) -> Views:
    return rotation(**given.arguments(tmp_path_factory.mktemp("out")))


@pytest.fixture(scope="module")
def relit(given: Given, turned: Views) -> Views:
    """In the directory of the rotation."""
    return relighting(**given.arguments(turned.table_file.parent))


def scores(views: Views, name: str, change: str = ALL) -> dict[str, float]:
    """Mean score by method."""
    rows = views.table.to_pylist()
    return {row["method"]: row[f"{name}_mean"] for row in rows if row["change"] == change}


def refused(*args: Any) -> Any:
    raise AssertionError("done again")


def test_the_true_shape_turns_best_and_the_truth_is_perfect(turned: Views) -> None:
    assert set(scores(turned, "l1")) == set(METHODS)
    assert (turned.heads, turned.left_out) == (4, 0)
    for name in ("l1_inside", "l1", "identity"):
        found = scores(turned, name)
        assert found.pop("truth") == pytest.approx(0, abs=1e-6)
        assert min(found.values()) > 0
    assert scores(turned, "ssim")["truth"] == pytest.approx(1)
    for change in ("-20", "20", ALL):
        inside = scores(turned, "l1_inside", change)
        others = [inside[name] for name in ("linear", "card", "unchanged", "other", "gan")]
        assert inside["mesh"] < 0.7 * min(others)
    small, large = scores(turned, "l1", "10"), scores(turned, "l1", "30")
    assert small["unchanged"] < 0.8 * large["unchanged"]


def test_the_true_shape_relights_best(relit: Views) -> None:
    assert set(scores(relit, "l1")) == set(METHODS) - {"card"}
    for change in ("left", "right", "above", "dim"):
        inside = scores(relit, "l1_inside", change)
        others = [inside[name] for name in ("linear", "unchanged", "other", "gan")]
        assert inside["mesh"] < 0.7 * min(others)


def test_the_table_has_means_deviations_and_totals(turned: Views) -> None:
    table = turned.table.to_pandas()
    assert list(table.columns[:3]) == ["method", "change", "heads"]
    assert len(table) == len(METHODS) * 7
    means, deviations = table.filter(like="_mean"), table.filter(like="_std")
    assert len(means.columns) == len(deviations.columns) == len(SCORES)
    assert table["lpips_mean"].isna().all()
    card = table[table.method == "card"].set_index("change")
    single = card.drop(index=ALL)["l1_mean"].mean()
    assert card.loc[ALL, "l1_mean"] == pytest.approx(single)
    assert (deviations.drop(columns="lpips_std") >= 0).all(axis=None)
    assert pq.read_table(turned.table_file).equals(turned.table)


def test_the_picture_has_a_row_for_each_method(turned: Views, relit: Views) -> None:
    with Image.open(turned.picture) as image:
        assert image.size[0] > 7 * 4 * SIZE
        assert image.size[1] > 3 * 5 * 4 * SIZE
    with Image.open(relit.picture) as image:
        assert image.size[1] > 3 * 4 * 4 * SIZE


def test_finished_files_are_read_and_not_made_again(
    given: Given, turned: Views, relit: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_score_part", refused)
    monkeypatch.setattr(scoring, "load_identity", refused)
    out = turned.table_file.parent
    for experiment, before in ((rotation, turned), (relighting, relit)):
        again = experiment(**given.arguments(out))
        assert again.table.equals(before.table)
        assert again.verification == before.verification
    assert not list((out / "checkpoints").glob("r*-*"))
    with pytest.raises(AssertionError, match="done again"):
        rotation(**given.arguments(out), limit=3)


def test_it_goes_on_after_the_heads_that_are_scored(
    given: Given, turned: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[int] = []
    score: Callable[..., Any] = scoring._score_part

    def once(experiment: Any, all_tools: Any, identity: Any, part: Any, show: Any) -> Any:
        if parts:
            raise KeyboardInterrupt
        parts.append(len(part))
        return score(experiment, all_tools, identity, part, show)

    monkeypatch.setattr(scoring, "_score_part", once)
    with pytest.raises(KeyboardInterrupt):
        rotation(**given.arguments(tmp_path))
    assert not (tmp_path / "rotation.parquet").exists()
    rest: list[int] = []

    def counted(experiment: Any, all_tools: Any, identity: Any, part: Any, show: Any) -> Any:
        rest.append(len(part))
        return score(experiment, all_tools, identity, part, show)

    monkeypatch.setattr(scoring, "_score_part", counted)
    monkeypatch.setattr(identities, "_train", refused)
    shown: list[tuple[str, int, int]] = []
    views = rotation(**given.arguments(tmp_path), show=lambda *step: shown.append(step))
    assert (parts, rest) == ([3], [1])
    assert not any("direction" in stage for stage, _, _ in shown)
    assert shown[-1] == ("rotation", 4, 4)
    ours, theirs = views.table.to_pandas(), turned.table.to_pandas()
    assert (ours.method == theirs.method).all()
    numbers = [column for column in ours.columns if column.endswith("_mean")]
    np.testing.assert_allclose(ours[numbers], theirs[numbers], rtol=1e-6, atol=1e-9)


def test_larger_pictures_failed_heads_and_lpips(
    given: Given, model: HeadModel, tmp_path: Path
) -> None:
    write_heads(tmp_path / "heads", SEEDS[:3], size=2 * SIZE, model=model)
    sha = load_gan(given.gan).sha256
    make_run(tmp_path / "run", tmp_path / "heads", sha, Studio(model, SIZE), known=2)
    torch.manual_seed(3)
    torch.save(lpips_weights(), tmp_path / "lpips.pt")
    changed = {"run_path": tmp_path / "run", "lpips": tmp_path / "lpips.pt"}
    views = relighting(**(given.arguments(tmp_path / "out") | changed))
    assert (views.heads, views.left_out) == (2, 1)
    far = scores(views, "lpips")
    assert far["truth"] == pytest.approx(0, abs=1e-6)
    assert far["other"] > 0
    inside = scores(views, "l1_inside")
    assert inside["mesh"] < 0.8 * min(inside["unchanged"], inside["other"])


@pytest.mark.parametrize("what", ["gan", "encoder", "camera", "images", "few"])
def test_what_does_not_fit_is_one_sentence(
    given: Given, model: HeadModel, tmp_path: Path, what: str
) -> None:
    asked = given.arguments(tmp_path / "out")
    if what == "gan":
        torch.manual_seed(9)
        save_gan(
            Gan(
                Generator(SIZE, STYLE, 2, dict.fromkeys((4, 8, 16, 32), 8)),
                Discriminator(SIZE, dict.fromkeys((4, 8, 16, 32), 8)),
                "",
                "",
            ),
            tmp_path / "other.safetensors",
        )
        asked["gan"], sentence = str(tmp_path / "other.safetensors"), "another GAN"
    elif what in ("encoder", "camera"):
        size = 64 if what == "camera" else SIZE
        sha = load_gan(given.gan).sha256
        networks = tiny_networks(sha, STYLE, size)
        if what == "encoder":
            bare = {k: v for k, v in networks.parameters.items() if not k.startswith("encoder.")}
            networks = TrainedNetworks(bare, networks.networks, networks.camera)
        asked["networks"] = str(tmp_path / "networks.safetensors")
        Path(asked["networks"]).write_bytes(networks_bytes(networks))
        sentence = "no offset encoder" if what == "encoder" else "different sizes or cameras"
    elif what == "images":
        write_heads(tmp_path / "heads", SEEDS[:2], size=SIZE, model=model)
        images = tmp_path / "heads" / "image"
        sha = load_gan(given.gan).sha256
        make_run(tmp_path / "run", tmp_path / "heads", sha, Studio(model, SIZE))
        content = [path.read_bytes() for path in sorted(images.iterdir())]
        for path, other in zip(sorted(images.iterdir()), content[::-1], strict=True):
            path.write_bytes(other)
        asked["run_path"], sentence = tmp_path / "run", "is not the picture of a synthetic head"
    else:
        asked["limit"], sentence = 1, "2 are needed"
    with pytest.raises(UserError, match=sentence) as raised:
        rotation(**asked)
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / "out" / "rotation.parquet").exists()


def test_the_identity_network_is_trained_once_and_belongs_to_its_budget(
    given: Given, turned: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "_train", refused)
    kept = load_identity(BUDGET, given.cache)
    assert kept.verification == turned.verification
    assert 0 <= kept.verification.auc <= 1
    with pytest.raises(AssertionError, match="done again"):
        load_identity(IdentityBudget(identities=9), given.cache)
    with pytest.raises(AssertionError, match="done again"):
        load_identity(BUDGET, tmp_path)


def test_results_of_an_earlier_version_are_not_there(turned: Views, tmp_path: Path) -> None:
    table, file = pq.read_table(turned.table_file), tmp_path / "rotation.parquet"
    about = json.loads(table.schema.metadata[b"about"])
    del about["run"]
    known = table.schema.metadata | {b"about": json.dumps(about).encode()}
    pq.write_table(table.replace_schema_metadata(known), file)
    assert read_views(turned.table_file, turned.picture) is not None
    assert read_views(file, turned.picture) is None


def test_a_benchmark_has_them_as_parts_and_sections(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manipulations, "BUDGET", BUDGET)
    heads = HeadSet("test", len(SEEDS), SIZE)
    gan = store.Weights(str(given.gan), load_gan(given.gan).sha256)
    bench = Bench(tmp_path, Record({}, heads, heads, gan, None, str(tmp_path / "cache")))
    notes: list[str] = []
    turning_part = experiments.EXPERIMENTS[0]
    turning_part.make(bench, quiet(notes))
    assert notes == ["rotation is left out: it needs row 6 or 10, finished"]
    assert turning_part.section(bench) is None
    shutil.copytree(given.run, bench.row("06-gan2shape"))
    with monkeypatch.context() as few:
        few.setattr(heads_module, "FEWEST", 5)
        turning_part.make(bench, quiet(notes))
    assert notes.pop().startswith("rotation is left out: it needs ")
    for part in experiments.EXPERIMENTS:
        part.make(bench, quiet(notes))
    assert len(notes) == 1
    turned, relit = (part.section(bench) for part in experiments.EXPERIMENTS)
    assert turned is not None
    assert relit is not None
    assert (turned.title, relit.title) == ("Face rotation", "Relighting")
    views = read_views(tmp_path / "views/rotation.parquet", tmp_path / "views/rotation.png")
    assert views is not None
    mesh = scores(views, "l1_inside")["mesh"]
    line = next(row for row in turned.markdown if row.startswith("| Shape |"))
    assert f"| {mesh:.4f} ±" in line
    text = "\n".join(turned.markdown)
    assert f"| {scores(views, 'l1_inside', '-30')['card']:.4f} |" in text
    assert "with the shapes and networks of row 6 GAN2Shape, symmetric." in text
    assert "LPIPS" not in text
    assert turned.picture is not None
    assert turned.picture.startswith("data:image/webp")
    assert "AUC of" in relit.markdown[-1]
    assert "| L1, head | Left | Right | Above | Dim |" in relit.markdown
    monkeypatch.setattr(scoring, "_score_part", refused)
    given.networks.rename(given.networks.with_suffix(".away"))
    try:
        turning_part.make(bench, quiet(notes))
    finally:
        given.networks.with_suffix(".away").rename(given.networks)
    assert "the networks of" in notes[-1]
    assert turning_part.section(bench) is not None
