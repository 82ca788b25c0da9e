"""Reading and writing StyleGAN2 weights: rosinality's `.pt` and our own safetensors file.

Reading never runs code from a file: pickles are opened with `weights_only`. Sizes are read off the
tensors.

Own format: a safetensors file with the port's parameter names under `g_ema.` and `d.`, an optional
`latent_avg`, and the metadata `format` = "gan2shape.stylegan2/1". Equal weights make equal files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor

from gan2shape.jobs.weights.files import (
    CheckpointError,
    file_digest,
    read_safetensors,
    read_tree,
)
from gan2shape.pipeline.stylegan2.discriminator import Discriminator
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.pipeline.stylegan2.generator import Generator
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.packaged import GAN_FILE, asset_names, asset_path

FORMAT = "gan2shape.stylegan2/1"
_OPTIONAL = re.compile(r"(^|\.)(kernel|noise_\d+)$")
_Weights = Mapping[str, Tensor]
_Network = TypeVar("_Network", Generator, Discriminator)


def load_gan(name_or_path: str | Path, *, require_discriminator: bool = True) -> Gan:
    """Load weights in either format.

    Args:
        name_or_path: name of packaged weights ("heads64"), or a `.pt` file of the rosinality port
            (a dict with `g_ema`
            or `g`, and `d`; or a generator's bare state dict), or a safetensors file written by
            `save_gan`.
        require_discriminator: refuse a file without one; otherwise `Gan.discriminator` may be
            `None`.
    Returns:
        Networks on the CPU, float32, frozen (no gradients to parameters), in evaluation mode.
    Raises:
        CheckpointError: the file is missing, broken, unsafe, or not of a StyleGAN2.
    """
    path = asset_path(name_or_path, GAN_FILE)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give the StyleGAN2 weights file itself.")
    if not path.exists():
        packaged = ", ".join(asset_names(GAN_FILE))
        raise CheckpointError(
            f"There is no StyleGAN2 weights file {path}; give a .pt or .safetensors path or one "
            f"of: {packaged}."
        )
    generator_state, discriminator_state, latent_avg = _split(_read(path), path)
    generator = _build_generator(generator_state, path)
    discriminator = None
    if discriminator_state is not None:
        discriminator = _build_discriminator(discriminator_state, path)
        if discriminator.size != generator.size:
            raise CheckpointError(
                f"{path} pairs a {generator.size} px generator with a {discriminator.size} px "
                "discriminator; give a file whose 'g_ema' and 'd' were trained together."
            )
    elif require_discriminator:
        raise CheckpointError(
            f"{path} holds no discriminator (key 'd'), whose features the losses need; give the "
            "full training checkpoint."
        )
    if latent_avg is not None and latent_avg.numel() != generator.style_dim:
        latent_avg = None
    return Gan(
        generator=_freeze(generator),
        discriminator=None if discriminator is None else _freeze(discriminator),
        sha256=file_digest(path),
        source=str(name_or_path),
        latent_avg=None if latent_avg is None else latent_avg.float().reshape(-1).clone(),
    )


def check_gan_size(gan: Gan, size: int) -> None:
    """Raise `UserError` where the GAN's images have fewer pixels a side than `size`."""
    if gan.generator.size < size:
        raise UserError(
            f"{gan.source} makes images of {gan.generator.size} pixels, but the settings are "
            f"for {size}; use '--set camera.size={gan.generator.size}' or another --category."
        )


def save_gan(gan: Gan, path: str | Path, *, half: bool = False) -> None:
    """Write our own format. Reading it back gives the same numbers, bit by bit.

    With `half` they are rounded to half precision, in half the space: pictures change by less than
    one of 255 levels.
    """
    tensors = {f"g_ema.{k}": _plain(v) for k, v in gan.generator.state_dict().items()}
    if gan.discriminator is not None:
        tensors |= {f"d.{k}": _plain(v) for k, v in gan.discriminator.state_dict().items()}
    if gan.latent_avg is not None:
        tensors["latent_avg"] = _plain(gan.latent_avg)
    if half:
        tensors = {name: tensor.half() for name, tensor in tensors.items()}
    save_file(tensors, str(path), metadata={"format": FORMAT})


def export_rosinality(gan: Gan, path: str | Path) -> None:
    """Write a `.pt` file that the rosinality port reads (`g_ema` and `d`)."""
    tree: dict[str, Any] = {
        "g_ema": {k: _plain(v) for k, v in gan.generator.state_dict().items()},
    }
    if gan.discriminator is not None:
        tree["d"] = {k: _plain(v) for k, v in gan.discriminator.state_dict().items()}
    if gan.latent_avg is not None:
        tree["latent_avg"] = _plain(gan.latent_avg)
    torch.save(tree, str(path))


def _read(path: Path) -> Any:
    what = "StyleGAN2 weights"
    if path.suffix != ".safetensors":
        return read_tree(path, what)
    tensors, metadata = read_safetensors(path, what)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a StyleGAN2 file of this program (format {FORMAT!r}); give one that it "
            "wrote, or a .pt checkpoint of the rosinality PyTorch port."
        )
    tree: dict[str, Any] = {}
    for key, tensor in tensors.items():
        part, dot, name = key.partition(".")
        if dot:
            tree.setdefault(part, {})[name] = tensor
        else:
            tree[key] = tensor
    return tree


def _split(tree: Any, path: Path) -> tuple[_Weights, _Weights | None, Tensor | None]:
    """Generator, discriminator and mean latent out of what a file holds."""
    if not isinstance(tree, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(tree).__name__}, not StyleGAN2 weights; give a checkpoint "
            "with 'g_ema' and 'd'."
        )
    average = tree.get("latent_avg")
    average = average if isinstance(average, Tensor) else None
    for name in ("g_ema", "g"):
        if isinstance(tree.get(name), Mapping):
            generator = _tensors(tree[name])
            break
    else:
        if not any(isinstance(value, Tensor) for value in tree.values()):
            keys = ", ".join(repr(str(key)) for key in list(tree)[:4]) or "nothing"
            raise CheckpointError(
                f"{path} has no StyleGAN2 generator ('g_ema' or 'g'; it holds {keys}); give a "
                "checkpoint of the rosinality PyTorch port."
            )
        generator = _tensors(tree)
        generator.pop("latent_avg", None)
    discriminator = tree.get("d")
    return (
        generator,
        _tensors(discriminator) if isinstance(discriminator, Mapping) else None,
        average,
    )


def _tensors(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict, without the prefix of data-parallel training."""
    return {
        str(key).removeprefix("module."): value
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def _shape(state: _Weights, key: str, dims: int, network: str, path: Path) -> tuple[int, ...]:
    if key not in state or state[key].dim() != dims:
        raise CheckpointError(
            f"{path} does not hold a StyleGAN2 {network} in rosinality's naming ({key!r} is "
            "missing or misshapen); convert it to the rosinality PyTorch port first."
        )
    return tuple(state[key].shape)


def _build_generator(state: _Weights, path: Path) -> Generator:
    what = "generator"
    channels = {4: _shape(state, "input.input", 4, what, path)[1]}
    style_dim = _shape(state, "style.1.weight", 2, what, path)[0]
    depth = sum(1 for key in state if re.fullmatch(r"style\.\d+\.weight", key))
    side, block = 4, 0
    while f"convs.{2 * block}.conv.weight" in state or block == 0:
        side *= 2
        channels[side] = _shape(state, f"convs.{2 * block}.conv.weight", 5, what, path)[1]
        block += 1
    with torch.random.fork_rng(devices=[]):
        generator = Generator(side, style_dim, depth, channels)
    _fill(generator, state, what, path)
    return generator


def _build_discriminator(state: _Weights, path: Path) -> Discriminator:
    what = "discriminator"
    widths = [_shape(state, "convs.0.0.weight", 4, what, path)[0]]
    while f"convs.{len(widths)}.conv2.1.weight" in state or len(widths) == 1:
        widths.append(_shape(state, f"convs.{len(widths)}.conv2.1.weight", 4, what, path)[0])
    size = 4 << (len(widths) - 1)
    with torch.random.fork_rng(devices=[]):
        network = Discriminator(size, {size >> i: width for i, width in enumerate(widths)})
    _fill(network, state, what, path)
    return network


def _fill(network: Generator | Discriminator, state: _Weights, what: str, path: Path) -> None:
    """Copy `state` into `network`; blur kernels and noise maps may be absent."""
    own = network.state_dict()
    problem = None
    missing = [key for key in own if key not in state and not _OPTIONAL.search(key)]
    extra = [key for key in state if key not in own]
    if missing:
        problem = f"{missing[0]!r} is missing"
    elif extra:
        problem = f"{extra[0]!r} is unknown"
    for key, target in own.items():
        if problem is None and key in state and state[key].shape != target.shape:
            found, wanted = tuple(state[key].shape), tuple(target.shape)
            problem = f"{key!r} has shape {found}, not {wanted}"
        if problem is None and key in state and not bool(torch.isfinite(state[key]).all()):
            problem = f"{key!r} has values that are not finite"
    if problem is not None:
        raise CheckpointError(
            f"{path} does not hold a whole StyleGAN2 {what} ({problem}); give an unmodified "
            "checkpoint of the rosinality PyTorch port."
        )
    with torch.no_grad():
        for key, target in own.items():
            if key in state:
                target.copy_(state[key])


def _freeze(network: _Network) -> _Network:
    return network.eval().requires_grad_(False)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()
