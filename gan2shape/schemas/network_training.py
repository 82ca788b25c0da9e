"""The settings of `gan2shape train supervised`, `unsup3d` and `finetune`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from gan2shape.schemas.base import (
    Betas,
    Images,
    Layers,
    LearningRate,
    Positive,
    Precision,
    Renderer,
    Seed,
    Settings,
    Share,
    ShiftSpread,
    Weight,
    first_problem,
)
from gan2shape.schemas.errors import ConfigError
from gan2shape.schemas.settings import (
    CameraConfig,
    EllipsoidShape,
    LightPriorConfig,
    NetworkConfig,
    RunConfig,
    ViewPriorConfig,
)


class _BaselineConfig(Settings):
    """What all of them have: networks, budget, Adam. The defaults are Unsup3d's."""

    camera: CameraConfig = CameraConfig()
    networks: NetworkConfig = NetworkConfig()
    images: Images = Field(
        default=500_000, description="Budget: training ends when so many images have been shown."
    )
    batch: Positive = Field(default=64, description="Images of one step.")
    learning_rate: LearningRate = Field(default=1e-4, description="Adam's learning rate.")
    decay: Share = Field(
        default=0.0,
        description="Share of the budget, at its end, over which the learning rate falls to zero.",
    )
    betas: Betas = Field(default=(0.9, 0.999), description="Adam's beta 1 and beta 2.")
    weight_decay: Weight = Field(default=5e-4, description="Adam's weight decay.")
    mirror: bool = Field(default=True, description="Mirror half of the images, at random.")
    precision: Precision = Field(
        default="auto",
        description="Arithmetic of the networks; auto takes bfloat16 where the hardware "
        "multiplies it natively.",
    )
    renderer: Renderer = Field(
        default="auto", description="Renderer; auto takes pytorch3d on GPUs where it is installed."
    )
    seed: Seed = Field(default=0, description="Seed of all randomness.")


class SupervisedConfig(_BaselineConfig):
    """The depth network, taught with true depth."""

    method: Literal["supervised"] = "supervised"
    depth_weight: Weight = Field(
        default=30.0, description="Weight of the mean absolute error of the depth, in scene units."
    )
    normal_weight: Weight = Field(
        default=1.0,
        description="Weight of the mean distance of unit normals, nearly their angle in radians.",
    )


class Unsup3dNetworkConfig(NetworkConfig):
    """Unsup3d's view moves the object along the optical axis too."""

    max_shift_z: ShiftSpread = Field(
        default=0.1,
        description="Largest shift along the optical axis that the view network can predict, in "
        "scene units.",
    )


class Unsup3dConfig(_BaselineConfig):
    """Unsup3d (Wu et al., CVPR 2020): shape from single images, by symmetry and shading."""

    method: Literal["unsup3d"] = "unsup3d"
    networks: Unsup3dNetworkConfig = Unsup3dNetworkConfig()
    symmetric: bool = Field(
        default=True, description="Reconstruct images from the mirrored depth and albedo too."
    )
    flip_weight: Weight = Field(
        default=0.5, description="Weight of the losses of the mirrored reconstruction."
    )
    perceptual_weight: Weight = Field(default=1.0, description="Weight of the perceptual loss.")
    warm_up: int = Field(
        default=8_000,
        ge=0,
        le=1_000_000_000,
        description="Images for which depth learns an ellipsoid and views learn nothing; 0 in the "
        "paper. Without it, depth before a black background first learns to tilt out of the light.",
    )
    ellipsoid: EllipsoidShape = EllipsoidShape()
    relief_weight: Weight = Field(
        default=100.0,
        description="Weight on the squared error of a batch's mean relief, as a share of the "
        "ellipsoid's; 0 in the paper.",
    )
    background_threshold: Share = Field(
        default=0.06, description="Brightness below which a pixel counts as background."
    )
    depth_rate: float = Field(
        default=0.25,
        gt=0,
        le=100,
        description="Learning rate of the depth after the warm-up, as a share of the others'; 1 in "
        "the paper. Views keep up with a slow depth.",
    )


class FinetuneConfig(_BaselineConfig):
    """Trained networks, taught by single images; see `OptimizationConfig` for the losses."""

    method: Literal["finetune"] = "finetune"
    images: Images = Field(
        default=48_000, description="Budget: training ends when so many images have been shown."
    )
    batch: Positive = Field(default=16, description="Images of one step.")
    learning_rate: LearningRate = Field(default=3e-4, description="Adam's learning rate.")
    decay: Share = Field(
        default=0.8,
        description="Share of the budget, at its end, over which the learning rate falls to zero.",
    )
    mask: Literal["background", "none"] = Field(
        default="none",
        description="Compare objects found before a plain background, or whole images.",
    )
    background_threshold: Share = 0.06
    view_prior: ViewPriorConfig = ViewPriorConfig()
    light_prior: LightPriorConfig = LightPriorConfig()
    symmetric: bool = True
    perceptual_weight: Weight = 0.5
    perceptual_share: float = Field(default=1.0, gt=0, le=1)
    gradient_limit: Weight = 5.0
    feature_blocks: Layers = 4
    depth_smoothness: Weight = 0.01
    shading_smoothness: Weight = 0.01
    colour_symmetry: Weight = 0.0
    colour_evenness: Weight = 0.0


AnyBaseline = SupervisedConfig | Unsup3dConfig | FinetuneConfig
BaselineConfig = Annotated[AnyBaseline, Field(discriminator="method")]
_CONFIGS: dict[str, type[AnyBaseline]] = {
    "supervised": SupervisedConfig,
    "unsup3d": Unsup3dConfig,
    "finetune": FinetuneConfig,
}
_ADAPTER: TypeAdapter[AnyBaseline] = TypeAdapter(BaselineConfig)

CHANGEABLE = ("images", "batch", "learning_rate", "decay", "precision", "renderer")
"""Settings that may change when a training goes on."""


def finetune_settings(config: RunConfig) -> dict[str, Any]:
    """What finetuning takes from a run's settings. Raises `ConfigError` for masks in files."""
    if config.mask == "given":
        raise ConfigError(
            "Finetuning takes no mask files; give '--set mask=background' or '--set mask=none'."
        )
    return {"mask": config.mask} | single_image_settings(config)


def single_image_settings(config: RunConfig) -> dict[str, Any]:
    """What finetuning takes from a run's settings besides masks."""
    run = ("background_threshold", "view_prior", "light_prior", "renderer", "seed")
    losses = (
        *("perceptual_weight", "perceptual_share", "feature_blocks", "gradient_limit"),
        *("depth_smoothness", "shading_smoothness"),
        *("colour_symmetry", "colour_evenness"),
    )
    return {
        **{name: getattr(config, name) for name in run},
        **{name: getattr(config.optimization, name) for name in losses},
        "method": "finetune",
        "symmetric": config.optimization.symmetric,
    }


def baseline_config(values: dict[str, Any]) -> AnyBaseline:
    """Check settings; raises `ConfigError` with one sentence that names the setting."""
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        model = _CONFIGS.get(values.get("method", ""), FinetuneConfig)
        raise ConfigError(f"Training: {first_problem(error, model, below=1)}.") from error
