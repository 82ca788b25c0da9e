"""Commands that make the paper's table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gan2shape.cli.options import (
    DEVICE,
    GAN_FORMS,
    SEED,
    THREADS_PER_WORKER,
    directory,
    file_option,
)
from gan2shape.cli.terminal import stopping, terminal

if TYPE_CHECKING:
    from gan2shape.jobs.run.shard import Device


@click.group()
def benchmark() -> None:
    """Reproduce the paper's table on synthetic heads."""


@benchmark.command("heads")
@directory("Benchmark directory. A benchmark that it holds goes on.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of heads that are reconstructed and scored. [default: 200, and 16 with --quick]",
)
@click.option(
    "--split",
    type=click.Choice(["val", "test"]),
    default="test",
    show_default=True,
    help="Split that these heads are from. Use val to tune settings.",
)
@click.option(
    "--quick",
    is_flag=True,
    help="Take few heads, small budgets and packaged networks. This takes half an hour on two "
    "cores.",
)
@click.option(
    "--rows",
    metavar="LIST",
    help="Rows of the table, such as 1,4,6-8. Rows 2 and 3 are always made. [default: all]",
)
@click.option(
    "--gan",
    default="heads64",
    show_default=True,
    metavar="WEIGHTS",
    help=f"StyleGAN2 weights of heads: {GAN_FORMS}.",
)
@click.option(
    "--priors",
    metavar="PRIORS",
    help="Spread of views and lights: a file that 'gan2shape train priors' wrote, or the name or "
    "folder of a model. [default: heads64]",
)
@click.option(
    "--packaged/--no-packaged",
    default=None,
    help="Start rows 6, 9 and 10 from packaged networks, or from networks that are trained here. "
    "[default: --packaged with --quick, else --no-packaged]",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for training heads and trained networks. Several benchmarks can share it. "
    "[default: cache/ in the benchmark]",
)
@file_option("--lpips", "VGG16-LPIPS weights, for one more score of turned and relit heads.")
@SEED
@DEVICE
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Number of trainings at a time, and of worker processes of a run. [default: one per "
    "core, or per GPU]",
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
    """Make the table on synthetic heads.

    The command makes the data, the trainings, the runs and their comparison. Give the same command
    again to go on after an interruption. Finished parts are kept. The table is in DIR/index.html
    and DIR/table.md.

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
    """Write the table of a benchmark again.

    DIR is a benchmark directory, finished or not.

    \b
    Example:
      gan2shape benchmark report benchmark
    """
    from gan2shape.benchmark.report import write_benchmark

    click.echo(str(write_benchmark(directory)))
