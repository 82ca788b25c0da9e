"""Opening files of weights: torch files and safetensors, without running code from them."""

from __future__ import annotations

import argparse
import hashlib
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gan2shape.schemas.errors import UserError


class CheckpointError(UserError):
    """A weights file cannot be used; the message is one sentence that names the file and the
    remedy.
    """


def read_tree(path: Path, what: str) -> Any:
    """Open a torch file without running code from it.

    Raises `CheckpointError`: `what` ("StyleGAN2 weights") names the expected content in the
    sentence.
    """
    try:
        # argparse.Namespace is a plain holder of values, which training scripts store beside the
        # weights
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(
                str(path), map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except Exception as error:
        message = " ".join(str(error).split())
        unsafe = re.search(r"unsupported global:? (?:GLOBAL )?(\S+)", message, re.IGNORECASE)
        if unsafe:
            raise CheckpointError(
                f"{path} holds Python objects besides tensors ({unsafe.group(1)}), which could run "
                "code, so it was not opened; save its state dicts alone with torch.save."
            ) from error
        if isinstance(error, PermissionError):
            raise CheckpointError(
                f"{path} may not be read ({error.strerror}); change its permissions."
            ) from error
        raise CheckpointError(
            f"{path} is not a readable torch file of {what}: it is of another kind or cut off; "
            "download or export it again."
        ) from error


def read_safetensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; raises `CheckpointError`."""
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file of {what}: it is of another kind or cut "
            "off; download or export it again."
        ) from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
