"""Commands on run directories: make, finish, watch and report them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gan2shape.cli.options import (
    CATEGORY,
    EXECUTION,
    GAN_FORMS,
    IMAGES,
    LIMIT,
    LPIPS,
    MASKS,
    MODEL,
    NETWORKS_FORMS,
    PRIORS,
    WORK,
    FieldsCommand,
    directory,
    fields_of,
    run_overrides,
    setting,
    with_options,
)
from gan2shape.cli.terminal import stopping, terminal
from gan2shape.schemas.errors import UserError

if TYPE_CHECKING:
    from gan2shape.jobs.run.shard import Device
    from gan2shape.jobs.run.start import Execution, Outcome
    from gan2shape.jobs.run.store import Run

SHARD = 16
"""Images of a shard, as near as whole groups come to it, where only --group-size is given."""


@click.command(cls=FieldsCommand)
@IMAGES
@MODEL
@directory("Run directory to make.", metavar="RUN")
@click.option(
    "--recipe",
    metavar="RECIPE",
    help=WORK.format(
        "forward, single-image, refine, scratch, paper, paper-joint",
        "the model's; paper without a model",
    ),
)
@CATEGORY
@click.option(
    "--gan",
    metavar="WEIGHTS",
    help=f"StyleGAN2 weights in place of the model's: {GAN_FORMS}.",
)
@click.option(
    "--networks",
    metavar="NETWORKS",
    help=f"Networks to start from, in place of the model's: {NETWORKS_FORMS}.",
)
@PRIORS
@setting("optimization.batch=8")
@MASKS
@click.option(
    "--truth",
    metavar="DIR",
    help="Ground-truth depth (.tiff, .npy, or 8-bit .png), by the images' names.",
)
@click.option(
    "--latents",
    metavar="PATH",
    help="Latents in W: a folder of .pt files by the images' names (others are inverted), or one "
    ".pt, .zarr or run directory for all images.",
)
@LPIPS
@LIMIT(help="Only the first N images.")
@with_options(*EXECUTION)
@fields_of(
    "gan2shape.schemas.settings.RunConfig",
    *("mask", "group_size", "shard_size", "precision", "renderer", "seed"),
    defaults={
        "mask": "the category's",
        "group_size": "the recipe's",
        "shard_size": "the recipe's",
    },
)
def reconstruct(
    source: str,
    out: Path,
    model: str | None,
    recipe: str | None,
    category: str | None,
    gan: str | None,
    networks: str | None,
    priors: str | None,
    settings: tuple[str, ...],
    masks: str | None,
    truth: str | None,
    latents: str | None,
    lpips: Path | None,
    limit: int | None,
    workers: int | None,
    threads: int | None,
    scheduler: str | None,
    device: Device,
    fields: dict[str, Any],
) -> None:
    """Reconstruct the shape of every image.

    IMAGES is a folder of images, one image, a quoted glob, or a URL that fsspec reads (s3://...).
    A folder that holds image/ is a data set: depth/, mask/ and latent/ beside it are its ground
    truth, masks and latents, by the images' names.

    'gan2shape model list' lists the packaged models. 'gan2shape settings' lists all settings.

    \b
    Examples:
      gan2shape reconstruct heads/ --model heads64 --out run
      gan2shape reconstruct heads/ --model heads64 --recipe single-image --out run
      gan2shape reconstruct 'photos/**/*.jpg' --gan faces.pt --category faces --out run
      gan2shape reconstruct s3://bucket/cars --model cars/ --limit 100 --out run
      gan2shape reconstruct heads/ --model heads64 --out run --set mask=given
    """
    from gan2shape.jobs.run.start import Request, prepare
    from gan2shape.jobs.weights.choice import choose

    overrides = run_overrides(settings, fields, masks)
    spread = "shard_size" not in overrides
    group = overrides.get("group_size")
    if spread and isinstance(group, int) and group > 0:
        overrides["shard_size"] = max(1, SHARD // group) * group
    chosen = choose(
        model=model,
        gan=gan,
        category=category,
        recipe=recipe,
        networks=networks,
        priors=priors,
        overrides=overrides,
    )
    request = Request(
        source=source,
        gan=chosen.gan,
        out=out,
        config=chosen.config,
        masks=masks,
        truth=truth,
        latents=latents,
        lpips=lpips,
        networks=chosen.networks,
        priors=chosen.priors,
        limit=limit,
        spread=spread,
    )
    execution = _execution(device, workers, threads, scheduler)
    run, found = prepare(request, execution)
    console = terminal()
    text = f"{len(found)} images -> {out}"
    if found.skipped:
        text += f" ({found.skipped} other files skipped)"
    console.print(text, highlight=False, soft_wrap=True, markup=False)
    _execute(run, execution)


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.option(
    "--verify",
    is_flag=True,
    help="First compare the content of all results with their SHA-256, and compute shards with "
    "damaged files again.",
)
@with_options(*EXECUTION)
def resume(
    run: Path,
    verify: bool,
    workers: int | None,
    threads: int | None,
    scheduler: str | None,
    device: Device,
) -> None:
    """Finish what is missing in a run.

    The settings are those that the run began with. Shards whose files are missing or cut short are
    computed again. The report is written again.

    \b
    Examples:
      gan2shape resume run
      gan2shape resume run --verify
    """
    from gan2shape.jobs.run.start import check_weights
    from gan2shape.jobs.run.store import open_run

    execution = _execution(device, workers, threads, scheduler)
    opened = open_run(run)
    check_weights(opened)
    _execute(opened, execution, verify)


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.option(
    "--verify", is_flag=True, help="Compare the content of all results with their SHA-256, too."
)
def status(run: Path, verify: bool) -> None:
    """Show the progress of a run and the time left.

    The command also names files of finished shards that are missing or damaged.

    \b
    Examples:
      gan2shape status run
      gan2shape status run --verify
    """
    from gan2shape.jobs.progress import status_table
    from gan2shape.jobs.run.status import run_status

    found = run_status(run, verify)
    terminal().print(status_table(found), highlight=False)
    for sentence in found.damage:
        click.echo(sentence)


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where to write. [default: report/ in the run; of several runs, report/comparison/ in the "
    "first]",
)
def report(runs: tuple[Path, ...], out: Path | None) -> None:
    """Write the report of one run or several.

    It is HTML, Markdown and CSV. Several runs are put side by side.

    \b
    Examples:
      gan2shape report run
      gan2shape report with-symmetry without-symmetry --out comparison
    """
    _report(list(runs), out)


def _execution(
    device: Device, workers: int | None, threads: int | None, scheduler: str | None
) -> Execution:
    from gan2shape.jobs.run.start import Execution

    if scheduler is not None and (workers or threads):
        raise click.UsageError(
            "--workers and --threads-per-worker are for this machine; with --scheduler the workers "
            "are those that run already."
        )
    return Execution(device, workers, threads, scheduler)


def _execute(run: Run, execution: Execution, verify: bool = False) -> None:
    """Do the run's missing shards with progress on the terminal, then report."""
    from gan2shape.jobs.progress import run_progress, terminal_display
    from gan2shape.jobs.run.start import execute

    console = terminal()

    def announce(workers: str) -> None:
        text = f"{run.plan} on {workers}"
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    with stopping(f"stopped; nothing committed is lost; go on with gan2shape resume {run.path}"):
        with terminal_display(console) as display:
            outcome = execute(run, execution, run_progress(display.show), announce, verify)
        _finish(run, outcome)


def _finish(run: Run, outcome: Outcome) -> None:
    status = outcome.status
    if status.images_done:
        _report([run.path], None)
    if outcome.shard_errors:
        shard, reason = min(outcome.shard_errors.items())
        raise UserError(
            f"{len(outcome.shard_errors)} of {status.shards} shards are not done (shard {shard}: "
            f"{reason}); try them again with 'gan2shape resume {run.path}'."
        )
    if status.images_failed == status.images:
        raise UserError(f"All {status.images} images failed; the report gives the reasons.")


def _report(runs: list[Path], out: Path | None) -> None:
    from gan2shape.jobs.report.report import write_report

    path, table = write_report(runs, out)
    terminal().print(table)
    click.echo(str(path))
