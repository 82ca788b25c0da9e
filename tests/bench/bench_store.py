"""What committing costs, on one core: `python tests/bench/bench_store.py [IMAGES]`.

Commits the arrays and rows of so many images at 64 pixels with zarr's own codecs and with zarrs, in
turn, and prints processor and wall time for an image. The arrays are those of the shipped heads'
true shapes, so that they compress as results do.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import zarr  # noqa: E402
from PIL import Image  # noqa: E402

from gan2shape.jobs.inputs.images import load_depth, load_image  # noqa: E402
from gan2shape.jobs.inputs.scan import Found, Scan  # noqa: E402
from gan2shape.jobs.run import store  # noqa: E402
from gan2shape.schemas.settings import load_config  # noqa: E402

HEADS = Path(__file__).parents[2] / "examples" / "heads64"
SHARD = 64
LATENT = 256
PIPELINES = {
    "zarr": "zarr.core.codec_pipeline.BatchedCodecPipeline",
    "zarrs": "zarrs.ZarrsCodecPipeline",
}


def main(images: int) -> None:
    heads = load_heads()
    settings = {"shard_size": SHARD, "group_size": SHARD}
    record = store.RunRecord(
        load_config("heads64", settings), store.Weights("gan", "0" * 64), None, LATENT
    )
    names = tuple(f"{i:06d}" for i in range(images))
    none = (None,) * images
    found = Scan(names, tuple(Found(f"/{n}.png", 1) for n in names), none, none, none, 0)
    for latents in ("given", "not looked for"):
        for pipeline in ("zarr", "zarrs") * 2:
            with (
                tempfile.TemporaryDirectory() as folder,
                zarr.config.set({"codec_pipeline.path": PIPELINES[pipeline]}),
            ):
                run = store.create_run(Path(folder) / "run", record, found.manifest(SHARD))
                wall, busy = time.perf_counter(), time.process_time()
                for plan in run.plan:
                    store.commit_shard(run, plan.index, *content(run, plan.index, heads, latents))
                busy, wall = time.process_time() - busy, time.perf_counter() - wall
                made = time.process_time()
                for plan in run.plan:
                    content(run, plan.index, heads, latents)
                busy -= time.process_time() - made
            print(
                f"{pipeline:6} latents {latents:15} {1000 * busy / images:6.2f} CPU-ms an image, "
                f"{1000 * wall / images:6.2f} ms of wall time",
                flush=True,
            )


def load_heads() -> dict[str, np.ndarray[Any, Any]]:
    """Arrays of the shipped heads, by their names in a run."""
    colours, depths, masks = [], [], []
    for file in sorted((HEADS / "image").iterdir()):
        colours.append(load_image(str(file), 64).pixels.transpose(2, 0, 1) * 2 - 1)
        depths.append(load_depth(str(HEADS / "depth" / f"{file.stem}.tiff"), 64))
        masks.append(np.asarray(Image.open(HEADS / "mask" / file.name)) > 0)
    depth = np.stack(depths)
    slopes = np.gradient(depth, 0.0027, axis=(1, 2))
    normal = np.stack([slopes[1], slopes[0], -np.ones_like(depth)], axis=-1)
    return {
        "depth": depth,
        "albedo": np.stack(colours),
        "normal": normal / np.linalg.norm(normal, axis=-1, keepdims=True),
        "mask": np.stack(masks),
        "reconstruction": np.stack(colours),
    }


def content(
    run: store.Run, shard: int, heads: dict[str, np.ndarray[Any, Any]], latents: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Arrays and rows of a shard."""
    plan = run.plan.shard(shard)
    chance = np.random.default_rng(shard)
    index = np.arange(plan.start, plan.stop) % len(heads["depth"])
    arrays: dict[str, Any] = {name: values[index] for name, values in heads.items()}
    arrays["view"] = chance.normal(size=(plan.count, 6))
    arrays["light"] = chance.normal(size=(plan.count, 4))
    arrays["latent"] = chance.normal(size=(plan.count, LATENT))
    if latents != "given":
        arrays["latent"] = np.full((plan.count, LATENT), np.nan)
    rows = [
        {
            "image_id": f"{row:06d}",
            "row": row,
            "shard": shard,
            "status": "done",
            "losses": {"photometric": 0.1, "perceptual": 0.2},
            "seconds_reconstruction": 0.1,
            "config_hash": run.record.config_hash,
        }
        for row in range(plan.start, plan.stop)
    ]
    return arrays, rows


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
