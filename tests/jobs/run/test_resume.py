"""A shard that is done in pieces is bit for bit the shard that is done at once."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import torch

from gan2shape.jobs.run import store
from gan2shape.jobs.run.shard import run_shard
from tests.jobs import tiny
from tests.jobs.tiny import array


class Snapshots:
    """Copies a folder whenever its checkpoints change: what a kill at that moment leaves."""

    def __init__(self, folder: Path, out: Path) -> None:
        self.folder, self.out = folder, out
        self.taken: list[Path] = []
        self._seen: list[tuple[str, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Snapshots:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            try:
                files = sorted(self.folder.glob("*.ckpt"))
                seen = [(file.name, file.stat().st_mtime_ns) for file in files]
                if seen != self._seen:
                    out = self.out / str(len(self.taken))
                    out.mkdir(parents=True)
                    for file in files:
                        shutil.copy(file, out)
                    self._seen = seen
                    self.taken.append(out)
            except FileNotFoundError:  # the shard was committed, or a file replaced
                shutil.rmtree(self.out / str(len(self.taken)), ignore_errors=True)


def test_going_on_from_any_checkpoint_gives_the_same(tmp_path: Path) -> None:
    """Two groups; an image of the first comes without a latent, which is found first."""
    source = tmp_path / "set"
    images = tiny.write_images(source / "image", 4)
    latents = tiny.write_latents(tmp_path, images)
    (source / "latent").mkdir()
    for name, latent in torch.load(latents).items():
        if name != "img1":
            torch.save(latent, source / "latent" / f"{name}.pt")
    run = tiny.make_run(tmp_path, source=str(source), config=tiny.settings(shard_size=4))
    empty = shutil.copytree(run.path, tmp_path / "empty")
    with Snapshots(run.checkpoints(0), tmp_path / "snapshots") as snapshots:
        assert run_shard(run.path, 0, "cpu").fatal is None
    assert not run.checkpoints(0).exists()
    whole = {spec.name: array(run, spec.name) for spec in run.specs()}
    assert np.isfinite(whole["depth"]).all()
    rows = store.read_metrics(run).to_pylist()

    def names(folder: Path) -> set[str]:
        return {file.stem for file in folder.iterdir()}

    first = next(taken for taken in snapshots.taken if names(taken) == {"latents"})
    middle = [taken for taken in snapshots.taken if names(taken) == {"latents", "state"}]
    late = [taken for taken in snapshots.taken if names(taken) >= {"group-0", "state"}]
    for taken in (first, middle[-1], late[-1]):
        shutil.rmtree(run.path)
        shutil.copytree(empty, run.path)
        shutil.copytree(taken, run.checkpoints(0))
        assert run_shard(run.path, 0, "cpu").fatal is None
        for name, values in whole.items():
            np.testing.assert_array_equal(array(run, name), values, err_msg=name)
        again = store.read_metrics(run).to_pylist()
        assert again[1]["seconds_inversion"] == rows[1]["seconds_inversion"]  # not done again
        same = again[0]["seconds_reconstruction"] == rows[0]["seconds_reconstruction"]
        assert same == ("group-0" in names(taken))
