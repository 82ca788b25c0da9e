"""Training on all images together: priors of views and lights, and networks to start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gan2shape.cli.options import (
    DEVICE,
    MASKS,
    PRIORS,
    SEED,
    THREADS,
    directory,
    lpips_option,
    overrides_of,
    setting,
)
from gan2shape.cli.terminal import stopping, terminal

if TYPE_CHECKING:
    from gan2shape.jobs.run.shard import Device

_GAN = click.option(
    "--gan", required=True, metavar="WEIGHTS", help="StyleGAN2 weights of the images' category."
)
_LATENTS = click.option("--latents", metavar="PATH", help="Latents in W, as for reconstruct.")


@click.command()
@click.argument("source", metavar="FOLDER")
@_GAN
@directory("Where to write; a directory that holds this estimation goes on with it.")
@click.option(
    "--preset",
    default="heads64-priors",
    show_default=True,
    help="Named settings, or a YAML file of them; their priors are where it starts, and should be "
    "broad.",
)
@setting("camera.size=128")
@MASKS
@_LATENTS
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
@SEED
@DEVICE
@THREADS
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
    from gan2shape.jobs.progress import terminal_display
    from gan2shape.jobs.training.priors import PriorsEstimation, find_priors
    from gan2shape.jobs.training.processes import plan_compute
    from gan2shape.jobs.training.training_set import TrainingImages
    from gan2shape.schemas.settings import load_config

    request = PriorsEstimation(
        images=TrainingImages(source, masks, latents, limit),
        gan=gan,
        out=out,
        config=load_config(preset, overrides_of(settings, masks, seed=seed)),
        rounds=rounds,
        compute=plan_compute(device, 1, threads),
    )
    sentence = f"stopped; finished steps are kept in {out}; the same command goes on"
    with stopping(sentence), terminal_display(terminal()) as display:
        path = find_priors(request, display.show, display.note)
    click.echo(str(path))


@click.command()
@click.argument("source", metavar="FOLDER")
@_GAN
@directory("Training directory; one that holds this training goes on with it.")
@click.option(
    "--preset",
    default="heads64-joint",
    show_default=True,
    help="Named settings, or a YAML file of them.",
)
@setting("optimization.batch=8")
@PRIORS
@click.option(
    "--networks", metavar="NETWORKS", help="Networks to go on from, in place of an ellipsoid."
)
@MASKS
@_LATENTS
@lpips_option("VGG16-LPIPS weights for the perceptual loss.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    metavar="N",
    help="Only the first N images; a few hundred are enough.",
)
@SEED
@DEVICE
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
    from gan2shape.jobs.progress import terminal_display
    from gan2shape.jobs.training.joint import JointTraining, train_joint
    from gan2shape.jobs.training.processes import plan_compute
    from gan2shape.jobs.training.training_set import TrainingImages
    from gan2shape.schemas.settings import load_config

    request = JointTraining(
        images=TrainingImages(source, masks, latents, limit),
        gan=gan,
        out=out,
        config=load_config(preset, overrides_of(settings, masks, seed=seed), priors),
        lpips=lpips,
        networks=networks,
        compute=plan_compute(device, processes, threads),
    )
    sentence = f"stopped; finished steps are kept in {out}; the same command goes on"
    with stopping(sentence), terminal_display(terminal()) as display:
        path = train_joint(request, display.show, display.note)
    click.echo(str(path))
