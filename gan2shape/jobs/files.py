"""Small files that are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gan2shape.schemas.errors import UserError

TEMPORARY = ".tmp-"
"""Marks a file that is still being written; nobody reads these."""


class StorageError(UserError):
    """The disk cannot take what a run has to write; the message says why and what to do."""


def storage_error(error: OSError, run: Path, remedy: str | None = None) -> StorageError | None:
    """The sentence for a full, read-only or forbidden disk, or `None` for any other error.

    `remedy` says what to do once there is room.
    """
    text = str(error)
    codes = {errno.ENOSPC: "full", errno.EDQUOT: "over its quota", errno.EROFS: "read-only"}
    names = {"No space left": "full", "quota exceeded": "over its quota", "Read-only": "read-only"}
    state = codes.get(error.errno or 0)
    state = state or next((state for name, state in names.items() if name in text), None)
    if state is None and (
        error.errno in (errno.EACCES, errno.EPERM) or "Permission denied" in text
    ):
        state = "not writable for this user"
    if state is None:
        return None
    remedy = remedy or f"go on with 'gan2shape resume {run}'"
    return StorageError(
        f"The disk under {run} is {state}: nothing committed is lost; make room or change the "
        f"permissions, then {remedy}."
    )


@contextmanager
def only_process(lock: Path, busy: str) -> Iterator[None]:
    """Hold the file `lock` for this process; the lock goes with the process, however it ends.

    Raises `UserError` with the sentence `busy` when another process holds it. On a file system
    without locks nothing is held.
    """
    with open(lock, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(busy) from None
        except OSError:
            pass
        yield


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the new one, never a part.

    The bytes and the directory entry are on the disk when this returns.
    """
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{path.name}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put the folder's entries on the disk, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
