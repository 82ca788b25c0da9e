"""Joint training: one set of networks for a few hundred images of a category (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gan2shape.pipeline.method.group import Group, Targets, new_group
from gan2shape.pipeline.method.schedule import (
    OnProgress,
    StepReport,
    iterations_total,
    make_schedule,
    run_schedule,
)
from gan2shape.pipeline.networks.trained import TrainedNetworks, parameters_of
from gan2shape.pipeline.perceptual.losses import PerceptualLoss
from gan2shape.pipeline.process_group import SINGLE_PROCESS, ProcessGroup
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import RunConfig


def pretrain(
    targets: Targets,
    gan: Gan,
    config: RunConfig,
    *,
    lpips: PerceptualLoss | None = None,
    initial: TrainedNetworks | None = None,
    process_group: ProcessGroup = SINGLE_PROCESS,
    state: dict[str, Any] | None = None,
    on_progress: OnProgress | None = None,
    on_step: Callable[[StepReport, Group], None] | None = None,
    on_checkpoint: Callable[[dict[str, Any]], None] | None = None,
) -> TrainedNetworks:
    """Train networks on all targets together; each process has targets of its own.

    The arguments are those of `reconstruct`; `initial` are networks to go on from. `on_step` is
    called after every step with how it went and the group as it stands.

    Raises:
        UserError: the images, latents, settings, networks and GAN do not fit each other, or no
            image is left to train on.
    """
    group = new_group(targets, gan, config, lpips, initial, process_group)
    started = initial is not None
    run_schedule(
        group,
        make_schedule(config, started),
        iterations_total(config, len(targets.ids), started, len(group.teachers)),
        state=state,
        on_progress=on_progress,
        on_step=None if on_step is None else lambda report: on_step(report, group),
        on_checkpoint=on_checkpoint,
    )
    if process_group.worst(int(not group.alive), group.device):
        reason = next((reason for reason in group.failures if reason), "of another process")
        raise UserError(f"All images of a process failed, the first because {reason}.")
    return trained(group)


def trained(group: Group) -> TrainedNetworks:
    """The group's networks as they stand."""
    return TrainedNetworks(
        parameters=parameters_of(group.networks, group.encoder),
        networks=group.config.networks,
        camera=group.config.camera,
        style_dim=group.gan.generator.style_dim,
        gan_sha256=group.gan.sha256,
        latent=group.config.latent,
    )
