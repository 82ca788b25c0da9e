"""Made-up results of a shard; apart from the stand-in, so that a process can import it quickly."""

from __future__ import annotations

from typing import Any

import numpy as np

from gan2shape.jobs.run import store


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
