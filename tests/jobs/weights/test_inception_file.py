"""Inception files that cannot be used get one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gan2shape.jobs.weights.files import CheckpointError
from gan2shape.jobs.weights.inception_file import load_inception
from tests.inception import NoInception, TinyInception, write_script


def write(path: Path, kind: str) -> Path:
    if kind == "text":
        path.write_text("no weights")
    elif kind == "other":
        write_script(path, NoInception())
    elif kind == "cut":
        whole = write_script(path, TinyInception(2)).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "state":
        torch.save({"weight": torch.zeros(2)}, path)
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("absent", "no Inception file"),
        ("folder", "is a folder"),
        ("text", "not a TorchScript file"),
        ("cut", "not a TorchScript file"),
        ("state", "not a TorchScript file"),
        ("other", "does not give features"),
    ],
)
def test_other_files_get_one_sentence(tmp_path, kind, sentence):
    with pytest.raises(CheckpointError, match=sentence) as raised:
        load_inception(write(tmp_path / "net.pt", kind))
    assert len(str(raised.value).splitlines()) == 1
    assert "net.pt" in str(raised.value)
