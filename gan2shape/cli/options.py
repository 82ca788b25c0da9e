"""Options that several commands share, and options made from the fields of settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import click
from click.core import ParameterSource

from gan2shape.schemas.errors import UserError

if TYPE_CHECKING:
    from gan2shape.schemas.fields import SettingField


def fields_of(
    model: str,
    *names: str,
    left_out: Sequence[str] = (),
    defaults: Mapping[str, str] = MappingProxyType({}),
) -> Callable[..., Any]:
    """Decorator: an option for each flat field of a settings class. Needs `FieldsCommand`.

    The command gets the fields that the user gave as the dictionary `fields`.

    Args:
        model: module and class, as "gan2shape.schemas.settings.RunConfig". It is imported when the
            command runs or shows its help, so that other commands start quickly.
        names: the fields; all flat ones unless given.
        left_out: fields that get no option.
        defaults: what the help calls the defaults of fields that have other defaults here.
    """

    def decorate(function: Any) -> Any:
        function.field_options = partial(_field_options, model, names, left_out, defaults)
        return function

    return decorate


class FieldsCommand(click.Command):
    """A command whose function `fields_of` decorates."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        *own, help_option = super().get_params(ctx)
        return [*own, *self._fields, help_option]

    def invoke(self, ctx: click.Context) -> Any:
        values = {option.name: ctx.params.pop(option.name) for option in self._fields}  # type: ignore[arg-type]
        ctx.params["fields"] = {
            name: value
            for name, value in values.items()
            if ctx.get_parameter_source(str(name)) is not ParameterSource.DEFAULT
        }
        return super().invoke(ctx)

    @cached_property
    def _fields(self) -> list[click.Option]:
        return self.callback.field_options()  # type: ignore[union-attr]


def _field_options(
    model: str, names: Sequence[str], left_out: Sequence[str], defaults: Mapping[str, str]
) -> list[click.Option]:
    from gan2shape.schemas.fields import setting_fields

    module, _, name = model.rpartition(".")
    fields = {
        field.key: field
        for field in setting_fields(getattr(import_module(module), name))
        if "." not in field.key and field.text and field.key not in left_out
    }
    return [_option(fields[key], defaults.get(key)) for key in names or fields]


def _option(field: SettingField, default: str | None) -> click.Option:
    flag = "--" + field.key.replace("_", "-")
    declaration = f"{flag}/--no-{flag[2:]}" if field.kind is bool else flag
    return click.Option(
        [declaration, field.key],
        type=_click_type(field),
        default=None if default else field.default,
        show_default=default or True,
        help=field.text,
    )


def _click_type(field: SettingField) -> Any:
    if get_origin(field.kind) is Literal:
        return click.Choice(get_args(field.kind))
    if get_origin(field.kind) is tuple:
        return Numbers(get_args(field.kind)[0])
    if field.kind in (int, float):
        kind: Any = click.IntRange if field.kind is int else click.FloatRange
        bounds = field.bounds
        return kind(bounds.low, bounds.high, min_open=bounds.above, max_open=bounds.below)
    return field.kind


class Numbers(click.ParamType):
    """A list of numbers, as 128/128/64. The settings check each of them."""

    name = "A/B/..."

    def __init__(self, kind: Any) -> None:
        self.convert_one = int if int in (kind, *get_args(kind)) else float

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.convert_one(part) for part in value.split("/"))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 128/64.", param, ctx)


def directory(text: str, metavar: str = "DIR") -> Any:
    """--out, where a command writes all that it makes."""
    return click.option(
        "--out",
        required=True,
        type=click.Path(path_type=Path, file_okay=False),
        metavar=metavar,
        help=text,
    )


def file_option(name: str, text: str) -> Any:
    """An option that takes an existing file."""
    return click.option(
        name,
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        metavar="FILE",
        help=text,
    )


def setting(example: str, what: str = "one setting", more: str = "") -> Any:
    return click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help=f"Change {what}, such as {example}.{more} May be repeated.",
    )


IMAGES = click.argument("source", metavar="IMAGES")
MODEL = click.option(
    "--model",
    metavar="MODEL",
    help="Model of the images' category: the name of a packaged model (heads64), or the folder of "
    "a model.",
)
_SHOWN = "What the images show: cars, cats, churches, faces, heads, or a YAML file."
CATEGORY = click.option("--category", metavar="CATEGORY", help=f"{_SHOWN} [default: the model's]")
CATEGORY_NEEDED = click.option("--category", required=True, metavar="CATEGORY", help=_SHOWN)
WORK = "How much work to spend: {}, or a YAML file. [default: {}]"
GAN_FORMS = "a .pt or .safetensors file, or the name or folder of a model"
NETWORKS_FORMS = "a file that a part of 'gan2shape train' wrote, or the name or folder of a model"
PRIORS = click.option(
    "--priors",
    metavar="PRIORS",
    help="Spread of views and lights in place of the category's or the model's: a file that "
    "'gan2shape train priors' wrote, or another model.",
)
MASKS = click.option(
    "--masks", metavar="DIR", help="Object masks, by the images' names. Sets mask=given."
)
LPIPS = file_option(
    "--lpips",
    "VGG16-LPIPS weights for the perceptual loss, in place of the discriminator's features.",
)
LIMIT = partial(click.option, "--limit", type=click.IntRange(min=1), metavar="N", show_default=True)
DEVICE = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to compute; auto takes the GPUs if there are any.",
)
SEED = click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of all randomness.",
)
THREADS = click.option(
    "--threads", type=click.IntRange(1, 4096), help="Compute threads. [default: one per core]"
)
THREADS_PER_WORKER = click.option(
    "--threads-per-worker",
    "threads",
    type=click.IntRange(1, 4096),
    help="Compute threads of each worker. [default: the cores divided by the workers]",
)
EXECUTION = [
    click.option(
        "--workers",
        type=click.IntRange(1, 4096),
        help="Worker processes. [default: one per core, or per GPU]",
    ),
    THREADS_PER_WORKER,
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Use the workers of a running Dask scheduler, such as tcp://10.0.0.5:8786. Start them "
        "with --nthreads 1; the run directory must be on a disk that they share.",
    ),
    DEVICE,
]


def with_options(*options: Any) -> Any:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def overrides_of(settings: Sequence[str]) -> dict[str, Any]:
    """The dotted keys and values of `--set KEY=VALUE` texts. Values are read as YAML."""
    from gan2shape.schemas.yaml_files import parse_yaml

    overrides: dict[str, Any] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {text!r} is not KEY=VALUE; write, say, optimization.batch=8.")
        overrides[key.strip()] = parse_yaml(value, f"--set {text[:60]!r}")
    return overrides


def run_overrides(
    settings: Sequence[str], fields: dict[str, Any], masks: str | None
) -> dict[str, Any]:
    """What a command changes of a run's settings. Mask files are used where they are given."""
    given = {} if masks is None else {"mask": "given"}
    return given | overrides_of(settings) | fields
