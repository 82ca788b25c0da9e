"""Joint training: one set of networks for a few hundred images of a category (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gan2shape.pipeline.method.group import Group, Targets, new_group
from gan2shape.pipeline.method.schedule import OnProgress, StepReport, run_schedule
from gan2shape.pipeline.networks.trained import TrainedNetworks, parameters_of
from gan2shape.pipeline.perceptual.losses import PerceptualLoss
from gan2shape.pipeline.process_group import SINGLE_PROCESS, ProcessGroup
from gan2shape.pipeline.reconstruct import iterations_total, make_schedule, variant_of
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
    """Train networks on all targets together.

    Args:
        targets: the images of this process, their masks and latents.
        gan: frozen generator and discriminator of the images' category.
        config: the settings.
        lpips: perceptual loss for steps 1 and 3 in place of the discriminator's features.
        initial: networks to go on from, in place of the ellipsoid and random ones.
        process_group: the processes that train the same networks, each on images of its own.
        state: what `on_checkpoint` got last, to go on from there.
        on_progress: called with (step's name, iterations done, iterations in all).
        on_step: called after every step with how it went and the group as it stands.
        on_checkpoint: called after every step with a state that `torch.save` takes.
    Raises:
        UserError: the images, latents, settings, networks and GAN do not fit each other, or no
            image is left to train on.
    """
    variant = variant_of(config)
    group = new_group(targets, gan, config, lpips, initial, process_group, variant)
    teachers = () if initial is None else initial.teachers
    run_schedule(
        group,
        make_schedule(config, initial),
        iterations_total(config, len(targets.ids), initial is not None, len(teachers)),
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
