"""Scores of every method under every change, as a Parquet file that tells what it was made from."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from gan2shape.jobs.files import write_whole
from gan2shape.pipeline.evaluation.identity import Verification

Values = npt.NDArray[np.float64]

SCORES = {
    "l1_inside": "mean |difference| on [0, 1], inside the true rendering's mask",
    "l1": "mean |difference| on [0, 1], whole image",
    "ssim": "structural similarity, 1 is equal",
    "identity": "distance of identity embeddings: 0 the same, 1 unrelated",
    "lpips": "VGG16-LPIPS; null where no weights were given",
}
METHODS = {
    "truth": "True rendering",
    "mesh": "Shape",
    "gan": "Shape, projected onto the GAN",
    "linear": "Linear direction in W",
    "card": "Picture on a cylinder",
    "unchanged": "Unchanged input",
    "other": "Another head",
}
"""Names for people, in the order of the table. The first and the last are no methods: they show
what the best score is, and how far apart two heads are under the same view and light."""
ALL = "all"
KEY, ABOUT = b"key", b"about"


@dataclass(frozen=True)
class Views:
    """What an experiment came to."""

    table: pa.Table
    """A row for each method and change, and one with `change` "all" for each method."""
    heads: int
    left_out: int
    """Heads of the run without a result."""
    run: str
    """Name of the run's directory."""
    verification: Verification
    """What to trust of the scores of identity."""
    table_file: Path
    picture: Path


def _schema(changes: str) -> pa.Schema:
    fields = [
        pa.field("method", pa.string(), False, {"description": ", ".join(METHODS)}),
        pa.field("change", pa.string(), False, {"description": f"{changes}, or {ALL!r}"}),
        pa.field("heads", pa.int64(), False, {"description": "heads that were scored"}),
    ]
    for name, meaning in SCORES.items():
        for statistic in ("mean", "std"):
            about = {"description": f"{statistic} over heads of: {meaning}", "units": "1"}
            fields.append(pa.field(f"{name}_{statistic}", pa.float64(), True, about))
    return pa.schema(fields)


def score_table(scores: Mapping[str, Values], changes: Sequence[str], meaning: str) -> pa.Table:
    """The table of scores (heads, changes, `SCORES`) by method; `meaning` says what changes are."""
    rows: list[dict[str, Any]] = []
    for method in METHODS:
        if method not in scores:
            continue
        values = scores[method]
        columns = {change: values[:, place] for place, change in enumerate(changes)}
        for change, column in (columns | {ALL: values.mean(1)}).items():
            row: dict[str, Any] = {"method": method, "change": change, "heads": len(values)}
            for place, name in enumerate(SCORES):
                row[f"{name}_mean"] = _number(column[:, place].mean())
                row[f"{name}_std"] = _number(column[:, place].std())
            rows.append(row)
    return pa.Table.from_pylist(rows, schema=_schema(meaning))


def write_views(views: Views, key: str) -> None:
    """Write the table; its appearing makes the experiment finished."""
    about = {
        "heads": views.heads,
        "left_out": views.left_out,
        "run": views.run,
        "verification": asdict(views.verification),
    }
    buffer = io.BytesIO()
    metadata = {KEY: key.encode(), ABOUT: json.dumps(about).encode()}
    pq.write_table(views.table.replace_schema_metadata(metadata), buffer)
    write_whole(views.table_file, buffer.getvalue())


def read_views(table_file: Path, picture: Path, key: str | None = None) -> Views | None:
    """The finished experiment `key`, or `None` where it is not there (or another one is).

    Without a key, whichever one is there.
    """
    try:
        table = pq.read_table(table_file)
        metadata = table.schema.metadata or {}
        other = key is not None and metadata.get(KEY) != key.encode()
        if other or ABOUT not in metadata or not picture.exists():
            return None
        about = json.loads(metadata[ABOUT])
        return Views(
            table=table,
            heads=about["heads"],
            left_out=about["left_out"],
            run=about["run"],
            verification=Verification(**about["verification"]),
            table_file=table_file,
            picture=picture,
        )
    except (OSError, pa.ArrowInvalid, KeyError):  # the last: of an earlier version
        return None


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
