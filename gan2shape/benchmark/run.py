"""All parts of a benchmark, one after the other: what is there already is left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gan2shape.benchmark import experiments
from gan2shape.benchmark.heads import average_file, make_average, make_heads
from gan2shape.benchmark.plan import HeadSet, Plan, Request, Row, Training, make_plan
from gan2shape.benchmark.record import Bench, add_row, begin, open_bench
from gan2shape.benchmark.report import write_benchmark
from gan2shape.benchmark.rows import is_made, make_row
from gan2shape.benchmark.sections import Experiment
from gan2shape.benchmark.side_by_side import train_all
from gan2shape.benchmark.trainings import networks_path
from gan2shape.jobs.progress import Display, run_progress
from gan2shape.jobs.run.start import Execution
from gan2shape.jobs.training.workdir import held


@dataclass(frozen=True)
class Part:
    """Something that is done by itself."""

    title: str
    do: Callable[[], bool]
    """Returns whether there was need to."""


def benchmark(request: Request, execution: Execution, display: Display) -> Path:
    """Make all rows that were asked for, then table and page; returns the page.

    Interrupted or killed at any moment, the same call goes on. Raises `UserError` for what the user
    can put right.
    """
    out = request.out
    execution.workers_for(1)  # a device that is not there: said before heads are drawn for it
    plan = make_plan(request)
    cache = request.cache or out / "cache"
    with held(out):
        bench = begin(out, plan, request.recipe.model_dump(mode="json"), cache)
        do_parts(parts(plan, bench, execution, display), display)
        return write_benchmark(out)


def do_parts(found: list[Part], display: Display) -> None:
    """Do the parts in their order, and tell of each."""
    for number, part in enumerate(found, 1):
        name = f"part {number} of {len(found)}: {part.title}"
        display.note(name)
        if not part.do():
            display.note(f"part {number} of {len(found)} is done already")


def parts(plan: Plan, bench: Bench, execution: Execution, display: Display) -> list[Part]:
    """Heads first, then what the rows need to be trained, the rows, and the experiments.

    Table and page are written before these, which may be stopped or fail, too.
    """
    found = [
        Part(str(plan.heads), partial(_heads, bench.heads, plan.heads, display)),
        Part(str(plan.train_heads), partial(_train_heads, plan, bench, display)),
        Part("average depth of the train heads", partial(_average, plan, bench, display)),
    ]
    needed: dict[str, Training] = {}
    for row in plan.rows:
        # A finished row needs its networks no more, wherever the cache has gone.
        if isinstance(row.start, Training) and not is_made(bench.row(row.method.folder)):
            needed |= {training.key: training for training in row.start.chain}
    if needed:
        title = "training " + ", ".join(training.folder for training in needed.values())
        do = partial(_train, list(needed.values()), bench, execution, display)
        found.append(Part(title, do))
    for row in plan.rows:
        found.append(Part(str(row), partial(_row, row, plan, bench.out, execution, display)))
    if experiments.EXPERIMENTS:
        found.append(Part("table and page", partial(_report, bench.out)))
    for experiment in experiments.EXPERIMENTS:
        do = partial(_experiment, experiment, bench.out, display)
        found.append(Part(experiment.title, do))
    return found


def _heads(folder: Path, heads: HeadSet, display: Display) -> bool:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return make_heads(folder, heads, display.show)


def _train_heads(plan: Plan, bench: Bench, display: Display) -> bool:
    with held(bench.cache):  # which several benchmarks may share
        return _heads(bench.train_heads, plan.train_heads, display)


def _average(plan: Plan, bench: Bench, display: Display) -> bool:
    file = average_file(bench.cache, plan.train_heads)
    with held(bench.cache):
        return make_average(file, bench.train_heads, plan.train_heads, display.show)


def _train(
    trainings: Sequence[Training], bench: Bench, execution: Execution, display: Display
) -> bool:
    return train_all(
        trainings, bench.train_heads, bench.cache, execution, display.show, display.note
    )


def _row(row: Row, plan: Plan, out: Path, execution: Execution, display: Display) -> bool:
    bench = add_row(open_bench(out), row)
    folder, networks = bench.row(row.method.folder), networks_path(bench.cache, row.start)
    show = run_progress(display.show)
    return make_row(row, folder, bench.heads, networks, execution, plan.priors, show)


def _report(out: Path) -> bool:
    write_benchmark(out)
    return True


def _experiment(experiment: Experiment, out: Path, display: Display) -> bool:
    experiment.make(open_bench(out), display)
    return True
