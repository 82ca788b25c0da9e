"""Optimisation state inside a shard: small torch files that are whole, checked, or ignored."""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path
from typing import Any

import torch

from gan2shape.jobs.files import TEMPORARY, write_whole

_DIGEST = hashlib.sha256().digest_size


class Checkpoints:
    """The checkpoint folder of one shard; `key` ties its files to the run's hash and images."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.key = key

    def save(self, name: str, state: Any) -> None:
        """Replace checkpoint `name` in one step; a crash leaves the old one or the new one."""
        buffer = io.BytesIO()
        torch.save({"key": self.key, "state": state}, buffer)
        data = buffer.getvalue()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._file(name), hashlib.sha256(data).digest() + data)

    def load(self, name: str) -> Any | None:
        """The state last saved as `name`; `None` if absent, damaged or of another run."""
        try:
            content = self._file(name).read_bytes()
        except OSError:
            return None
        data = content[_DIGEST:]
        if hashlib.sha256(data).digest() != content[:_DIGEST]:
            return None
        tree = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return tree["state"] if tree.get("key") == self.key else None

    def drop(self, name: str) -> None:
        """Forget checkpoint `name`."""
        self._file(name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the folder: its shard is committed."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a killed worker left half-written: checkpoints, and files to commit."""
        for leftover in self.folder.glob(f"{TEMPORARY}*"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.ckpt"
