"""The parts of training, and the trainings that the method is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gan2shape.cli.options import (
    CATEGORY,
    CATEGORY_NEEDED,
    DEVICE,
    GAN_FORMS,
    IMAGES,
    LIMIT,
    LPIPS,
    MASKS,
    MODEL,
    NETWORKS_FORMS,
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
from gan2shape.cli.terminal import print_result

_RUN = "gan2shape.schemas.settings.RunConfig"
_TRAINING = "gan2shape.schemas.network_training"
_OUT = directory("Training directory. A training that it holds goes on.")
_LATENTS = click.option(
    "--latents", metavar="PATH", help="Latents in W, as 'gan2shape reconstruct' takes them."
)
_GAN_HELP = f"StyleGAN2 weights of the images' category: {GAN_FORMS}."
_RECIPE = "Recipe: {0}, or a YAML file with another one. [default: {0}]"
_MASK = {"mask": "the category's"}
_START = click.option(
    "--networks", metavar="NETWORKS", help=f"Networks to start from: {NETWORKS_FORMS}."
)
_LIKENESS = "Compare images by the features of this GAN's discriminator: " + GAN_FORMS + ". {}"
_EVERY = [
    click.option(
        "--validation",
        metavar="FOLDER",
        help="Data set with true depth. The log then has SIDE and MAD of its first 64 images.",
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
        help="Write pictures and a checkpoint, and validate, after every N images.",
    ),
]


@click.command(cls=FieldsCommand)
@IMAGES
@_OUT
@click.option(
    "--init",
    metavar="WEIGHTS",
    help=f"Start from these weights, with their sizes: {GAN_FORMS}.",
)
@DEVICE
@THREADS
@click.option(
    "--samples-every",
    type=click.IntRange(1, 10**9),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Write samples and a checkpoint, and measure the quality, after every N images.",
)
@click.option(
    "--checkpoint-minutes",
    type=click.FloatRange(0, 1440, min_open=True),
    default=5.0,
    show_default=True,
    metavar="MINUTES",
    help="Longest time between two checkpoints, in minutes.",
)
@file_option(
    "--inception",
    "Inception weights (TorchScript, inception-2015-12-05.pt of the StyleGAN2-ADA code). The log "
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

    Give the same command again to go on after an interruption. Give a larger --images to go on
    after the end. DIR/gan.safetensors has the weights of the last checkpoint, DIR/samples has
    samples, and DIR/log.jsonl has the figures. With --init the sizes of the networks are those of
    the weights unless you give others.

    \b
    Examples:
      gan2shape train gan photos/ --size 64 --out my-gan
      gan2shape train gan heads/ --init heads64 --images 50000 --ema-half-life 4000 --out finer
    """
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
    print_result(train_gan, request, sentence)


@click.command(cls=FieldsCommand)
@IMAGES
@click.option("--gan", required=True, metavar="WEIGHTS", help=_GAN_HELP)
@CATEGORY_NEEDED
@click.option("--recipe", default="priors", metavar="RECIPE", help=_RECIPE.format("priors"))
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
    help="Largest number of rounds. The command stops earlier when the Gaussians are stable.",
)
@DEVICE
@THREADS
@fields_of(_RUN, "mask", "precision", "seed", defaults=_MASK)
def priors(
    source: str,
    gan: str,
    category: str,
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

    The result is DIR/priors.yaml, for --priors of other commands. DIR/priors.html shows the
    distributions. Give the same command again to go on after an interruption.

    \b
    Example:
      gan2shape train priors photos/ --gan my-gan/gan.safetensors --category faces --out my-priors
    """
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
    print_result(find_priors, request, sentence)


@click.command(cls=FieldsCommand)
@IMAGES
@MODEL
@click.option("--gan", metavar="WEIGHTS", help=f"{_GAN_HELP} [default: the model's]")
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
    help="Number of processes that share the images. [default: one per GPU, else 1]",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 4096),
    help="Compute threads of each process. [default: the cores divided by the processes]",
)
@fields_of(_RUN, "mask", "precision", "seed", defaults=_MASK)
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

    Give the same command again to go on after an interruption. The result is
    DIR/networks.safetensors, for --networks of other commands. DIR/pictures shows the progress, and
    DIR/log.jsonl has the figures.

    \b
    Examples:
      gan2shape train networks photos/ --gan my-gan/gan.safetensors --category faces \\
          --priors my-priors/priors.yaml --out my-networks
      gan2shape train networks heads/ --model heads64 --out networks
    """
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
    print_result(train_joint, request, sentence)


@click.command(cls=FieldsCommand)
@IMAGES
@MODEL
@_START
@CATEGORY
@click.option("--recipe", default="finetune", metavar="RECIPE", help=_RECIPE.format("finetune"))
@_OUT
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="NETWORKS",
    help="Networks that were trained in another way, such as with 'gan2shape train unsup3d'. "
    "Finetuning then also learns the mean shape of the teachers and of the networks at the start. "
    "May be given several times.",
)
@setting("optimization.depth_smoothness=0.1")
@PRIORS
@click.option(
    "--gan",
    metavar="WEIGHTS",
    help=_LIKENESS.format(
        "[default: the model's; without --model and --lpips there is no perceptual loss]"
    ),
)
@LPIPS
@with_options(*_EVERY)
@fields_of(
    f"{_TRAINING}.FinetuneConfig",
    *("mask", "images", "batch", "learning_rate", "decay", "mirror", "precision", "seed"),
    defaults=_MASK,
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
    """Train networks further, on many images.

    Finetuning needs no latents and no projected samples, so that thousands of images take little
    time. The networks learn views from renderings of their own shapes. Give the same command again
    to go on after an interruption. Give a larger --images to go on after the end. The result is
    DIR/networks.safetensors, for --networks of other commands.

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

    # A category may ask for mask files, which finetuning refuses: --mask replaces that first.
    mask = {"mask": fields.pop("mask")} if "mask" in fields else {}
    chosen = choose(
        model=model,
        gan=gan,
        category=category,
        recipe=recipe,
        networks=networks,
        priors=priors,
        overrides=run_overrides(settings, mask, None),
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
    """Train networks with true depth.

    IMAGES is a data set: true depth in depth/ and object masks in mask/, beside image/. Give the
    same command again to go on after an interruption. Give a larger --images to go on after the
    end. The result is DIR/networks.safetensors, for --networks of other commands.

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
@click.option(
    "--gan",
    metavar="WEIGHTS",
    help=_LIKENESS.format("Without --gan and --lpips there is no perceptual loss."),
)
@file_option(
    "--lpips", "Compare images by VGG16's features, as the paper does: VGG16-LPIPS weights."
)
@with_options(*_EVERY)
@fields_of(f"{_TRAINING}.Unsup3dConfig")
def unsup3d(source: str, settings: tuple[str, ...], fields: dict[str, Any], **options: Any) -> None:
    """Train Unsup3d (Wu et al., CVPR 2020) on images alone.

    Give the same command again to go on after an interruption. Give a larger --images to go on
    after the end. The result is DIR/networks.safetensors, for --networks of other commands.

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
    print_result(train_networks, request, sentence)
