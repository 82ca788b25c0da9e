"""What all settings are made of: strict models, numbers with ranges, and their errors."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gan2shape.schemas.errors import nearest

MILLION = 1_000_000
Positive = Annotated[int, Field(ge=1, le=MILLION)]
Count = Annotated[int, Field(ge=0, le=MILLION)]
Images = Annotated[int, Field(ge=1, le=1000 * MILLION)]
Width = Annotated[int, Field(ge=1, le=4096)]
Layers = Annotated[int, Field(ge=1, le=64)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=10_000)]
Factor = Annotated[float, Field(gt=0, le=100)]
LearningRate = Annotated[float, Field(gt=0, le=10)]
Angle = Annotated[float, Field(ge=-math.pi, le=math.pi)]
AngleSpread = Annotated[float, Field(ge=0, le=math.pi)]
Shift = Annotated[float, Field(ge=-1, le=1)]
ShiftSpread = Annotated[float, Field(ge=0, le=1)]
Light = Annotated[float, Field(ge=-2, le=2)]
LightSpread = Annotated[float, Field(ge=0, le=2)]
Distance = Annotated[float, Field(gt=0, le=100)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Betas = tuple[Beta, Beta]
LightRange = tuple[
    Annotated[float, Field(ge=-10, le=10)],
    Annotated[float, Field(ge=-10, le=10)],
]
When = Literal["never", "first_cycle", "later_cycles", "always"]
Precision = Literal["auto", "float32", "bfloat16"]
Renderer = Literal["auto", "numba", "pytorch3d"]


class Settings(BaseModel):
    """Refuses unknown keys and numbers that are not finite; cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def first_problem(error: ValidationError, model: type[BaseModel], below: int = 0) -> str:
    """The first setting that is wrong, by its keys from the level `below` on, and why.

    `model` is what was validated; it tells the known key that is nearest to an unknown one.
    """
    first = main_error(error)
    keys = first["loc"][below:]
    where = ".".join(str(key) for key in keys)
    why = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if first["type"] == "extra_forbidden":
        known = _model_at(model, keys[:-1]).model_fields
        why = f"unknown setting{nearest(str(keys[-1]), known)}"
    elif first["type"] == "missing":
        why = "is missing"
    elif isinstance(first["input"], dict) and first["type"].endswith("_type"):
        whole = "a list, given as a whole," if first["type"] == "tuple_type" else "a single value,"
        why = f"is {whole} as in {where}=VALUE"
    if not where:
        return why
    return f"{where} {why}" if why.startswith(("must be", "is ")) else f"{where}: {why}"


def main_error(error: ValidationError) -> Any:
    """The error to tell: an unknown key, which may be why another one is missing, or the first."""
    errors = error.errors()
    return next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])


def _model_at(model: type[BaseModel], keys: tuple[str | int, ...]) -> type[BaseModel]:
    """The model of the settings that these keys lead to."""
    for key in keys:
        if isinstance(key, str) and key in model.model_fields:
            model = model_in(model.model_fields[key].annotation) or model
    return model


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as `tuple[Cycle, ...]`, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := model_in(each))), None)
