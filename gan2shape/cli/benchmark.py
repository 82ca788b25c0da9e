"""Commands that make the paper's table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gan2shape.cli.options import DEVICE, SEED, THREADS_PER_WORKER, directory, file_option
from gan2shape.cli.terminal import stopping, terminal

if TYPE_CHECKING:
    from gan2shape.jobs.run.shard import Device


@click.group()
def benchmark() -> None:
    """Reproduce the paper's table on our own heads."""


@benchmark.command("heads")
@directory("Benchmark directory; one that holds this benchmark goes on with it.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Heads to score on. [default: 200, and 16 with --quick]",
)
@click.option(
    "--split",
    type=click.Choice(["val", "test"]),
    default="test",
    show_default=True,
    help="Where they are from; val for tuning.",
)
@click.option(
    "--quick",
    is_flag=True,
    help="Few heads, small budgets, packaged networks: for a first look, in half an hour on two "
    "cores.",
)
@click.option(
    "--rows",
    metavar="LIST",
    help="Rows to make, such as 1,4,6-8; rows 2 and 3 are always there. [default: all]",
)
@click.option(
    "--gan",
    default="heads64",
    show_default=True,
    metavar="WEIGHTS",
    help="StyleGAN2 weights of heads: a file, or the name or folder of a model.",
)
@click.option(
    "--priors",
    metavar="PRIORS",
    help="Spread of views and lights: a file that 'gan2shape train priors' wrote, or a model. "
    "[default: those of the model heads64]",
)
@click.option(
    "--packaged/--no-packaged",
    default=None,
    help="Start rows 6, 9 and 10 from the packaged networks, or train them here. [default: train "
    "them, but not with --quick]",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where train heads and trained networks are kept, for several benchmarks to share. "
    "[default: cache/ in the benchmark]",
)
@file_option("--lpips", "VGG16-LPIPS weights, for one more score of turned and relit heads.")
@SEED
@DEVICE
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Trainings at once, and worker processes of a row's run. [default: one per core, or per "
    "GPU]",
)
@THREADS_PER_WORKER
def benchmark_heads(
    out: Path,
    count: int | None,
    split: str,
    quick: bool,
    rows: str | None,
    gan: str,
    priors: str | None,
    packaged: bool | None,
    cache: Path | None,
    lpips: Path | None,
    seed: int,
    device: Device,
    workers: int | None,
    threads: int | None,
) -> None:
    """Make every row of the paper's table on synthetic heads: data, trainings, runs, comparison.

    Give the same command again to go on after an interruption; what is there is left alone.
    DIR/index.html and DIR/table.md have the table.

    \b
    Examples:
      gan2shape benchmark heads --out benchmark
      gan2shape benchmark heads --out look --quick
      gan2shape benchmark heads --out tuning --split val --rows 6,9,10 --cache cache
    """
    from gan2shape.benchmark.methods import METHODS, parse_rows
    from gan2shape.benchmark.plan import Request
    from gan2shape.benchmark.run import benchmark as make
    from gan2shape.jobs.progress import terminal_display
    from gan2shape.jobs.run.start import Execution
    from gan2shape.schemas.benchmark import FULL, QUICK, packaged_recipe

    request = Request(
        out=out,
        recipe=packaged_recipe(QUICK if quick else FULL),
        split=split,
        count=count,
        rows=parse_rows(rows or f"1-{len(METHODS)}"),
        gan=gan,
        priors=priors,
        packaged=quick if packaged is None else packaged,
        cache=cache,
        lpips=lpips,
        seed=seed,
    )
    sentence = f"stopped; what is done is kept in {out}; the same command goes on"
    with stopping(sentence), terminal_display(terminal()) as display:
        path = make(request, Execution(device, workers, threads), display)
    click.echo(str(path))


@benchmark.command("report")
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
def benchmark_report(directory: Path) -> None:
    """Write table and page of the benchmark in DIR again, from what is there.

    \b
    Example:
      gan2shape benchmark report benchmark
    """
    from gan2shape.benchmark.report import write_benchmark

    click.echo(str(write_benchmark(directory)))
