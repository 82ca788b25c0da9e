"""Commands that train networks on single images: the baselines, and finetuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gan2shape.cli.options import (
    DEVICE,
    PRECISION,
    PRIORS,
    THREADS,
    TRAINING_SEED,
    batch_option,
    directory,
    images_option,
    lpips_option,
    overrides_of,
    setting,
    with_options,
)
from gan2shape.cli.terminal import stopping, terminal


@click.group()
def baseline() -> None:
    """Train what the method is compared with."""


_networks_of_its_own = [
    click.option(
        "--size", type=int, default=64, show_default=True, help="Width and height in pixels."
    ),
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
        directory("Training directory; one that holds this training goes on with it."),
        images_option(images),
        batch_option(batch),
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
        TRAINING_SEED,
        PRECISION,
        DEVICE,
        THREADS,
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
    lpips_option(
        "Compare them by VGG16's features, as the paper does: VGG16-LPIPS weights. Without either "
        "option the perceptual loss is left out."
    ),
]


@baseline.command("supervised")
@with_options(*_training(500_000, 64, 1e-4, 0.0), *_networks_of_its_own)
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
@with_options(*_training(500_000, 64, 1e-4, 0.0), *_networks_of_its_own)
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
    "--extent",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="How wide that ellipsoid is, as a share of the object's width and height.",
)
@click.option(
    "--depth-rate",
    type=click.FloatRange(min=0, min_open=True),
    default=0.25,
    show_default=True,
    help="Share of the learning rate that depth learns with thereafter; 1 in the paper.",
)
@with_options(*_likeness)
def baseline_unsup3d(
    symmetry: bool,
    warm_up: int,
    relief: float,
    extent: float,
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
      gan2shape baseline unsup3d heads/ --gan heads64 --width 16 --batch 16 --lr 0.0004 \\
          --warm-up 2000 --relief 0.076 --extent 1.1 --decay 0.6 --images 80000 \\
          --precision float32 --out quick
    """
    from gan2shape.schemas.settings import EllipsoidShape

    far = EllipsoidShape().far
    settings = {
        "method": "unsup3d",
        "symmetric": symmetry,
        "warm_up": warm_up,
        "ellipsoid": {"near": round(far - relief, 6), "far": far, "extent": extent},
        "depth_rate": depth_rate,
    }
    _train_baseline(settings, gan=gan, lpips=lpips, **options)


@click.command("finetune")
@with_options(*_training(48_000, 16, 3e-4, 0.8))
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
@setting("optimization.depth_smoothness=0.1", "one of these")
@PRIORS
@with_options(*_likeness)
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
    from gan2shape.schemas.network_training import finetune_settings
    from gan2shape.schemas.settings import load_config

    config = load_config(preset, overrides_of(settings), priors)
    weights = {"networks": networks, "teachers": teachers, "gan": gan, "lpips": lpips}
    _train_baseline(finetune_settings(config), **weights, **options)


def _train_baseline(settings: dict[str, Any], **options: Any) -> None:
    from gan2shape.jobs.progress import terminal_display
    from gan2shape.jobs.training.loop import Intervals
    from gan2shape.jobs.training.networks import (
        NetworkTraining,
        inherited_settings,
        train_networks,
    )
    from gan2shape.jobs.training.processes import plan_compute
    from gan2shape.schemas.network_training import baseline_config

    same = ("images", "batch", "decay", "mirror", "seed", "precision")
    settings |= {name: options.pop(name) for name in same}
    settings |= {"learning_rate": options.pop("lr")}
    if "size" in options:
        settings |= {"camera": {"size": options.pop("size")}}
        settings |= {"networks": {"width": options.pop("width")}}
    if "networks" in options:
        settings |= inherited_settings(options["networks"])
    out = options["out"]
    request = NetworkTraining(
        config=baseline_config(settings),
        intervals=Intervals(options.pop("picture_images"), 1_000),
        compute=plan_compute(options.pop("device"), 1, options.pop("threads")),
        **options,
    )
    sentence = f"stopped; a checkpoint is in {out}; the same command goes on"
    with stopping(sentence), terminal_display(terminal()) as display:
        path = train_networks(request, display.show, display.note)
    click.echo(str(path))
