"""Commit records: one small file per shard, written last, whose existence is the commit."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from gan2shape.jobs.run.record import FORMAT
from gan2shape.jobs.run.storage import FileRecord, file_records

COMMITS = "commits"


@dataclass(frozen=True)
class Commit:
    """A committed shard."""

    run: str
    """Hash of the run's settings and weights."""
    shard: int
    first_row: int
    images: int
    failed: int
    """How many of the images have no result."""
    seconds: float
    """Of computing, over all images."""
    files: dict[str, FileRecord]
    """All files of the shard, by their names in the run."""

    def dump(self) -> bytes:
        """The record as JSON, with a digest of its own: no bit of it can change unnoticed."""
        tree = {"format": FORMAT} | asdict(self)
        return _text(tree | {"sha256": _digest(tree)})


def commit_name(shard: int) -> str:
    """The record's name in the run."""
    return f"{COMMITS}/{shard:06d}.json"


def parse_commit(data: bytes) -> Commit:
    """The commit that `dump` wrote. Raises `ValueError` when a byte of it has changed."""
    tree = json.loads(data)
    if not isinstance(tree, dict) or _text(tree) != data:
        raise ValueError("it is damaged")
    if tree.pop("sha256", None) != _digest(tree):
        raise ValueError("it is damaged")
    if tree.pop("format") != FORMAT:
        raise ValueError("it is of another format")
    return Commit(**tree | {"files": file_records(tree["files"])})


def _text(tree: dict[str, Any]) -> bytes:
    return (json.dumps(tree, indent=1) + "\n").encode()


def _digest(tree: dict[str, Any]) -> str:
    return hashlib.sha256(_text(tree)).hexdigest()
