"""The fields of settings as data: what options, tables and help are made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel

from gan2shape.schemas.base import model_in
from gan2shape.schemas.errors import ConfigError, nearest
from gan2shape.schemas.settings import ORIGIN, RunConfig


@dataclass(frozen=True)
class Bounds:
    """The range of a number; `None` where it is open to that side."""

    low: float | None = None
    high: float | None = None
    above: bool = False
    """`low` itself is outside."""
    below: bool = False
    """`high` itself is outside."""

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return "any"
        if not self.above and not self.below:
            return f"{_plain(self.low)} to {_plain(self.high)}"
        low = f"above {_plain(self.low)}" if self.above else f"at least {_plain(self.low)}"
        high = f"below {_plain(self.high)}" if self.below else f"at most {_plain(self.high)}"
        return f"{low}, {high}"


@dataclass(frozen=True)
class SettingField:
    """One setting: its dotted key, type, default, range and sentence."""

    key: str
    kind: Any
    """The bare type: int, float, bool, str, a Literal, a tuple or a model."""
    default: Any
    bounds: Bounds
    """Of a number."""
    text: str

    @property
    def range(self) -> str:
        """What values are allowed, in words."""
        if self.kind is bool:
            return "true, false"
        if get_origin(self.kind) is Literal:
            return ", ".join(map(str, get_args(self.kind)))
        if get_origin(self.kind) is tuple:
            return _tuple_range(get_args(self.kind))
        return "text" if self.kind is str else str(self.bounds)

    @property
    def default_text(self) -> str:
        """The default as `--set` takes it."""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        if isinstance(self.default, tuple):
            return f"[{', '.join(map(_element, self.default))}]"
        return "none" if self.default is None else str(self.default)


def setting_fields(model: type[BaseModel], prefix: str = "") -> Iterator[SettingField]:
    """All settings of a model, those of its parts under dotted keys.

    A list of parts, such as `optimization.cycles`, is a setting, and so are the keys of its
    elements, as `optimization.cycles[].step1`.
    """
    return _fields(model, model(), prefix)


def settings_under(key: str | None) -> list[SettingField]:
    """A run's settings, or the one with this key, or those in the part of this name.

    Raises `ConfigError` that names the nearest key.
    """
    fields = list(setting_fields(RunConfig))
    if key is None:
        return fields
    found = [each for each in fields if f"{each.key}.".startswith((f"{key}.", f"{key}[]."))]
    if not found:
        parts = {each.key.rpartition(".")[0].removesuffix("[]") for each in fields}
        known = [each.key for each in fields] + sorted(parts - {""})
        raise ConfigError(
            f"There is no setting {key!r}{nearest(key, known)}; 'gan2shape settings' lists all."
        )
    return found


def _fields(model: type[BaseModel], values: BaseModel, prefix: str) -> Iterator[SettingField]:
    for name, info in model.model_fields.items():
        kind, metadata = _bare(info.annotation, info.metadata)
        if name in ORIGIN:
            continue
        key, default = prefix + name, getattr(values, name)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields(kind, default, f"{key}.")
            continue
        yield SettingField(key, kind, default, _bounds(metadata), info.description or "")
        part = model_in(kind)
        if part is not None:
            yield from _fields(part, part(), f"{key}[].")


def _bare(annotation: Any, metadata: list[Any]) -> tuple[Any, list[Any]]:
    """The type without `None` and `Annotated`, and all metadata on the way."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *found = get_args(annotation)
        return _bare(inner, [*metadata, *found])
    if origin in (Union, UnionType):
        (inner,) = (each for each in get_args(annotation) if each is not type(None))
        return _bare(inner, metadata)
    return annotation, [each for item in metadata for each in getattr(item, "metadata", [item])]


def _bounds(metadata: list[Any]) -> Bounds:
    found: dict[str, Any] = {}
    for item in metadata:
        if isinstance(item, Ge | Gt):
            found |= {"low": getattr(item, "ge", getattr(item, "gt", None))}
            found |= {"above": isinstance(item, Gt)}
        elif isinstance(item, Le | Lt):
            found |= {"high": getattr(item, "le", getattr(item, "lt", None))}
            found |= {"below": isinstance(item, Lt)}
    return Bounds(**found)


def _tuple_range(kinds: tuple[Any, ...]) -> str:
    """As "6 numbers: 3 of -3.142 to 3.142, 3 of -1 to 1" for a tuple of numbers."""
    if kinds[-1] is Ellipsis:
        kind, metadata = _bare(kinds[0], [])
        part = isinstance(kind, type) and issubclass(kind, BaseModel)
        return "a list of the settings below" if part else f"numbers, {_bounds(metadata)}"
    ranges = [str(_bounds(_bare(kind, [])[1])) for kind in kinds]
    parts = [f"{ranges.count(each)} of {each}" for each in dict.fromkeys(ranges)]
    return f"{len(kinds)} numbers: {', '.join(parts)}"


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.4g}"


def _element(value: Any) -> str:
    if not isinstance(value, BaseModel):
        return str(value)
    changed = value.model_dump(exclude_defaults=True)
    return "{" + ", ".join(f"{name}: {each}" for name, each in changed.items()) + "}"
