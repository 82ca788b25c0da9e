"""The optimisation on the shipped GAN's own images: small, but with all its real parts."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.extensions.background_weight import sample_masks
from gan2shape.pipeline.extensions.view_iterations import fit_views
from gan2shape.pipeline.method.estimate import Estimate, render
from gan2shape.pipeline.method.group import ProjectedSamples, new_group
from gan2shape.pipeline.method.losses import Fit, reconstruction_loss
from gan2shape.pipeline.method.steps import collect_samples, fit_albedo, fit_shape
from gan2shape.pipeline.method.variant import PAPER, Variant, both_sides
from gan2shape.pipeline.networks.trained import parameters_of
from gan2shape.pipeline.perceptual.losses import masked_l1
from gan2shape.pipeline.reconstruct import (
    Shapes,
    Targets,
    iterations_total,
    make_schedule,
    reconstruct,
    shape_terms,
    variant_of,
)
from gan2shape.pipeline.stylegan2 import Discriminator, Gan, Generator
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import RunConfig
from tests.networks import tiny_networks

SETTINGS: dict[str, Any] = {
    "networks": {"width": 8},
    "ellipsoid": {"iterations": 2},
    "optimization": {
        "cycles": [{"step1": 2, "step2": 2, "step3": 2}, {"step1": 1, "step2": 1, "step3": 1}],
        "batch": 4,
        "images_per_batch": 2,
        "projected_samples": 4,
        "feature_blocks": 2,
        "learning_rates": {"depth": 1e-3, "albedo": 1e-3, "view": 1e-3, "encoder": 1e-3},
        # A few iterations do not teach the encoder to follow a view; collapse has its own test.
        "collapse_ratio": 0.0,
    },
}


@pytest.fixture(scope="module")
def gan() -> Gan:
    return load_gan("heads64")


@pytest.fixture(scope="module")
def targets(gan: Gan) -> Targets:
    noise = torch.randn(2, gan.generator.style_dim, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        latents = gan.generator.mapping(noise)
        images = gan.generator(latents).float().clamp(-1, 1).contiguous()
    masks = (images.mean(1) > -0.9).float()
    return Targets(["a", "b"], images, masks, latents)


@pytest.fixture(scope="module")
def plain(gan: Gan, targets: Targets) -> Shapes:
    """What the settings give as they are."""
    return reconstruct(targets, gan, _config())


def _config(**changes: Any) -> RunConfig:
    tree = {**SETTINGS, **changes}
    tree["optimization"] = {**SETTINGS["optimization"], **changes.get("optimization", {})}
    return RunConfig.model_validate(tree)


def _equal(first: Shapes, second: Shapes) -> bool:
    names = ("depth", "albedo", "normal", "view", "light", "reconstruction")
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


def test_all_iterations_are_reported_and_all_outputs_have_their_shapes(
    gan: Gan, targets: Targets
) -> None:
    config = _config()
    calls: list[tuple[str, int, int]] = []
    shapes = reconstruct(targets, gan, config, on_progress=lambda *call: calls.append(call))
    total = iterations_total(config, 2)
    assert [done for _, done, _ in calls] == list(range(1, total + 1))
    assert {of for _, _, of in calls} == {total}
    assert calls[0][0] == "ellipsoid"
    assert calls[-1][0] == "cycle 2/2, shape"
    assert shapes.failures == [None, None]
    assert shapes.depth.shape == (2, 64, 64)
    assert shapes.normal.shape == (2, 64, 64, 3)
    assert torch.allclose(shapes.normal.norm(dim=-1), torch.ones(2, 64, 64), atol=1e-5)
    assert shapes.reconstruction.shape == shapes.albedo.shape == (2, 3, 64, 64)
    assert shapes.view.shape == (2, 6)
    assert shapes.light.shape == (2, 4)
    assert shapes.losses["photometric"].shape == (2,)
    assert set(shapes.seconds) == {"prior", "step1", "step2", "step3"}


def test_a_checkpoint_goes_on_to_the_same_result(gan: Gan, targets: Targets) -> None:
    config = _config()
    saved: list[bytes] = []

    def keep(state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        saved.append(buffer.getvalue())

    whole = reconstruct(targets, gan, config, on_checkpoint=keep)
    assert len(saved) == 7  # the ellipsoid and two cycles of three steps
    for cut in (2, 4):
        state = torch.load(io.BytesIO(saved[cut]), weights_only=True)
        assert _equal(reconstruct(targets, gan, config, state=state), whole)


def test_the_order_of_the_images_does_not_seed_the_group(gan: Gan, targets: Targets) -> None:
    config = _config(ellipsoid={"iterations": 0}, optimization={"cycles": []})
    swapped = Targets(
        targets.ids[::-1],
        targets.images.flip(0),
        targets.masks.flip(0),
        targets.latents.flip(0),
    )
    first, second = reconstruct(targets, gan, config), reconstruct(swapped, gan, config)
    assert torch.allclose(first.depth, second.depth.flip(0), atol=1e-5)
    other = reconstruct(targets, gan, _config(seed=1, optimization={"cycles": []}))
    assert not torch.allclose(first.depth, other.depth, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"latent": {"regularize": False}},
        {"latent": {"relative": False, "mapping_layers": 2}},
        {"mask": "given"},
        {"optimization": {"symmetry_step1": "always", "symmetry_step3": "never"}},
        {"optimization": {"view_weight": 0.1}},
        {"optimization": {"cycles": [{"step1": 1, "step2": 1, "view_iterations": 2, "step3": 1}]}},
        {"optimization": {"decay": 1.0}},
        {"optimization": {"perceptual_share": 0.5}},
        {"optimization": {"gradient_limit": 0.0}},
        {"optimization": {"symmetry_sides": "both"}},
        {
            "optimization": {
                "cycles": [{"step1": 2, "step2": 2, "step3": 2, "background_weight": 0}]
            }
        },
    ],
    ids=[
        *("unregularized", "absolute", "masked", "asymmetric", "turns", "views", "decay"),
        *("share", "unlimited", "both sides", "object"),
    ],
)
def test_every_variant_runs_and_differs(
    gan: Gan, targets: Targets, plain: Shapes, changes: dict[str, Any]
) -> None:
    shapes = reconstruct(targets, gan, _config(**changes))
    assert shapes.failures == [None, None]
    assert shapes.depth.isfinite().all()
    assert not _equal(shapes, plain)


PAPER_ONLY = {"symmetry_sides": "both", "gradient_limit": 0.0}
"""Settings of extensions that are on by default, switched off."""


def _composed(options: dict[str, Any]) -> tuple[Variant, list[Any], list[str]]:
    """The method's variant, the terms of step 3's loss, and the steps, by these options."""
    config = _config(optimization=PAPER_ONLY | options)
    schedule = [step.key for step in make_schedule(config)]
    return variant_of(config), list(shape_terms(config.optimization, True)), schedule


def test_the_paper_alone_is_composed_of_no_extension() -> None:
    variant, terms, schedule = _composed({})
    assert variant == PAPER
    assert variant.sides is both_sides
    assert not terms
    assert schedule == ["prior", "step1", "step2", "step3", "step1", "step2", "step3"]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"symmetry_sides": "random"}, "sides"),
        ({"perceptual_share": 0.5}, "distances"),
        ({"decay": 0.5}, "learning_rate"),
        ({"gradient_limit": 5.0}, "depth"),
        ({"pseudo_albedo": "input"}, "pseudo_shapes"),
    ],
)
def test_one_setting_puts_one_extension_in_the_place_of_one_function(
    options: dict[str, Any], part: str
) -> None:
    variant, terms, schedule = _composed(options)
    assert (terms, schedule) == _composed({})[1:]
    changed = [name for name, value in vars(PAPER).items() if getattr(variant, name) != value]
    assert changed == [part]


def test_terms_and_steps_are_added_by_their_settings() -> None:
    variant, terms, schedule = _composed({"view_weight": 0.3, "colour_evenness": 2.0})
    assert (variant, schedule) == (PAPER, _composed({})[2])
    assert [weight for weight, _ in terms] == [0.3, 1.0]
    config = _config(optimization={"colour_symmetry": 1.0})
    assert len(shape_terms(config.optimization, True)) == 1
    assert not shape_terms(config.optimization, False)
    cycle = {"step1": 1, "step2": 1, "view_iterations": 1, "step3": 1, "single_image_passes": 1}
    schedule = _composed({"cycles": [cycle]})[2]
    assert schedule == ["prior", "step1", "step2", "views", "step3", "inputs"]


def test_step_3_adds_the_terms_that_it_is_handed(gan: Gan, targets: Targets) -> None:
    losses: list[torch.Tensor] = []
    fits: list[Fit] = []

    def one(fit: Fit) -> torch.Tensor:
        fits.append(fit)
        return torch.ones(len(fit.index))

    for terms in ([], [(3.0, one)]):
        group = new_group(targets, gan, _config(optimization=PAPER_ONLY))
        collect_samples(group)
        fit_shape(group, losses.append, iterations=1, symmetric=False, terms=terms)
    assert float(losses[1] - losses[0]) == pytest.approx(3.0, abs=1e-5)
    (fit,) = fits
    assert fit.views.shape == (2, 3, 6)
    assert torch.equal(fit.views[:, 0], fit.view)
    assert fit.turns.shape == (2, 2, 6)
    assert fit.light.shape == (2, 4)


def test_symmetry_compares_both_sides_inside_both(gan: Gan, targets: Targets) -> None:
    group = new_group(targets, gan, _config())
    found = Estimate(group)
    view = torch.zeros(2, 6)
    view[:, 1] = 0.4
    masks = torch.ones(2, 64, 64)
    sides = [found.shapes, found.shapes.mirrored()]
    for side in sides:
        masks = masks * render(group, side, view, found.light).mask
    place = (view, found.light, targets.images)
    with torch.no_grad():
        alone = [reconstruction_loss(group, side, *place, masks, False) for side in sides]
        both = reconstruction_loss(group, found.shapes, *place, torch.ones(2, 64, 64), True)
    assert masks.mean() < 1
    torch.testing.assert_close(both, alone[0] + alone[1])


def test_a_given_perceptual_loss_takes_the_place_of_the_features(
    gan: Gan, targets: Targets, plain: Shapes
) -> None:
    seen: list[torch.Size] = []

    def loss(images: torch.Tensor, wanted: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        seen.append(masks.shape)
        return masked_l1(images, wanted, masks)

    shapes = reconstruct(targets, gan, _config(), lpips=loss)
    assert seen
    assert all(shape[1:] == (64, 64) for shape in seen)
    assert not _equal(shapes, plain)


def test_a_share_of_the_targets_is_compared_by_features_in_proportion(
    gan: Gan, targets: Targets
) -> None:
    seen: list[int] = []
    losses: list[torch.Tensor] = []

    def constant(images: torch.Tensor, wanted: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return images.new_ones(len(images))

    for share, weight in ((1.0, 0.0), (1.0, 3.0), (0.5, 3.0)):
        options = {"perceptual_share": share, "perceptual_weight": weight, "batch": 2}
        config = _config(optimization=options)
        group = new_group(targets, gan, config, constant, variant=variant_of(config))
        fit_albedo(group, losses.append, iterations=1, symmetric=False)
    assert seen == [2, 1]
    # A distance of 1 everywhere adds the weight to the mean loss, however many are compared.
    assert losses[1] - losses[0] == pytest.approx(3.0, abs=1e-5)
    assert losses[2] - losses[0] == pytest.approx(3.0, abs=1e-5)


@pytest.mark.parametrize(
    ("mask", "outside"), [("background", 0.25), ("given", 0.0), ("none", 0.25)]
)
def test_the_background_weighs_what_the_cycle_says(
    gan: Gan, targets: Targets, mask: str, outside: float
) -> None:
    group = new_group(targets, gan, _config(mask=mask))
    expected = torch.where(targets.masks > 0, 1.0, outside)
    assert torch.equal(group.input_masks(0.25), expected)


def test_samples_know_their_object_before_a_plain_background(gan: Gan, targets: Targets) -> None:
    config = _config(mask="background")
    found = []
    for background in (1.0, 0.25):
        group = new_group(targets, gan, config)
        weigh = partial(sample_masks, threshold=0.06, background=background)
        collect_samples(group, weigh if background < 1 else None)
        found.append(group.projected)
    whole, samples = found
    assert torch.equal(whole.images, samples.images)
    covered = whole.masks > 0
    assert torch.equal(whole.masks, covered.float())
    assert set(samples.masks.unique().tolist()) == {0.0, 0.25, 1.0}
    assert torch.equal(samples.masks > 0, covered)
    brightest = samples.images.float().amax(2)
    dark, bright = brightest < -0.9, brightest > -0.5
    corner = dark[:, :, 0, :2] & covered[:, :, 0, :2]
    assert (samples.masks[:, :, 0, :2][corner] == 0.25).all()
    assert (samples.masks[bright & covered] == 1).float().mean() > 0.99


def test_samples_show_nothing_that_given_masks_leave_out(gan: Gan, targets: Targets) -> None:
    """Nothing was fitted there."""
    half = targets.masks.clone()
    half[..., : half.shape[-1] // 2] = 0
    given = Targets(targets.ids, targets.images, half, targets.latents)
    group = new_group(given, gan, _config(mask="given"))
    with torch.no_grad():
        for parameter in group.networks.view_net.parameters():
            parameter.zero_()  # inputs are seen from the front
    estimate, index = Estimate(group), torch.tensor([0, 0, 1, 1])
    seen, views = estimate.pseudo_samples(index)
    whole = estimate.shapes[index].render(views, torch.zeros(4, 4), group.camera)
    left, right = seen.mask.chunk(2, -1)
    assert left.sum() < 0.1 * right.sum()  # which turns move across
    assert right.sum() > 0.5 * whole.mask[..., half.shape[-1] // 2 :].sum()


def test_a_latent_that_is_not_finite_ends_its_image_alone(gan: Gan, targets: Targets) -> None:
    latents = targets.latents.clone()
    latents[1] = float("nan")
    broken = Targets(targets.ids, targets.images, targets.masks, latents)
    shapes = reconstruct(broken, gan, _config())
    assert shapes.failures == [None, "its latent is not finite"]
    assert shapes.depth[0].isfinite().all()
    assert shapes.depth[1].isnan().all()
    assert shapes.losses["photometric"].isnan().tolist() == [False, True]


def test_an_image_that_is_not_finite_ends_itself_alone(gan: Gan, targets: Targets) -> None:
    images = targets.images.clone()
    images[0, 0, 5, 5] = float("nan")
    broken = Targets(targets.ids, images, targets.masks, targets.latents)
    shapes = reconstruct(broken, gan, _config())
    assert shapes.failures == ["its loss is not finite", None]
    assert shapes.depth[1].isfinite().all()


def test_nothing_left_is_not_an_error(gan: Gan, targets: Targets) -> None:
    latents = torch.full_like(targets.latents, float("nan"))
    broken = Targets(targets.ids, targets.images, targets.masks, latents)
    shapes = reconstruct(broken, gan, _config())
    assert shapes.failures == ["its latent is not finite"] * 2


def test_collapse_is_noticed(gan: Gan, targets: Targets) -> None:
    shapes = reconstruct(targets, gan, _config(optimization={"collapse_ratio": 1.0}))
    assert all(reason and "collapse" in reason for reason in shapes.failures)


def test_sizes_that_do_not_fit_are_explained(gan: Gan, targets: Targets) -> None:
    with pytest.raises(UserError, match="must be equal and the last not less"):
        reconstruct(targets, gan, _config(camera={"size": 128}))
    short = Targets(targets.ids, targets.images, targets.masks, targets.latents[:, :7])
    with pytest.raises(UserError, match="latents have shape"):
        reconstruct(short, gan, _config())


def test_step_1_lowers_the_reconstruction_error(gan: Gan, targets: Targets) -> None:
    losses = []
    for iterations in (0, 50):
        cycle = {"step1": iterations, "step2": 0, "step3": 0}
        shapes = reconstruct(targets, gan, _config(optimization={"cycles": [cycle]}))
        losses.append(shapes.losses["photometric"])
    assert (losses[1] < 0.8 * losses[0]).all()


def test_the_view_network_learns_the_turns_of_the_samples(gan: Gan, targets: Targets) -> None:
    """Only differences are taught: the inputs' own views stay wherever they are."""
    group = new_group(targets, gan, _config(optimization={"learning_rates": {"view": 1e-3}}))
    random = torch.Generator().manual_seed(0)
    images = torch.rand(2, 4, 3, 64, 64, generator=random).half() * 2 - 1
    turns = 0.3 * torch.randn(2, 4, 6, generator=random)
    turns[..., 5] = 0
    turns[..., 3:5] *= 0.01
    whole = torch.ones(2, 4, 64, 64)
    group.samples = ProjectedSamples(images, whole, turns)

    def error() -> float:
        with torch.no_grad():
            inputs = group.networks.view(targets.images)[:, None]
            views = group.networks.view(images.flatten(0, 1).float()).unflatten(0, (2, 4))
        return float(((views - inputs - turns)[..., :3]).abs().mean())

    before = error()
    fit_views(group, lambda loss: None, iterations=60)
    assert error() < 0.5 * before


def test_images_of_a_larger_gan_are_reduced(targets: Targets) -> None:
    torch.manual_seed(1)
    channels = dict.fromkeys((4, 8, 16, 32, 64, 128), 8)
    large = Gan(Generator(128, 16, 8, channels), Discriminator(128, channels), "", "large")
    latents = large.generator.sample_latents(2, seed=0)
    small = Targets(targets.ids, targets.images, targets.masks, latents)
    shapes = reconstruct(small, large, _config())
    assert shapes.failures == [None, None]
    assert shapes.depth.shape == (2, 64, 64)


def test_pretrained_networks_without_cycles_give_what_they_see(gan: Gan, targets: Targets) -> None:
    pretrained = tiny_networks(gan.sha256, gan.generator.style_dim, 64)
    config = _config(optimization={"cycles": []}, precision="float32")
    calls: list[str] = []
    hook = gan.generator.register_forward_pre_hook(lambda *given: calls.append("generator"))
    try:
        shapes = reconstruct(
            replace(targets, latents=None),
            gan,
            config,
            pretrained=pretrained,
            on_progress=lambda name, done, total: calls.append(name),
        )
    finally:
        hook.remove()
    assert not calls
    networks = pretrained.shape_networks()
    with torch.no_grad():
        for name in ("depth", "albedo", "view", "light"):
            assert torch.equal(getattr(shapes, name), getattr(networks, name)(targets.images)), name
    assert shapes.failures == [None, None]
    assert shapes.latent.shape == targets.latents.shape  # type: ignore[union-attr]
    assert shapes.latent.isnan().all()
    assert all(loss.isfinite().all() for loss in shapes.losses.values())
    assert shapes.seconds == {}


def test_cycles_go_on_from_pretrained_networks(gan: Gan, targets: Targets) -> None:
    pretrained = tiny_networks(gan.sha256, gan.generator.style_dim, 64)
    config = _config()
    calls: list[tuple[str, int, int]] = []
    reconstruct(
        targets,
        gan,
        config,
        pretrained=pretrained,
        on_progress=lambda *call: calls.append(call),
    )
    total = iterations_total(config, 2, True)
    assert total == iterations_total(config, 2) - config.ellipsoid.iterations
    assert calls[0] == ("cycle 1/2, albedo", 1, total)
    assert calls[-1] == ("cycle 2/2, shape", total, total)
    group = new_group(targets, gan, config, pretrained=pretrained)
    for name, value in group.encoder.state_dict().items():
        assert torch.equal(value, pretrained.parameters[f"encoder.{name}"])


def test_networks_without_an_encoder_begin_with_a_fresh_one(gan: Gan, targets: Targets) -> None:
    networks = tiny_networks(gan.sha256, gan.generator.style_dim, 64)
    alone = replace(
        networks,
        parameters=parameters_of(networks.shape_networks()),
        style_dim=None,
        gan_sha256=None,
    )
    given = new_group(targets, gan, _config(), pretrained=alone)
    fresh = new_group(targets, gan, _config())
    assert torch.equal(
        given.networks.depth_net.head.weight, alone.parameters["depth_net.head.weight"]
    )
    assert given.encoder.head.weight.shape == fresh.encoder.head.weight.shape
    again = new_group(targets, gan, _config(), pretrained=alone)
    assert torch.equal(given.encoder.head.weight, again.encoder.head.weight)


def test_what_does_not_fit_pretrained_networks_is_explained(gan: Gan, targets: Targets) -> None:
    foreign = tiny_networks("0" * 64, gan.generator.style_dim, 64)
    with pytest.raises(UserError, match="another GAN"):
        reconstruct(targets, gan, _config(), pretrained=foreign)
    with pytest.raises(UserError, match="without latents, which cycles need"):
        reconstruct(replace(targets, latents=None), gan, _config())
