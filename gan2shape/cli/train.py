"""The command that makes a model from images alone; each of its parts is a command below it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gan2shape.cli import train_parts as parts
from gan2shape.cli.options import (
    CATEGORY_NEEDED,
    DEVICE,
    GAN_FORMS,
    IMAGES,
    LPIPS,
    NETWORKS_FORMS,
    SEED,
    THREADS,
    directory,
    overrides_of,
    setting,
)
from gan2shape.cli.terminal import print_result
from gan2shape.schemas.errors import UserError, nearest

PARTS = ("gan", "priors", "networks", "finetune")
"""What a model is trained from, in this order."""


class WholeOrPart(click.Group):
    """A group of parts. Where the first word is not the name of a part, the whole is meant."""

    whole: click.Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            ctx.meta["whole"] = True
            ctx.args = args
            return args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        if "whole" not in ctx.meta:
            return super().invoke(ctx)
        assert ctx.parent is not None
        context = self.whole.make_context(ctx.info_name, ctx.args, parent=ctx.parent)
        with context:
            return self.whole.invoke(context)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.whole.format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[OPTIONS] IMAGES | PART ..."]


@click.command("train")
@IMAGES
@CATEGORY_NEEDED
@directory(
    "Folder of the model. Training goes on in a folder with an unfinished model.", metavar="MODEL"
)
@click.option(
    "--size",
    type=click.IntRange(32, 1024),
    help="Width and height in pixels, a power of two. [default: the category's]",
)
@click.option(
    "--gan",
    metavar="WEIGHTS",
    help=f"Use this StyleGAN2 of the category and train none: {GAN_FORMS}.",
)
@click.option(
    "--priors",
    metavar="PRIORS",
    help="Use these priors and measure none: a file that 'gan2shape train priors' wrote, or the "
    "name or folder of a model.",
)
@click.option(
    "--networks",
    metavar="NETWORKS",
    help=f"Use these networks and leave out the joint training: {NETWORKS_FORMS}.",
)
@LPIPS
@click.option(
    "--masks",
    metavar="DIR",
    help="Object masks, by the images' names, for the priors and the joint training. The GAN and "
    "finetuning take no mask files.",
)
@setting(
    "gan.images=400000 or networks.optimization.batch=8",
    "a setting of a part",
    " priors.limit and networks.limit are the numbers of images, priors.rounds is the largest "
    "number of rounds.",
)
@SEED
@DEVICE
@THREADS
def whole(
    source: str,
    category: str,
    out: Path,
    size: int | None,
    gan: str | None,
    priors: str | None,
    networks: str | None,
    lpips: Path | None,
    masks: str | None,
    settings: tuple[str, ...],
    seed: int,
    device: str,
    threads: int | None,
) -> None:
    """Make a model from images alone, or train one part of it."""
    changes = budgets(settings)
    from gan2shape.jobs.training.model import ModelTraining, train_model

    request = ModelTraining(
        images=source,
        out=out,
        category=category,
        size=size,
        gan=gan,
        priors=priors,
        networks=networks,
        lpips=lpips,
        masks=masks,
        budgets=changes,
        device=device,
        threads=threads,
        seed=seed,
    )
    sentence = f"stopped; what is done is kept in {out}; the same command goes on"
    print_result(train_model, request, sentence)


@click.group(cls=WholeOrPart)
def train() -> None:
    """Make a model from images, or one part of it.

    A model is trained in four parts: a GAN of the images, priors of views and lights, networks
    trained jointly with the GAN, and their finetuning. Give the same command again to go on after
    an interruption; a part that is done is skipped. The model is then used like a packaged one.

    'gan2shape train PART --help' describes a part. Write ./gan for a folder that is named like a
    part.

    \b
    Examples:
      gan2shape train photos/ --category faces --out my-model
      gan2shape train photos/ --category cats --gan cats.pt --out my-model
      gan2shape train gan photos/ --size 64 --out my-gan
      gan2shape reconstruct photos/ --model my-model --out run
    """


train.whole = whole  # type: ignore[attr-defined]
for _part in (
    parts.gan,
    parts.priors,
    parts.networks,
    parts.finetune,
    parts.supervised,
    parts.unsup3d,
):
    train.add_command(_part)


def budgets(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The settings of `--set PART.KEY=VALUE` by parts, each with dotted keys to values."""
    found: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    for dotted, value in overrides_of(settings).items():
        part, _, key = dotted.partition(".")
        if part not in PARTS or not key:
            raise UserError(
                f"--set {dotted!r} does not begin with a part{nearest(part, PARTS)}; write, say, "
                f"gan.images=400000 (the parts are {', '.join(PARTS)})."
            )
        found[part][key] = value
    return {part: changes for part, changes in found.items() if changes}
