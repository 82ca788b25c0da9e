"""Is it the same head? An embedding that tells identities apart whatever the view and the light.

A small network, trained to name each of some hundred identities from many drawings of them. What
it sees in identities that it was never shown is judged by pairs: `Verification`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan2shape.pipeline.perceptual.inversion import match_size
from gan2shape.pipeline.seeds import batches

SIZE = 64
"""Pixels of the images that the network sees."""
DIMENSIONS = 64
"""Of the embedding."""
WIDTHS = (32, 64, 128, 256)
"""Channels after each halving of the size."""
PART = 256
"""Images that are embedded at once."""

OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class IdentityTraining:
    """All that decides what a network learns, besides the drawings."""

    steps: int = 600
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    scale: float = 16.0
    """On cosines, before the softmax over identities."""
    seed: int = 0


@dataclass(frozen=True)
class Verification:
    """How well distances tell pairs of the same identity from pairs of different ones."""

    auc: float
    """Chance that a pair of the same identity is nearer than one of different ones; 1 is best."""
    same: float
    """Mean distance of pairs of the same identity."""
    different: float
    """Of pairs of different ones."""


class IdentityNet(nn.Module):
    """Images to unit vectors: strided convolutions at 64 pixels."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in WIDTHS:
            layers += [
                nn.Conv2d(before, width, 4, 2, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            before = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(before * (SIZE >> len(WIDTHS)) ** 2, DIMENSIONS)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, S, S) in [-1, 1], of any size, to (N, 64) of length 1."""
        features = self.features(match_size(images, SIZE))
        return functional.normalize(self.head(features.flatten(1)), dim=1)


def train_identity(
    portraits: Tensor,
    options: IdentityTraining,
    on_step: OnStep = lambda done, total: None,
) -> IdentityNet:
    """A network trained on I identities, in evaluation mode; the same one every time on one thread.

    Args:
        portraits: (I, V, 3, 64, 64) uint8, V drawings of each identity.
        on_step: called with (steps done, steps in all).
    """
    identities, count = portraits.shape[:2]
    images, names = portraits.flatten(0, 1), torch.arange(identities).repeat_interleave(count)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network, centres = IdentityNet(), nn.Parameter(torch.randn(identities, DIMENSIONS))
    optimizer = torch.optim.AdamW(
        [*network.parameters(), centres],
        lr=options.learning_rate,
        weight_decay=options.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=options.steps
    )
    order = batches(len(images), 0, options.batch, options.seed)
    for step in range(options.steps):
        index = next(order)
        found = network(_unit(images[index]))
        cosines = found @ functional.normalize(centres, dim=1).T  # (B, I)
        loss = functional.cross_entropy(options.scale * cosines, names[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        on_step(step + 1, options.steps)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def embed(network: IdentityNet, images: Tensor) -> Tensor:
    """Unit vectors (N, 64) of images (N, 3, S, S) in [-1, 1]."""
    return torch.cat([network(part) for part in images.split(PART)])


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Distance (N,) of unit vectors (N, D): 0 for equal ones, 1 for unrelated, 2 for opposite."""
    return 1 - (a * b).sum(1)


def verify(network: IdentityNet, portraits: Tensor) -> Verification:
    """Judge all pairs among portraits (I, V, 3, 64, 64) uint8 of I >= 2 identities, V >= 2."""
    identities, count = portraits.shape[:2]
    found = embed(network, _unit(portraits.flatten(0, 1)))
    names = torch.arange(identities).repeat_interleave(count)
    first, second = torch.triu_indices(len(found), len(found), 1)
    gaps = 1 - (found @ found.T)[first, second]
    alike = names[first] == names[second]
    same, different = gaps[alike], gaps[~alike]
    return Verification(_auc(same, different), float(same.mean()), float(different.mean()))


def _auc(low: Tensor, high: Tensor) -> float:
    """Share of pairs of both whose first is the smaller; ties count half."""
    ordered = high.sort().values
    below = torch.searchsorted(ordered, low.contiguous()) + torch.searchsorted(
        ordered, low.contiguous(), right=True
    )
    return 1 - float(below.double().mean()) / (2 * len(high))


def _unit(pixels: Tensor) -> Tensor:
    """uint8 as float32 in [-1, 1]."""
    return pixels.float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)
