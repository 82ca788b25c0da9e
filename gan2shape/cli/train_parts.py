"""The parts of training, and the trainings that the method is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gan2shape.cli.options import (
    CATEGORY,
    DEVICE,
    IMAGES,
    LIMIT,
    LPIPS,
    MASKS,
    MODEL,
    PRIORS,
    THREADS,
    WORK,
    FieldsCommand,
    directory,
    fields_of,
    file_option,
    overrides_of,
    run_overrides,
    setting,
    with_options,
)
from gan2shape.cli.terminal import stopping, terminal

_RUN = "gan2shape.schemas.settings.RunConfig"
_TRAINING = "gan2shape.schemas.network_training"
_OUT = directory("Training directory. One that holds this training goes on with it.")
_LATENTS = click.option(
    "--latents", metavar="PATH", help="Latents in W, as 'gan2shape reconstruct' takes them."
)
_GAN = click.option(
    "--gan",
    metavar="FILE",
    help="StyleGAN2 weights of the images' category: a .pt or .safetensors file, or a model.",
)
_START = click.option(
    "--networks",
    metavar="FILE",
    help="Networks to go on from: a file that a part of 'gan2shape train' wrote.",
)
_LIKENESS = click.option(
    "--gan",
    metavar="FILE",
    help="Compare images by the features of this GAN's discriminator. Without it and without "
    "--lpips the perceptual loss is left out.",
)
_EVERY = [
    click.option(
        "--validation",
        metavar="FOLDER",
        help="Data set with true depth; the log then has SIDE and MAD of its first 64 images.",
    ),
    DEVICE,
    THREADS,
    click.option(
        "--pictures-every",
        "picture_images",
        type=click.IntRange(1, 10**9),
        default=20_000,
        show_default=True,
        metavar="N",
        help="Images from one sheet of pictures, validation and checkpoint to the next.",
    ),
]


@click.command(cls=FieldsCommand)
@IMAGES
@_OUT
@click.option(
    "--init",
    metavar="WEIGHTS",
    help="Begin with these weights and their sizes: a file, or the name or folder of a model.",
)
@DEVICE
@THREADS
@click.option(
    "--samples-every",
    type=click.IntRange(1, 10**9),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Images from one sample grid, quality figure and checkpoint to the next.",
)
@click.option(
    "--checkpoint-minutes",
    type=click.FloatRange(0, 1440, min_open=True),
    default=5.0,
    show_default=True,
    help="Longest time from one checkpoint to the next.",
)
@file_option(
    "--inception",
    "Inception weights (TorchScript, inception-2015-12-05.pt of the StyleGAN2-ADA code); the log "
    "then has the FID too.",
)
@setting("augment.rotation_degrees=0")
@fields_of("gan2shape.schemas.gan_training.GanTrainingConfig")
def gan(
    source: str,
    out: Path,
    init: str | None,
    device: str,
    threads: int | None,
    samples_every: int,
    checkpoint_minutes: float,
    inception: Path | None,
    settings: tuple[str, ...],
    fields: dict[str, Any],
) -> None:
    """Train a StyleGAN2 on images, or go on training.

    Give the same command again to go on after an interruption, with a larger --images to go on
    after the end. DIR/gan.safetensors is always the last checkpoint, DIR/samples shows how far it
    is, DIR/log.jsonl has the figures. With --init the defaults of the sizes are those of the
    weights.

    \b
    Examples:
      gan2shape train gan photos/ --size 64 --out my-gan
      gan2shape train gan heads/ --init heads64 --images 50000 --ema-half-life 4000 --out finer
    """
    from gan2shape.jobs.progress import terminal_display
    from gan2shape.jobs.training.gan import GanTraining, architecture, train_gan
    from gan2shape.jobs.training.loop import Intervals
    from gan2shape.jobs.training.processes import plan_compute
    from gan2shape.schemas.gan_training import training_config
    from gan2shape.schemas.load import nested

    changes = nested(overrides_of(settings)) | fields
    request = GanTraining(
        source,
        out,
        training_config(architecture(changes, init)),
        init=init,
        inception=inception,
        intervals=Intervals(samples_every, min(500, samples_every), 60 * checkpoint_minutes),
        compute=plan_compute(device, 1, threads),
    )
    sentence = f"stopped; a checkpoint is in {out}; the same command goes on"
    with stopping(sentence), terminal_display(terminal()) as display:
        path = train_gan(request, display.show, display.note)
    click.echo(str(path))


@click.command(cls=FieldsCommand)
@IMAGES
@_GAN
@CATEGORY
@click.option("--recipe", default="priors", metavar="RECIPE", help=WORK.format("priors", "priors"))
@_OUT
@setting("camera.size=128")
@MASKS
@_LATENTS
@LIMIT(default=128, help="Only the first N images; a hundred or two are enough.")
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    default=6,
    show_default=True,
    help="At most so many rounds; fewer when the Gaussians are stable before.",
)
@DEVICE
@THREADS
@fields_of(_RUN, "mask", "precision", "seed", default="the recipe's")
def priors(
    source: str,
    gan: str | None,
    category: str | None,
    recipe: str,
    out: Path,
    settings: tuple[str, ...],
    masks: str | None,
    latents: str | None,
    limit: int,
    rounds: int,
    device: str,
    threads: int | None,
    fields: dict[str, Any],
) -> None:
    """Measure the spread of views and lights, from images alone.

    Writes DIR/priors.yaml, which --priors of other commands takes, and DIR/priors.html, a picture
    of the distributions. Give the same command again to go on after an interruption.

    \b
    Example:
      gan2shape train priors photos/ --gan my-gan/gan.safetensors --category faces --out my-priors
    """
    from gan2shape.jobs.progress import terminal_display
    from gan2shape.jobs.training.priors import PriorsEstimation, find_priors
    from gan2shape.jobs.training.processes import plan_compute
    from gan2shape.jobs.training.training_set import TrainingImages
    from gan2shape.jobs.weights.choice import choose

    overrides = run_overrides(settings, fields, masks)
    chosen = choose(gan=gan, category=category, recipe=recipe, overrides=overrides)
    request = PriorsEstimation(
        TrainingImages(source, masks, latents, limit),
        gan=chosen.gan,
        out=out,
        config=chosen.config,
        rounds=rounds,
        compute=plan_compute(device, 1, threads),
    )
    sentence = f"stopped; finished steps are kept in {out}; the same command goes on"
    with stopping(sentence), terminal_display(terminal()) as display:
        path = find_priors(request, display.show, display.note)
    click.echo(str(path))


@click.command(cls=FieldsCommand)
@IMAGES
@MODEL
@_GAN
@CATEGORY
@click.option(
    "--recipe", default="joint", metavar="RECIPE", help=WORK.format("joint, paper-joint", "joint")
)
@_OUT
@setting("optimization.batch=8")
@PRIORS
@_START
@MASKS
@_LATENTS
@LPIPS
@LIMIT(default=256, help="Only the first N images; a few hundred are enough.")
@DEVICE
@click.option(
    "--processes",
    type=click.IntRange(1, 1024),
    help="Processes that share the images and train in step. [default: one per GPU, else 1]",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 4096),
    help="Compute threads of each process. [default: the cores divided by the processes]",
)
@fields_of(_RUN, "mask", "precision", "seed", default="the recipe's")
def networks(
    source: str,
    model: str | None,
    gan: str | None,
    category: str | None,
    recipe: str,
    out: Path,
    settings: tuple[str, ...],
    priors: str | None,
    networks: str | None,
    masks: str | None,
    latents: str | None,
    lpips: Path | None,
    limit: int,
    device: str,
    processes: int | None,
    threads: int | None,
    fields: dict[str, Any],
) -> None:
    """Train one set of networks on all images, with the GAN.

    Give the same command again to go on after an interruption. DIR/networks.safetensors is what
    --networks of other commands takes; DIR/pictures shows how far it is, DIR/log.jsonl has the
    figures.

    \b
    Examples:
      gan2shape train networks photos/ --gan my-gan/gan.safetensors --category faces \\
          --priors my-priors/priors.yaml --out my-networks
      gan2shape train networks heads/ --model heads64 --out networks
    """
    from gan2shape.jobs.progress import terminal_display
    from gan2shape.jobs.training.joint import JointTraining, train_joint
    from gan2shape.jobs.training.processes import plan_compute
    from gan2shape.jobs.training.training_set import TrainingImages
    from gan2shape.jobs.weights.choice import choose

    chosen = choose(
        model=model,
        gan=gan,
        category=category,
        recipe=recipe,
        networks=networks,
        priors=priors,
        overrides=run_overrides(settings, fields, masks),
    )
    request = JointTraining(
        TrainingImages(source, masks, latents, limit),
        gan=chosen.gan,
        out=out,
        config=chosen.config,
        lpips=lpips,
        networks=chosen.networks,
        compute=plan_compute(device, processes, threads),
    )
    sentence = f"stopped; finished steps are kept in {out}; the same command goes on"
    with stopping(sentence), terminal_display(terminal()) as display:
        path = train_joint(request, display.show, display.note)
    click.echo(str(path))


@click.command(cls=FieldsCommand)
@IMAGES
@MODEL
@_START
@CATEGORY
@click.option(
    "--recipe", default="finetune", metavar="RECIPE", help=WORK.format("finetune", "finetune")
)
@_OUT
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="FILE",
    help="Networks that were trained in another way, as by 'gan2shape train unsup3d'. The mean of "
    "their shapes and of those to begin with is learnt too. May be given several times.",
)
@setting("optimization.depth_smoothness=0.1")
@PRIORS
@_LIKENESS
@LPIPS
@with_options(*_EVERY)
@fields_of(
    f"{_TRAINING}.FinetuneConfig",
    *("images", "batch", "learning_rate", "decay", "mirror", "precision", "seed"),
)
def finetune(
    source: str,
    model: str | None,
    networks: str | None,
    category: str | None,
    recipe: str,
    settings: tuple[str, ...],
    priors: str | None,
    gan: str | None,
    fields: dict[str, Any],
    **options: Any,
) -> None:
    """Teach networks on many images, each alone.

    The networks learn from images alone, without latents and projected samples, so that thousands
    of images take little time. Views are learnt from renderings of what the networks make of them.
    Give the same command again to go on after an interruption, with a larger --images to go on
    after the end. DIR/networks.safetensors is what --networks of other commands takes.

    \b
    Examples:
      gan2shape train finetune photos/ --networks networks/networks.safetensors --gan gan.pt \\
          --category faces --out tuned
      gan2shape train finetune heads/ --model heads64 --validation more-heads/ --out tuned
      gan2shape train finetune heads/ --model heads64 --networks tuned/networks.safetensors \\
          --teacher unsup3d/networks.safetensors --images 24000 --out taught
    """
    from gan2shape.jobs.weights.choice import choose
    from gan2shape.schemas.network_training import finetune_settings

    chosen = choose(
        model=model,
        gan=gan,
        category=category,
        recipe=recipe,
        networks=networks,
        priors=priors,
        overrides=overrides_of(settings),
        needs_gan=False,
    )
    weights: dict[str, Any] = {"networks": chosen.networks, "gan": chosen.gan or None}
    _train(source, finetune_settings(chosen.config) | fields, **weights, **options)


@click.command(cls=FieldsCommand)
@IMAGES
@_OUT
@setting("networks.width=24")
@with_options(*_EVERY)
@fields_of(f"{_TRAINING}.SupervisedConfig")
def supervised(
    source: str, settings: tuple[str, ...], fields: dict[str, Any], **options: Any
) -> None:
    """Teach the depth network with true depth.

    IMAGES is a data set: true depth in depth/ and object masks in mask/, beside image/. Give the
    same command again to go on after an interruption, with a larger --images to go on after the
    end.
    DIR/networks.safetensors is what --networks of other commands takes.

    \b
    Examples:
      gan2shape train supervised heads/ --out supervised --validation more-heads/
      gan2shape reconstruct test/ --model heads64 --networks supervised/networks.safetensors \\
          --out run
    """
    _train(source, _changes("supervised", settings, fields), **options)


@click.command(cls=FieldsCommand)
@IMAGES
@_OUT
@setting("ellipsoid.near=0.944")
@_LIKENESS
@file_option(
    "--lpips", "Compare images by VGG16's features, as the paper does: VGG16-LPIPS weights."
)
@with_options(*_EVERY)
@fields_of(f"{_TRAINING}.Unsup3dConfig")
def unsup3d(source: str, settings: tuple[str, ...], fields: dict[str, Any], **options: Any) -> None:
    """Train Unsup3d (Wu et al., CVPR 2020) on images alone.

    Give the same command again to go on after an interruption, with a larger --images to go on
    after the end. DIR/networks.safetensors is what --networks of other commands takes.

    \b
    Examples:
      gan2shape train unsup3d photos/ --lpips vgg.pth --out unsup3d
      gan2shape train unsup3d heads/ --gan heads64 --no-symmetric --out unsup3d-n
      gan2shape train unsup3d heads/ --gan heads64 --batch 16 --learning-rate 0.0004 \\
          --warm-up 2000 --decay 0.6 --images 80000 --precision float32 \\
          --set networks.width=16 --set ellipsoid.near=0.944 --set ellipsoid.extent=1.1 --out quick
    """
    _train(source, _changes("unsup3d", settings, fields), **options)


def _changes(method: str, settings: tuple[str, ...], fields: dict[str, Any]) -> dict[str, Any]:
    from gan2shape.schemas.load import nested

    return {"method": method} | nested(overrides_of(settings)) | fields


def _train(
    source: str,
    settings: dict[str, Any],
    out: Path,
    device: str,
    threads: int | None,
    picture_images: int,
    **weights: Any,
) -> None:
    """Train networks on single images; `weights` are fields of `NetworkTraining`."""
    from gan2shape.jobs.progress import terminal_display
    from gan2shape.jobs.training.loop import Intervals
    from gan2shape.jobs.training.networks import (
        NetworkTraining,
        inherited_settings,
        train_networks,
    )
    from gan2shape.jobs.training.processes import plan_compute
    from gan2shape.schemas.network_training import baseline_config

    if weights.get("networks"):
        settings |= inherited_settings(weights["networks"])
    request = NetworkTraining(
        source,
        out,
        baseline_config(settings),
        intervals=Intervals(picture_images, 1_000),
        compute=plan_compute(device, 1, threads),
        **weights,
    )
    sentence = f"stopped; a checkpoint is in {out}; the same command goes on"
    with stopping(sentence), terminal_display(terminal()) as display:
        path = train_networks(request, display.show, display.note)
    click.echo(str(path))
