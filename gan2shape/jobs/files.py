"""Small files that are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from gan2shape.schemas.errors import UserError

TEMPORARY = ".tmp-"
"""Marks a file that is still being written; nobody reads these."""
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""What file systems without locks answer."""


_STATES = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "over its quota",
    errno.EROFS: "read-only",
    errno.EFBIG: "not taking files as large as these",
}
_CODES = {os.strerror(code): code for code in _STATES}
"""For errors that come as text alone."""


class StorageError(UserError):
    """The disk cannot take what a run has to write; the message says why and what to do."""


def storage_error(error: OSError, run: Path, remedy: str | None = None) -> StorageError | None:
    """The sentence for a full, read-only or forbidden disk, or `None` for any other error.

    `remedy` says what to do once there is room.
    """
    text = str(error)
    code = error.errno or next((code for name, code in _CODES.items() if name in text), 0)
    state = _STATES.get(code)
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
    held = FileLock(lock, fallback_to_soft=False)
    try:
        held.acquire(blocking=False)
    except Timeout:
        raise UserError(busy) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    try:
        yield
    finally:
        held.release()


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """Write `path` so that a reader sees the old file or the new one, never a part of it.

    Gives a file with a temporary name beside `path`; that name (`file.name`) may be written to as
    well. When the block ends, the file takes the place of `path`, or is removed if the block
    raised. It survives a power cut from then on, unless it is not to be `durable`.
    """
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{path.name}")
    try:
        with open(temporary, "wb") as file:
            yield file
        if durable:
            sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def write_whole(path: Path, data: bytes, durable: bool = True) -> None:
    """Write `data` to `path` in one step, as `replacing` does."""
    with replacing(path, durable) as file:
        file.write(data)


def sync(path: Path) -> None:
    """Put a file's content, or a folder's entries, on the disk: they survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
