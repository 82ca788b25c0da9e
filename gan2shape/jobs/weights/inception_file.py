"""Inception weights: the TorchScript file of the StyleGAN2-ADA code (`inception-2015-12-05.pt`)."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from gan2shape.jobs.weights.files import CheckpointError, file_digest
from gan2shape.pipeline.stylegan2.training.fid import Inception


def load_inception(path: str | Path, device: torch.device | str = "cpu") -> Inception:
    """Read a TorchScript network `net(images_uint8_NCHW, return_features=True) -> (N, F)`.

    A script is a program: open files of sources that you trust. Raises `CheckpointError` when the
    file is missing, broken or holds something else.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give the Inception file itself.")
    if not path.exists():
        raise CheckpointError(f"There is no Inception file {path}; check the path.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the format is the file's
            network = torch.jit.load(str(path), map_location=device).eval()
    except Exception as error:
        raise CheckpointError(
            f"{path} is not a TorchScript file, or is cut off; give inception-2015-12-05.pt of the "
            "StyleGAN2-ADA code."
        ) from error
    inception = Inception(network, torch.device(device), file_digest(path))
    try:
        found = inception.features(torch.zeros(2, 3, 64, 64))
        fits = found.dim() == 2 and len(found) == 2 and bool(torch.isfinite(found).all())
    except Exception as error:  # whatever the script raises
        raise _unfit(path) from error
    if not fits:
        raise _unfit(path)
    return inception


def _unfit(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} does not give features of images as net(images, return_features=True); give "
        "inception-2015-12-05.pt of the StyleGAN2-ADA code."
    )
