"""What the rows of a benchmark came to, image by image: plain data for table and page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from gan2shape.benchmark.heads import average_file, entries, is_complete, read_average, usable
from gan2shape.benchmark.methods import AVERAGE, CONSTANT, METHODS, Method
from gan2shape.benchmark.record import Bench
from gan2shape.benchmark.trainings import read_record
from gan2shape.jobs.files import write_whole
from gan2shape.jobs.report.reference_rows import DEPTH_SCORES, plane_scores
from gan2shape.jobs.report.summary import STAGES
from gan2shape.jobs.run import store
from gan2shape.pipeline.evaluation.reference_depths import constant_depth
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.results import FAILED
from gan2shape.schemas.settings import CameraConfig

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RowScores:
    """One row of the table on the test heads; every array has an entry for each head."""

    method: Method
    scores: dict[str, Values]
    """By `DEPTH_SCORES`; NaN where there is none."""
    done: npt.NDArray[np.bool_]
    """Which images have an outcome, be it a failure."""
    errors: tuple[str | None, ...]
    """Why an image failed."""
    seconds_per_image: float | None = None
    training_seconds: float | None = None
    """Of the networks that it starts from; `None` where they came with the package."""
    run: store.Run | None = None
    plane: Tensor | None = None
    """Depth (S, S) of all images, for rows without a run."""

    @property
    def finished(self) -> bool:
        return bool(self.done.all())

    @property
    def failed(self) -> int:
        """Images without a result."""
        return sum(error is not None for error in self.errors)

    @property
    def scored(self) -> npt.NDArray[np.bool_]:
        """Images with scores."""
        return np.isfinite(self.scores["side"]) & np.isfinite(self.scores["mad_degrees"])

    @property
    def counts(self) -> bool:
        """Whether it is compared with the others: finished, and not without any score."""
        return self.finished and bool(self.scored.any())

    @property
    def state(self) -> str:
        """As people read it; empty where it is finished."""
        if self.finished:
            return "" if self.counts else "all images failed"
        done = int(self.done.sum())
        return f"{done} of {self.done.size} images done" if done else "not made yet"


@dataclass(frozen=True)
class Results:
    """All rows on the same heads."""

    bench: Bench
    entries: list[dict[str, Any]]
    """A manifest's entry for each head."""
    rows: tuple[RowScores, ...]

    @property
    def compared(self) -> npt.NDArray[np.bool_]:
        """Heads that every finished row has scores for: what all numbers are over."""
        parts = [row.scored for row in self.rows if row.counts]
        return np.logical_and.reduce(parts) if parts else np.zeros(len(self.entries), bool)

    @property
    def camera(self) -> CameraConfig:
        """Of all rows."""
        return CameraConfig(size=self.bench.record.heads.size)

    def row(self, number: int) -> RowScores:
        """A row by its number in the table."""
        return next(row for row in self.rows if row.method.number == number)


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
    trivial = _trivial(bench, found)
    rows = [
        trivial[method.number] if method.recipe is None else _run_row(bench, method, found)
        for method in METHODS
    ]
    return Results(bench, found, tuple(rows))


def _trivial(bench: Bench, found: Sequence[dict[str, Any]]) -> dict[int, RowScores]:
    """The rows of depth that is the same for all images."""
    camera = CameraConfig(size=bench.record.heads.size)
    average = read_average(average_file(bench.cache, bench.record.train_heads))
    planes: dict[int, Tensor | None] = {
        CONSTANT: constant_depth(Camera.from_config(camera), 1)[0].double(),
        AVERAGE: average,
    }
    made = {str(number): plane for number, plane in planes.items() if plane is not None}
    with usable(bench.heads):
        scores = plane_scores(made, found, camera)
    rows = {}
    for method in METHODS:
        if method.number in planes:
            number, there = str(method.number), np.full(len(found), str(method.number) in made)
            values = scores.get(number) or _nothing(len(found))
            errors = (None,) * len(found)
            plane = planes[method.number]
            rows[method.number] = RowScores(method, values, there, errors, plane=plane)
    return rows


def _run_row(bench: Bench, method: Method, found: Sequence[dict[str, Any]]) -> RowScores:
    folder = bench.row(method.folder)
    training = _training_seconds(bench, method)
    scores, count = _nothing(len(found)), len(found)
    done = np.zeros(count, bool)
    errors: list[str | None] = [None] * count
    if not (folder / "run.yaml").exists():
        return RowScores(method, scores, done, tuple(errors), training_seconds=training)
    run = store.open_run(folder)
    places = {entry["image_id"]: place for place, entry in enumerate(found)}
    seconds = 0.0
    for row in store.read_metrics(run).to_pylist():
        place = places[row["image_id"]]
        done[place] = True
        seconds += sum(row[f"seconds_{stage}"] or 0.0 for stage in STAGES)
        for name, values in scores.items():
            values[place] = np.nan if row[name] is None else row[name]
        if row["status"] == FAILED:
            errors[place] = row["error"] or "no reason was recorded"
    each = seconds / done.sum() if done.any() else None
    return RowScores(method, scores, done, tuple(errors), each, training, run)


def _training_seconds(bench: Bench, method: Method) -> float | None:
    row = bench.record.rows.get(method.number)
    folders = row.trainings if row else []
    return sum(read_record(bench.cache, folder).seconds for folder in folders) or None


def _nothing(count: int) -> dict[str, Values]:
    return {name: np.full(count, np.nan) for name in DEPTH_SCORES}


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
    compared = results.compared
    lines = [
        {
            "number": row.method.number,
            "name": row.method.name,
            "symmetry": row.method.symmetry,
            "image_id": entry["image_id"],
            "done": bool(row.done[place]),
            "error": row.errors[place],
            "compared": bool(compared[place]),
        }
        | {name: _number(values[place]) for name, values in row.scores.items()}
        for row in results.rows
        for place, entry in enumerate(results.entries)
    ]
    write_table(pa.Table.from_pylist(lines, schema=SCORES_SCHEMA), file)


def write_table(table: pa.Table, file: Path) -> None:
    """Write a Parquet file as a whole."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    write_whole(file, buffer.getvalue().to_pybytes())


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
