"""Views learnt from the turns of projected samples (settings `view_iterations`, `view_weight`).

How far samples are turned from their input is known. That fixes the scale of rotations, which
relief would otherwise trade against, and costs no rendering.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gan2shape.pipeline.method.group import Group
from gan2shape.pipeline.method.losses import Fit
from gan2shape.pipeline.method.optimizer import adam, countdown, update
from gan2shape.pipeline.method.steps import OnIteration, draw_samples, with_samples
from gan2shape.pipeline.precision import autocast
from gan2shape.schemas.settings import ViewPriorConfig

MEAN_VIEW_ERRORS = 2.0
"""Standard errors of the prior's mean that the mean view of some inputs may be away from it."""


def fit_views(group: Group, on_iteration: OnIteration, *, iterations: int) -> None:
    """Between steps 2 and 3: teach the view network the turns of projected samples."""
    optimizer = adam(group, view=group.networks.view_net)
    for _ in countdown(group, optimizer, iterations):
        index, picks = draw_samples(group)
        targets = with_samples(group, index, picks)
        with autocast(group.device, group.config.precision):
            view = group.networks.view(targets)
        views = view.unflatten(0, (len(index), -1))
        turns = group.projected.turns[index[:, None], picks]
        loss = view_error(views, turns, group.config.view_prior)
        on_iteration(update(group, optimizer, index, loss))


def view_term(fit: Fit) -> Tensor:
    """The term of step 3's loss: `view_error` (B,)."""
    return view_error(fit.views, fit.turns, fit.group.config.view_prior)


def view_error(views: Tensor, turns: Tensor, prior: ViewPriorConfig) -> Tensor:
    """Error (B,) of views (B, 1 + P, 6) of every input and of its P projected samples.

    The turns from inputs to samples are known, (B, P, 6), up to what was wrong about the input's
    view at the time. Which way an input looks is for symmetry to find out. All inputs together must
    not look elsewhere than the prior says: nothing else keeps their mean pitch from drifting. Both
    are measured in standard deviations of the prior.
    """
    mean, std = (torch.tensor(x, device=views.device) for x in (prior.mean, prior.std))
    moves = std > 0
    mean, std = mean[moves], std[moves]
    views = views[..., moves]
    found = views[:, 1:] - views[:, :1]
    error = ((found - turns[..., moves]) / std).abs().mean((1, 2))
    drift = ((views[:, 0].mean(0) - mean) / std).abs() - MEAN_VIEW_ERRORS / len(turns) ** 0.5
    return error + drift.relu().mean()
