"""Two real processes that train together, and one alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from gan2shape.pipeline.process_group import SINGLE_PROCESS, ProcessGroup

COUNT = 2


def _network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    return network.to(memory_format=torch.channels_last)


def _images(rank: int) -> Tensor:
    return torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(10 + rank))


def _loss(network: nn.Module, rank: int) -> Tensor:
    output: Tensor = network(_images(rank))
    return output.square().mean()


def _work(rank: int, folder: str) -> None:
    """What each process does; what it found goes into a file."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=COUNT)
    process_group, network = ProcessGroup(rank, COUNT), _network(rank)
    process_group.share(network)
    shared = [parameter.detach().clone() for parameter in network.parameters()]
    _loss(network, rank).backward()
    unused = nn.Parameter(torch.ones(1))  # without a gradient, as of a network that a step holds
    process_group.average([*network.parameters(), unused])
    cpu = torch.device("cpu")
    found = {
        "shared": shared,
        "gradients": [parameter.grad for parameter in network.parameters()],
        "unused": unused.grad,
        "worst": [process_group.worst(verdict, cpu) for verdict in (rank, 1 - rank, 0, -rank)],
    }
    torch.save(found, f"{folder}/{rank}.pt")
    process_group.meet()
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("process_group")
    multiprocessing.spawn(_work, (str(folder),), nprocs=COUNT)
    return [torch.load(folder / f"{rank}.pt") for rank in range(COUNT)]


def test_all_begin_with_the_parameters_of_the_first(found: list[dict[str, Any]]) -> None:
    own = list(_network(1).parameters())
    for rank in range(COUNT):
        for got, wanted in zip(found[rank]["shared"], _network(0).parameters(), strict=True):
            assert torch.equal(got, wanted)
    assert not torch.equal(found[1]["shared"][0], own[0])


def test_gradients_are_those_of_all_images_together(found: list[dict[str, Any]]) -> None:
    network = _network(0)
    (sum(_loss(network, rank) for rank in range(COUNT)) / COUNT).backward()
    for rank in range(COUNT):
        gradients = found[rank]["gradients"]
        for got, parameter in zip(gradients, network.parameters(), strict=True):
            torch.testing.assert_close(got, parameter.grad)
        assert found[rank]["unused"] is None
    for first, second in zip(found[0]["gradients"], found[1]["gradients"], strict=True):
        assert torch.equal(first, second)  # or the processes would drift apart


def test_the_worst_verdict_is_everybodys(found: list[dict[str, Any]]) -> None:
    assert [result["worst"] for result in found] == [[1, 1, 0, 0]] * COUNT


def test_alone_nothing_changes_and_nobody_is_asked() -> None:
    assert not distributed.is_initialized()
    network = _network(3)
    _loss(network, 0).backward()
    before = [(p.detach().clone(), p.grad.clone()) for p in network.parameters()]  # type: ignore[union-attr]
    SINGLE_PROCESS.share(network)
    SINGLE_PROCESS.average(network.parameters())
    SINGLE_PROCESS.meet()
    assert SINGLE_PROCESS.worst(2, torch.device("cpu")) == 2
    for parameter, (value, gradient) in zip(network.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)
