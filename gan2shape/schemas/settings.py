"""What a run is told to do: the resolved configuration, read from a preset, a YAML file and flags.

Every model refuses unknown keys, so that a misspelt setting is an error and never a silent default.
"""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gan2shape.schemas.errors import UserError
from gan2shape.schemas.packaged import PRIORS_FILE, asset_names, asset_path

Range = tuple[float, float]
Six = tuple[float, float, float, float, float, float]
Four = tuple[float, float, float, float]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
_Model = TypeVar("_Model", bound="Settings")
When = Literal["never", "first_cycle", "later_cycles", "always"]


class ConfigError(UserError):
    """A setting is unknown, misspelt or out of range; the message is one sentence for people."""


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CameraConfig(Settings):
    """Pinhole camera and the depth range of the object."""

    size: Positive = 64
    fov_degrees: float = Field(default=10.0, gt=0, lt=120)
    min_depth: float = Field(default=0.9, gt=0)
    max_depth: float = Field(default=1.1, gt=0)
    rotation_depth: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> CameraConfig:
        if self.size < 32 or self.size & (self.size - 1):
            raise ValueError(f"size must be a power of two of at least 32, not {self.size}")
        if self.min_depth >= self.max_depth:
            raise ValueError("min_depth must be below max_depth")
        return self


class ViewPriorConfig(Settings):
    """Gaussian of pseudo-sample views: rotations x, y, z (radians), translations x, y, z."""

    mean: Six = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    std: Six = (0.1, 0.35, 0.05, 0.004, 0.004, 0.0)
    view_scale: float = Field(default=1.0, gt=0)
    """Factor on the spread of the yaw."""

    @property
    def yaw_std(self) -> float:
        """Of the views that are drawn."""
        return self.view_scale * self.std[1]


class LightPriorConfig(Settings):
    """Random lights of pseudo samples: direction, extra diffuse r, ambient changed by alpha * r."""

    mean: Four | None = None
    """With `std`, a Gaussian of whole lights (ambient, diffuse, direction x and y, each in [-1, 1])
    that is drawn from in place of the ranges below; `gan2shape priors` estimates it."""
    std: Four | None = None
    x: Range = (-0.9, 0.9)
    y: Range = (-0.3, 0.8)
    diffuse: Range = (-0.1, 0.7)
    ambient_per_diffuse: float = -0.4

    @model_validator(mode="after")
    def _whole_gaussian(self) -> LightPriorConfig:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together")
        return self


class PriorsFile(Settings):
    """What is known of a category's views and lights, as a file."""

    view_prior: ViewPriorConfig | None = None
    light_prior: LightPriorConfig | None = None
    provenance: Any = None
    """Where they come from, for people."""

    @model_validator(mode="after")
    def _not_empty(self) -> PriorsFile:
        if self.view_prior is None and self.light_prior is None:
            raise ValueError("there is neither view_prior nor light_prior in it")
        return self


class EllipsoidShape(Settings):
    """An ellipsoidal cap over an object's mask."""

    radius: float = Field(default=0.4, gt=0)
    near: float = 0.91
    far: float = 1.02
    extent: float = Field(default=1.0, gt=0)
    """Axes of the ellipse over those of the mask's bounding box; 1.41 takes in the corners."""


class EllipsoidConfig(EllipsoidShape):
    """The shape that the depth network starts from (step 0)."""

    iterations: Count = 1000
    learning_rate: float = Field(default=1e-4, gt=0)


class NetworkConfig(Settings):
    """Widths of the shape networks; `None` is the paper's max(4096 / size, 16)."""

    width: Positive | None = None
    max_view_degrees: float = Field(default=60.0, gt=0)
    max_shift: float = Field(default=0.1, ge=0)
    max_shift_z: float = Field(default=0.0, ge=0)


class Cycle(Settings):
    """Iterations of the three steps in one cycle, and of what is ours."""

    step1: Count = 0
    step2: Count = 0
    view_iterations: Count = 0
    """Iterations between steps 2 and 3 that teach the view network by how much projected samples
    are turned from their input, which is known. Not in the paper (0)."""
    step3: Count = 0
    background_weight: float = Field(default=1.0, ge=0, le=1)
    """Weight in step 3 of pixels of a plain background (`mask: background`), the object's being 1.
    The paper's is 1: the background tells where the outline is. Once that is known it does harm,
    since shading explains dark pixels beside the outline by slopes; 0 leaves it out."""
    single_image_passes: Count = 0
    """How often, at the end, all networks are fitted to each input alone, by the losses of
    finetuning, and so are their teachers' if they have had any; depth then learns the mean of what
    all of them see in inputs and mirrored inputs. A cycle that has nothing else needs neither
    latents nor projected samples. Not in the paper (0)."""
    relief_factor: float = Field(default=1.0, gt=0)
    """How deep looks make shapes on average, beside what the networks find at the start: those of a
    category may all be too shallow, or too deep, by as much."""

    @property
    def projects(self) -> bool:
        """Whether it goes by the GAN's images."""
        return any((self.step1, self.step2, self.view_iterations, self.step3))


class LatentConfig(Settings):
    """How the offset encoder may move the latent in step 2."""

    regularize: bool = True
    """Send the code through the last layers F of the mapping network, with a norm penalty."""
    mapping_layers: Positive = 8
    """How many of the mapping network's last layers form F (the paper's F1_d)."""
    norm_weight: float = Field(default=0.01, ge=0)
    relative: bool = True
    """Encode E(x) - E(G(w)) in place of E(x)."""


class LearningRates(Settings):
    """Adam's learning rate for each network."""

    depth: float = Field(default=1e-4, gt=0)
    albedo: float = Field(default=1e-4, gt=0)
    view: float = Field(default=1e-4, gt=0)
    light: float = Field(default=1e-4, gt=0)
    encoder: float = Field(default=1e-4, gt=0)


class OptimizationConfig(Settings):
    """The three steps, their losses and their schedule."""

    cycles: tuple[Cycle, ...] = (Cycle(step1=500, step2=500, step3=200),)
    batch: Positive = 16
    """Pseudo or projected samples in one iteration."""
    images_per_batch: Positive = 4
    """Different images in one iteration of step 3; the batch's samples are divided among them."""
    projected_samples: Positive = 32
    """Projected samples collected per image after step 2."""
    pseudo_albedo: Literal["network", "input"] = "network"
    """Albedo of pseudo samples: the network's, as in the paper, or that corrected by the input
    where it is seen there, or its mirror image is. The network's is blurred and close to the
    average, and projected samples made from it show other people. Mirror images count where step 3
    is symmetric."""
    turn_calibration_iterations: Count = 0
    """Iterations that teach a copy of the view network the known views of renderings. It then
    tells how far projected samples follow turns about each axis, in comparison with the yaw, and
    they count as turned so far. Not in the paper (0)."""
    calibrate_yaw: bool = False
    """The yaw counts as far as it is followed, too. For runs without symmetry that start from
    networks whose relief is about right; else the yaw's turns count in full."""
    symmetry_step1: When = "later_cycles"
    symmetry_step3: When = "always"
    symmetry_sides: Literal["random", "both"] = "random"
    """What symmetric steps compare with a target: the shape or its mirror image, drawn at random,
    or both of them, as in the paper, at twice the cost."""
    learning_rates: LearningRates = LearningRates()
    decay: float = Field(default=0.0, ge=0, le=1)
    """Share of every step, at its end, over which the learning rates fall to zero; the paper
    keeps them (0). Short steps need it: it takes the noise out of what they leave behind."""
    betas: Range = (0.9, 0.999)
    weight_decay: float = Field(default=5e-4, ge=0)
    gradient_limit: float = Field(default=5.0, ge=0)
    """The depth's gradient at a pixel counts for at most so many times the mean of its image.
    Triangles seen edge-on have gradients hundreds of times the usual. The paper has no limit (0).
    """
    perceptual_weight: float = Field(default=0.5, ge=0)
    perceptual_share: float = Field(default=1.0, gt=0, le=1)
    """Share of an iteration's targets, drawn at random, that are compared by features; the others'
    weight is theirs then. Features take most of the time of steps 1 and 3. The paper's is 1."""
    depth_smoothness: float = Field(default=0.01, ge=0)
    """Weight on the second differences of the canonical depth, in scene units."""
    shading_smoothness: float = Field(default=0.01, ge=0)
    colour_symmetry: float = Field(default=0.0, ge=0)
    """Weight in step 3, where it is symmetric, on how unlike the two halves of an input are once
    they are unshaded. Not in the paper (0)."""
    colour_evenness: float = Field(default=0.0, ge=0)
    """Weight in step 3 on how much brightness varies among points of an input that have one
    chromaticity, once they are unshaded. Not in the paper (0)."""
    view_weight: float = Field(default=0.0, ge=0)
    """Weight in step 3 on how wrong views of projected samples are, whose turns are known, in
    standard deviations of the prior, and on a mean view of the inputs that leaves the prior's mean.
    Not in the paper (0)."""
    feature_blocks: Positive = 4
    """Discriminator blocks whose features are compared."""
    collapse_ratio: float = Field(default=0.05, ge=0)
    """An image fails when its projected samples vary less than this share of its pseudo samples."""

    @property
    def symmetric(self) -> bool:
        """Whether step 3 ever takes objects for symmetric; then their colours are, too."""
        return self.symmetry_step3 != "never"


class InversionConfig(Settings):
    """Optimising a latent in W for every image that comes without one."""

    iterations: Positive = 150
    batch: Positive = 16
    learning_rate: float = Field(default=0.3, gt=0)
    """In units of W's spread."""
    start_samples: Positive = 256
    """Random samples of the generator; the search begins at the one most like the image."""
    perceptual_weight: float = Field(default=1.0, ge=0)
    """Weight on the discriminator's features, and on LPIPS where its weights are given."""


class RunConfig(Settings):
    """All that decides a run's numbers, besides the images and the weights."""

    name: str = "custom"
    camera: CameraConfig = CameraConfig()
    mask: Literal["given", "background", "none"] = "none"
    """Object masks: from files, from a plain background found in the image, or the whole image."""
    background_threshold: float = Field(default=0.06, ge=0, le=1)
    """Brightness (0 to 1) below which a pixel counts as background."""
    view_prior: ViewPriorConfig = ViewPriorConfig()
    light_prior: LightPriorConfig = LightPriorConfig()
    ellipsoid: EllipsoidConfig = EllipsoidConfig()
    networks: NetworkConfig = NetworkConfig()
    latent: LatentConfig = LatentConfig()
    optimization: OptimizationConfig = OptimizationConfig()
    inversion: InversionConfig = InversionConfig()
    group_size: Positive = 4
    """Images that share one set of network weights; 1 gives every image its own."""
    shard_size: Positive = 16
    """Images of one task, a multiple of group_size."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the networks; auto takes bfloat16 where the hardware multiplies it natively."""
    renderer: Literal["auto", "numba", "pytorch3d"] = "auto"
    seed: int = 0

    @model_validator(mode="after")
    def _whole_groups(self) -> RunConfig:
        if self.shard_size % self.group_size:
            raise ValueError(
                f"shard_size ({self.shard_size}) must be a multiple of "
                f"group_size ({self.group_size})"
            )
        return self

    @property
    def forward_only(self) -> bool:
        """Whether pretrained networks are to be taken as they are, without any fitting."""
        return not self.optimization.cycles

    @property
    def needs_latents(self) -> bool:
        """Whether images have to be inverted."""
        return any(cycle.projects for cycle in self.optimization.cycles)

    def digest(self) -> str:
        """Equal for equal settings, on every machine."""
        return plain_digest(self.model_dump(mode="json"))


def plain_digest(values: Any) -> str:
    """SHA-256 of settings as they are stored, or of other plain values, as canonical JSON."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def preset_names() -> list[str]:
    """Names that `load_config` takes besides paths."""
    folder = resources.files("gan2shape.schemas") / "presets"
    return sorted(
        p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")
    )


def load_config(
    preset: str | Path,
    overrides: dict[str, Any] | None = None,
    priors: str | Path | None = None,
) -> RunConfig:
    """Read a preset by name, or a YAML file by path, and lay priors and then `overrides` over it.

    `overrides` maps dotted keys to values: `{"optimization.batch": 8}`. `priors` is a YAML file, or
    the name of packaged ones, with the settings `view_prior` and `light_prior` and no others.
    Raises `ConfigError` with one sentence that names the file and the key.
    """
    if str(preset) in preset_names():
        text = (resources.files("gan2shape.schemas") / "presets" / f"{preset}.yaml").read_text()
    elif Path(preset).is_file():
        try:
            text = Path(preset).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{preset} cannot be read as a text file of settings.") from error
    else:
        known = ", ".join(preset_names())
        raise ConfigError(
            f"There is no preset or YAML file {str(preset)!r}; the presets are {known}."
        )
    tree = _tree(text, preset)
    below = {} if priors is None else _load_priors(priors)
    for dotted, value in (below | (overrides or {})).items():
        branch = tree
        *parents, leaf = dotted.split(".")
        for level, key in enumerate(parents, 1):
            branch = branch.setdefault(key, {})
            if not isinstance(branch, dict):
                whole = ".".join(parents[:level])
                kind = "a list, given as a whole" if isinstance(branch, list) else "a single value"
                raise ConfigError(
                    f"Setting {dotted!r} does not exist: {key!r} is {kind}, as in {whole}=VALUE."
                )
        branch[leaf] = value
    return _validated(RunConfig, tree, preset)


def _load_priors(name_or_path: str | Path) -> dict[str, Any]:
    """The settings that a priors file tells, by dotted keys."""
    path = asset_path(name_or_path, PRIORS_FILE)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(asset_names(PRIORS_FILE)) or "none"
        raise ConfigError(
            f"The priors {str(name_or_path)!r} cannot be read; give a file that 'gan2shape priors' "
            f"wrote, or the name of packaged priors ({known})."
        ) from error
    found = _validated(PriorsFile, _tree(text, path), path)
    parts = {"view_prior": found.view_prior, "light_prior": found.light_prior}
    return {
        f"{name}.{key}": value
        for name, part in parts.items()
        if part is not None
        for key, value in part.model_dump(exclude_unset=True).items()
    }


def _tree(text: str, source: str | Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{source} must hold settings as 'key: value' lines.")
    return tree


def _validated(model: type[_Model], tree: dict[str, Any], source: str | Path) -> _Model:
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {first_problem(error)}.") from error


def first_problem(error: ValidationError, below: int = 0) -> str:
    """The setting that is wrong, by its keys from the level `below` on, and why."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][below:])
    why = "unknown setting" if first["type"] == "extra_forbidden" else first["msg"]
    why = why.removeprefix("Value error, ")
    return f"{where}: {why}" if where else why
