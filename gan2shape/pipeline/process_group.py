"""Processes that train the same networks, each on images of its own (torch.distributed)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, distributed, nn


class ProcessGroup:
    """The group of `count` processes that this one is number `rank` of; alone it does nothing.

    With a count above 1, torch.distributed must have been initialised, and every process must make
    the same calls in the same order.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank = rank
        self.count = count

    def share(self, network: nn.Module) -> None:
        """Give every process the parameters of process 0."""
        if self.count > 1:
            tensors = [parameter.data for parameter in network.parameters()]
            message = _joined(tensors)
            distributed.broadcast(message, src=0)
            _spread(message, tensors)

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Put the mean over all processes in place of every gradient."""
        if self.count > 1:
            gradients = [p.grad for p in parameters if p.grad is not None]
            message = _joined(gradients)
            distributed.all_reduce(message)
            _spread(message / self.count, gradients)

    def worst(self, verdict: int, device: torch.device) -> int:
        """The largest of all processes' verdicts."""
        if self.count == 1:
            return verdict
        found = torch.tensor(verdict, device=device)
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return int(found)

    def meet(self) -> None:
        """Wait until all processes have come here."""
        if self.count > 1:
            distributed.barrier()


SINGLE_PROCESS = ProcessGroup()


def _joined(tensors: list[Tensor]) -> Tensor:
    """One message for all: the network is asked once, and any memory format will do."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def _spread(message: Tensor, tensors: list[Tensor]) -> None:
    parts = message.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))
