"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gan2shape.schemas.errors import UserError


def directory(text: str, metavar: str = "DIR") -> Any:
    """--out, where a command writes all that it makes."""
    return click.option(
        "--out", required=True, type=click.Path(path_type=Path), metavar=metavar, help=text
    )


def lpips_option(text: str) -> Any:
    return click.option(
        "--lpips",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        metavar="FILE",
        help=text,
    )


def images_option(default: int) -> Any:
    return _amount("--images", default, "Budget: how many images to show.", "N")


def batch_option(default: int) -> Any:
    return _amount("--batch", default, "Images of one step.")


def _amount(name: str, default: int, text: str, metavar: str | None = None) -> Any:
    return click.option(
        name,
        type=click.IntRange(min=1),
        default=default,
        show_default=True,
        metavar=metavar,
        help=text,
    )


def setting(example: str, what: str = "one setting") -> Any:
    return click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help=f"Change {what}, such as {example}; may be repeated.",
    )


DEVICE = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to compute; auto takes the GPUs if there are any.",
)
PRIORS = click.option(
    "--priors",
    metavar="PRIORS",
    help="Spread of views and lights in place of the preset's: a file that 'gan2shape priors' "
    "wrote, or the name of packaged ones.",
)
MASKS = click.option(
    "--masks", metavar="DIR", help="Object masks, by the images' names (sets mask=given)."
)
SEED = click.option("--seed", type=int, help="Seed of all randomness. [default: the preset's, 0]")
PRECISION = click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="auto takes bfloat16 where the hardware multiplies it natively.",
)
TRAINING_SEED = click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of all randomness."
)
THREADS = click.option(
    "--threads", type=click.IntRange(min=1), help="Compute threads. [default: one per core]"
)
THREADS_PER_WORKER = click.option(
    "--threads-per-worker",
    "threads",
    type=click.IntRange(min=1),
    help="Compute threads of each worker. [default: the cores divided by the workers]",
)
EXECUTION = [
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        help="Worker processes. [default: one per core, or per GPU]",
    ),
    THREADS_PER_WORKER,
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Use the workers of a running Dask scheduler, such as tcp://10.0.0.5:8786 "
        "(started with --nthreads 1; the run directory must be on a disk they share).",
    ),
    DEVICE,
]


def with_options(*options: Any) -> Any:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def overrides_of(
    settings: tuple[str, ...], masks: str | None = None, **named: int | None
) -> dict[str, Any]:
    """What a command changes of a preset: `KEY=VALUE` texts, whose values are read as YAML, and the
    `named` settings that are given; masks make it use them.
    """
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
    if masks is not None:
        overrides.setdefault("mask", "given")
    return overrides | {name: value for name, value in named.items() if value is not None}
