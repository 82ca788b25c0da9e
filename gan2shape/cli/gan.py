"""Commands on StyleGAN2s: train, sample, convert, score, turn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gan2shape.cli.options import (
    DEVICE,
    PRECISION,
    THREADS,
    TRAINING_SEED,
    batch_option,
    directory,
    images_option,
)
from gan2shape.cli.terminal import print_rows, stopping, terminal

if TYPE_CHECKING:
    from gan2shape.jobs.run.shard import Device

_PICTURE = click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.png",
    help="Picture to write.",
)


@click.group()
def gan() -> None:
    """Train a StyleGAN2, look at one, convert it."""


@gan.command("train")
@click.argument("source", metavar="FOLDER")
@directory("Training directory; one that holds a training goes on with it.")
@click.option(
    "--size", type=int, help="Width and height in pixels. [default: 64, or those of --init]"
)
@images_option(200_000)
@batch_option(16)
@click.option(
    "--channels",
    metavar="A/B/...",
    help="Widths at 4, 8, ... pixels, as 128/128/128/64/32. [default: by the size]",
)
@click.option("--style-dim", type=click.IntRange(min=1), help="Numbers of a latent. [default: 256]")
@click.option(
    "--mapping-layers",
    type=click.IntRange(min=1),
    help="Layers of the mapping network. [default: 8]",
)
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
@TRAINING_SEED
@PRECISION
@DEVICE
@THREADS
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
    from gan2shape.jobs.progress import terminal_display
    from gan2shape.jobs.training.gan import GanTraining, architecture, train_gan
    from gan2shape.jobs.training.loop import Intervals
    from gan2shape.jobs.training.processes import plan_compute
    from gan2shape.schemas.gan_training import training_config

    sizes = {"size": size, "style_dim": style_dim, "mapping_layers": mapping_layers}
    names = {"lr": "learning_rate", "ema": "ema_half_life"}
    settings = architecture(sizes, channels, init)
    settings |= {names.get(name, name): value for name, value in options.items()}
    request = GanTraining(
        source,
        out,
        training_config(settings),
        init=init,
        inception=inception,
        intervals=Intervals(samples_every, min(500, samples_every), 60 * checkpoint_minutes),
        compute=plan_compute(device, 1, threads),
    )
    sentence = f"stopped; a checkpoint is in {out}; the same command goes on"
    with stopping(sentence), terminal_display(terminal()) as display:
        path = train_gan(request, display.show, display.note)
    click.echo(str(path))


@gan.command("sample")
@click.argument("weights", metavar="WEIGHTS")
@_PICTURE
@click.option(
    "--seeds",
    default="0:64",
    show_default=True,
    metavar="A:B",
    help="Seeds A to B-1, a sample each.",
)
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
@click.option(
    "--columns",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Samples of one row.",
)
def gan_sample(
    weights: str, out: Path, seeds: str, truncation: float, interpolate: int | None, columns: int
) -> None:
    """Draw samples of a StyleGAN2 into one picture.

    \b
    Examples:
      gan2shape gan sample heads64 --out samples.png --seeds 0:64 --truncation 0.7
      gan2shape gan sample heads64 --out between.png --seeds 0:9 --interpolate 8
    """
    from gan2shape.jobs.gan.samples import draw

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
    from gan2shape.jobs.gan.samples import convert

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
@DEVICE
def gan_score(
    weights: str, source: str, inception: Path | None, images: int | None, device: Device
) -> None:
    """Compare samples of a StyleGAN2 with the images of FOLDER; lower is better.

    \b
    Examples:
      gan2shape gan score heads64 heads/
      gan2shape gan score faces.pt photos/ --inception inception-2015-12-05.pt
    """
    from gan2shape.jobs.gan.score import score, score_table

    def note(text: str) -> None:
        click.echo(text, err=True)

    found = score(weights, source, inception, images, device, note)
    terminal().print(score_table(found), highlight=False)


@gan.command("turn")
@click.argument("weights", metavar="WEIGHTS")
@click.option(
    "--networks",
    required=True,
    metavar="NETWORKS",
    help="Networks that 'gan2shape pretrain' wrote: a file, or the name of packaged ones. Their "
    "view network tells the yaw.",
)
@_PICTURE
@click.option("--seeds", default="0:8", show_default=True, metavar="A:B", help="A row for each.")
@click.option(
    "--degrees",
    type=click.FloatRange(0.0, 90.0, min_open=True),
    default=30.0,
    show_default=True,
    help="Turn to yaws from minus this to this.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=2),
    default=7,
    show_default=True,
    help="Yaws from one end to the other.",
)
@DEVICE
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
    from gan2shape.jobs.gan.turn import turn, turning_rows

    def note(text: str) -> None:
        click.echo(text, err=True)

    found = turn(weights, networks, out, seeds, degrees, steps, device, note)
    print_rows(turning_rows(found, degrees))
    click.echo(str(out))


@gan.command("info")
@click.argument("weights", metavar="WEIGHTS")
def gan_info(weights: str) -> None:
    """Describe a StyleGAN2 checkpoint on one screen.

    \b
    Example:
      gan2shape gan info heads64
    """
    from gan2shape.jobs.gan.samples import describe

    print_rows(describe(weights))
