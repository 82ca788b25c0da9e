"""What a seed becomes: identity, expression, colours, pose and light.

Every number comes from one generator seeded with (seed, attempt), in a fixed order, so a head does
not depend on the others made with it. `attempt` counts the redraws of heads that would not fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gan2shape.pipeline.synthetic.model import HeadModel

RECIPE_VERSION = 1

PHENOTYPES = ("gender", "age", "muscle", "weight", "height", "proportions", "cupsize", "firmness")
_PHENOTYPE_RANGES = {"gender": (0.0, 1.0), "age": (0.55, 0.95)}
_PHENOTYPE_RANGE = (0.2, 0.8)
_RACES = ("african", "asian", "caucasian")

_LOCAL_PARTS = (
    "nose", "chin", "cheek", "forehead", "head", "mouth", "eye", "ear", "eyebrow", "neck",
)  # fmt: skip
_LOCAL_STD = 0.25
_LOCAL_LIMIT = 0.7
_SIDE_STD = 0.05  # left and right of a face differ a little
_LOPSIDED = ("trans-out", "septumangle")
_LOPSIDED_SHARE = 0.2

# Skin, as displayed (0 to 1): the middle of each ethnicity's tones.
_SKIN = np.array([[0.42, 0.27, 0.20], [0.77, 0.59, 0.45], [0.82, 0.63, 0.53]])
_LIPS = np.array([[0.48, 0.24, 0.22], [0.72, 0.38, 0.36], [0.76, 0.38, 0.37]])
_BRIGHTEST_SKIN = 0.82  # full light does not saturate it
_BROW_BROWN = np.array([0.20, 0.12, 0.08])
# Black, brown, ginger, blond, grey.
HAIR = np.array(
    [
        [0.07, 0.06, 0.06],
        [0.26, 0.16, 0.10],
        [0.52, 0.24, 0.10],
        [0.74, 0.58, 0.30],
        [0.62, 0.62, 0.63],
    ]
)
_HAIR_CHANCES = np.array(
    [[0.75, 0.15, 0.02, 0.02, 0.06], [0.70, 0.20, 0.02, 0.02, 0.06], [0.14, 0.30, 0.16, 0.24, 0.16]]
)
# Dark brown, brown, green, blue, grey.
_IRIS = np.array(
    [
        [0.16, 0.09, 0.06],
        [0.32, 0.19, 0.10],
        [0.30, 0.38, 0.22],
        [0.25, 0.42, 0.62],
        [0.42, 0.48, 0.52],
    ]
)
_IRIS_CHANCES = np.array(
    [[0.75, 0.23, 0.02, 0.0, 0.0], [0.70, 0.28, 0.02, 0.0, 0.0], [0.10, 0.26, 0.16, 0.34, 0.14]]
)


@dataclass(frozen=True)
class Colours:
    """Albedo settings of one head; colours are RGB in 0..1."""

    skin: NDArray[np.float64]  # (3,)
    lips: NDArray[np.float64]  # (3,)
    hair: NDArray[np.float64]  # (3,)
    brows: NDArray[np.float64]  # (3,)
    iris: NDArray[np.float64]  # (3,)
    noise_seed: int
    blush: float
    stubble: float
    brow_height: float
    brow_thickness: float
    brow_strength: float
    hairline: float
    hair_thickness: float
    gaze: NDArray[np.float64]  # (2,) radians, right and down in the image


@dataclass(frozen=True)
class HeadParameters:
    """One head before it is drawn."""

    seed: int
    attempt: int
    phenotypes: dict[str, float]
    controls: dict[str, float]  # signed local changes and facial actions by label
    colours: Colours
    scale: float  # scene units per metre at an eye distance of 0.065 m
    view: NDArray[np.float64]  # (6,) rotations xyz (rad), translations xyz (scene units)
    light: NDArray[np.float64]  # (4,) ambient, diffuse, x, y as raw numbers in [-1, 1]


def sample_head(seed: int, model: HeadModel, attempt: int = 0) -> HeadParameters:
    """Draw the head of identity `seed`; `attempt` > 0 gives further candidates for the seed."""
    entropy = np.random.SeedSequence([RECIPE_VERSION, seed, attempt])
    rng = np.random.RandomState(np.random.MT19937(entropy))  # its streams never change with NumPy
    ethnicity = rng.dirichlet([0.7, 0.7, 0.7])
    phenotypes = {
        name: float(rng.uniform(*_PHENOTYPE_RANGES.get(name, _PHENOTYPE_RANGE)))
        for name in PHENOTYPES
    }
    phenotypes.update(zip(_RACES, map(float, ethnicity), strict=True))
    controls = _local_changes(rng, model) | _expression(rng)
    return HeadParameters(
        seed=seed,
        attempt=attempt,
        phenotypes=phenotypes,
        controls=controls,
        colours=_colours(rng, ethnicity, phenotypes),
        scale=float(0.88 * np.exp(np.clip(rng.normal(0, 0.035), -0.08, 0.08))),
        view=random_view(rng),
        light=random_light(rng),
    )


def local_change_labels(model: HeadModel) -> list[str]:
    """The face shape controls that are sampled: positive names as anny spells them."""
    names = [
        label.split(":")[1] for label in model.shape_labels if label.startswith("local_change:")
    ]
    return [name for name in names[::2] if _is_sampled(name)]


def _is_sampled(name: str) -> bool:
    part = name.removeprefix("l-").removeprefix("r-").split("-")[0]
    if part not in _LOCAL_PARTS and part != "eyebrows":
        return False
    moves_or_swells = "-trans-" in name or "-scale-" in name
    return not (moves_or_swells and part in ("head", "neck", "eye"))


def _local_changes(rng: np.random.RandomState, model: HeadModel) -> dict[str, float]:
    names = local_change_labels(model)
    values = np.clip(rng.normal(0, _LOCAL_STD, len(names)), -_LOCAL_LIMIT, _LOCAL_LIMIT)
    sides = rng.normal(0, _SIDE_STD, len(names))
    changes: dict[str, float] = {}
    for i, name in enumerate(names):
        if name.startswith("r-"):
            value = changes[f"l-{name[2:]}"] + float(sides[i])
        else:
            value = float(values[i])
            if any(word in name for word in _LOPSIDED) and not name.startswith("l-"):
                value *= _LOPSIDED_SHARE
        changes[name] = value
    return changes


def _expression(rng: np.random.RandomState) -> dict[str, float]:
    both = {
        "mouthSmile": rng.uniform(-0.1, 0.7),
        "eyeBlink": rng.uniform(-0.1, 0.12),
        "eyeSquint": rng.uniform(-0.2, 0.25),
        "eyeWide": rng.uniform(0.0, 0.4),
        "browDown": max(0.0, rng.normal(0, 0.25)),
    }
    actions = {
        "jawOpen": max(0.0, rng.normal(0, 0.12)),
        "browInnerUp": max(0.0, rng.normal(0, 0.25)),
    }
    for name, value in both.items():
        actions[f"{name}Left"] = actions[f"{name}Right"] = value
    return {name: float(np.clip(value, 0, 0.8)) for name, value in actions.items()}


def _colours(
    rng: np.random.RandomState, ethnicity: NDArray[np.float64], phenotypes: dict[str, float]
) -> Colours:
    skin = (ethnicity @ _SKIN) * np.exp(rng.normal(0, 0.10)) * np.exp(rng.normal(0, 0.015, 3))
    skin *= min(1.0, _BRIGHTEST_SKIN / skin.max())
    lips = (ethnicity @ _LIPS) * np.exp(rng.normal(0, 0.08)) * np.exp(rng.normal(0, 0.04, 3))
    hair = HAIR[rng.choice(5, p=ethnicity @ _HAIR_CHANCES)] * np.exp(rng.normal(0, 0.12))
    iris = _IRIS[rng.choice(5, p=ethnicity @ _IRIS_CHANCES)] * np.exp(rng.normal(0, 0.1))
    # anny's gender runs from male (0) to female (1).
    maleness = 1.0 - phenotypes["gender"]
    return Colours(
        skin=skin,
        lips=np.clip(0.75 * lips + 0.25 * skin, 0.1, 0.9),
        hair=np.clip(hair, 0.03, 0.85),
        brows=np.clip(0.35 * hair + 0.2 * _BROW_BROWN + 0.1 * skin, 0.03, 0.4),
        iris=np.clip(iris, 0.03, 0.8),
        noise_seed=int(rng.randint(1 << 30)),
        blush=float(rng.uniform(0.2, 1.0)),
        stubble=float(max(0.0, rng.uniform(-0.5, 0.5)) * (maleness > 0.5)),
        brow_height=float(rng.normal(0, 0.03)),
        brow_thickness=float(rng.uniform(0.05, 0.09)),
        brow_strength=float(rng.uniform(0.65, 0.95)),
        hairline=float(rng.normal(0, 0.10)),
        hair_thickness=float(rng.uniform(0.002, 0.009)),
        gaze=np.clip(rng.normal(0, [0.09, 0.05]), -0.2, 0.2),
    )


def random_view(rng: np.random.RandomState) -> NDArray[np.float64]:
    """A view (6,) in radians and scene units, as `HeadParameters` has it."""
    pitch = rng.normal(0, 0.07)
    yaw = np.clip(rng.normal(0, 0.32), -0.8, 0.8)
    roll = rng.normal(0, 0.04)
    shift = np.clip(rng.normal(0, 0.004, 2), -0.01, 0.01)
    return np.array([np.clip(pitch, -0.2, 0.2), yaw, np.clip(roll, -0.12, 0.12), *shift, 0.0])


def random_light(rng: np.random.RandomState) -> NDArray[np.float64]:
    """A light (4,) of raw numbers in [-1, 1], as `HeadParameters` has it."""
    ambient = rng.uniform(0.35, 0.6)
    diffuse = rng.uniform(0.45, 0.85)
    diffuse = min(diffuse, 1.2 - ambient)  # keeps bright skin from washing out
    return np.array(
        [2 * ambient - 1, 2 * diffuse - 1, rng.uniform(-0.9, 0.9), rng.uniform(-0.5, 0.5)]
    )
