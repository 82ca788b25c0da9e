"""The identity embedding on toy identities: patterns that are shifted and dimmed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gan2shape.pipeline.evaluation.identity import (
    IdentityTraining,
    _auc,
    distance,
    embed,
    train_identity,
    verify,
)

TINY = IdentityTraining(steps=40, batch=16, learning_rate=3e-3)


def portraits(identities: int, count: int, seed: int) -> Tensor:
    """Coarse random colours, shifted and dimmed at random: (identities, count, 3, 64, 64) uint8."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(identities, 3, 4, 4, generator=random)
    drawn = []
    for own in coarse:
        large = own.repeat_interleave(16, 1).repeat_interleave(16, 2)
        for _ in range(count):
            shift = int(torch.randint(-4, 5, (1,), generator=random))
            light = 0.6 + 0.4 * float(torch.rand(1, generator=random))
            drawn.append((large.roll(shift, 2) * light * 255).to(torch.uint8))
    return torch.stack(drawn).unflatten(0, (identities, count))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def network():
    return train_identity(portraits(24, 4, seed=1), TINY)


def test_training_separates_identities_that_were_never_shown(network):
    unseen = portraits(12, 4, seed=2)
    found = verify(network, unseen)
    assert found.auc > 0.9
    assert found.same < 0.6 * found.different


def test_embeddings_are_unit_vectors_of_images_of_any_size(network):
    images = portraits(3, 1, seed=3)[:, 0].float() / 127.5 - 1
    large = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    found = embed(network, images)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(embed(network, large), found, rtol=0, atol=1e-4)
    torch.testing.assert_close(distance(found, found), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(distance(found, -found), torch.full((3,), 2.0))


def test_the_same_training_gives_the_same_network(network):
    shown: list[tuple[int, int]] = []
    again = train_identity(portraits(24, 4, seed=1), TINY, lambda *step: shown.append(step))
    for ours, theirs in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert shown[-1] == (TINY.steps, TINY.steps)


def test_auc_counts_pairs():
    low, high = torch.tensor([0.1, 0.5]), torch.tensor([0.3, 0.5, 0.9])
    pairs = [1.0 if a < b else 0.5 if a == b else 0.0 for a in low for b in high]
    assert _auc(low, high) == pytest.approx(sum(pairs) / len(pairs))
    assert _auc(torch.zeros(2), torch.ones(2)) == 1
