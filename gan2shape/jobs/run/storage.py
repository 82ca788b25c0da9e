"""The files of a run by their names below its directory: all that touches the disk for them.

An object store can take the place of the directory, since nothing here appends to a file or changes
it in part, and a file that appears is whole. What is written inside a shard (checkpoints, the files
of an attempt before its commit) is on a local disk in any case.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from zarr.storage import LocalStore

from gan2shape.jobs.files import TEMPORARY, sync, write_whole


@dataclass(frozen=True)
class FileRecord:
    """What a file must be: its size in bytes and the SHA-256 of its content."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Storage:
    """A run's directory; names are relative to it, such as `commits/000003.json`."""

    root: Path

    def open(self, name: str) -> BinaryIO:
        """The file for reading."""
        return open(self.root / name, "rb")

    def read(self, name: str) -> bytes:
        """The file's content."""
        with self.open(name) as file:
            return file.read()

    def put(self, name: str, data: bytes) -> None:
        """Write the file in one step; it survives a power cut from then on."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)

    def adopt(self, files: Mapping[str, Path]) -> None:
        """Take over finished local files, one after the other, each in one step."""
        for name, path in files.items():
            os.replace(path, self.root / name)
        for folder in {(self.root / name).parent for name in files}:
            sync(folder)

    def remove(self, name: str) -> None:
        """Remove the file if it is there."""
        (self.root / name).unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, in order, half-written ones left out."""
        found = (self.root / folder).iterdir()
        return sorted(f"{folder}/{f.name}" for f in found if not f.name.startswith(TEMPORARY))

    def sweep(self, folder: str) -> None:
        """Remove what killed writers left half-written in a folder."""
        for leftover in (self.root / folder).glob(f"{TEMPORARY}*"):
            leftover.unlink(missing_ok=True)

    def damage(self, name: str, record: FileRecord, verify: bool = False) -> str | None:
        """How the file differs from its record: in presence and size, with `verify` in content."""
        path = self.root / name
        try:
            size = path.stat().st_size
            if size != record.size:
                return f"{name} has {size} bytes in place of {record.size}"
            if verify and file_record(path).sha256 != record.sha256:
                return f"{name} has changed since it was written"
        except (FileNotFoundError, NotADirectoryError):
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        return None

    def zarr(self, name: str, read_only: bool = True) -> LocalStore:
        """The folder as a store of Zarr arrays."""
        return LocalStore(self.root / name, read_only=read_only)


def file_record(path: Path) -> FileRecord:
    """Size and digest of a local file."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(file.tell(), digest)


def file_records(tree: Mapping[str, Mapping[str, Any]]) -> dict[str, FileRecord]:
    """Records as YAML and JSON hold them, as objects. Raises `TypeError` for anything else."""
    return {name: FileRecord(**record) for name, record in tree.items()}


def bytes_record(data: bytes) -> FileRecord:
    """Size and digest of a file's content."""
    return FileRecord(len(data), hashlib.sha256(data).hexdigest())
