"""LPIPS weights, as the `lpips` package's `LPIPS(net="vgg")` has them in its state dict.

Convolutions are `net.slice<k>.<n>.*` and linear heads `lin<k>.model.1.weight` (or
`lins.<k>.model.1.weight`). The file is a `.pt`, `.pth` or safetensors file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from gan2shape.jobs.weights.files import CheckpointError, read_safetensors, read_tree
from gan2shape.pipeline.perceptual.lpips import SLICES, Lpips


def load_lpips(path: str | Path) -> Lpips:
    """Read weights; the network is frozen and in evaluation mode, on the CPU.

    Raises `CheckpointError` with one sentence when the file is missing, broken, unsafe or holds
    something else.
    """
    path = Path(path)
    what = "LPIPS weights"
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give the LPIPS weights file itself.")
    if not path.exists():
        raise CheckpointError(f"There is no LPIPS weights file {path}; check the path.")
    if path.suffix == ".safetensors":
        tree: object = read_safetensors(path, what)[0]
    else:
        tree = read_tree(path, what)
    if not isinstance(tree, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(tree).__name__}, not LPIPS weights; save the state dict of "
            "lpips.LPIPS(net='vgg')."
        )
    state = {str(key).removeprefix("module."): value for key, value in tree.items()}
    network = Lpips()
    with torch.no_grad():
        for target, names in _names(network):
            found = next((state[name] for name in names if name in state), None)
            problem = None
            if not isinstance(found, Tensor):
                problem = f"{names[0]!r} is missing"
            elif found.numel() != target.numel() or (
                target.dim() > 1 and found.shape != target.shape
            ):
                problem = f"{names[0]!r} has shape {tuple(found.shape)}"
            elif not bool(torch.isfinite(found).all()):
                problem = f"{names[0]!r} has values that are not finite"
            if problem is not None or found is None:
                raise CheckpointError(
                    f"{path} does not hold VGG16 LPIPS weights ({problem}); save the state dict of "
                    "lpips.LPIPS(net='vgg')."
                )
            target.copy_(found.reshape(target.shape))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def _names(network: Lpips) -> list[tuple[Tensor, tuple[str, ...]]]:
    """Each parameter with the names that it may have in a file."""
    pairs: list[tuple[Tensor, tuple[str, ...]]] = []
    for k, (group, layers) in enumerate(zip(SLICES, network.slices, strict=True), start=1):
        for (index, _), layer in zip(group, layers, strict=True):  # type: ignore[call-overload]
            pairs.append((layer.weight, (f"net.slice{k}.{index}.weight",)))
            pairs.append((layer.bias, (f"net.slice{k}.{index}.bias",)))
    for k, head in enumerate(network.heads):
        pairs.append((head, (f"lin{k}.model.1.weight", f"lins.{k}.model.1.weight")))
    return pairs
