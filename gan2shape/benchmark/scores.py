"""What the rows of a benchmark came to, image by image: one data frame for table and page."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from gan2shape.benchmark.heads import average_file, entries, is_complete, read_average, usable
from gan2shape.benchmark.methods import AVERAGE, BY_NUMBER, CONSTANT, METHODS, Method
from gan2shape.benchmark.record import Bench
from gan2shape.benchmark.trainings import read_record
from gan2shape.jobs.files import write_whole
from gan2shape.jobs.report.reference_rows import DEPTH_SCORES, plane_scores
from gan2shape.jobs.report.results import NO_REASON, results_frame, seconds_per_image
from gan2shape.jobs.run import store
from gan2shape.pipeline.evaluation.reference_depths import constant_depth
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.results import COMMITTED, FAILED
from gan2shape.schemas.settings import CameraConfig


@dataclass(frozen=True)
class Results:
    """All rows of the table on the same heads."""

    bench: Bench
    entries: list[dict[str, Any]]
    """A manifest's entry for each head."""
    scores: pd.DataFrame
    """A line for each row of the table and each head, by `number` and `image_id`, in their orders:
    `done` (whether there is an outcome, be it a failure), `error` (why the image failed) and
    `DEPTH_SCORES` (NaN where there is none)."""
    seconds: pd.DataFrame
    """By number: `seconds_per_image` of the run, and `training_seconds` of the networks that it
    starts from. NaN where there is no run, or the networks came with the package."""
    runs: dict[int, store.Run] = field(default_factory=dict)
    """By number."""
    planes: dict[int, Tensor] = field(default_factory=dict)
    """By number, for rows without a run: the depth (S, S) of all images."""

    @cached_property
    def states(self) -> pd.DataFrame:
        """By number: `failed` (images without a result), `state` (for people, empty where the row
        is finished), and `counts` (whether the row is compared with the others: finished, and not
        without any score).
        """
        done = self.scores["done"].groupby("number").agg(["sum", "size"])
        finished, scored = done["sum"] == done["size"], self.scored.groupby("number").any()
        state = done["sum"].astype(str) + " of " + done["size"].astype(str) + " images done"
        state = state.mask(done["sum"] == 0, "not made yet")
        state = state.mask(finished, "all images failed").mask(finished & scored, "")
        failed = self.scores["error"].groupby("number").count()
        return pd.DataFrame({"failed": failed, "state": state, "counts": finished & scored})

    @property
    def scored(self) -> pd.Series:
        """Which lines of `scores` have them."""
        return self.scores[["side", "mad_degrees"]].map(np.isfinite).all(axis=1)

    @property
    def counting(self) -> list[int]:
        """Numbers of the rows that are compared; empty where no head is left to compare."""
        counting = list(self.states.index[self.states["counts"]])
        return counting if self.compared.any() else []

    @cached_property
    def compared(self) -> pd.Series:
        """By head, whether every row that counts has scores for it: what all numbers are over."""
        counts = self.states["counts"].reindex(self.scores.index, level="number")
        compared = self.scored[counts].groupby("image_id").all()
        return compared.reindex(self.row(CONSTANT).index, fill_value=False)

    def row(self, number: int) -> pd.DataFrame:
        """The lines of one row of the table, by head."""
        return self.scores[self.scores.index.get_level_values("number") == number].droplevel(0)

    @property
    def camera(self) -> CameraConfig:
        """Of all rows."""
        return CameraConfig(size=self.bench.record.heads.size)


def read_results(bench: Bench) -> Results:
    """Score the rows without a run, and read what the others have committed.

    Raises `UserError` when the heads are gone or damaged, or a run cannot be read.
    """
    record = bench.record
    if not is_complete(bench.heads, record.heads):
        raise UserError(
            f"{bench.heads} does not hold the {record.heads}; make it again with 'gan2shape "
            f"benchmark heads --out {bench.out}' and the options that it began with."
        )
    found = entries(bench.heads)
    heads = pd.Index([entry["image_id"] for entry in found], name="image_id")
    planes = _planes(bench)
    with usable(bench.heads):
        made = {str(number): plane for number, plane in planes.items()}
        constant = plane_scores(made, found, CameraConfig(size=record.heads.size))
    frames = {
        int(number): values.set_index(heads).assign(status=COMMITTED)
        for number, values in constant.items()
    }
    folders = {method.number: bench.row(method.folder) for method in METHODS}
    runs = {
        number: store.open_run(folder)
        for number, folder in folders.items()
        if (folder / "run.yaml").exists()
    }
    frames |= {number: results_frame(run) for number, run in runs.items()}
    scores, seconds = {}, []
    for method in METHODS:
        frame = frames.get(method.number, pd.DataFrame())
        scores[method.number] = _lines(frame.reindex(heads))
        each = seconds_per_image(frame) if method.number in runs else None
        seconds.append((method.number, each, _training_seconds(bench, method)))
    columns = ["number", "seconds_per_image", "training_seconds"]
    return Results(
        bench,
        found,
        pd.concat(scores, names=["number"]),
        pd.DataFrame(seconds, columns=columns).set_index("number").astype(float),
        runs,
        planes,
    )


def _planes(bench: Bench) -> dict[int, Tensor]:
    """Depths (S, S) that are the same for all images, of those rows that are made."""
    camera = Camera.from_config(CameraConfig(size=bench.record.heads.size))
    planes = {CONSTANT: constant_depth(camera, 1)[0].double()}
    average = read_average(average_file(bench.cache, bench.record.train_heads))
    return planes if average is None else planes | {AVERAGE: average}


def _lines(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of `Results.scores` from results by head; heads without a status are not done."""
    lines = frame.reindex(columns=["status", "error", *DEPTH_SCORES])
    status = lines.pop("status")
    error = lines["error"].astype(object).fillna(NO_REASON).where(status == FAILED, None)
    lines = lines.astype(dict.fromkeys(DEPTH_SCORES, float))
    return lines.assign(done=status.notna(), error=error)


def _training_seconds(bench: Bench, method: Method) -> float | None:
    row = bench.record.rows.get(method.number)
    folders = row.trainings if row else []
    return sum(read_record(bench.cache, folder).seconds for folder in folders) or None


def column(name: str, kind: pa.DataType, units: str, meaning: str) -> pa.Field:
    """A column that tells what it is, and may have nulls."""
    return pa.field(name, kind, True, {"units": units, "description": meaning})


SCORES_SCHEMA = pa.schema(
    [
        column("number", pa.int32(), "", "number of the row in the table"),
        column("name", pa.string(), "", "name of the row"),
        column("symmetry", pa.string(), "", "Y, N or /"),
        column("image_id", pa.string(), "", "head"),
        column("done", pa.bool_(), "", "whether the row has an outcome for it"),
        column("error", pa.string(), "", "why the image failed"),
        column("compared", pa.bool_(), "", "whether every finished row has scores for it"),
        column("side", pa.float64(), "1", "scale-invariant depth error (tables print it x 100)"),
        column("mad_degrees", pa.float64(), "degree", "mean angle between normals"),
        column("mad_paper_degrees", pa.float64(), "degree", "by the published formula"),
        column("relief_scale", pa.float64(), "1", "best factor on log depth; 1 is right"),
    ]
)


def write_scores(results: Results, file: Path) -> None:
    """Write one line for every row and head."""
    lines = results.scores.join(results.compared.rename("compared"), on="image_id").reset_index()
    for name in ("name", "symmetry"):
        lines[name] = [getattr(BY_NUMBER[number], name) for number in lines["number"]]
    write_table(lines, SCORES_SCHEMA, file)


def write_table(frame: pd.DataFrame, schema: pa.Schema, file: Path) -> None:
    """Write a Parquet file as a whole."""
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False), buffer)
    write_whole(file, buffer.getvalue().to_pybytes())
