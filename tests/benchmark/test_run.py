"""A whole benchmark in miniature: going on where it was, what does not fit, table and page."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from gan2shape.benchmark import experiments, heads, rows, run, trainings
from gan2shape.benchmark.manipulation.parts import ROTATION, experiment
from gan2shape.benchmark.plan import Request
from gan2shape.benchmark.record import Bench, open_bench
from gan2shape.benchmark.report import write_benchmark
from gan2shape.benchmark.run import benchmark
from gan2shape.benchmark.scores import read_results
from gan2shape.benchmark.sections import Experiment, Section
from gan2shape.cli import INTERRUPTED, main
from gan2shape.jobs.progress import Display
from gan2shape.jobs.report import reference_rows
from gan2shape.jobs.report.results import read_results as read_runs
from gan2shape.jobs.report.results import seconds_per_image
from gan2shape.jobs.report.scores import ratios
from gan2shape.jobs.run import store
from gan2shape.jobs.run.start import Execution
from gan2shape.schemas.errors import UserError
from tests.benchmark import tiny
from tests.networks import lpips_weights


@pytest.fixture(scope="module", autouse=True)
def standins() -> Any:
    """Shipped heads in place of drawn ones, shards in this process, one thread."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "write_heads", tiny.write_heads)
        patch.setattr(rows, "execute", tiny.execute)
        patch.setattr(experiments, "EXPERIMENTS", ())  # these heads are not what they are called
        torch.set_num_threads(1)
        yield
    torch.set_num_threads(threads)


def request(out: Path, **changes: Any) -> Request:
    return replace(Request(out, tiny.recipe(), rows=(1, 6, 9)), **changes)


def make(asked: Request) -> list[str]:
    notes: list[str] = []
    assert benchmark(asked, tiny.CPU, tiny.quiet(notes)) == asked.out / "index.html"
    return notes


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows 1, 6 and 9, made without interruption."""
    out = tmp_path_factory.mktemp("whole") / "out"
    notes = make(request(out))
    parts = [note.split(": ", 1)[1] for note in notes if note.startswith("part")]
    assert [part.split("-")[0].split(" ")[0] for part in parts] == (
        ["3", "8", "average", "training", "row", "row", "row"]
    )
    assert notes[0] == "part 1 of 7: 3 heads of the test split at 64 pixels"
    return out


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """The same, to be changed; its runs name files of the first."""
    return Path(shutil.copytree(whole, tmp_path / "out"))


def test_what_it_leaves(whole: Path) -> None:
    results = read_results(open_bench(whole))
    assert results.counting == [1, 2, 3, 6, 9]
    assert results.compared.all()
    by_number = {row["number"]: row for row in pq.read_table(whole / "table.parquet").to_pylist()}
    (found,) = read_runs([whole / "rows" / "06-gan2shape"])
    assert found.scores["side"].tolist() == results.row(6)["side"].tolist()
    assert by_number[6]["seconds_per_image"] == pytest.approx(seconds_per_image(found.frame))
    constant = found.references[reference_rows.CONSTANT]
    np.testing.assert_array_equal(constant["side"], results.row(2)["side"])
    ratio = ratios(found.scores, constant)["side"]
    assert by_number[6]["side_ratio"] == pytest.approx(ratio)
    # Row 3 knows the train heads, not these.
    average = found.references[reference_rows.AVERAGE]
    assert by_number[3]["side_mean"] != average["side"].mean()
    assert by_number[6]["training_seconds"] == by_number[9]["training_seconds"] > 0
    assert by_number[4]["state"] == "not made yet"
    page = (whole / "index.html").read_text()
    assert page.count('class="tag best"') == 5
    assert page.count("Error of row") == 5
    assert page.count('<figure class="chart">') == 2
    assert (whole / "plotly.min.js").exists()
    assert "http://" not in page
    assert "https://" not in page
    assert "Row 6, SIDE ratio" in page
    assert "| 6 | GAN2Shape | Y | 3 |" in (whole / "table.md").read_text()


def test_the_same_command_leaves_what_is_there_alone(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise AssertionError("done already")

    for module, name in ((heads, "write_heads"), (run, "train_all"), (rows, "execute")):
        monkeypatch.setattr(module, name, fail)
    notes = make(request(whole))
    assert sum(note.endswith("is done already") for note in notes) == 6
    assert not any("training" in note for note in notes)  # which finished rows do not need


def test_finished_rows_do_not_need_the_cache(copied: Path) -> None:
    for file in (copied / "cache").iterdir():
        if "pretrain" in file.name or "supervised" in file.name:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    make(request(copied))
    rows_left = pq.read_table(copied / "table.parquet").to_pylist()
    assert rows_left[5]["side_mean"] is not None
    assert rows_left[5]["training_seconds"] is None


def test_an_interrupted_benchmark_goes_on(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    asked = request(out, rows=(1,), cache=cache)

    def stopped(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    def stop_inside(task: str, stage: str, done: int, total: int, *more: Any) -> None:
        if task.startswith("supervised-"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        benchmark(asked, tiny.CPU, Display(stop_inside, lambda text: None))
    (work,) = cache.glob("supervised-*/")
    before = trainings.read_record(cache, work.name)
    assert not before.finished
    assert before.seconds > 0
    fixed = yaml.safe_load((work / "record.yaml").read_text())["fixed"]
    assert fixed["settings"]["method"] == "supervised"
    with monkeypatch.context() as patched:
        patched.setattr(rows, "execute", stopped)
        with pytest.raises(KeyboardInterrupt):
            make(asked)
    after = trainings.read_record(cache, work.name)
    assert after.finished
    assert after.seconds > before.seconds
    write_benchmark(out)
    table = pq.read_table(out / "table.parquet").to_pylist()
    assert table[0]["state"] == "not made yet"
    assert table[1]["side_mean"] > 0
    notes = make(asked)
    assert "part 4 of 5 is done already" in notes  # the training
    runs = [store.open_run(folder / "rows" / "01-supervised") for folder in (whole, out)]
    depths = [store.read_rows(each.path, "depth", slice(0, 3)) for each in runs]
    np.testing.assert_array_equal(*depths)


def test_what_does_not_fit_ends_with_a_sentence(copied: Path) -> None:
    with pytest.raises(UserError, match="benchmark with other heads; give the options"):
        make(request(copied, count=2))
    with pytest.raises(UserError, match="with other train heads"):
        make(request(copied, recipe=tiny.recipe(train_heads=9)))
    with pytest.raises(UserError, match="with other --seed; give"):
        make(request(copied, seed=1, rows=(9,)))
    with pytest.raises(UserError, match="with other --packaged; give"):
        make(request(copied, packaged=True, rows=(4,)))
    refine = {**tiny.RECIPE["refine"]["set"], "optimization.decay": 0.1}
    other = tiny.recipe(refine=tiny.RECIPE["refine"] | {"set": refine})
    with pytest.raises(UserError, match="06-gan2shape was made with other settings or networks"):
        make(request(copied, recipe=other))
    shutil.rmtree(copied / "rows" / "06-gan2shape")
    make(request(copied, recipe=other))
    run_made = store.open_run(copied / "rows" / "06-gan2shape")
    assert run_made.record.config.optimization.decay == 0.1
    with pytest.raises(UserError, match="is a file"):
        make(request(copied / "table.md"))
    (copied / "benchmark.yaml").write_text("heads: 3")
    with pytest.raises(UserError, match="is damaged"):
        make(request(copied))


def test_a_device_that_is_missing_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no CUDA device on this machine"):
        benchmark(request(tmp_path / "new"), Execution("cuda"), tiny.quiet())
    assert not (tmp_path / "new").exists()


def test_a_damaged_head_ends_with_a_sentence(copied: Path) -> None:
    folder = copied / "data" / "test"
    next((folder / "depth").iterdir()).write_bytes(b"")
    with pytest.raises(UserError, match=f"in {folder} is empty.*; remove that folder and give"):
        write_benchmark(copied)
    shutil.rmtree(folder)
    make(request(copied))
    next((copied / "cache").glob("average-*.npy")).unlink()
    next((copied / "cache").glob("train-8-*/depth/*")).write_bytes(b"")
    with pytest.raises(UserError, match=r"train-8-\w+ is empty.*; remove that folder and give"):
        make(request(copied))


def test_a_finished_benchmark_can_be_moved(copied: Path, tmp_path: Path) -> None:
    before = (copied / "table.csv").read_text()
    moved = copied.rename(tmp_path / "moved")
    write_benchmark(moved)
    assert (moved / "table.csv").read_text() == before


def test_networks_that_changed_under_an_unfinished_row(copied: Path) -> None:
    run_made = store.open_run(copied / "rows" / "09-forward")
    next(run_made.path.glob("commits/*.json")).unlink()
    networks = run_made.record.networks
    assert networks is not None
    file = Path(networks.path)
    before = file.read_bytes()
    try:
        shutil.copy(next((copied / "cache").glob("supervised-*/networks.safetensors")), file)
        with pytest.raises(UserError, match="are not those that"):
            make(request(copied))
    finally:
        file.write_bytes(before)
    make(request(copied))
    assert read_results(open_bench(copied)).states["state"][9] == ""


def test_an_experiment_adds_a_part_and_a_section(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def do(bench: Bench, display: Any) -> None:
        (bench.out / "found.txt").write_text("a figure")

    def section(bench: Bench) -> Section | None:
        file = bench.out / "found.txt"
        if not file.exists():
            return None
        return Section("Rotation", file.read_text())

    monkeypatch.setattr(experiments, "EXPERIMENTS", (Experiment("rotation", do, section),))
    write_benchmark(copied)
    assert "Rotation" not in (copied / "index.html").read_text()
    notes = make(request(copied))
    assert notes[-2:] == ["part 7 of 8: table and page", "part 8 of 8: rotation"]
    assert '<p class="lead">a figure</p>' in (copied / "index.html").read_text()
    assert "## Rotation\n\na figure" in (copied / "table.md").read_text()


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["gan2shape", "benchmark", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_the_commands(
    copied: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["heads"], ["report"]):
        code, out, _ = command(monkeypatch, capsys, *words, "--help")
        assert (code, "Example" in out) == (0, True)
    code, out, _ = command(monkeypatch, capsys, "report", copied)
    assert (code, out.strip()) == (0, str(copied / "index.html"))
    new = tmp_path / "new"
    mistakes = [
        (["report", new], "is no benchmark"),
        (["heads", "--out", new, "--rows", "0-3"], "write numbers from 1 to 10"),
        (["heads", "--out", new, "--gan", "x.pt"], "x.pt"),
        (["heads", "--out", new, "--priors", "x.yaml"], "no priors 'x.yaml'"),
        (["heads", "--out", new, "--count", "200000"], "holds 100000 heads"),
        (["heads", "--out", copied, "--split", "val"], "benchmark with other heads"),
    ]
    for words, sentence in mistakes:
        code, _, err = command(monkeypatch, capsys, *words)
        assert code == 1
        assert sentence in err
        assert len(err.strip().splitlines()) == 1
    assert not new.exists()
    assert command(monkeypatch, capsys, "heads", "--out", new, "--split", "train")[0] == 2


def test_the_command_reads_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Request] = []

    def stopped(request: Request, execution: Any, display: Any) -> Path:
        asked.append(request)
        display.note("part 1 of 9")
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "benchmark", stopped)
    out = tmp_path / "out"
    options = ["--quick", "--rows", "1,9-10", "--cache", tmp_path / "cache", "--count", "4"]
    code, said, err = command(monkeypatch, capsys, "heads", "--out", out, *options)
    assert (code, said) == (INTERRUPTED, "part 1 of 9\n")
    assert err.strip() == f"stopped; what is done is kept in {out}; the same command goes on"
    command(monkeypatch, capsys, "heads", "--out", out, "--quick", "--no-packaged")
    command(monkeypatch, capsys, "heads", "--out", out, "--split", "val")
    quick, trained, full = asked
    assert (quick.recipe.name, quick.rows, quick.count) == ("quick", (1, 9, 10), 4)
    assert [each.packaged for each in asked] == [True, False, False]
    assert (trained.cache, quick.cache) == (None, tmp_path / "cache")
    assert (full.recipe.name, full.split, full.rows) == ("full", "val", tuple(range(1, 11)))


def test_weights_of_lpips_score_turned_heads(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def turned(*places: Any, **options: Any) -> None:
        asked.update(options)

    rotation = experiment(replace(ROTATION, run=turned))
    monkeypatch.setattr(experiments, "EXPERIMENTS", (rotation,))
    make(request(copied))
    assert asked["lpips"] is None
    file = tmp_path / "lpips.pt"
    file.write_text("none")
    with pytest.raises(UserError, match=r"lpips\.pt"):
        make(request(copied, lpips=file))
    torch.save(lpips_weights(), file)
    make(request(copied, lpips=file))
    assert asked["lpips"] == file
