"""Files that are whole or absent, and the lock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gan2shape.jobs.files import only_process, replacing, write_whole
from gan2shape.schemas.errors import UserError


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    with replacing(path, durable=False) as file:
        Path(file.name).write_bytes(b"by its name")
    assert path.read_bytes() == b"by its name"
    assert list(tmp_path.iterdir()) == [path]


def write_half(path: Path) -> None:
    with replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def test_a_block_that_raises_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for before in ([], [path]):
        with pytest.raises(KeyboardInterrupt):
            write_half(path)
        assert list(tmp_path.iterdir()) == before
        write_whole(path, b"old")
    assert path.read_bytes() == b"old"


HOLD = """
import sys
from pathlib import Path
from gan2shape.jobs.files import only_process
with only_process(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match="taken"), only_process(lock, "taken"):
        pass
    holder.kill()
    holder.communicate()
    with only_process(lock, "taken"):
        pass
