"""A folder for work that takes long and can be interrupted, such as a training.

    record.yaml     what decides the result, what may change, and where the parts came from
    finished.json   is there once the work is done, and says how far it went
    seconds         the time that the work took so far
    log.jsonl       one row of figures every now and then
    cache/          what was computed on the way, by name and key
    checkpoints/    what the work goes on from

Whoever gives the same command again goes on where the work was.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from gan2shape.jobs.checkpoints import Checkpoints
from gan2shape.jobs.files import TEMPORARY, only_process, storage_error, write_whole
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.settings import plain_digest

RECORD, FINISHED, SECONDS, LOG, LOCK = (
    *("record.yaml", "finished.json", "seconds", "log.jsonl", ".lock"),
)
CACHE, CHECKPOINTS = "cache", "checkpoints"
KEY_SHOWN = 12
SHORT = 24
"""Longest values that a message about other settings shows."""
Part = TypeVar("Part")


@contextmanager
def work_directory(
    path: Path, kind: str, fixed: Mapping[str, Any], about: Mapping[str, Any]
) -> Iterator[WorkDirectory]:
    """Make `path` if it is not there, and hold it for this process.

    Args:
        kind: what work it is, in a word.
        fixed: plain values that decide the result. They may not change when the work goes on.
        about: what else the record says: settings that may change, and paths.
    Raises:
        UserError: `path` is a file, another process works in it, its record is damaged or says
            that it holds other work, or the disk is full or cannot be written.
    """
    wanted = json.loads(json.dumps({"kind": kind} | dict(fixed)))
    with held(path):
        record = path / RECORD
        before = _read_record(record)
        changed = differences(before or wanted, wanted)
        changed = [name for name in changed if name.startswith("kind ")] or changed
        if changed:
            raise UserError(
                f"{path} holds a training with other {', '.join(changed)}; give the same command "
                "to go on with it, or choose another --out."
            )
        tree = {"fixed": wanted, "about": json.loads(json.dumps(dict(about)))}
        write_whole(record, yaml.safe_dump(tree, sort_keys=False).encode())
        work = WorkDirectory(path, plain_digest(wanted))
        try:
            yield work
        except UserError:
            if before is None and not (path / CHECKPOINTS).exists():
                record.unlink()  # nothing has been made yet, and the settings may be the mistake
            raise
        finally:
            work.save_seconds()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Make the folder `path`, and keep other processes that ask for it out.

    Raises `UserError` when `path` is a file, when another process has it, and in place of an
    `OSError` of the disk.
    """
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; name a directory with --out.")
    busy = f"Another process works in {path}; wait for it, stop it, or choose another --out."
    try:
        path.mkdir(parents=True, exist_ok=True)
        with only_process(path / LOCK, busy):
            yield
    except OSError as error:
        raise storage_error(error, path, "give the same command again") or error from error


class WorkDirectory:
    """An open work directory. `key` is the digest of all that decides the result."""

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key
        self.cache = Cache(path / CACHE)
        self._log = path / LOG
        self._before = read_seconds(path)
        self._start = time.monotonic()

    def checkpoints(self, name: str = "") -> Checkpoints:
        """The checkpoints of the process `name`, without what a killed one left half-written."""
        found = Checkpoints(self.path / CHECKPOINTS / name, self.key)
        found.sweep()
        return found

    def finish(self, **reached: Any) -> None:
        """Mark the work as done; `reached` are plain values that say how far it went."""
        self.save_seconds()
        write_whole(self.path / FINISHED, json.dumps(reached).encode())

    def finished(self) -> dict[str, Any] | None:
        """How far the work went when it was done; `None` where it is not."""
        return read_finished(self.path)

    def clear_checkpoints(self) -> None:
        """Remove all checkpoints of work that is done."""
        shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)

    def save_seconds(self) -> None:
        """Write down the time spent, for a process that may be killed."""
        seconds = self._before + time.monotonic() - self._start
        write_whole(self.path / SECONDS, f"{seconds:.1f}\n".encode())

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a row to the log, its numbers to five digits."""
        with self._log.open("a") as file:
            file.write(json.dumps(rounded(row)) + "\n")
        self.save_seconds()

    def trim_log(self, keep: Callable[[list[dict[str, Any]]], Sequence[dict[str, Any]]]) -> None:
        """Keep the rows that `keep` chooses: those of steps that will not be done again."""
        rows = keep(read_log(self.path))
        write_whole(self._log, "".join(json.dumps(row) + "\n" for row in rows).encode())


class Cache:
    """Files that take long to make, each in a folder that is whole or absent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(
        self, name: str, key: Any, make: Callable[[Path], None], load: Callable[[Path], Part]
    ) -> Part:
        """What `load` reads from the folder of `name` and `key`.

        Args:
            key: plain values. Another key replaces what was kept under this name.
            make: writes the folder's files, where the folder is absent or `load` cannot read it.
        """
        place = self.folder / f"{name}-{plain_digest(key)[:KEY_SHOWN]}"
        try:
            return load(place)
        except Exception:  # absent or damaged: made again
            pass
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f"{TEMPORARY}{uuid.uuid4().hex}-{name}"
        try:
            temporary.mkdir()
            make(temporary)
            for other in self.folder.glob(f"{name}-{'?' * KEY_SHOWN}"):
                shutil.rmtree(other)
            os.replace(temporary, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return load(place)


def differences(before: Any, now: Any) -> list[str]:
    """The names of nested settings that differ, with both values where these are short."""
    known, wanted = _flat(before), _flat(now)
    found = []
    for name in sorted(known.keys() | wanted.keys()):
        old, new = known.get(name), wanted.get(name)
        if old != new:
            short = max(len(str(old)), len(str(new))) <= SHORT
            found.append(f"{name} ({old}, not {new})" if short else name)
    return found


def read_finished(path: Path) -> dict[str, Any] | None:
    """How far the work in the folder `path` went; `None` where it is not done."""
    try:
        found = json.loads((path / FINISHED).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def read_seconds(path: Path) -> float:
    """The time that the work in the folder `path` took so far, in seconds."""
    try:
        return float((path / SECONDS).read_text())
    except (OSError, ValueError):
        return 0.0


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of the log in the folder `path`; a half-written last line is left out."""
    rows: list[dict[str, Any]] = []
    try:
        lines = (path / LOG).read_text().splitlines()
    except FileNotFoundError:
        return rows
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def rounded(value: Any) -> Any:
    """Nested plain values with all numbers to five digits."""
    if isinstance(value, Mapping):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _read_record(file: Path) -> dict[str, Any] | None:
    """What decided the result of the work in a folder; `None` where there is no record."""
    try:
        found = yaml.safe_load(file.read_text())["fixed"]
        if isinstance(found, dict):
            return found
    except FileNotFoundError:
        return None
    except (yaml.YAMLError, ValueError, TypeError, KeyError):
        pass
    raise UserError(f"{file} is damaged; choose another --out.")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names; those below `settings` stand without it."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= _flat(value, "" if name == "settings" else f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
