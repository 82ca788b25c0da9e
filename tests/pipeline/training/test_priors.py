"""Priors from what the networks see: the fit, the rounds, going on after an interruption."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor

from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.extensions.turn_calibration import Response
from gan2shape.pipeline.method.group import Targets
from gan2shape.pipeline.stylegan2 import Gan
from gan2shape.pipeline.training.priors import (
    LIGHT_FLOOR,
    VIEW_FLOOR,
    Gaussians,
    Priors,
    apart_from_yaw,
    corrected,
    estimate_priors,
    fit_priors,
    is_stable,
    robust_gaussian,
    with_priors,
)
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import RunConfig

SETTINGS: dict[str, Any] = {
    "networks": {"width": 8},
    "ellipsoid": {"iterations": 2},
    "view_prior": {"std": [0.15, 0.5, 0.08, 0.01, 0.01, 0.0]},
    "optimization": {
        "cycles": [
            {"step1": 2, "step2": 1, "view_iterations": 2, "step3": 2},
            {"step1": 1, "step2": 1, "step3": 1},
        ],
        "batch": 4,
        "images_per_batch": 2,
        "projected_samples": 2,
        "feature_blocks": 2,
        "collapse_ratio": 0.0,
    },
    "precision": "float32",
}
SAME = Gaussians((0.0,) * 6, (0.1, 0.3, 0.1, 0.01, 0.01, 0.0), (0.0,) * 4, (0.1, 0.2, 0.5, 0.3))


def _config(**changes: Any) -> RunConfig:
    return RunConfig.model_validate(SETTINGS | changes)


def _random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _faithful(size: int) -> Response:
    return Response(torch.ones(size), torch.zeros(size))


def _fit(view: Tensor, light: Tensor | None = None, **changes: Any) -> Gaussians:
    light = torch.randn(len(view), 4, generator=_random(1)) * 0.3 if light is None else light
    return fit_priors(view, light, _config(**changes), _faithful(6), _faithful(4))


def test_a_gaussian_is_found_in_spite_of_outliers() -> None:
    values = 0.2 + 0.5 * torch.randn(4000, 3, generator=_random())
    values[:, 2] = 2 * torch.rand(4000, generator=_random()) - 1
    values[:40, 0] = 30.0
    mean, std = robust_gaussian(values)
    assert mean.tolist() == pytest.approx([0.2, 0.2, 0.0], abs=0.04)
    assert std.tolist() == pytest.approx([0.5, 0.5, 1 / 3**0.5], rel=0.06)


def test_a_fit_is_of_the_predictions() -> None:
    scale = torch.tensor([0.1, 0.4, 0.06, 0.008, 0.009, 0.0])
    view = scale * torch.randn(3000, 6, generator=_random()) + 0.5 * scale
    fit = _fit(view)
    assert fit.view_std == pytest.approx(tuple(scale.tolist()), rel=0.05)
    assert fit.view_mean[1:4] == pytest.approx(tuple((0.5 * scale)[1:4].tolist()), rel=0.12)


def test_means_that_are_a_matter_of_the_canonical_pose_stay() -> None:
    start = {"mean": [0.1, 0.0, 0.0, 0.0, 0.02, 0.0], "std": [0.1, 0.4, 0.1, 0.01, 0.01, 0.0]}
    fit = _fit(torch.randn(50, 6, generator=_random()), view_prior=start)
    assert (fit.view_mean[0], fit.view_mean[4]) == pytest.approx((0.1, 0.02))
    assert fit.view_mean[1] != 0


def test_what_follows_the_yaw_is_no_roll() -> None:
    view = torch.randn(2000, 6, generator=_random()) * 0.1 + 0.3
    roll = view[:, 2].std()
    view[:, 2] -= 0.8 * (view[:, 1] - 0.3)
    apart = apart_from_yaw(view)
    assert torch.equal(apart[:, 1], view[:, 1])
    assert float(apart[:, 2].std()) == pytest.approx(float(roll), rel=0.03)
    assert apart.mean(0).tolist() == pytest.approx(view.mean(0).tolist())
    assert bool(torch.isfinite(apart_from_yaw(torch.zeros(5, 6))).all())


def test_spreads_are_corrected_by_how_networks_respond() -> None:
    """A network that sees 60 % of a change, and noise besides, hides no spread."""
    true, gain, noise = 0.4, 0.6, 0.1
    seen = (gain**2 * true**2 + noise**2) ** 0.5
    known = Response(torch.tensor([gain, 0.01, 0.6]), torch.tensor([noise, 0.0, 9.0]))
    found = corrected(torch.tensor([seen, 0.1, 0.1]), known)
    assert found.tolist() == pytest.approx([true, 0.3, 0.0])


def test_brightness_is_taken_as_seen_and_direction_corrected() -> None:
    light = 0.3 * torch.randn(3000, 4, generator=_random())
    half = Response(torch.full((4,), 0.5), torch.zeros(4))
    fit = fit_priors(torch.zeros(3000, 6), light, _config(), _faithful(6), half)
    assert fit.light_std == pytest.approx((0.3, 0.3, 0.6, 0.6), rel=0.05)


def test_standard_deviations_neither_fall_fast_nor_vanish() -> None:
    same = torch.zeros(50, 6)
    first = _fit(same, torch.zeros(50, 4))
    assert first.view_std == pytest.approx((0.075, 0.25, 0.04, 0.005, 0.005, 0.0))
    narrow = {"std": [0.012, 0.012, 0.012, 0.0011, 0.0011, 0.0]}
    gaussian = {"mean": [0.0] * 4, "std": [0.03] * 4}
    later = _fit(same, torch.zeros(50, 4), view_prior=narrow, light_prior=gaussian)
    assert later.view_std == pytest.approx((*VIEW_FLOOR[:5], 0.0))
    assert later.light_std == pytest.approx(LIGHT_FLOOR)


def test_what_the_networks_cannot_move_stays_at_zero() -> None:
    view = torch.randn(50, 6, generator=_random())
    still = _fit(view, networks={"width": 8, "max_shift": 0.0})
    assert still.view_mean[3:] == still.view_std[3:] == (0.0, 0.0, 0.0)
    moving = _fit(view, networks={"width": 8, "max_shift_z": 0.1})
    assert min(moving.view_std) > 0


@pytest.mark.parametrize("name", ["view_mean", "view_std", "light_mean", "light_std"])
def test_stable_means_that_nothing_moved(name: str) -> None:
    assert not is_stable([SAME, SAME])
    assert is_stable([SAME, SAME, SAME])
    values = vars(SAME)[name]
    for place, by in ((1, 0.2 if "view" in name else 0.5), (3, 0.5)):
        spread = vars(SAME)[name.replace("mean", "std")][place]
        other = tuple(v + by * spread * (i == place) for i, v in enumerate(values))
        moved = Gaussians(**{**vars(SAME), name: other})
        assert not is_stable([SAME, SAME, moved])
        assert is_stable([SAME, moved, moved])


def test_priors_become_settings() -> None:
    config = with_priors(_config(), SAME)
    assert config.view_prior.std == SAME.view_std
    assert config.light_prior.mean == SAME.light_mean
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.fixture(scope="module")
def gan() -> Gan:
    return load_gan("heads64")


@pytest.fixture(scope="module")
def targets(gan: Gan) -> Targets:
    noise = torch.randn(3, gan.generator.style_dim, generator=_random(3))
    with torch.no_grad():
        latents = gan.generator.mapping(noise)
        images = gan.generator(latents).float().clamp(-1, 1).contiguous()
    return Targets(["a", "b", "c"], images, (images.mean(1) > -0.9).float(), latents)


@pytest.fixture(scope="module")
def whole(gan: Gan, targets: Targets) -> Priors:
    """Two rounds that nothing interrupted."""
    return estimate_priors(targets, gan, _config(), 2)


def test_rounds_are_told_and_their_priors_are_used(gan: Gan, targets: Targets) -> None:
    told, done, turns = [], [], []

    def keep(state: dict[str, Any]) -> None:
        samples = state["group"]["samples"]
        if samples is not None:  # after step 2, and before step 3 has used them
            turns.append(samples["turns"].flatten(0, 1))

    options = SETTINGS["optimization"] | {"projected_samples": 48}
    found = estimate_priors(
        targets,
        gan,
        _config(optimization=options),
        2,
        on_round=lambda fits: told.append(list(fits)),
        on_progress=lambda name, count, total: done.append((name, count, total)),
        on_checkpoint=keep,
    )
    assert [len(fits) for fits in told] == [1, 2]
    assert told[1] == found.rounds
    first, second = (turns[number][:, :3].std(0) for number in (0, -1))
    used = torch.tensor([_config().view_prior.std[:3], found.rounds[0].view_std[:3]])
    torch.testing.assert_close(torch.stack([first, second]), used, rtol=0.25, atol=0.0)
    assert (used[1] < 0.8 * used[0]).all()
    assert [count for _, count, _ in done] == list(range(1, 13))
    assert done[-1] == ("cycle 2/2, shape", 12, 12)
    assert found.ids == ["a", "b", "c"]
    assert found.view.shape == (3, 6)
    assert found.light.shape == (3, 4)


def test_every_checkpoint_goes_on_to_the_same_result(
    gan: Gan, targets: Targets, whole: Priors
) -> None:
    files: list[bytes] = []

    def keep(state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        files.append(buffer.getvalue())

    estimate_priors(targets, gan, _config(), 2, on_checkpoint=keep)
    states = [torch.load(io.BytesIO(file), weights_only=True) for file in files]
    assert [len(state["fits"]) for state in states] == [0] * 5 + [1] * 3
    for state in (states[2], states[4], states[5], states[7]):
        again = estimate_priors(targets, gan, _config(), 2, state=state)
        assert again.rounds == whole.rounds
        assert torch.equal(again.view, whole.view)


def test_it_ends_when_stable(gan: Gan, targets: Targets, whole: Priors) -> None:
    """Networks that do not learn see the same in every round."""
    assert not whole.stable
    rates = dict.fromkeys(("depth", "albedo", "view", "light", "encoder"), 1e-12)
    narrow = {"mean": [0.0] * 4, "std": list(LIGHT_FLOOR)}
    config = _config(
        optimization=SETTINGS["optimization"] | {"learning_rates": rates},
        view_prior={"std": list(VIEW_FLOOR)},
        light_prior=narrow,
    )
    found = estimate_priors(targets, gan, config, 5)
    assert found.stable
    assert len(found.rounds) == 3


def test_images_that_fail_do_not_count(gan: Gan, targets: Targets) -> None:
    latents = targets.latents.clone()
    latents[:] = float("nan")
    broken = Targets(targets.ids, targets.images, targets.masks, latents)
    with pytest.raises(UserError, match="3 of 3 images failed"):
        estimate_priors(broken, gan, _config(), 2)
