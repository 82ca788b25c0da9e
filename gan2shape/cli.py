"""The `gan2shape` command: parse, call one function of `jobs`, print.

Imports inside the commands keep `gan2shape --help` quick: torch alone takes seconds.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from gan2shape.schemas.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from gan2shape.jobs.runs import Execution, Outcome
    from gan2shape.jobs.shard import Device
    from gan2shape.jobs.store import Run

INTERRUPTED = 130
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def _set(example: str, what: str = "one setting") -> Any:
    return click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help=f"Change {what}, such as {example}; may be repeated.",
    )


_DEVICE = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to compute; auto takes the GPUs if there are any.",
)
_PRIORS = click.option(
    "--priors",
    metavar="PRIORS",
    help="Spread of views and lights in place of the preset's: a file that 'gan2shape priors' "
    "wrote, or the name of packaged ones.",
)
_execution = [
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        help="Worker processes. [default: one per core, or per GPU]",
    ),
    click.option(
        "--threads-per-worker",
        "threads",
        type=click.IntRange(min=1),
        help="Compute threads of each worker. [default: the cores divided by the workers]",
    ),
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Use the workers of a running Dask scheduler, such as tcp://10.0.0.5:8786 "
        "(started with --nthreads 1; the run directory must be on a disk they share).",
    ),
    _DEVICE,
]


def _with(*options: Any) -> Any:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="gan2shape", prog_name="gan2shape")
def cli() -> None:
    """The 3D shape of every image in a folder, from a pretrained 2D StyleGAN2.

    \b
    Examples:
      gan2shape reconstruct photos/ --gan heads64 --out run
      gan2shape status run
      gan2shape resume run
      gan2shape report run other-run --out comparison
    """


@cli.command()
@click.argument("source", metavar="FOLDER")
@click.option(
    "--gan",
    required=True,
    metavar="WEIGHTS",
    help="StyleGAN2 weights of the images' category: a .pt or .safetensors file, or the name of "
    "packaged weights (heads64).",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Run directory to make.",
)
@click.option(
    "--preset", default="heads64", show_default=True, help="Named settings, or a YAML file of them."
)
@_set("optimization.batch=8")
@click.option(
    "--masks", metavar="DIR", help="Object masks, by the images' names (sets mask=given)."
)
@click.option(
    "--truth", metavar="DIR", help="Ground-truth depth (.tiff, .npy), by the images' names."
)
@click.option(
    "--latents",
    metavar="PATH",
    help="Latents in W: a folder of .pt files by the images' names (others are inverted), or one "
    ".pt, .zarr or run directory for all images.",
)
@click.option(
    "--lpips",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="VGG16-LPIPS weights for the perceptual loss, in place of the discriminator's features.",
)
@click.option(
    "--networks",
    metavar="NETWORKS",
    help="Start from networks that 'gan2shape pretrain' wrote for this GAN: a file, or the name of "
    "packaged ones.",
)
@_PRIORS
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N images.")
@click.option("--seed", type=int, help="Seed of all randomness. [default: the preset's, 0]")
@click.option("--group-size", type=click.IntRange(min=1), help="Images that share network weights.")
@click.option("--shard-size", type=click.IntRange(min=1), help="Images of one task.")
@_with(*_execution)
def reconstruct(
    source: str,
    gan: str,
    out: Path,
    preset: str,
    settings: tuple[str, ...],
    masks: str | None,
    truth: str | None,
    latents: str | None,
    lpips: Path | None,
    networks: str | None,
    priors: str | None,
    limit: int | None,
    seed: int | None,
    group_size: int | None,
    shard_size: int | None,
    workers: int | None,
    threads: int | None,
    scheduler: str | None,
    device: Device,
) -> None:
    """Reconstruct every image of FOLDER into the run directory RUN, then write its report.

    FOLDER is a folder of images, one image, a quoted glob, or a URL that fsspec reads (s3://...).
    A folder that holds image/ is a data set: depth/, mask/ and latent/ beside it are its ground
    truth, masks and latents, by the images' names.

    \b
    Examples:
      gan2shape reconstruct photos/ --gan heads64 --out run
      gan2shape reconstruct 'photos/**/*.jpg' --gan faces.pt --preset celeba128 --out run
      gan2shape reconstruct heads/ --gan heads64 --out run --limit 8 --set mask=given
      gan2shape reconstruct s3://bucket/cars --gan cars.pt --preset cars128 --out run
      gan2shape reconstruct heads/ --gan heads64 --networks mine.safetensors --out run
    """
    from gan2shape.jobs.runs import Execution, Request, prepare
    from gan2shape.schemas.config import load_config

    overrides = _overrides(settings)
    if masks is not None:
        overrides.setdefault("mask", "given")
    named = {"seed": seed, "group_size": group_size, "shard_size": shard_size}
    overrides |= {name: value for name, value in named.items() if value is not None}
    spread = "shard_size" not in overrides
    if spread and "group_size" in overrides:
        # The default shard as near as whole groups come to it.
        group = overrides["group_size"]
        overrides["shard_size"] = max(1, 16 // group) * group if isinstance(group, int) else 16
    request = Request(
        source=source,
        gan=gan,
        out=out,
        config=load_config(preset, overrides, priors),
        masks=masks,
        truth=truth,
        latents=latents,
        lpips=lpips,
        networks=networks,
        priors=priors,
        limit=limit,
        spread=spread,
    )
    execution = Execution(device, workers, threads, scheduler)
    run, found = prepare(request, execution)
    console = _console()
    text = f"{len(found)} images -> {out}"
    if found.skipped:
        text += f" ({found.skipped} other files skipped)"
    console.print(text, highlight=False, soft_wrap=True, markup=False)
    _execute(run, execution)


@cli.command()
@click.argument("source", metavar="FOLDER")
@click.option(
    "--gan", required=True, metavar="WEIGHTS", help="StyleGAN2 weights of the images' category."
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Training directory; one that holds this training goes on with it.",
)
@click.option(
    "--preset",
    default="heads64-joint",
    show_default=True,
    help="Named settings, or a YAML file of them.",
)
@_set("optimization.batch=8")
@_PRIORS
@click.option(
    "--networks", metavar="NETWORKS", help="Networks to go on from, in place of an ellipsoid."
)
@click.option(
    "--masks", metavar="DIR", help="Object masks, by the images' names (sets mask=given)."
)
@click.option("--latents", metavar="PATH", help="Latents in W, as for reconstruct.")
@click.option(
    "--lpips",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="VGG16-LPIPS weights for the perceptual loss.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    metavar="N",
    help="Only the first N images; a few hundred are enough.",
)
@click.option("--seed", type=int, help="Seed of all randomness. [default: the preset's, 0]")
@_DEVICE
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    help="Processes that share the images and train in step. [default: one per GPU, else 1]",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Compute threads of each process. [default: the cores divided by the processes]",
)
def pretrain(
    source: str,
    gan: str,
    out: Path,
    preset: str,
    settings: tuple[str, ...],
    priors: str | None,
    networks: str | None,
    masks: str | None,
    latents: str | None,
    lpips: Path | None,
    limit: int,
    seed: int | None,
    device: Device,
    processes: int | None,
    threads: int | None,
) -> None:
    """Train one set of networks on the images of FOLDER, from which reconstructions then start.

    Give the same command again to go on after an interruption. DIR/networks.safetensors is what
    'gan2shape reconstruct --networks' takes; DIR/pictures shows how far it is, DIR/log.jsonl has
    the figures.

    \b
    Examples:
      gan2shape pretrain photos/ --gan my-gan/gan.safetensors --out my-networks
      gan2shape pretrain heads/ --gan heads64 --priors priors.yaml --out networks
    """
    from gan2shape.jobs.pretrain import Request
    from gan2shape.jobs.pretrain import pretrain as train
    from gan2shape.jobs.processes import plan_processes, tune_allocator
    from gan2shape.jobs.steps_display import steps_display
    from gan2shape.schemas.config import load_config

    overrides = _overrides(settings)
    if masks is not None:
        overrides.setdefault("mask", "given")
    if seed is not None:
        overrides["seed"] = seed
    devices, threads = plan_processes(device, processes, threads)
    tune_allocator()
    request = Request(
        source=source,
        gan=gan,
        out=out,
        config=load_config(preset, overrides, priors),
        masks=masks,
        latents=latents,
        lpips=lpips,
        networks=networks,
        limit=limit,
        devices=devices,
        threads=threads,
    )
    sentence = f"stopped; finished steps are kept in {out}; the same command goes on"
    with _stopping(sentence), steps_display(_console()) as (show, note):
        path = train(request, show, note)
    click.echo(str(path))


@cli.command()
@click.argument("source", metavar="FOLDER")
@click.option(
    "--gan", required=True, metavar="WEIGHTS", help="StyleGAN2 weights of the images' category."
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where to write; a directory that holds this estimation goes on with it.",
)
@click.option(
    "--preset",
    default="heads64-priors",
    show_default=True,
    help="Named settings, or a YAML file of them; their priors are where it starts, and should be "
    "broad.",
)
@_set("camera.size=128")
@click.option(
    "--masks", metavar="DIR", help="Object masks, by the images' names (sets mask=given)."
)
@click.option("--latents", metavar="PATH", help="Latents in W, as for reconstruct.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    metavar="N",
    help="Only the first N images; a hundred or two are enough.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=6,
    show_default=True,
    help="At most so many; fewer when the Gaussians are stable before.",
)
@click.option("--seed", type=int, help="Seed of all randomness. [default: the preset's, 0]")
@_DEVICE
@click.option("--threads", type=click.IntRange(min=1), help="Compute threads. [default: all cores]")
def priors(
    source: str,
    gan: str,
    out: Path,
    preset: str,
    settings: tuple[str, ...],
    masks: str | None,
    latents: str | None,
    limit: int,
    rounds: int,
    seed: int | None,
    device: Device,
    threads: int | None,
) -> None:
    """Estimate how views and lights are spread over the images of FOLDER, from the images alone.

    Writes DIR/priors.yaml, which 'gan2shape reconstruct --priors' and 'gan2shape pretrain --priors'
    take, and DIR/priors.html, a picture of the distributions. Give the same command again to go on
    after an interruption.

    \b
    Example:
      gan2shape priors photos/ --gan my-gan/gan.safetensors --out my-priors
    """
    from gan2shape.jobs.priors import Request
    from gan2shape.jobs.priors import priors as estimate
    from gan2shape.jobs.processes import plan_processes, tune_allocator
    from gan2shape.jobs.steps_display import steps_display
    from gan2shape.schemas.config import load_config

    overrides = _overrides(settings)
    if masks is not None:
        overrides.setdefault("mask", "given")
    if seed is not None:
        overrides["seed"] = seed
    devices, threads = plan_processes(device, 1, threads)
    tune_allocator()
    request = Request(
        source=source,
        gan=gan,
        out=out,
        config=load_config(preset, overrides),
        masks=masks,
        latents=latents,
        limit=limit,
        rounds=rounds,
        device=devices[0],
        threads=threads,
    )
    sentence = f"stopped; finished steps are kept in {out}; the same command goes on"
    with _stopping(sentence), steps_display(_console()) as (show, note):
        path = estimate(request, show, note)
    click.echo(str(path))


@cli.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@_with(*_execution)
def resume(
    run: Path, workers: int | None, threads: int | None, scheduler: str | None, device: Device
) -> None:
    """Finish what is missing in RUN, with the settings it began with, and write its report.

    \b
    Example:
      gan2shape resume run
    """
    from gan2shape.jobs.runs import Execution, check_weights
    from gan2shape.jobs.store import open_run

    opened = open_run(run)
    check_weights(opened)
    _execute(opened, Execution(device, workers, threads, scheduler))


@cli.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
def status(run: Path) -> None:
    """Tell what of RUN is done, failed, running and left, and the time to go.

    \b
    Example:
      gan2shape status run
    """
    from gan2shape.jobs.display import status_table
    from gan2shape.jobs.status import run_status

    _console().print(status_table(run_status(run)), highlight=False)


@cli.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where to write. [default: report/ in the run; of several runs, report/comparison/ in the "
    "first]",
)
def report(runs: tuple[Path, ...], out: Path | None) -> None:
    """Write the report of one run, or of several side by side: HTML, Markdown and CSV.

    \b
    Examples:
      gan2shape report run
      gan2shape report with-symmetry without-symmetry --out comparison
    """
    _report(list(runs), out)


@cli.group()
def synth() -> None:
    """Make data sets with ground truth."""


@synth.command()
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), metavar="DIR"
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Heads to draw.")
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    help="Identities to draw from; the splits share none.",
)
@click.option("--seeds", metavar="A:B", help="Draw the identities A to B-1 in place of a split.")
@click.option("--size", type=int, default=64, show_default=True, help="Width and height in pixels.")
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
    from gan2shape.jobs.synth import parse_seeds, split_seeds, write_heads

    wanted = parse_seeds(seeds) if seeds is not None else split_seeds(split, count)  # type: ignore[arg-type]
    console = _console()
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


@cli.group()
def gan() -> None:
    """Train a StyleGAN2, look at one, convert it."""


@gan.command("train")
@click.argument("source", metavar="FOLDER")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Training directory; one that holds a training goes on with it.",
)
@click.option("--size", type=int, help="Width and height in pixels. [default: 64]")
@click.option(
    "--images",
    type=click.IntRange(min=1),
    default=200_000,
    show_default=True,
    metavar="N",
    help="Budget: how many images to show.",
)
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True)
@click.option(
    "--channels",
    metavar="A/B/...",
    help="Widths at 4, 8, ... pixels, as 128/128/128/64/32. [default: by the size]",
)
@click.option("--style-dim", type=click.IntRange(min=1), help="Numbers of a latent. [default: 256]")
@click.option("--mapping-layers", type=click.IntRange(min=1), help="[default: 8]")
@click.option(
    "--init",
    metavar="WEIGHTS",
    help="Begin with these weights (file or packaged name) and their sizes.",
)
@click.option("--lr", type=float, default=0.002, show_default=True, help="Learning rate.")
@click.option("--r1", type=float, default=0.1, show_default=True, help="Weight of R1.")
@click.option(
    "--path-length",
    type=float,
    default=0.0,
    show_default=True,
    help="Weight of path-length regularisation.",
)
@click.option(
    "--ema",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Half-life of the averaged weights, in images.",
)
@click.option(
    "--ada-target",
    type=float,
    default=0.6,
    show_default=True,
    help="How sure of real images the discriminator may be before images are augmented more; "
    "0 for no augmentation.",
)
@click.option(
    "--shift",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="PIXELS",
    help="Shift the images themselves at random, for images that are all aligned alike.",
)
@click.option("--mirror", is_flag=True, help="Mirror half of the images themselves.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="auto takes bfloat16 where the hardware multiplies it natively.",
)
@_DEVICE
@click.option("--threads", type=click.IntRange(min=1), help="[default: one per core]")
@click.option(
    "--samples-every",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Images from one sample grid, quality figure and checkpoint to the next.",
)
@click.option(
    "--checkpoint-minutes",
    type=float,
    default=5.0,
    show_default=True,
    help="Longest time from one checkpoint to the next.",
)
@click.option(
    "--inception",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Inception weights (TorchScript, inception-2015-12-05.pt of the StyleGAN2-ADA code); the "
    "log then has the FID too.",
)
def gan_train(
    source: str,
    out: Path,
    size: int | None,
    channels: str | None,
    style_dim: int | None,
    mapping_layers: int | None,
    init: str | None,
    device: Device,
    threads: int | None,
    samples_every: int,
    checkpoint_minutes: float,
    inception: Path | None,
    **options: Any,
) -> None:
    """Train a StyleGAN2 on the images of FOLDER, or go on training.

    Give the same command again to go on after an interruption, with a larger --images to go on
    after the end. DIR/gan.safetensors is always the last checkpoint, DIR/samples shows how far it
    is, DIR/log.jsonl has the figures.

    \b
    Examples:
      gan2shape gan train photos/ --size 64 --out my-gan
      gan2shape gan train heads/ --init heads64 --images 50000 --ema 4000 --out finer
    """
    from gan2shape.jobs.gan import train
    from gan2shape.jobs.gan_display import training_display
    from gan2shape.jobs.gan_request import architecture, request

    sizes = {"size": size, "style_dim": style_dim, "mapping_layers": mapping_layers}
    wanted, initial = architecture(sizes, channels, init)
    names = {"lr": "learning_rate", "ema": "ema_half_life"}
    settings = wanted | {names.get(name, name): value for name, value in options.items()}
    asked = request(
        source,
        out,
        settings,
        initial,
        device,
        threads,
        samples_every,
        checkpoint_minutes,
        inception,
    )
    console = _console()
    try:
        with training_display(console) as (show, note):
            path = train(asked, show, note)
    except KeyboardInterrupt:
        click.echo(f"stopped; a checkpoint is in {out}; the same command goes on", err=True)
        sys.exit(INTERRUPTED)
    click.echo(str(path))


@gan.command("sample")
@click.argument("weights", metavar="WEIGHTS")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.png"
)
@click.option("--seeds", default="0:64", show_default=True, metavar="A:B", help="A to B-1.")
@click.option(
    "--truncation",
    type=click.FloatRange(0.0, 2.0),
    default=1.0,
    show_default=True,
    help="Below 1, latents are drawn towards their mean: better images, less variety.",
)
@click.option(
    "--interpolate",
    type=click.IntRange(min=2),
    metavar="STEPS",
    help="Instead, rows from each seed to the next in so many steps.",
)
@click.option("--columns", type=click.IntRange(min=1), default=8, show_default=True)
def gan_sample(
    weights: str, out: Path, seeds: str, truncation: float, interpolate: int | None, columns: int
) -> None:
    """Draw samples of a StyleGAN2 into one picture.

    \b
    Examples:
      gan2shape gan sample heads64 --out samples.png --seeds 0:64 --truncation 0.7
      gan2shape gan sample heads64 --out between.png --seeds 0:9 --interpolate 8
    """
    from gan2shape.jobs.gan_show import draw

    draw(weights, out, seeds, truncation, interpolate, columns)
    click.echo(str(out))


@gan.command("convert")
@click.argument("weights", metavar="WEIGHTS")
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--half", is_flag=True, help="Half precision, for half the size (.safetensors only).")
def gan_convert(weights: str, target: Path, half: bool) -> None:
    """Write WEIGHTS to FILE in the format of its ending: .safetensors (ours) or .pt (rosinality's).

    \b
    Examples:
      gan2shape gan convert faces.pt faces.safetensors
      gan2shape gan convert my-gan/gan.safetensors small.safetensors --half
    """
    from gan2shape.jobs.gan_show import convert

    convert(weights, target, half)
    click.echo(str(target))


@gan.command("score")
@click.argument("weights", metavar="WEIGHTS")
@click.argument("source", metavar="FOLDER")
@click.option(
    "--inception",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Inception weights (TorchScript), for the FID too.",
)
@click.option(
    "--images",
    type=click.IntRange(min=2),
    metavar="N",
    help="Samples, and real images, to compare. [default: 1024, and 10000 for FID]",
)
@_DEVICE
def gan_score(
    weights: str, source: str, inception: Path | None, images: int | None, device: Device
) -> None:
    """Compare samples of a StyleGAN2 with the images of FOLDER; lower is better.

    \b
    Examples:
      gan2shape gan score heads64 heads/
      gan2shape gan score faces.pt photos/ --inception inception-2015-12-05.pt
    """
    from gan2shape.jobs.gan_score import score, score_table

    def note(text: str) -> None:
        click.echo(text, err=True)

    found = score(weights, source, inception, images, device, note)
    _console().print(score_table(found), highlight=False)


@gan.command("turn")
@click.argument("weights", metavar="WEIGHTS")
@click.option(
    "--networks",
    required=True,
    metavar="NETWORKS",
    help="Networks that 'gan2shape pretrain' wrote: a file, or the name of packaged ones. Their "
    "view network tells the yaw.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.png"
)
@click.option("--seeds", default="0:8", show_default=True, metavar="A:B", help="A row for each.")
@click.option(
    "--degrees",
    type=click.FloatRange(0.0, 90.0, min_open=True),
    default=30.0,
    show_default=True,
    help="Turn to yaws from minus this to this.",
)
@click.option("--steps", type=click.IntRange(min=2), default=7, show_default=True)
@_DEVICE
def gan_turn(
    weights: str, networks: str, out: Path, seeds: str, degrees: float, steps: int, device: Device
) -> None:
    """Turn samples along the direction of yaw in W, and tell how well that works.

    Reconstruction relies on it: its second step moves latents until the GAN shows the object from
    another view. A row of FILE.png is a sample as it is, then turned.

    \b
    Example:
      gan2shape gan turn heads64 --networks networks.safetensors --out turns.png
    """
    from gan2shape.jobs.gan_turn import turn, turning_rows

    def note(text: str) -> None:
        click.echo(text, err=True)

    found = turn(weights, networks, out, seeds, degrees, steps, device, note)
    _print_rows(turning_rows(found, degrees))
    click.echo(str(out))


@gan.command("info")
@click.argument("weights", metavar="WEIGHTS")
def gan_info(weights: str) -> None:
    """Describe a StyleGAN2 checkpoint on one screen.

    \b
    Example:
      gan2shape gan info heads64
    """
    from gan2shape.jobs.gan_show import describe

    _print_rows(describe(weights))


@cli.group()
def baseline() -> None:
    """Train what the method is compared with."""


_networks_of_its_own = [
    click.option("--size", type=int, default=64, show_default=True, help="Width and height."),
    click.option(
        "--width",
        type=click.IntRange(min=1),
        help="Channels of the networks' first layers. [default: 4096 / size, the paper's]",
    ),
]


def _training(images: int, batch: int, lr: float, decay: float) -> list[Any]:
    """The options of all trainings on single images, with these defaults."""
    return [
        click.argument("source", metavar="FOLDER"),
        click.option(
            "--out",
            required=True,
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Training directory; one that holds this training goes on with it.",
        ),
        click.option(
            "--images",
            type=click.IntRange(min=1),
            default=images,
            show_default=True,
            metavar="N",
            help="Budget: how many images to show.",
        ),
        click.option("--batch", type=click.IntRange(min=1), default=batch, show_default=True),
        click.option("--lr", type=float, default=lr, show_default=True, help="Learning rate."),
        click.option(
            "--decay",
            type=click.FloatRange(0.0, 1.0),
            default=decay,
            show_default=True,
            help="Share of the budget, at its end, over which the learning rate falls to zero.",
        ),
        click.option(
            "--mirror/--no-mirror",
            default=True,
            show_default=True,
            help="Mirror half of the images.",
        ),
        click.option(
            "--validation",
            metavar="FOLDER",
            help="Data set with true depth; the log then has SIDE and MAD of its first 64 images.",
        ),
        click.option("--seed", type=int, default=0, show_default=True),
        click.option(
            "--precision",
            type=click.Choice(["auto", "float32", "bfloat16"]),
            default="auto",
            show_default=True,
            help="auto takes bfloat16 where the hardware multiplies it natively.",
        ),
        _DEVICE,
        click.option("--threads", type=click.IntRange(min=1), help="[default: one per core]"),
        click.option(
            "--pictures-every",
            "picture_images",
            type=click.IntRange(min=1),
            default=20_000,
            show_default=True,
            metavar="N",
            help="Images from one sheet of pictures, validation and checkpoint to the next.",
        ),
    ]


_likeness = [
    click.option(
        "--gan",
        metavar="WEIGHTS",
        help="Compare images by the features of this GAN's discriminator: a file or a packaged "
        "name.",
    ),
    click.option(
        "--lpips",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        metavar="FILE",
        help="Compare them by VGG16's features, as the paper does: VGG16-LPIPS weights. Without "
        "either option the perceptual loss is left out.",
    ),
]


@baseline.command("supervised")
@_with(*_training(500_000, 64, 1e-4, 0.0), *_networks_of_its_own)
def baseline_supervised(**options: Any) -> None:
    """Teach the depth network with the true depth of FOLDER's images.

    FOLDER is a data set: true depth in depth/ and object masks in mask/, beside image/. Give the
    same command again to go on after an interruption, with a larger --images to go on after the
    end. DIR/networks.safetensors is what 'gan2shape reconstruct --networks' takes.

    \b
    Examples:
      gan2shape baseline supervised heads/ --out supervised --validation more-heads/
      gan2shape reconstruct test/ --gan heads64 --preset heads64-forward \\
          --networks supervised/networks.safetensors --out run
    """
    _train_baseline({"method": "supervised"}, **options)


@baseline.command("unsup3d")
@_with(*_training(500_000, 64, 1e-4, 0.0), *_networks_of_its_own)
@click.option(
    "--symmetry/--no-symmetry",
    default=True,
    show_default=True,
    help="Reconstruct images from the mirrored shape too.",
)
@click.option(
    "--warm-up",
    type=click.IntRange(min=0),
    default=8_000,
    show_default=True,
    metavar="N",
    help="Images for which depth learns an ellipsoid and views learn nothing, some 125 batches; 0 "
    "in the paper.",
)
@click.option(
    "--relief",
    type=click.FloatRange(min=0, max=0.2, min_open=True),
    default=0.11,
    show_default=True,
    help="How deep that ellipsoid is, in scene units, and shapes remain on average; scenes are 0.2 "
    "deep.",
)
@click.option(
    "--depth-rate",
    type=click.FloatRange(min=0, min_open=True),
    default=0.25,
    show_default=True,
    help="Share of the learning rate that depth learns with thereafter; 1 in the paper.",
)
@_with(*_likeness)
def baseline_unsup3d(
    symmetry: bool,
    warm_up: int,
    relief: float,
    depth_rate: float,
    gan: str | None,
    lpips: Path | None,
    **options: Any,
) -> None:
    """Train Unsup3d (Wu et al., CVPR 2020) on the images of FOLDER, without any true depth.

    Give the same command again to go on after an interruption, with a larger --images to go on
    after the end. DIR/networks.safetensors is what 'gan2shape reconstruct --networks' takes.

    \b
    Examples:
      gan2shape baseline unsup3d photos/ --lpips vgg.pth --out unsup3d
      gan2shape baseline unsup3d heads/ --gan heads64 --no-symmetry --out unsup3d-n
      gan2shape baseline unsup3d heads/ --gan heads64 --width 16 --batch 16 --lr 0.0005 \\
          --warm-up 2000 --relief 0.076 --decay 0.8 --images 160000 --out quick
    """
    from gan2shape.schemas.config import EllipsoidShape

    far = EllipsoidShape().far
    settings = {
        "method": "unsup3d",
        "symmetric": symmetry,
        "warm_up": warm_up,
        "ellipsoid": {"near": far - relief, "far": far},
        "depth_rate": depth_rate,
    }
    _train_baseline(settings, gan=gan, lpips=lpips, **options)


@cli.command("finetune")
@_with(*_training(48_000, 16, 3e-4, 0.8))
@click.option(
    "--networks",
    required=True,
    metavar="NETWORKS",
    help="Networks to go on from: a file that 'gan2shape pretrain' wrote, or a packaged name.",
)
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="NETWORKS",
    help="Networks that were trained in another way, as by 'gan2shape baseline unsup3d': the mean "
    "of their shapes and of those to begin with is learnt too. May be given several times.",
)
@click.option(
    "--preset",
    default="heads64-finetune",
    show_default=True,
    help="Named settings, or a YAML file of them: masks, priors and the weights of the losses.",
)
@_set("optimization.depth_smoothness=0.1", "one of these")
@_PRIORS
@_with(*_likeness)
def finetune_command(
    networks: str,
    teachers: tuple[str, ...],
    preset: str,
    settings: tuple[str, ...],
    priors: str | None,
    gan: str | None,
    lpips: Path | None,
    **options: Any,
) -> None:
    """Teach pretrained networks what tells one image from another, on many images.

    The networks learn from images alone, without latents and projected samples, so that thousands
    of images take little time; views are learnt from renderings of what the networks make of them.
    Give the same command again to go on after an interruption, with a larger --images to go on
    after the end. DIR/networks.safetensors is what 'gan2shape reconstruct --networks' takes.

    \b
    Examples:
      gan2shape finetune photos/ --networks networks/networks.safetensors --gan gan.pt --out tuned
      gan2shape finetune heads/ --networks heads64-pretrained --gan heads64 --priors heads64 \\
          --validation more-heads/ --out tuned
      gan2shape finetune heads/ --networks tuned/networks.safetensors --gan heads64 \\
          --priors heads64 --teacher unsup3d/networks.safetensors --images 24000 --out taught
      gan2shape reconstruct test/ --gan heads64 --preset heads64-forward \\
          --networks tuned/networks.safetensors --out run
    """
    from gan2shape.schemas.baseline_training import finetune_settings
    from gan2shape.schemas.config import load_config

    config = load_config(preset, _overrides(settings), priors)
    weights = {"networks": networks, "teachers": teachers, "gan": gan, "lpips": lpips}
    _train_baseline(finetune_settings(config), **weights, **options)


def _train_baseline(settings: dict[str, Any], **options: Any) -> None:
    from gan2shape.jobs.baselines import request, train
    from gan2shape.jobs.steps_display import steps_display

    same = ("images", "batch", "decay", "mirror", "seed", "precision")
    settings |= {name: options.pop(name) for name in same}
    settings |= {"learning_rate": options.pop("lr")}
    if "size" in options:
        settings |= {"camera": {"size": options.pop("size")}}
        settings |= {"networks": {"width": options.pop("width")}}
    out = options["out"]
    asked = request(settings=settings, **options)
    sentence = f"stopped; a checkpoint is in {out}; the same command goes on"
    with _stopping(sentence), steps_display(_console()) as (show, note):
        path = train(asked, show, note)
    click.echo(str(path))


@cli.group()
def benchmark() -> None:
    """Reproduce the paper's table on our own heads."""


@benchmark.command("heads")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Benchmark directory; one that holds this benchmark goes on with it.",
)
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
    help="StyleGAN2 weights of heads: a file, or a packaged name.",
)
@click.option(
    "--priors",
    metavar="PRIORS",
    help="A file that 'gan2shape priors' wrote, or a packaged name. [default: the packaged ones of "
    "heads64, if there are any]",
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
@click.option(
    "--lpips",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="VGG16-LPIPS weights, for one more score of turned and relit heads.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all randomness.")
@_DEVICE
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Trainings at once, and worker processes of a row's run. [default: one per core, or per "
    "GPU]",
)
@click.option(
    "--threads-per-worker",
    "threads",
    type=click.IntRange(min=1),
    help="Compute threads of each. [default: the cores divided by the workers]",
)
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
    from gan2shape.jobs.benchmark.display import Display
    from gan2shape.jobs.benchmark.methods import METHODS, parse_rows
    from gan2shape.jobs.benchmark.plan import Request
    from gan2shape.jobs.benchmark.run import benchmark as make
    from gan2shape.jobs.display import progress_display, sentences
    from gan2shape.jobs.runs import Execution
    from gan2shape.jobs.steps_display import side_display, steps_display
    from gan2shape.schemas.benchmark import packaged_recipe

    request = Request(
        out=out,
        recipe=packaged_recipe("quick" if quick else "full"),
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
    console = _console()
    display = Display(
        sentences(console),
        lambda: steps_display(console),
        lambda: side_display(console),
        lambda: progress_display(console),
    )
    with _stopping(f"stopped; what is done is kept in {out}; the same command goes on"):
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
    from gan2shape.jobs.benchmark.report import write_benchmark

    click.echo(str(write_benchmark(directory)))


def main() -> NoReturn:
    """Run the command; people see one sentence for what they can put right, and no traceback."""
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        code = INTERRUPTED
    except UserError as error:
        click.echo(f"gan2shape: {error}", err=True)
        code = 1
    except OSError as error:
        if error.filename is None:
            raise
        click.echo(f"gan2shape: {error.filename}: {error.strerror}.", err=True)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _execute(run: Run, execution: Execution) -> None:
    """Do the run's missing shards with progress on the terminal, then report."""
    from gan2shape.jobs.display import progress_display
    from gan2shape.jobs.runs import execute

    console = _console()

    def announce(workers: str) -> None:
        text = f"{run.plan} on {workers}"
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    with _stopping(f"stopped; nothing committed is lost; go on with gan2shape resume {run.path}"):
        with progress_display(console) as show:
            outcome = execute(run, execution, show, announce)
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
    from gan2shape.jobs.report import summary_table, write_report

    path = write_report(runs, out)
    _console().print(summary_table(runs))
    click.echo(str(path))


def _print_rows(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")


def _overrides(settings: tuple[str, ...]) -> dict[str, Any]:
    """`KEY=VALUE` texts as a mapping; values are read as YAML."""
    import yaml

    overrides: dict[str, Any] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {text!r} is not KEY=VALUE; write, say, optimization.batch=8.")
        try:
            overrides[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"--set {text!r} has a value that is not valid YAML.") from error
    return overrides


def _console() -> Console:
    from rich.console import Console

    return Console()


@contextmanager
def _stopping(sentence: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM end what runs here with a sentence for people."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        click.echo(sentence, err=True)
        sys.exit(INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(number: int, frame: Any) -> NoReturn:
    """SIGTERM (batch systems send it) ends a run the way Ctrl-C does."""
    raise KeyboardInterrupt
