"""The parts of GAN training, and training as a whole at a size that takes seconds."""

from __future__ import annotations

import io
import math
from itertools import islice

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gan2shape.pipeline.seeds import batches
from gan2shape.pipeline.stylegan2 import Gan, Generator
from gan2shape.pipeline.stylegan2.discriminator import Discriminator
from gan2shape.pipeline.stylegan2.training.augment import (
    adapt,
    augment,
    mirror_images,
    shift_images,
)
from gan2shape.pipeline.stylegan2.training.quality import (
    descriptors,
    descriptors_of_parts,
    distances,
)
from gan2shape.pipeline.stylegan2.training.trainer import (
    Trainer,
    TrainingError,
    average_decay,
    average_weights,
    discriminator_loss,
    generator_loss,
    mixed_latents,
    path_lengths,
    r1_penalty,
)
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.gan_training import AugmentConfig, GanTrainingConfig, training_config

WIDTHS = {4: 8, 8: 8, 16: 8}
STILL = {"shift": 0, "scale": 0, "rotation_degrees": 0}
PLAIN = {"brightness": 0, "contrast": 0, "saturation": 0}


def tiny(**settings: object) -> GanTrainingConfig:
    values: dict[str, object] = {
        "size": 16,
        "channels": (8, 8, 8),
        "style_dim": 8,
        "mapping_layers": 2,
        "images": 64,
        "batch": 4,
        "warm_up": 0,
        "precision": "float32",
    }
    return training_config(values | settings)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, size: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, size, size, generator=draw(seed)) * 2 - 1


# --- losses -----------------------------------------------------------------------------------


def test_losses_are_those_of_the_paper():
    real, fake = torch.tensor([0.3, -1.0]), torch.tensor([2.0, 0.0])
    expected = -(torch.sigmoid(real).log().mean() + (1 - torch.sigmoid(fake)).log().mean())
    assert discriminator_loss(real, fake) == pytest.approx(float(expected), abs=1e-6)
    assert generator_loss(fake) == pytest.approx(-float(torch.sigmoid(fake).log().mean()), abs=1e-6)


def test_r1_of_a_function_whose_gradient_is_known():
    images = pictures(3, 4).requires_grad_()
    scale = torch.tensor(0.7, requires_grad=True)
    penalty = r1_penalty((scale * images.square() / 2).sum(dim=(1, 2, 3)), images)
    energy = float(images.detach().square().sum(dim=(1, 2, 3)).mean())
    assert float(penalty.detach()) == pytest.approx(0.49 * energy, rel=1e-5)
    penalty.backward()
    assert float(scale.grad) == pytest.approx(2 * 0.7 * energy, rel=1e-5)  # type: ignore[arg-type]


def test_r1_has_the_right_second_derivatives_through_the_discriminator():
    torch.manual_seed(0)
    network = Discriminator(16, WIDTHS).double()
    # of one image alone the spread over the batch is 0, so all is computed in double precision
    images = pictures(1).double().requires_grad_()

    def penalty() -> Tensor:
        return r1_penalty(network(images), images)

    weight = network.convs[1].conv1[0].weight
    direction = torch.randn(weight.shape, generator=draw()).double()
    (gradient,) = torch.autograd.grad(penalty(), weight)
    step = 1e-6  # so small that no leaky ReLU turns over
    with torch.no_grad():
        weight += step * direction
        above = float(penalty_value(network, images))
        weight -= 2 * step * direction
        below = float(penalty_value(network, images))
    expected = (above - below) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-4)


def penalty_value(network: Discriminator, images: Tensor) -> Tensor:
    with torch.enable_grad():
        return r1_penalty(network(images), images).detach()


def test_path_lengths_of_a_linear_generator():
    """For images = A w, E[|J^T y|^2] is the squared norm of A over the number of pixels."""
    matrix = torch.randn(3 * 16 * 16, 8, generator=draw())
    latents = torch.randn(2000, 1, 8, generator=draw(1)).requires_grad_()
    images = (latents[:, 0] @ matrix.t()).view(-1, 3, 16, 16)
    lengths = path_lengths(images, latents, draw(2))
    assert float(lengths.square().mean()) == pytest.approx(
        float(matrix.square().sum()) / 256, rel=0.1
    )


# --- latents, averages, order -----------------------------------------------------------------


def test_style_mixing_switches_once_between_two_latents():
    generator = Generator(16, 8, 2, WIDTHS)
    same = mixed_latents(generator, 50, 0.0, draw())
    assert same.shape == (50, generator.num_layers, 8)
    assert torch.equal(same, same[:, :1].expand_as(same))
    mixed = mixed_latents(generator, 50, 1.0, draw())
    switches = (mixed[:, 1:] != mixed[:, :-1]).any(dim=2).sum(dim=1)
    assert torch.equal(switches, torch.ones(50, dtype=torch.long))


def test_half_of_the_old_weights_are_left_after_the_half_life():
    config = tiny(batch=10, ema_half_life=100)
    average, network = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    start = average.weight.detach().clone()
    for _ in range(10):
        average_weights(average, network, average_decay(config, 10**6, False))
    torch.testing.assert_close(average.weight, (start + network.weight) / 2)


def test_the_average_follows_quickly_at_first_but_not_after_given_weights():
    config = tiny(batch=10, ema_half_life=1000)
    assert average_decay(config, 40, False) < 0.1
    assert average_decay(config, 40, True) == average_decay(config, 10**6, True) > 0.99


def test_every_pass_shows_every_image_once():
    passes = torch.cat(list(islice(batches(10, 0, 4, seed=3), 10))).view(4, 10)
    assert torch.equal(passes.sort(dim=1).values, torch.arange(10).expand(4, 10))
    assert not torch.equal(passes[0], passes[1])
    assert not torch.equal(passes[0], next(batches(10, 0, 10, seed=4)))
    for start in (4, 12, 36):
        assert torch.equal(next(batches(10, start, 4, seed=3)), passes.flatten()[start : start + 4])
    assert len(next(batches(3, 1, 8, seed=0))) == 8  # larger than the data set


# --- augmentation -----------------------------------------------------------------------------


def test_no_augmentation_at_probability_zero():
    images = pictures(4)
    assert augment(images, 0.0, AugmentConfig(), draw()) is images


def test_shifts_are_whole_pixels():
    config = AugmentConfig(scale=0, rotation_degrees=0, shift=0.25, **PLAIN)
    images = pictures(40)
    moved = augment(images, 1.0, config, draw())
    offsets = set()
    for image, other in zip(images, moved, strict=True):
        found = [
            (dy, dx)
            for dy in range(-4, 5)
            for dx in range(-4, 5)
            if torch.allclose(
                other[:, 4:12, 4:12], image[:, 4 + dy : 12 + dy, 4 + dx : 12 + dx], atol=1e-4
            )
        ]
        assert len(found) == 1
        offsets.add(found[0])
    assert len({dy for dy, _ in offsets}) >= 7
    assert len({dx for _, dx in offsets}) >= 7


def test_transforms_apply_with_their_probability():
    images = pictures(2000, 4)
    for config in (
        AugmentConfig(shift=0.25, scale=0, rotation_degrees=0, **PLAIN),
        AugmentConfig(**(STILL | PLAIN | {"brightness": 0.5})),
    ):
        changed = (augment(images, 0.3, config, draw()) - images).abs().amax(dim=(1, 2, 3)) > 1e-3
        # a shift of (0, 0), one of nine, changes nothing
        assert float(changed.float().mean()) == pytest.approx(0.3, abs=0.06)


def test_mirroring_for_half_the_probability():
    images = pictures(2000, 4)
    seen = augment(images, 1.0, AugmentConfig(mirror=True, **STILL, **PLAIN), draw())
    mirrored = (seen - images.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-3
    kept = (seen - images).abs().amax(dim=(1, 2, 3)) < 1e-3
    assert bool((mirrored ^ kept).all())
    assert float(mirrored.float().mean()) == pytest.approx(0.5, abs=0.04)


def test_colours_change_as_they_should():
    images = pictures(8)
    grey = images.mean(dim=1, keepdim=True).expand_as(images)
    saturation = AugmentConfig(**(STILL | PLAIN | {"saturation": 1.0}))
    torch.testing.assert_close(augment(grey, 1.0, saturation, draw()), grey)
    assert not torch.allclose(augment(images, 1.0, saturation, draw()), images)
    torch.testing.assert_close(
        augment(images, 1.0, saturation, draw()).mean(dim=1), images.mean(dim=1)
    )


def test_gradients_pass_through_augmentation():
    images = pictures(4).requires_grad_()
    augment(images, 1.0, AugmentConfig(), draw()).square().sum().backward()
    assert images.grad is not None
    assert bool((images.grad.abs().amax(dim=(1, 2, 3)) > 0).all())


def test_shifting_the_data_repeats_its_border():
    images = pictures(30, 8)
    moved = shift_images(images, 2, draw())
    padded = functional.pad(images, (2, 2, 2, 2), mode="replicate")
    for image, other in zip(padded, moved, strict=True):
        windows = [image[:, y : y + 8, x : x + 8] for y in range(5) for x in range(5)]
        assert any(torch.equal(other, window) for window in windows)
    assert not torch.equal(moved, images)


def test_mirroring_the_data():
    images = pictures(200, 4)
    kept = [torch.equal(a, b) for a, b in zip(images, mirror_images(images, draw()), strict=True)]
    assert 60 < sum(kept) < 140


def test_the_probability_rises_where_the_discriminator_is_too_sure():
    assert adapt(0.0, 0.9, 100, 0.6, 1000) == pytest.approx(0.1)
    assert adapt(0.05, 0.2, 100, 0.6, 1000) == 0.0
    assert adapt(0.98, 0.9, 100, 0.6, 1000) == 1.0
    assert adapt(0.5, 1.0, 100, 0.0, 1000) == 0.0  # switched off


# --- quality ----------------------------------------------------------------------------------


def test_the_distance_is_zero_for_the_same_images_and_grows_with_blur():
    images = pictures(64, 32)
    reference = descriptors(images)
    assert distances(reference, reference)["mean"] == 0.0
    other = distances(descriptors(pictures(64, 32, seed=1)), reference)["mean"]
    weak = distances(descriptors(blurred(images, 0.3)), reference)["mean"]
    strong = distances(descriptors(blurred(images, 0.9)), reference)["mean"]
    assert other < weak < strong


def blurred(images: Tensor, share: float) -> Tensor:
    return torch.lerp(images, functional.avg_pool2d(images, 3, 1, 1), share)


def test_parts_of_the_images_make_the_same_layout_and_as_many_patches():
    images = pictures(20, 32)
    whole, parts = descriptors(images), descriptors_of_parts(images.split(8))
    assert torch.equal(parts["layout"], whole["layout"])
    assert {name: v.shape for name, v in parts.items()} == {n: v.shape for n, v in whole.items()}


def test_the_distance_sees_a_lack_of_variety():
    images = pictures(64, 32) * 0.2 + torch.linspace(-0.8, 0.8, 64)[:, None, None, None]
    reference = descriptors(images)
    collapsed = distances(descriptors(images[32:33].expand(64, -1, -1, -1)), reference)
    varied = distances(descriptors(images.flip(0) + 0.01), reference)
    assert collapsed["layout"] > 10 * varied["layout"]


# --- training ---------------------------------------------------------------------------------

EVERYTHING = {
    "r1_interval": 2,
    "path_length": 2.0,
    "path_length_interval": 3,
    "ada_images": 16,
    "ada_target": 0.1,
    "shift": 1,
    "mirror": True,
}


def run(trainer: Trainer, steps: int) -> None:
    for _ in range(steps):
        trainer.step(pictures(4, seed=trainer.iteration))


@pytest.mark.parametrize("broken_at", [1, 3, 6])
def test_going_on_from_a_state_changes_nothing(broken_at):
    config = tiny(**EVERYTHING)
    whole = Trainer(config)
    run(whole, 9)
    first = Trainer(config)
    run(first, broken_at)
    buffer = io.BytesIO()
    torch.save(first.state(), buffer)
    buffer.seek(0)
    second = Trainer(config)
    second.restore(torch.load(buffer, weights_only=True))
    run(second, 9 - broken_at)
    assert (second.images, second.p) == (whole.images, whole.p)
    for name in ("generator", "discriminator", "average"):
        expected = getattr(whole, name).state_dict()
        for key, value in getattr(second, name).state_dict().items():
            assert torch.equal(value, expected[key]), (name, key)


def test_settings_may_change_when_training_goes_on():
    first = Trainer(tiny())
    run(first, 2)
    second = Trainer(tiny(learning_rate=0.5, r1=0.0))
    second.restore(first.state())
    run(second, 1)
    rates = {group["lr"] for group in second.discriminator_optimizer.param_groups}
    assert rates == {0.5}


def test_penalties_come_at_their_intervals():
    trainer = Trainer(tiny(r1_interval=2, path_length=2.0, path_length_interval=3))
    found = [set(trainer.step(pictures(4))) & {"r1", "path"} for _ in range(6)]
    assert [("r1" in names) for names in found] == [True, False] * 3
    assert [("path" in names) for names in found] == [True, False, False] * 2


def test_training_learns_the_colour_of_the_images():
    trainer = Trainer(tiny(batch=8, learning_rate=0.01, ema_half_life=100, seed=1))
    wanted = torch.tensor([0.7, -0.6, 0.0]).view(1, 3, 1, 1)
    for step in range(60):
        trainer.step((wanted + 0.1 * pictures(8, seed=step)).clamp(-1, 1))
    z = torch.randn(32, 8, generator=draw())
    colour = trainer.sample(z).mean(dim=(0, 2, 3))
    assert float((colour - wanted.flatten()).abs().max()) < 0.35, colour


def test_bfloat16_trains_too():
    trainer = Trainer(tiny(precision="bfloat16", r1_interval=1))
    figures = [trainer.step(pictures(4)) for _ in range(2)]
    assert all(math.isfinite(float(value)) for row in figures for value in row.values())
    assert all(bool(torch.isfinite(p).all()) for p in trainer.generator.parameters())


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_no_seed_draws_latents_that_are_the_mapping_network_s_own_weights(seed):
    trainer = Trainer(tiny(seed=seed))
    weight = trainer.generator.mapping[1].weight.flatten().detach()
    latents = torch.randn(len(weight), generator=draw(seed))
    assert abs(float(torch.corrcoef(torch.stack((weight, latents)))[0, 1])) < 0.5


def test_given_weights_are_the_start_and_stay_as_they_are():
    source = Trainer(tiny(seed=5))
    given = Gan(source.average, source.discriminator, "", "given.pt")
    trainer = Trainer(tiny(seed=6), initial=given)
    before = {key: value.clone() for key, value in source.average.state_dict().items()}
    for network in (trainer.generator, trainer.average):
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    run(trainer, 2)
    assert any(
        not torch.equal(value, before[key]) for key, value in trainer.average.state_dict().items()
    )
    assert all(torch.equal(v, before[k]) for k, v in source.average.state_dict().items())


def test_unfit_weights_are_refused():
    source = Trainer(tiny())
    with pytest.raises(TrainingError, match=r"x\.pt has other sizes"):
        Trainer(tiny(style_dim=16), initial=Gan(source.average, source.discriminator, "", "x.pt"))
    with pytest.raises(TrainingError, match=r"x\.pt holds no discriminator"):
        Trainer(tiny(), initial=Gan(source.average, None, "", "x.pt"))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"size": 48}, "power of two"),
        ({"channels": (8, 8)}, "3 widths"),
        ({"rate": 1}, "rate: unknown setting"),
        ({"r1": -1}, "r1"),
        ({"shift": 8}, "shift"),
    ],
)
def test_wrong_settings_are_named(values, sentence):
    with pytest.raises(UserError, match=sentence):
        tiny(**values)
