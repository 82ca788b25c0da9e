"""The mean of what several networks make of images."""

from __future__ import annotations

import torch

from gan2shape.pipeline.extensions.consensus import consensus_depth, consensus_error
from gan2shape.pipeline.scene.render import render_depth
from tests.networks import tiny_networks

STYLE, SIZE = 16, 32


def test_shapes_are_averaged_as_images_show_them() -> None:
    several = [tiny_networks("0" * 64, STYLE, SIZE, seed).shape_networks() for seed in (0, 1)]
    images = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    masks = torch.ones(4, SIZE, SIZE)
    masks[:, :4] = 0
    mean = consensus_depth(several, images, masks, "float32")
    seen, inside = [], masks > 0
    with torch.no_grad():
        for networks in several:
            depth, view = networks.depth(images), networks.view(images)
            depth, covered = render_depth(depth, view, networks.camera)
            seen.append(depth)
            inside = inside & (covered > 0)
    assert torch.equal(mean.isfinite(), inside)
    assert not inside[:, :4].any()
    for number, (first, second) in enumerate(zip(*seen, strict=True)):
        where = inside[number]
        first, second, both = first[where], second[where], mean[number][where]
        assert (first - second).std() > 1e-4
        reliefs = [depth - depth.mean() for depth in (first, second)]
        flat = sum(reliefs) / 2
        deep = sum(relief.std() for relief in reliefs) / 2
        assert deep > 1.01 * flat.std()
        torch.testing.assert_close(both, first.mean() + flat * deep / flat.std())


def test_mirror_images_are_asked_too() -> None:
    networks = tiny_networks("0" * 64, STYLE, SIZE).shape_networks()
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images = torch.cat([images, images.flip(-1)])
    masks = torch.ones(4, SIZE, SIZE)
    alone = consensus_depth([networks], images, masks, "float32")
    both = consensus_depth([networks], images, masks, "float32", mirrored=True)
    where = both[:2].isfinite()
    reliefs = [each - each.nanmean((1, 2), keepdim=True) for each in both.split(2)]
    torch.testing.assert_close(reliefs[0], reliefs[1].flip(-1), equal_nan=True, atol=1e-4, rtol=0)
    assert (alone[:2] - alone[2:].flip(-1))[where].abs().max() > 1e-3


def test_depth_as_deep_as_the_mean_does_not_disagree_wherever_it_is() -> None:
    networks = tiny_networks("0" * 64, STYLE, SIZE).shape_networks()
    mean = networks.depth(torch.zeros(2, 3, SIZE, SIZE)).detach()
    mean[:, 0] = torch.nan
    seen = mean.nan_to_num(1.0)
    loss, apart = consensus_error(seen + 0.001, mean, networks.camera)
    torch.testing.assert_close(loss, torch.zeros(2), atol=2e-3, rtol=0)
    torch.testing.assert_close(apart, torch.zeros(2), atol=2e-3, rtol=0)
    ramp = torch.linspace(0, 0.1, SIZE).expand(SIZE, SIZE)
    assert (consensus_error(seen + ramp, mean, networks.camera)[0] > 1).all()
