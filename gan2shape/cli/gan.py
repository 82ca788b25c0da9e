"""Commands on StyleGAN2s: sample, convert, score, turn, info."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gan2shape.cli.options import DEVICE, NETWORKS_FORMS, file_option
from gan2shape.cli.terminal import print_rows, terminal

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
    """Inspect, score and convert a StyleGAN2.

    WEIGHTS is a .pt file of rosinality's PyTorch port, a .safetensors file of this program, or the
    name or folder of a model.
    """


@gan.command("sample")
@click.argument("weights", metavar="WEIGHTS")
@_PICTURE
@click.option(
    "--seeds",
    default="0:64",
    show_default=True,
    metavar="A:B",
    help="Draw a sample for each seed from A to B-1.",
)
@click.option(
    "--truncation",
    type=click.FloatRange(0.0, 2.0),
    default=1.0,
    show_default=True,
    help="Below 1, latents are moved towards their mean: better images, less variety.",
)
@click.option(
    "--interpolate",
    type=click.IntRange(min=2),
    metavar="STEPS",
    help="Draw a row of STEPS images between each seed and the next, in place of single samples.",
)
@click.option(
    "--columns",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Number of samples in a row.",
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
    """Convert weights to another format.

    The name of FILE decides the format: .safetensors (ours) or .pt (rosinality's).

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
@click.argument("source", metavar="IMAGES")
@file_option("--inception", "Inception weights (TorchScript), for the FID too.")
@click.option(
    "--images",
    type=click.IntRange(min=2),
    metavar="N",
    help="Compare N samples with N real images. [default: 1024, and 10000 for the FID]",
)
@DEVICE
def gan_score(
    weights: str, source: str, inception: Path | None, images: int | None, device: Device
) -> None:
    """Compare samples with real images.

    The scores are distances: lower is better.

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
    help=f"Networks whose view network measures the yaw: {NETWORKS_FORMS}.",
)
@_PICTURE
@click.option(
    "--seeds",
    default="0:8",
    show_default=True,
    metavar="A:B",
    help="Draw a row for each seed from A to B-1.",
)
@click.option(
    "--degrees",
    type=click.FloatRange(0.0, 90.0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="DEGREES",
    help="Largest yaw. Samples are turned from -DEGREES to DEGREES.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=2),
    default=7,
    show_default=True,
    help="Number of yaws in this range.",
)
@DEVICE
def gan_turn(
    weights: str, networks: str, out: Path, seeds: str, degrees: float, steps: int, device: Device
) -> None:
    """Turn samples, and measure how well they turn.

    Samples are turned along the direction of yaw in W. Reconstruction needs a GAN whose samples
    turn well: its second step moves latents until the GAN shows the object from another view. Each
    row of FILE.png shows a sample, and then the turned sample.

    \b
    Example:
      gan2shape gan turn heads64 --networks heads64 --out turns.png
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
    """Describe a StyleGAN2.

    \b
    Example:
      gan2shape gan info heads64
    """
    from gan2shape.jobs.gan.samples import describe

    print_rows(describe(weights))
