"""The settings that decide a run's numbers. Each field has a range, a default and one sentence.

Every model refuses unknown keys, so that a misspelt setting is an error and never a silent default.
Every number is finite.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import Field, model_validator

from gan2shape.schemas.base import (
    Angle,
    AngleSpread,
    Betas,
    Count,
    Distance,
    Factor,
    Layers,
    LearningRate,
    Light,
    LightRange,
    LightSpread,
    Positive,
    Precision,
    Renderer,
    Seed,
    Settings,
    Share,
    Shift,
    ShiftSpread,
    Weight,
    When,
    Width,
)

ORIGIN = ("category", "recipe", "model")
"""Fields of a run's settings that say where the others come from."""


class CameraConfig(Settings):
    """Pinhole camera and the depth range of the object."""

    size: int = Field(
        default=64,
        ge=32,
        le=1024,
        description="Width and height of images and shapes in pixels, a power of two.",
    )
    fov_degrees: float = Field(default=10.0, gt=0, lt=120, description="Field of view in degrees.")
    min_depth: Distance = Field(
        default=0.9, description="Nearest depth of the scene, in scene units."
    )
    max_depth: Distance = Field(
        default=1.1, description="Farthest depth of the scene, in scene units."
    )
    rotation_depth: Distance = Field(
        default=1.0, description="Depth of the point that objects turn about, in scene units."
    )

    @model_validator(mode="after")
    def _ordered(self) -> CameraConfig:
        if self.size & (self.size - 1):
            raise ValueError(f"size must be a power of two, not {self.size}")
        if self.min_depth >= self.max_depth:
            raise ValueError("min_depth must be below max_depth")
        return self


class ViewPriorConfig(Settings):
    """Gaussian of the views that pseudo samples are drawn from."""

    mean: tuple[Angle, Angle, Angle, Shift, Shift, Shift] = Field(
        default=(0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        description="Mean rotations x, y, z in radians, and shifts x, y, z in scene units.",
    )
    std: tuple[AngleSpread, AngleSpread, AngleSpread, ShiftSpread, ShiftSpread, ShiftSpread] = (
        Field(
            default=(0.1, 0.35, 0.05, 0.004, 0.004, 0.0),
            description="Standard deviations of rotations x, y, z in radians, and of shifts x, "
            "y, z in scene units.",
        )
    )
    view_scale: float = Field(
        default=1.0,
        gt=0,
        le=10,
        description="Factor on the standard deviation of rotation y, the yaw.",
    )

    @property
    def yaw_std(self) -> float:
        """Standard deviation of the yaw of the views that are drawn, in radians."""
        return self.view_scale * self.std[1]


class LightPriorConfig(Settings):
    """Random lights of pseudo samples: a Gaussian if `mean` and `std` are given, else ranges."""

    mean: tuple[Light, Light, Light, Light] | None = Field(
        default=None,
        description="Mean of the Gaussian of lights: ambient, diffuse, and direction x and y.",
    )
    std: tuple[LightSpread, LightSpread, LightSpread, LightSpread] | None = Field(
        default=None,
        description="Standard deviations of the Gaussian of lights: ambient, diffuse, and "
        "direction x and y.",
    )
    x: LightRange = Field(default=(-0.9, 0.9), description="Range of the light's direction x.")
    y: LightRange = Field(default=(-0.3, 0.8), description="Range of the light's direction y.")
    diffuse: LightRange = Field(
        default=(-0.1, 0.7), description="Range of the added diffuse light."
    )
    ambient_per_diffuse: float = Field(
        default=-0.4,
        ge=-10,
        le=10,
        description="Ambient light added for each unit of diffuse light.",
    )

    @model_validator(mode="after")
    def _whole(self) -> LightPriorConfig:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together")
        for name in ("x", "y", "diffuse"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"the first number of {name} must not be above the second")
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

    def settings(self) -> dict[str, Any]:
        """The settings that it tells, and no others."""
        return self.model_dump(exclude_unset=True, exclude_none=True, exclude={"provenance"})


class EllipsoidShape(Settings):
    """An ellipsoidal cap over an object's mask."""

    radius: Factor = Field(
        default=0.4, description="Radius of the ellipsoid along the optical axis, in scene units."
    )
    near: Distance = Field(
        default=0.91, description="Depth of the cap's nearest point, in scene units."
    )
    far: Distance = Field(default=1.02, description="Depth of the cap's rim, in scene units.")
    extent: Factor = Field(
        default=1.0,
        description="Axes of the ellipse over those of the mask's bounding box; 1.41 takes in the "
        "corners.",
    )

    @model_validator(mode="after")
    def _cap(self) -> EllipsoidShape:
        if not 0 < self.far - self.near <= self.radius:
            raise ValueError("far must be above near, by at most the radius")
        return self


class EllipsoidConfig(EllipsoidShape):
    """The shape that the depth network starts from (step 0)."""

    iterations: Count = Field(
        default=1000,
        description="Iterations of step 0, in which the depth network learns the ellipsoid.",
    )
    learning_rate: LearningRate = Field(
        default=1e-4, description="Learning rate while the depth network learns the ellipsoid."
    )


class NetworkConfig(Settings):
    """Widths of the shape networks, and how far views can go."""

    width: Width | None = Field(
        default=None,
        description="Channels of the first layers; none is the paper's max(4096 / size, 16).",
    )
    max_view_degrees: float = Field(
        default=60.0,
        gt=0,
        le=180,
        description="Largest rotation that the view network can predict, in degrees.",
    )
    max_shift: ShiftSpread = Field(
        default=0.1,
        description="Largest shift across the image that the view network can predict, in scene "
        "units.",
    )
    max_shift_z: ShiftSpread = Field(
        default=0.0,
        description="Largest shift along the optical axis that the view network can predict, in "
        "scene units.",
    )


class Cycle(Settings):
    """Iterations of the three steps in one cycle, and of what is ours."""

    step1: Count = Field(default=0, description="Iterations of step 1, which fits the albedo.")
    step2: Count = Field(
        default=0, description="Iterations of step 2, which projects pseudo samples."
    )
    view_iterations: Count = Field(
        default=0,
        description="Iterations after step 2 that teach the view network the known turns of "
        "projected samples; not in the paper (0).",
    )
    step3: Count = Field(default=0, description="Iterations of step 3, which fits the shape.")
    background_weight: Share = Field(
        default=1.0,
        description="Weight in step 3 of pixels of a plain background; 1 in the paper. Once the "
        "outline is known, 0 is better: shading explains dark pixels beside it by slopes.",
    )
    single_image_passes: Count = Field(
        default=0,
        description="How often, at the end, the networks are fitted to each input alone; not in "
        "the paper (0). A cycle of nothing else needs no latents.",
    )
    relief_factor: float = Field(
        default=1.0,
        gt=0,
        le=10,
        description="Factor on the mean relief of all shapes that the single-image passes end at.",
    )

    @property
    def projects(self) -> bool:
        """Whether it goes by the GAN's images."""
        return any((self.step1, self.step2, self.view_iterations, self.step3))


class LatentConfig(Settings):
    """How the offset encoder may move the latent in step 2."""

    regularize: bool = Field(
        default=True,
        description="Send the code through the mapping network's last layers F, with a penalty.",
    )
    mapping_layers: Layers = Field(
        default=8,
        description="How many of the mapping network's last layers form F. The paper has 8 for "
        "synthetic faces and 2 for photographs.",
    )
    norm_weight: Weight = Field(
        default=0.01, description="Weight of the penalty on the code's norm."
    )
    relative: bool = Field(default=True, description="Encode E(x) - E(G(w)) in place of E(x).")


class LearningRates(Settings):
    """Adam's learning rate for each network."""

    depth: LearningRate = Field(default=1e-4, description="Learning rate of the depth network.")
    albedo: LearningRate = Field(default=1e-4, description="Learning rate of the albedo network.")
    view: LearningRate = Field(default=1e-4, description="Learning rate of the view network.")
    light: LearningRate = Field(default=1e-4, description="Learning rate of the light network.")
    encoder: LearningRate = Field(default=1e-4, description="Learning rate of the offset encoder.")


class OptimizationConfig(Settings):
    """The three steps, their losses and their schedule."""

    cycles: tuple[Cycle, ...] = Field(
        default=(Cycle(step1=500, step2=500, step3=200),),
        max_length=100,
        description="Iterations of each step, cycle by cycle; none at all is one forward pass.",
    )
    batch: Positive = Field(default=16, description="Pseudo or projected samples in one iteration.")
    images_per_batch: Positive = Field(
        default=4, description="Different images in one iteration of step 3, which share the batch."
    )
    projected_samples: Positive = Field(
        default=32, description="Projected samples of each image after step 2."
    )
    pseudo_albedo: Literal["network", "input"] = Field(
        default="network",
        description="Colours of pseudo samples: the albedo network's, as in the paper, or the "
        "input's where it or its mirror image shows them. The input's keep the person the same.",
    )
    turn_calibration_iterations: Count = Field(
        default=0,
        description="Iterations that teach a copy of the view network known views, to measure how "
        "far projected samples follow turns about each axis; not in the paper (0).",
    )
    calibrate_yaw: bool = Field(
        default=False,
        description="Let the turn calibration correct the yaw too. Use it without symmetry, and "
        "only from networks whose relief is about right.",
    )
    symmetry_step1: When = Field(
        default="later_cycles",
        description="When step 1 takes the object's left and right for alike.",
    )
    symmetry_step3: When = Field(
        default="always", description="When step 3 takes the object's left and right for alike."
    )
    symmetry_sides: Literal["random", "both"] = Field(
        default="random",
        description="What symmetric steps compare with a target: the shape or its mirror image, "
        "drawn at random, or both of them, as in the paper, at twice the cost.",
    )
    learning_rates: LearningRates = LearningRates()
    decay: Share = Field(
        default=0.0,
        description="Share of every step, at its end, over which the learning rates fall to zero; "
        "0 in the paper. Short steps need it.",
    )
    betas: Betas = Field(default=(0.9, 0.999), description="Adam's beta 1 and beta 2.")
    weight_decay: Weight = Field(default=5e-4, description="Adam's weight decay.")
    gradient_limit: Weight = Field(
        default=5.0,
        description="The depth's gradient at a pixel counts for at most so many times the mean of "
        "its image; 0 is no limit, as in the paper. Triangles seen edge-on have huge gradients.",
    )
    perceptual_weight: Weight = Field(default=0.5, description="Weight of the perceptual loss.")
    perceptual_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Share of an iteration's targets, drawn at random, that are compared by "
        "features, which take most of the time; 1 in the paper.",
    )
    depth_smoothness: Weight = Field(
        default=0.01, description="Weight on the second differences of the canonical depth."
    )
    shading_smoothness: Weight = Field(
        default=0.01, description="Weight on the second differences of the diffuse shading."
    )
    colour_symmetry: Weight = Field(
        default=0.0,
        description="Weight in step 3, where it is symmetric, on how unlike the two halves of an "
        "input are once they are unshaded; not in the paper (0).",
    )
    colour_evenness: Weight = Field(
        default=0.0,
        description="Weight in step 3 on how much brightness varies among points of one "
        "chromaticity once they are unshaded; not in the paper (0).",
    )
    view_weight: Weight = Field(
        default=0.0,
        description="Weight in step 3 on the error of the views of projected samples, whose turns "
        "are known; not in the paper (0).",
    )
    feature_blocks: Layers = Field(
        default=4, description="Blocks of the discriminator whose features are compared."
    )
    collapse_ratio: Share = Field(
        default=0.05,
        description="An image fails when its projected samples vary less than this share of its "
        "pseudo samples.",
    )

    @property
    def symmetric(self) -> bool:
        """Whether step 3 ever takes objects for symmetric; then their colours are, too."""
        return self.symmetry_step3 != "never"


class InversionConfig(Settings):
    """Optimising a latent in W for every image that comes without one."""

    iterations: Positive = Field(
        default=150, description="Iterations of the inversion of an image."
    )
    batch: Positive = Field(default=16, description="Images that are inverted together.")
    learning_rate: Factor = Field(
        default=0.3, description="Learning rate, in units of the spread of W."
    )
    perceptual_weight: Weight = Field(
        default=1.0,
        description="Weight of the perceptual distance, by the discriminator or by LPIPS.",
    )
    start_samples: Positive = Field(
        default=256,
        description="Random samples of the GAN; the search begins at the one most like the image.",
    )


class RunConfig(Settings):
    """All that decides a run's numbers, besides the images and the weights."""

    category: str = Field(default="custom", description="Category that the settings come from.")
    recipe: str = Field(default="custom", description="Recipe that the settings come from.")
    model: str | None = Field(default=None, description="Model that the settings come from.")
    camera: CameraConfig = CameraConfig()
    mask: Literal["given", "background", "none"] = Field(
        default="none",
        description="Object masks: given as files, found before a plain dark background, or none, "
        "which takes the whole image.",
    )
    background_threshold: Share = Field(
        default=0.06, description="Brightness below which a pixel counts as background."
    )
    view_prior: ViewPriorConfig = ViewPriorConfig()
    light_prior: LightPriorConfig = LightPriorConfig()
    ellipsoid: EllipsoidConfig = EllipsoidConfig()
    networks: NetworkConfig = NetworkConfig()
    latent: LatentConfig = LatentConfig()
    optimization: OptimizationConfig = OptimizationConfig()
    inversion: InversionConfig = InversionConfig()
    group_size: int = Field(
        default=4,
        ge=1,
        le=100_000,
        description="Images that share one set of networks; 1 gives every image its own.",
    )
    shard_size: int = Field(
        default=16, ge=1, le=100_000, description="Images of one task, a multiple of group_size."
    )
    precision: Precision = Field(
        default="auto",
        description="Arithmetic of the networks; auto takes bfloat16 where the hardware "
        "multiplies it natively.",
    )
    renderer: Renderer = Field(
        default="auto", description="Renderer; auto takes pytorch3d on GPUs where it is installed."
    )
    seed: Seed = Field(default=0, description="Seed of all randomness.")

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
        """Whether trained networks are to be taken as they are, without any fitting."""
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
