"""The report on small run directories whose scores are known beforehand."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from gan2shape.jobs.inputs.scan import scan
from gan2shape.jobs.report import gallery as pictures
from gan2shape.jobs.report.comparison import methods, printed_scores, score_table
from gan2shape.jobs.report.notes import notes
from gan2shape.jobs.report.page import PLOTLY
from gan2shape.jobs.report.reference_rows import AVERAGE, CONSTANT
from gan2shape.jobs.report.report import report_page, write_report
from gan2shape.jobs.report.results import RunResults, read_results, results_frame, seconds_per_image
from gan2shape.jobs.report.scores import ratios
from gan2shape.jobs.run import store
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.pipeline.scene.geometry import normals_from_depth
from gan2shape.pipeline.scene.metrics import depth_metrics
from gan2shape.pipeline.scene.render import render_depth
from gan2shape.schemas.load import load_settings

SIZE = 32


@dataclass(frozen=True)
class Given:
    """What the fixture makes a run of."""

    count: int = 5
    relief: float = 1.0
    """Factor on the true relief."""
    yaw: float = 0.3
    """Standard deviation of the predicted yaw, radians."""
    failed: tuple[int, ...] = ()
    committed: int | None = None
    """Shards (of two images) that are committed; all of them by default."""
    truth: bool = True
    names: tuple[str, ...] = ()
    networks: store.Weights | None = None
    priors: str | None = None


def true_depth(index: int) -> tuple[np.ndarray, np.ndarray]:
    """A bump (S, S) that differs from image to image, and its mask."""
    y, x = np.mgrid[:SIZE, :SIZE] / (SIZE - 1) * 2 - 1
    radius = np.hypot(x - 0.02 * index, y)
    mask = radius < 0.7
    bump = 1.0 - (0.04 + 0.01 * index) * np.cos(radius / 0.7 * np.pi / 2)
    return np.where(mask, bump, 1.1).astype(np.float32), mask


def write_images(folder: Path, given: Given) -> Path:
    kinds = ("image", "depth", "mask") if given.truth else ("image",)
    for name in kinds:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(given.count):
        depth, mask = true_depth(i)
        name = given.names[i] if given.names else f"{i:03d}"
        colour = np.where(mask[..., None], [200, 40 * i, 60], 0).astype(np.uint8)
        Image.fromarray(colour).save(folder / "image" / f"{name}.png")
        if given.truth:
            np.save(folder / "depth" / f"{name}.npy", depth)
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "mask" / f"{name}.png")
    return folder


def make_run(path: Path, images: Path, given: Given) -> Path:
    """A run directory as `gan2shape reconstruct` leaves it, without the optimisation."""
    settings = {
        "camera.size": SIZE,
        "group_size": 1,
        "shard_size": 2,
        "view_prior.std": (0.1, 0.35, 0.05, 0.0, 0.0, 0.0),
        "view_prior.view_scale": 1.0,
    }
    config = load_settings("heads", "paper", overrides=settings)
    config = config.model_copy(update={"recipe": path.name})
    found = scan(str(images))
    record = store.RunRecord(
        config=config,
        gan=store.Weights("gan.safetensors", "ab12" * 16),
        lpips=None,
        latent_size=4,
        networks=given.networks,
        inputs={"priors": given.priors},
        created="2026-01-02T03:04:05+00:00",
    )
    run = store.create_run(path, record, found.manifest(2))
    for plan in list(run.plan)[: given.committed]:
        made = [make_image(run, entry, given) for entry in store.read_manifest(run, plan.index)]
        arrays = {
            spec.name: np.stack([values[spec.name] for values, _ in made]) for spec in run.specs()
        }
        store.commit_shard(run, plan.index, arrays, [row for _, row in made])
    return path


def make_image(run: store.Run, entry: dict, given: Given) -> tuple[dict, dict]:
    index = entry["row"]
    camera = Camera.from_config(run.record.config.camera)
    truth, mask = true_depth(index)
    depth = torch.from_numpy(np.where(mask, 1 + (truth - 1) * given.relief, truth))[None].float()
    row = {
        "image_id": entry["image_id"],
        "row": index,
        "shard": entry["shard"],
        "config_hash": run.record.config_hash,
        "seconds_load": 0.5,
        "seconds_reconstruction": 3.0,
        "seconds_stages": {"step1": 1.0, "step3": 1.5},
        "peak_memory_mb": 100.0 + index,
        "device": "cpu",
    }
    if index in given.failed:
        row |= {"status": "failed", "error": f"{entry['uri']} is <not> an image."}
        values = {spec.name: np.full(spec.shape, spec.missing, spec.dtype) for spec in run.specs()}
        return values, row
    row |= {"status": "done", "losses": {"photometric": 0.25}, "inversion_l1": 0.125}
    if given.truth:
        seen, inside = render_depth(depth, torch.zeros(1, 6), camera)
        target = torch.from_numpy(truth)[None], torch.from_numpy(mask)[None].float()
        scores = depth_metrics(seen, inside, *target, camera)
        names = ("side", "mad_degrees", "mad_paper_degrees", "relief_scale")
        row |= {name: float(getattr(scores, name)) for name in names}
    view = np.zeros(6, np.float32)
    view[1] = given.yaw * (-1) ** index
    values = {
        "depth": depth[0].numpy(),
        "albedo": np.full((3, SIZE, SIZE), 0.5),
        "normal": normals_from_depth(depth, camera)[0].numpy(),
        "mask": mask,
        "view": view,
        "light": np.array([0.0, 0.5, 0.1, 0.2]),
        "latent": np.zeros(4),
        "reconstruction": np.full((3, SIZE, SIZE), -0.5),
    }
    return values, row


def build(tmp_path: Path, given: Given, name: str = "run") -> Path:
    return make_run(tmp_path / name, write_images(tmp_path / f"{name}-data", given), given)


def decode(uri: str) -> np.ndarray:
    head, data = uri.split(",", 1)
    assert head.startswith("data:image/")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def log_spread(prediction: np.ndarray, index: int) -> float:
    """SIDE by hand: the standard deviation of log prediction - log truth inside the eroded mask."""
    truth, mask = true_depth(index)
    inner = mask.copy()
    for y in (-1, 0, 1):
        for x in (-1, 0, 1):
            inner &= np.roll(mask, (y, x), (0, 1))
    return float((np.log(prediction) - np.log(truth.astype(np.float64)))[inner].std())


def side_ratio(results: RunResults) -> float:
    return float(ratios(results.scores, results.constant)["side"])


def test_reference_rows_are_scored_on_the_images_of_the_run(tmp_path: Path) -> None:
    [results] = read_results([build(tmp_path, Given(relief=1.5, failed=(1,)))])
    used = [0, 2, 3, 4]
    plane = np.ones((SIZE, SIZE))
    expected = [log_spread(plane, i) for i in used]
    np.testing.assert_allclose(results.references[CONSTANT]["side"], expected, rtol=1e-6)
    assert results.references[CONSTANT].index.tolist() == ["000", "002", "003", "004"]

    depths, masks = (np.stack(parts) for parts in zip(*map(true_depth, used), strict=True))
    total = np.where(masks, depths.astype(np.float64), 0)
    seen = masks.sum(0)
    mean = np.where(seen > 0, total.sum(0) / np.maximum(seen, 1), total.sum() / masks.sum())
    expected = [log_spread(mean, i) for i in used]
    np.testing.assert_allclose(results.references[AVERAGE]["side"], expected, rtol=1e-6)
    # Relief 1.5 times too deep: the error is half the relief, as the plane's is the whole.
    assert side_ratio(results) == pytest.approx(0.5, rel=0.1)
    assert results.statistics["median"]["relief_scale"] == pytest.approx(1 / 1.5, rel=0.05)


def test_a_perfect_run_scores_zero_and_needs_no_note(tmp_path: Path) -> None:
    [results] = read_results([build(tmp_path, Given(count=8))])
    assert results.statistics["high"]["side"] < 1e-6
    assert results.statistics["high"]["mad_degrees"] < 0.01
    assert notes([results]) == []


def test_counts_timings_and_memory(tmp_path: Path) -> None:
    [results] = read_results([build(tmp_path, Given(count=5, failed=(2,), committed=2))])
    counts = (results.images, len(results.done), len(results.failed), results.left)
    assert counts == (5, 3, 1, 1)
    expected = {"load": 0.5, "step1": 1.0, "step3": 1.5, "reconstruction": 0.5}
    assert {name: value for name, value in results.seconds.items() if value} == expected
    assert seconds_per_image(results.frame) == pytest.approx(3.5)
    assert results.frame["peak_memory_mb"].max() == 103.0
    assert results.losses.to_dict() == {"photometric": 0.25, "inversion L1": 0.125}
    assert results.failed["reason"].tolist() == ["is <not> an image."]
    assert results.devices == ["cpu"]


def test_the_frame_has_a_row_for_each_committed_image(tmp_path: Path) -> None:
    run = store.open_run(build(tmp_path, Given(count=5, failed=(2,), committed=2)))
    frame = results_frame(run)
    assert frame.index.tolist() == ["000", "001", "002", "003"]
    assert frame["row"].tolist() == [0, 1, 2, 3]
    assert frame["status"].tolist() == ["done", "done", "failed", "done"]
    assert frame["uri"].map(lambda uri: Path(uri).stem).tolist() == frame.index.tolist()
    assert frame["truth_uri"].map(lambda uri: Path(uri).parent.name).eq("depth").all()
    assert frame["loss_photometric"].isna().tolist() == [False, False, True, False]
    assert frame["step_seconds_step3"].eq(1.5).all()


def test_the_page_needs_no_network_and_escapes_what_it_shows(tmp_path: Path) -> None:
    given = Given(failed=(1,), names=("a<b>", "b", "c", "d&e", "f"))
    index = write_report([build(tmp_path, given)])[0]
    page = index.read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert [source for source in sources if not source.startswith("data:image/")] == [PLOTLY]
    assert index.with_name(PLOTLY).stat().st_size > 1e6
    assert "http://" not in page
    assert "https://" not in page
    assert "a<b>" not in page
    assert "a&lt;b&gt;" in page
    assert "is <not> an image" not in page
    assert "is &lt;not&gt; an image" in page
    assert page.count('<figure class="chart">') == 4
    shown = 4 * len(pictures.COLUMNS) + 1  # and the input of the failed one
    assert page.count("<img") == shown


def test_charts_have_names_and_the_numbers(tmp_path: Path) -> None:
    [results] = read_results([build(tmp_path, Given(relief=1.5))])
    found = methods([results])
    page = report_page([results], found, printed_scores(found, score_table(found)), limit=4)
    figures = re.findall(r'aria-label="([^"]+)" style.*?json">(.*?)</script>', page, re.DOTALL)
    assert [name for name, _ in figures] == [
        *("SIDE of every image by method", "MAD of every image by method"),
        "Predicted yaw of run and the sampled distribution",
        "Computing time per image by stage",
    ]
    side, _, yaw, seconds = (json.loads(figure) for _, figure in figures)
    boxes = [trace for trace in side["data"] if trace["type"] == "box"]
    assert side["layout"]["yaxis"]["ticktext"] == [CONSTANT, AVERAGE, "run"]
    assert boxes[-1]["median"] == [pytest.approx(100 * results.statistics["median"]["side"])]
    assert boxes[-1]["line"]["color"] == "var(--run-1)"
    assert [trace["type"] for trace in yaw["data"]] == ["bar", "scatter"]
    assert sum(numbers(trace["x"])[0] for trace in seconds["data"]) == pytest.approx(3.5)


def numbers(values: Any) -> Any:
    """Plotly packs arrays as base64."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"])
    return values


def test_all_that_a_run_started_from_is_named(tmp_path: Path) -> None:
    networks = store.Weights("/far/networks.safetensors", "cd34" * 16)
    run = build(tmp_path, Given(networks=networks, priors="/far/priors.yaml"))
    page = write_report([run])[0].read_text()
    assert "· GAN <code" in page
    assert f'· networks <code title="{networks.sha256}">cd34cd34cd34</code> · priors' in page
    assert f"<dt>Networks</dt><dd>/far/networks.safetensors (SHA-256 {networks.sha256})" in page
    assert "<dt>Priors</dt><dd>/far/priors.yaml</dd>" in page
    text = (run / "report" / "report.csv").read_text()
    assert [line["networks_sha256"] for line in csv.DictReader(io.StringIO(text))][-1] == (
        networks.sha256
    )
    plain = write_report([build(tmp_path / "plain", Given())])[0].read_text()
    assert "Networks</dt>" not in plain
    assert "Priors</dt>" not in plain
    assert "· priors" not in plain


def test_pictures_show_what_they_say(tmp_path: Path) -> None:
    [results] = read_results([build(tmp_path, Given(relief=0.5))])
    entries = list(pictures.gallery(results.run, pictures.choose(results.done)))
    assert [entry.image_id for entry in entries] == ["000", "001", "002", "003", "004"]
    _, mask = true_depth(3)
    seen = {name: decode(uri) for name, uri in entries[3].pictures.items()}
    inner = np.hypot(*(np.mgrid[:SIZE, :SIZE] - 15.5)) < 7
    assert np.abs(seen["input"][inner].astype(int) - [200, 120, 60]).max() < 12
    assert np.abs(seen["reconstruction"].astype(int) - 64).max() < 6
    assert np.abs(seen["albedo"].astype(int) - 191).max() < 6
    np.testing.assert_array_equal(seen["truth"][..., 3] > 128, mask)
    # Lit from the upper left: the slope there is the brighter one.
    for name in ("shape", "truth"):
        grey = seen[name][..., :3].mean(-1)
        assert grey[10, 10] > grey[21, 21] + 10
    contrast = {name: seen[name][9:23, 9:23, :3].std() for name in ("shape", "truth")}
    assert contrast["shape"] < contrast["truth"]
    assert not np.array_equal(seen["left"], seen["right"])


def test_large_runs_show_best_median_worst_and_the_first(tmp_path: Path) -> None:
    [results] = read_results([build(tmp_path, Given(count=9, relief=1.5))])
    chosen = pictures.choose(results.done, limit=4)
    mad = results.scores["mad_degrees"].to_numpy()
    assert chosen["tag"].fillna("").tolist() == ["best", "median", "worst", ""]
    assert chosen["row"].tolist()[:3] == [mad.argmin(), np.argsort(mad)[4], mad.argmax()]
    found = methods([results])
    page = report_page([results], found, printed_scores(found, score_table(found)), limit=4)
    assert "then the first other of 9 reconstructed images" in page


def test_runs_on_the_same_images_share_reference_rows(tmp_path: Path) -> None:
    images = write_images(tmp_path / "data", Given())
    runs = [
        make_run(tmp_path / "a", images, Given(relief=1.2)),
        make_run(tmp_path / "b", images, Given(relief=2.0)),
        make_run(tmp_path / "c", images, Given(failed=(0,))),
    ]
    names = [method.name for method in methods(read_results(runs[:2]))]
    assert names == ["Constant depth", "Average true depth", "a", "b"]
    found = methods(read_results(runs))
    names = [method.name for method in found]
    assert names[4:] == ["Constant depth (c)", "Average true depth (c)", "c"]
    assert found[6].constant is found[4].scores
    page, _ = write_report(runs)
    assert page == tmp_path / "a" / "report" / "comparison" / "index.html"
    assert "a, b and c" in page.read_text()


def test_tables_hold_the_numbers(tmp_path: Path) -> None:
    run = build(tmp_path, Given(relief=1.5, failed=(1,)))
    index, table = write_report([run])
    folder = index.parent
    assert folder == run / "report"
    [results] = read_results([run])
    lines = list(csv.DictReader(io.StringIO((folder / "report.csv").read_text())))
    assert [line["kind"] for line in lines] == ["reference", "reference", "run"]
    found = results.statistics.loc["mad_degrees"]
    assert float(lines[2]["mad_degrees_median"]) == pytest.approx(found["median"])
    assert float(lines[2]["side_ratio"]) == pytest.approx(side_ratio(results))
    assert lines[2]["failed"] == "1"
    assert lines[0]["failed"] == ""
    text = (folder / "report.md").read_text()
    assert f"{found['mean']:.1f} ± {found['std']:.1f}" in text
    assert "- 1 x is <not> an image." in text
    lines = shown(table)
    assert f"{found['mean']:.1f} ± {found['std']:.1f}" in lines[3]
    assert max(map(len, lines)) <= 80


def test_without_ground_truth(tmp_path: Path) -> None:
    run = build(tmp_path, Given(truth=False))
    index, table = write_report([run])
    page = index.read_text()
    assert "No ground-truth depth came with these images" in page
    assert "True shape" not in page
    assert "0.2500" in page  # the photometric loss
    heads, line = shown(table)
    assert heads.split() == [
        *("run", "images", "reconstructed", "failed", "left"),
        *("photometric", "inversion", "L1"),
    ]
    assert line.split() == ["run", "5", "5", "0", "0", "0.2500", "0.1250"]


def shown(table: Any) -> list[str]:
    """The lines of a table on a narrow terminal."""
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text().splitlines()


def test_runs_with_and_without_ground_truth_side_by_side(tmp_path: Path) -> None:
    runs = [build(tmp_path, Given()), build(tmp_path, Given(truth=False), "bare")]
    index, table = write_report(runs)
    lines = [line.split() for line in shown(table)]
    assert [line[0] for line in lines] == ["method", "Constant", "Average", "run", "run", "bare"]
    assert lines[5][1:4] == ["5", "5", "0"]
    assert "bare" in index.with_name("report.md").read_text()


def test_ground_truth_that_is_gone_is_said_and_not_guessed(tmp_path: Path) -> None:
    run = build(tmp_path, Given())
    (tmp_path / "run-data" / "depth" / "002.npy").unlink()
    [results] = read_results([run])
    assert results.references == {}
    assert any("reference rows are missing" in note for note in notes([results]))
    assert results.scored
    assert "Constant depth" not in write_report([run])[0].read_text()


@pytest.mark.parametrize("given", [Given(committed=0), Given(failed=(0, 1, 2, 3, 4))])
def test_a_run_without_results_still_has_a_report(tmp_path: Path, given: Given) -> None:
    run = build(tmp_path, given)
    index, _ = write_report([run])
    page = index.read_text()
    assert ("5 failed" in page) == bool(given.failed)
    assert ("5 of 5 images are not done yet" in page) == (given.committed == 0)


def test_missing_rotation_is_pointed_out(tmp_path: Path) -> None:
    deep = Given(count=8, relief=1.6, yaw=0.05)
    texts = notes(read_results([build(tmp_path, deep)]))
    assert len(texts) == 2
    assert "too deep: scaled by 0.6" in texts[0]
    assert "predicted yaw spreads by 2.9°, the pseudo views by 20.1°" in texts[1]


def test_a_picture_that_is_gone_leaves_a_gap(tmp_path: Path) -> None:
    run = build(tmp_path, Given())
    (tmp_path / "run-data" / "image" / "001.png").unlink()
    [results] = read_results([run])
    entries = list(pictures.gallery(results.run, pictures.choose(results.done)))
    assert [entry.pictures["input"] is None for entry in entries] == [i == 1 for i in range(5)]
    assert "not<br>available" in write_report([run])[0].read_text()
