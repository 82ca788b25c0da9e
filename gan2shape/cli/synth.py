"""Commands that draw data sets with ground truth."""

from __future__ import annotations

from pathlib import Path

import click

from gan2shape.cli.terminal import terminal


@click.group()
def synth() -> None:
    """Make data sets with ground truth."""


@synth.command()
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Data set to make, or to finish.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many heads to draw. Needs --split.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    help="Which identities to draw; no identity is in two splits. Needs --count.",
)
@click.option(
    "--seeds", metavar="A:B", help="Draw the identities A to B-1, in place of --count and --split."
)
@click.option(
    "--size",
    type=click.IntRange(32, 1024),
    default=64,
    show_default=True,
    help="Width and height in pixels, a power of two.",
)
@click.option(
    "--unsup3d-layout", is_flag=True, help="Also write the 8-bit files that Unsup3d's loaders read."
)
def heads(
    out: Path,
    count: int | None,
    split: str | None,
    seeds: str | None,
    size: int,
    unsup3d_layout: bool,
) -> None:
    """Draw synthetic heads with depth, mask, albedo, view and light.

    \b
    Examples:
      gan2shape synth heads --out heads --count 64 --split test
      gan2shape synth heads --out heads --seeds 200000:200008 --size 128
    """
    if (seeds is None) == (count is None and split is None):
        raise click.UsageError("Give either --seeds A:B, or --count N and --split NAME.")
    if seeds is None and (count is None or split is None):
        raise click.UsageError("--count and --split go together.")
    from gan2shape.jobs.synthetic import parse_seeds, split_seeds, write_heads

    wanted = parse_seeds(seeds) if seeds is not None else split_seeds(split, count)  # type: ignore[arg-type]
    console = terminal()
    if console.is_terminal:
        from rich.progress import Progress

        with Progress(console=console) as progress:
            task = progress.add_task("heads", total=len(wanted))
            write_heads(
                out,
                wanted,
                size,
                unsup3d_layout,
                on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
    else:
        write_heads(out, wanted, size, unsup3d_layout)
    click.echo(f"{len(wanted)} heads -> {out}")
