"""What `gan2shape baseline` and `gan2shape finetune` are told to do."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from gan2shape.schemas.settings import (
    CameraConfig,
    ConfigError,
    EllipsoidShape,
    LightPriorConfig,
    NetworkConfig,
    RunConfig,
    Settings,
    ViewPriorConfig,
    first_problem,
)

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class _BaselineConfig(Settings):
    """What all of them have: networks, budget, Adam. The defaults are Unsup3d's."""

    camera: CameraConfig = CameraConfig()
    networks: NetworkConfig = NetworkConfig()
    images: Positive = 1_000_000
    """Budget: training ends when so many have been shown."""
    batch: Positive = 64
    learning_rate: float = Field(default=1e-4, gt=0)
    decay: Share = 0.0
    """Share of the budget, at its end, over which the learning rate falls to zero."""
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: Weight = 5e-4
    mirror: bool = True
    """Mirror half of the images, at random."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    renderer: Literal["auto", "numba", "pytorch3d"] = "auto"
    seed: int = 0


class SupervisedConfig(_BaselineConfig):
    """The depth network, taught with true depth."""

    method: Literal["supervised"] = "supervised"
    depth_weight: Weight = 30.0
    """On the mean absolute error of the depth, in scene units; the object is about 0.1 deep."""
    normal_weight: Weight = 1.0
    """On the mean distance of unit normals, which is nearly their angle in radians."""


class Unsup3dNetworkConfig(NetworkConfig):
    """Unsup3d's view moves the object along the optical axis too."""

    max_shift_z: float = Field(default=0.1, ge=0)


class Unsup3dConfig(_BaselineConfig):
    """Unsup3d (Wu et al., CVPR 2020): shape from single images, by symmetry and shading."""

    method: Literal["unsup3d"] = "unsup3d"
    networks: Unsup3dNetworkConfig = Unsup3dNetworkConfig()
    symmetric: bool = True
    """Reconstruct from the mirrored depth and albedo too."""
    flip_weight: Weight = 0.5
    """On the losses of that reconstruction."""
    perceptual_weight: Weight = 1.0
    warm_up: Annotated[int, Field(ge=0)] = 8_000
    """Images for which the depth learns the ellipsoid, and the view nothing; 0 in the paper. With
    black backgrounds the depth would otherwise learn first to tilt out of the light, and is slow to
    come back."""
    ellipsoid: EllipsoidShape = EllipsoidShape()
    """Over the objects before a plain background, or whole images where there is none."""
    relief_weight: Weight = 100.0
    """On the squared error of the mean relief of a batch, as a share of the ellipsoid's; 0 in the
    paper."""
    background_threshold: Share = 0.06
    depth_rate: float = Field(default=0.25, gt=0)
    """Of the depth after the warm-up, over the others' learning rate, for views to keep up with it;
    1 in the paper."""


class FinetuneConfig(_BaselineConfig):
    """Pretrained networks, taught by single images; see `OptimizationConfig` for the losses."""

    method: Literal["finetune"] = "finetune"
    images: Positive = 48_000
    batch: Positive = 16
    learning_rate: float = Field(default=3e-4, gt=0)
    decay: Share = 0.8
    mask: Literal["background", "none"] = "none"
    """Only objects are compared, found before a plain background; or whole images."""
    background_threshold: float = Field(default=0.06, ge=0, le=1)
    view_prior: ViewPriorConfig = ViewPriorConfig()
    light_prior: LightPriorConfig = LightPriorConfig()
    symmetric: bool = True
    perceptual_weight: Weight = 0.5
    perceptual_share: float = Field(default=1.0, gt=0, le=1)
    feature_blocks: Positive = 4
    depth_smoothness: Weight = 0.01
    shading_smoothness: Weight = 0.01
    colour_symmetry: Weight = 0.0
    colour_evenness: Weight = 0.0


AnyBaseline = SupervisedConfig | Unsup3dConfig | FinetuneConfig
BaselineConfig = Annotated[AnyBaseline, Field(discriminator="method")]
_ADAPTER: TypeAdapter[AnyBaseline] = TypeAdapter(BaselineConfig)

CHANGEABLE = ("images", "batch", "learning_rate", "decay", "precision", "renderer")
"""Settings that may change when a training goes on."""


def finetune_settings(config: RunConfig) -> dict[str, Any]:
    """What finetuning takes from the settings of runs. Raises `ConfigError` for masks in files."""
    if config.mask == "given":
        raise ConfigError(
            "Finetuning takes no mask files; give a preset with mask background or none, or "
            "'--set mask=none'."
        )
    return {"mask": config.mask} | single_image_settings(config)


def single_image_settings(config: RunConfig) -> dict[str, Any]:
    """The same without masks, for when they are known."""
    run = ("background_threshold", "view_prior", "light_prior", "renderer", "seed")
    losses = (
        *("perceptual_weight", "perceptual_share", "feature_blocks"),
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
        raise ConfigError(f"Baseline: {first_problem(error, below=1)}.") from error
