"""Runs with made-up results: nothing is computed, and a process can import this quickly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gan2shape.jobs.inputs.scan import scan
from gan2shape.jobs.run import store
from gan2shape.schemas.load import load_settings

SIZE = 32
LATENT = 8


def make_record(**overrides: Any) -> store.RunRecord:
    """A record of shards of one group of two small images."""
    small = {"camera.size": SIZE, "group_size": 2, "shard_size": 2}
    return store.RunRecord(
        config=load_settings("heads", "paper", overrides=small | overrides),
        gan=store.Weights("gan.bin", "0" * 64),
        lpips=None,
        latent_size=LATENT,
    )


def new_run(folder: Path, images: int = 5) -> store.Run:
    """A run in `folder`/run of images that are no more than names."""
    (folder / "images").mkdir(parents=True)
    for i in range(images):
        (folder / "images" / f"img{i}.png").touch()
    record = make_record()
    manifest = scan(str(folder / "images")).manifest(record.config.shard_size)
    return store.create_run(folder / "run", record, manifest)


def shard_content(
    run: store.Run, shard: int, value: float
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Arrays and rows of `shard`, all of them `value`."""
    plan = run.plan.shard(shard)
    arrays = {
        spec.name: np.full((plan.count, *spec.shape), value, spec.dtype) for spec in run.specs()
    }
    rows = [
        {
            "image_id": f"img{row}",
            "row": row,
            "shard": shard,
            "status": "done",
            "side": value,
            "losses": {"photometric": value},
            "config_hash": run.record.config_hash,
        }
        for row in range(plan.start, plan.stop)
    ]
    return arrays, rows
