"""A group of images from start to shapes: the method, plus the extensions that are switched on.

Every extension has a setting that switches it on. This module hands those that are on to the
method: as functions of its `Variant`, as terms of step 3's loss, as weights of pixels, and as steps
between its steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gan2shape.pipeline.extensions.background_weight import sample_masks
from gan2shape.pipeline.extensions.colour_constancy import colour_term
from gan2shape.pipeline.extensions.gradient_limit import with_limited_gradient
from gan2shape.pipeline.extensions.input_colours import pseudo_shapes
from gan2shape.pipeline.extensions.learning_rate_decay import falling_rate
from gan2shape.pipeline.extensions.perceptual_share import distances_of_share
from gan2shape.pipeline.extensions.random_flip import random_side
from gan2shape.pipeline.extensions.single_image import fit_single_images, single_image_iterations
from gan2shape.pipeline.extensions.turn_calibration import calibrate_turns
from gan2shape.pipeline.extensions.view_iterations import fit_views, view_term
from gan2shape.pipeline.method import steps
from gan2shape.pipeline.method.estimate import Estimate, render
from gan2shape.pipeline.method.group import Group, Targets, new_group
from gan2shape.pipeline.method.losses import Terms
from gan2shape.pipeline.method.schedule import OnProgress, Step, run_schedule, symmetric_in
from gan2shape.pipeline.method.variant import PAPER, Variant
from gan2shape.pipeline.networks.trained import TrainedNetworks
from gan2shape.pipeline.perceptual.losses import PerceptualLoss, masked_l1
from gan2shape.pipeline.precision import autocast
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.schemas.settings import Cycle, OptimizationConfig, RunConfig

__all__ = [
    "Shapes",
    "Targets",
    "iterations_total",
    "make_schedule",
    "reconstruct",
    "shape_terms",
    "shapes_of",
    "variant_of",
]


@dataclass(frozen=True)
class Shapes:
    """What was found for N images; NaN where an image failed.

    depth: (N, S, S) canonical depth in scene units.
    albedo: (N, 3, S, S) canonical albedo in [-1, 1].
    normal: (N, S, S, 3) unit normals of the canonical depth.
    mask: (N, S, S) 1 where the shape covers the object in the input's view.
    view: (N, 6) rotations in radians, translations in scene units.
    light: (N, 4) ambient, diffuse, direction x and y, in [-1, 1].
    latent: (N, D) the latents that came in, NaN where none did.
    reconstruction: (N, 3, S, S) the input as rendered from the above.
    failures: N reasons, None where all went well.
    losses: name to (N,) values of the final reconstruction.
    seconds: name of a step to wall time for the whole group.
    """

    depth: Tensor
    albedo: Tensor
    normal: Tensor
    mask: Tensor
    view: Tensor
    light: Tensor
    latent: Tensor
    reconstruction: Tensor
    failures: list[str | None]
    losses: dict[str, Tensor]
    seconds: dict[str, float]


def reconstruct(
    targets: Targets,
    gan: Gan,
    config: RunConfig,
    *,
    lpips: PerceptualLoss | None = None,
    pretrained: TrainedNetworks | None = None,
    state: dict[str, Any] | None = None,
    on_progress: OnProgress | None = None,
    on_checkpoint: Callable[[dict[str, Any]], None] | None = None,
) -> Shapes:
    """Find the shapes of a group of images that share their networks.

    Args:
        targets: the images, their masks and latents.
        gan: frozen generator and discriminator of the images' category.
        config: the run's settings.
        lpips: perceptual loss for steps 1 and 3 in place of the discriminator's features.
        pretrained: networks to start from, in place of the ellipsoid and random ones. Without
            cycles in the settings the shapes are what these networks make of the images.
        state: what `on_checkpoint` got last, to go on from there.
        on_progress: called with (step's name, iterations done, iterations in all).
        on_checkpoint: called after every step with a state that `torch.save` takes.
    Raises:
        UserError: the images, latents, settings, networks and GAN do not fit each other.
    """
    teachers = () if pretrained is None else pretrained.teachers
    group = new_group(targets, gan, config, lpips, pretrained, variant=variant_of(config))
    clock = run_schedule(
        group,
        make_schedule(config, pretrained),
        iterations_total(config, len(targets.ids), pretrained is not None, len(teachers)),
        state=state,
        on_progress=on_progress,
        on_checkpoint=on_checkpoint,
    )
    return shapes_of(group, clock)


def iterations_total(
    config: RunConfig, images: int, pretrained: bool = False, teachers: int = 0
) -> int:
    """Iterations of all steps together on a group of `images`, for progress bars.

    Args:
        pretrained: whether the group starts from pretrained networks.
        teachers: how many teachers these have had.
    """
    cycles = sum(
        c.step1
        + c.step2
        + c.view_iterations
        + c.step3
        + single_image_iterations(c.single_image_passes, images, config, teachers)
        for c in config.optimization.cycles
    )
    return cycles + (0 if pretrained else config.ellipsoid.iterations)


def variant_of(config: RunConfig) -> Variant:
    """The functions of the method whose place an extension takes by these settings."""
    options, variant = config.optimization, PAPER
    if options.symmetry_sides == "random":
        variant = replace(variant, sides=random_side)
    if options.perceptual_share < 1:
        share = partial(distances_of_share, share=options.perceptual_share)
        variant = replace(variant, distances=share)
    if options.decay:
        variant = replace(variant, learning_rate=partial(falling_rate, decay=options.decay))
    if options.gradient_limit:
        limit = partial(with_limited_gradient, limit=options.gradient_limit)
        variant = replace(variant, depth=limit)
    if options.pseudo_albedo == "input":
        variant = replace(variant, pseudo_shapes=pseudo_shapes)
    return variant


def shape_terms(options: OptimizationConfig, symmetric: bool) -> Terms:
    """What is added to the loss of step 3, in a cycle that takes objects for symmetric or not."""
    terms = []
    if options.view_weight:
        terms.append((options.view_weight, view_term))
    symmetry = options.colour_symmetry if symmetric else 0.0
    if symmetry or options.colour_evenness:
        colours = partial(colour_term, symmetry=symmetry, evenness=options.colour_evenness)
        terms.append((1.0, colours))
    return terms


def make_schedule(config: RunConfig, pretrained: TrainedNetworks | None = None) -> list[Step]:
    """All steps of a run in order; pretrained networks have no need of the ellipsoid."""
    start = [Step("ellipsoid", "prior", steps.fit_ellipsoid)] if pretrained is None else []
    cycles = [
        _projecting_steps(config, number) + _single_image_steps(config, number, pretrained)
        for number in range(len(config.optimization.cycles))
    ]
    ended = [[*cycle[:-1], replace(cycle[-1], ends_cycle=True)] for cycle in cycles if cycle]
    return start + [step for cycle in ended for step in cycle]


def _projecting_steps(config: RunConfig, number: int) -> list[Step]:
    """The method's steps 1 to 3 in a cycle, and those between them."""
    options = config.optimization
    cycle, label = options.cycles[number], _label(config, number)
    if not cycle.projects:
        return []
    symmetric = symmetric_in(options.symmetry_step1, number)
    albedo = partial(steps.fit_albedo, iterations=cycle.step1, symmetric=symmetric)
    views = partial(fit_views, iterations=cycle.view_iterations)
    symmetric = symmetric_in(options.symmetry_step3, number)
    return [
        Step(f"{label}, albedo", "step1", albedo),
        Step(f"{label}, projection", "step2", partial(_project, cycle=cycle)),
        *([Step(f"{label}, views", "views", views)] if cycle.view_iterations else []),
        Step(f"{label}, shape", "step3", partial(_shape, cycle=cycle, symmetric=symmetric)),
    ]


def _single_image_steps(
    config: RunConfig, number: int, pretrained: TrainedNetworks | None
) -> list[Step]:
    cycle = config.optimization.cycles[number]
    if not cycle.single_image_passes:
        return []
    passes = partial(
        fit_single_images,
        passes=cycle.single_image_passes,
        relief=cycle.relief_factor,
        teachers=() if pretrained is None else pretrained.teachers,
    )
    return [Step(f"{_label(config, number)}, inputs alone", "inputs", passes)]


def _project(group: Group, on_iteration: steps.OnIteration, *, cycle: Cycle) -> None:
    """Step 2, and what the samples' pixels weigh and their turns are."""
    config, weights = group.config, None
    if cycle.background_weight < 1 and config.mask == "background":
        weights = partial(
            sample_masks,
            threshold=config.background_threshold,
            background=cycle.background_weight,
        )
    steps.fit_encoder(group, on_iteration, iterations=cycle.step2)
    steps.collect_samples(group, weights)
    if config.optimization.turn_calibration_iterations:
        calibrate_turns(group, config.optimization.turn_calibration_iterations)


def _shape(group: Group, on_iteration: steps.OnIteration, *, cycle: Cycle, symmetric: bool) -> None:
    """Step 3 with the terms that are switched on."""
    steps.fit_shape(
        group,
        on_iteration,
        iterations=cycle.step3,
        symmetric=symmetric,
        terms=shape_terms(group.config.optimization, symmetric),
        input_masks=group.input_masks(outside=cycle.background_weight),
    )
    group.samples = None  # the next cycle makes its own


def _label(config: RunConfig, number: int) -> str:
    return f"cycle {number + 1}/{len(config.optimization.cycles)}"


@torch.no_grad()
def shapes_of(group: Group, clock: dict[str, float]) -> Shapes:
    """Read the shapes off the group's networks and render every input once more."""
    targets, estimate = group.targets, Estimate(group)
    shapes, view, light = estimate.shapes, estimate.view, estimate.light
    seen = [render(group, shapes[part], view[part], light[part]) for part in estimate.parts]
    image = torch.cat([part.image for part in seen])
    covered = torch.cat([part.mask for part in seen])
    masks = group.input_masks() * covered
    with autocast(group.device, group.config.precision):
        distances = [
            group.perceptual(image[part], targets.images[part], masks[part])
            for part in estimate.parts
        ]
    perceptual = torch.cat(distances).float()
    latents = targets.latents
    if latents is None:
        size = (len(view), group.gan.generator.style_dim)
        latents = torch.full(size, float("nan"), device=group.device)
    found = Shapes(
        depth=shapes.depth,
        albedo=shapes.albedo,
        normal=shapes.normals,
        mask=covered * targets.masks,
        view=view,
        light=light,
        latent=latents.clone(),
        reconstruction=image.clamp(-1, 1),
        failures=list(group.failures),
        losses={
            "photometric": masked_l1(image, targets.images, masks),
            "perceptual": perceptual,
        },
        seconds=clock,
    )
    for index, reason in enumerate(found.failures):
        if reason is not None:
            for value in (*vars(found).values(), *found.losses.values()):
                if isinstance(value, Tensor):
                    value[index] = float("nan")
    return found
