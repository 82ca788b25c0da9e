"""The Gaussians of view and light that a set of images was taken under, from the images alone.

Networks are trained on all images together, cycle by cycle, beginning with pseudo samples under
broad priors. After each cycle, here called a round, Gaussians are fitted to what the networks see
in the images. They are the priors of the next round, until they no longer change.

Networks that are still learning see less than there is, and a narrow prior would keep them so: the
fits are corrected by how the networks respond to turns and lights that are known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gan2shape.pipeline.extensions.turn_calibration import Response
from gan2shape.pipeline.method.estimate import Estimate
from gan2shape.pipeline.method.group import Group, Targets, new_group
from gan2shape.pipeline.method.sampling import light_spread
from gan2shape.pipeline.method.schedule import OnProgress, Step, run_schedule
from gan2shape.pipeline.method.steps import OnIteration
from gan2shape.pipeline.reconstruct import iterations_total, make_schedule, variant_of
from gan2shape.pipeline.scene.camera import YAW
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.pipeline.training.responses import rendered_samples, responses
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import LightPriorConfig, RunConfig, ViewPriorConfig

VIEW_FLOOR = (0.01, 0.01, 0.01, 0.001, 0.001, 0.001)
LIGHT_FLOOR = (0.02, 0.02, 0.05, 0.05)
"""Least standard deviations, in the units of the settings: no prior collapses."""
SLOWEST_FALL = 0.5
"""Least ratio of a standard deviation to that of the round before: the first rounds' networks see
less in the images than there is."""
OUTLIER = 3.0
"""Robust standard deviations from the median beyond which a prediction is pulled in."""
LEAST_IMAGES = 8
"""Images that must be left for a fit, unless fewer were given."""
LEAST_GAIN = 1 / 3
"""Networks that respond to changes less than this are not trusted to tell the spread."""
FRAME = [0, 4, 5]
"""Pitch and the shifts down and away: symmetry does not tell how the canonical shape stands, and
from round to round their means would drift with it."""
LEAST_ROUNDS = 3
"""Rounds after which the fits may count as stable: the networks of the first have hardly begun."""
TOLERANCE, YAW_TOLERANCE = 0.25, 0.1
"""Change of means and standard deviations, in standard deviations, that counts as none."""


@dataclass(frozen=True)
class Gaussians:
    """Means and standard deviations of views (6 each) and lights (4 each), as in the settings."""

    view_mean: tuple[float, ...]
    view_std: tuple[float, ...]
    light_mean: tuple[float, ...]
    light_std: tuple[float, ...]


@dataclass(frozen=True)
class Priors:
    """What `estimate_priors` found.

    rounds: the Gaussians after each round; the last are the result.
    stable: whether the last round left them as they were.
    ids: the M images that took part to the end.
    view: (M, 6) what the networks see in them: rotations in radians, shifts in scene units.
    light: (M, 4) ambient, diffuse, direction x and y, in [-1, 1].
    """

    rounds: list[Gaussians]
    stable: bool
    ids: list[str]
    view: Tensor
    light: Tensor


def estimate_priors(
    targets: Targets,
    gan: Gan,
    config: RunConfig,
    rounds: int,
    *,
    state: dict[str, Any] | None = None,
    on_progress: OnProgress | None = None,
    on_round: Callable[[Sequence[Gaussians]], None] | None = None,
    on_checkpoint: Callable[[dict[str, Any]], None] | None = None,
) -> Priors:
    """Train on the targets until the Gaussians fitted to views and lights are stable.

    Args:
        config: its priors are those of the first round; its cycles are the rounds, the last of
            them being repeated.
        rounds: at most so many.
        state: what `on_checkpoint` got last, to go on from there.
        on_progress: called with (step's name, iterations done, iterations of all rounds).
        on_round: called after each round with the Gaussians of all rounds so far.
        on_checkpoint: called after every step with a state that `torch.save` takes.
    Raises:
        UserError: the images, latents, settings and GAN do not fit each other, or too few images
            are left for a fit.
    """
    config = _with_cycles(config, rounds)
    group = new_group(targets, gan, config, variant=variant_of(config))
    schedule = [_on_renderings(step) for step in make_schedule(config)]
    fits = [Gaussians(**fit) for fit in state["fits"]] if state else []

    def checkpoint(schedule_state: dict[str, Any]) -> None:
        nonlocal state
        state = schedule_state | {"fits": [asdict(fit) for fit in fits]}
        if on_checkpoint is not None:
            on_checkpoint(state)

    ends = [number for number, step in enumerate(schedule, 1) if step.ends_cycle]
    for end in ends[len(fits) :]:
        if fits:
            group.config = with_priors(config, fits[-1])
        run_schedule(
            group,
            schedule[:end],
            iterations_total(config, len(targets.ids)),
            state=state,
            on_progress=on_progress,
            on_checkpoint=checkpoint,
        )
        active = group.active()
        if len(active) < min(LEAST_IMAGES, len(targets.ids)):
            reason = next(reason for reason in group.failures if reason)
            raise UserError(
                f"{len(targets.ids) - len(active)} of {len(targets.ids)} images failed, the first "
                f"because {reason}."
            )
        estimate = Estimate(group)
        view, light = estimate.view[active], estimate.light[active]
        fits.append(fit_priors(view, light, group.config, *responses(group)))
        if on_round is not None:
            on_round(fits)
        if is_stable(fits):
            break
    ids = [targets.ids[index] for index in active.tolist()]
    return Priors(fits, is_stable(fits), ids, view, light)


def fit_priors(
    view: Tensor,
    light: Tensor,
    config: RunConfig,
    view_response: Response,
    light_response: Response,
) -> Gaussians:
    """Gaussians of views (M, 6) and lights (M, 4) that follow upon the priors of `config`.

    Standard deviations are those of the predictions without their noise, over their gain. Those of
    ambient and diffuse light are taken as seen: how they trade against albedo, renderings do not
    tell. The means of `FRAME` stay as they are: the canonical shape's pose is free in them.
    Components that the networks cannot move (their limit in `config.networks` is 0) stay at 0.
    """
    view_mean, view_std = robust_gaussian(apart_from_yaw(view))
    light_mean, light_std = robust_gaussian(light)
    view_std = corrected(view_std, view_response)
    direction = corrected(light_std, light_response)[2:]
    prior = config.view_prior
    mean, std = (torch.tensor(values, device=view.device) for values in (prior.mean, prior.std))
    view_mean[FRAME] = mean[FRAME]
    view_std = _held(view_std, std, VIEW_FLOOR)
    light_std = _held(
        torch.cat([light_std[:2], direction]), light_spread(config.light_prior), LIGHT_FLOOR
    )
    shift, shift_z = config.networks.max_shift, config.networks.max_shift_z
    moves = torch.tensor([True] * 3 + [shift > 0] * 2 + [shift_z > 0], device=view.device)
    return Gaussians(
        tuple((view_mean * moves).tolist()),
        tuple((view_std * moves).tolist()),
        tuple(light_mean.tolist()),
        tuple(light_std.tolist()),
    )


def apart_from_yaw(view: Tensor) -> Tensor:
    """Views (M, 6) without what follows the yaw in proportion in their other components.

    The components of a prior are independent, and above all a canonical shape that leans forward or
    back more than the true one makes turns look like roll.
    """
    centred = view - view.mean(0)
    yaw = centred[:, YAW]
    slope = (yaw @ centred) / yaw.square().sum().clamp_min(torch.finfo(yaw.dtype).tiny)
    slope[YAW] = 0.0
    return view - yaw[:, None] * slope


def robust_gaussian(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) each of values (M, D), with outliers pulled in.

    Values beyond `OUTLIER` robust standard deviations from the median count as if they were there.
    """
    median = values.median(0).values
    reach = OUTLIER * 1.4826 * (values - median).abs().median(0).values
    held = values.clamp(median - reach, median + reach)
    return held.mean(0), held.std(0, correction=0)


def corrected(std: Tensor, known: Response) -> Tensor:
    """Standard deviations (D,) of what was predicted with these, given how predictions respond."""
    signal = (std.square() - known.noise.square()).clamp_min(0).sqrt()
    return signal / known.gain.clamp_min(LEAST_GAIN)


def is_stable(fits: Sequence[Gaussians]) -> bool:
    """Whether the last round left means and standard deviations as they were.

    That is, to within `TOLERANCE` times the standard deviation, and `YAW_TOLERANCE` for the yaw.
    The first round does not count: its networks have hardly begun.
    """
    if len(fits) < LEAST_ROUNDS:
        return False
    before, after = fits[-2:]
    changes = [
        max(abs(mean - last_mean), abs(std - last_std)) / std if std else 0.0
        for last_mean, last_std, mean, std in (
            *zip(before.view_mean, before.view_std, after.view_mean, after.view_std, strict=True),
            *zip(
                before.light_mean, before.light_std, after.light_mean, after.light_std, strict=True
            ),
        )
    ]
    return max(changes) <= TOLERANCE and changes[YAW] <= YAW_TOLERANCE


def with_priors(config: RunConfig, fit: Gaussians) -> RunConfig:
    """The settings with these priors in place of theirs."""
    view = config.view_prior.model_dump() | {"mean": fit.view_mean, "std": fit.view_std}
    light = config.light_prior.model_dump() | {"mean": fit.light_mean, "std": fit.light_std}
    return config.model_copy(
        update={
            "view_prior": ViewPriorConfig.model_validate(view),
            "light_prior": LightPriorConfig.model_validate(light),
        }
    )


def _with_cycles(config: RunConfig, rounds: int) -> RunConfig:
    """The settings with as many cycles as rounds."""
    given = config.optimization.cycles
    cycles = (given + given[-1:] * rounds)[:rounds]
    options = config.optimization.model_copy(update={"cycles": cycles})
    return config.model_copy(update={"optimization": options})


def _on_renderings(step: Step) -> Step:
    """The step, but if it teaches views, then from renderings.

    After a few iterations the GAN follows turns too little for its images to teach them.
    """
    if step.key != "views":
        return step

    def run(group: Group, on_iteration: OnIteration) -> None:
        projected, group.samples = group.samples, rendered_samples(group)
        try:
            step.run(group, on_iteration)
        finally:
            group.samples = projected

    return replace(step, run=run)


def _held(std: Tensor, before: Tensor, floor: tuple[float, ...]) -> Tensor:
    """Standard deviations that neither fall too fast nor too far."""
    return torch.maximum(torch.maximum(std, SLOWEST_FALL * before.to(std)), std.new_tensor(floor))
