"""The results of runs as data frames: one row for each committed image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from gan2shape.jobs.report.reference_rows import CONSTANT, reference_rows
from gan2shape.jobs.report.scores import statistics
from gan2shape.jobs.run import store
from gan2shape.schemas.results import COMMITTED, FAILED

SCORES = ("side", "mad_degrees", "mad_paper_degrees", "relief_scale", "inversion_l1")
STAGES = ("load", "inversion", "reconstruction", "metrics")
SECONDS = [f"seconds_{stage}" for stage in STAGES]
STEPS = ("prior", "step1", "step2", "views", "step3", "inputs")
"""Steps of the reconstruction in their order, by the names that it times them under."""
AXES = ("pitch", "yaw", "roll")
LOSS, STEP = "loss_", "step_seconds_"
MAPS = {"losses": LOSS, "seconds_stages": STEP}
"""Columns of the metrics that hold several numbers, and the prefix of those numbers' columns."""
NO_REASON = "no reason was recorded"


def results_frame(run: store.Run) -> pd.DataFrame:
    """The committed images of a run in row order, one row each, by `image_id`.

    The columns are those of the metrics and of the manifest (`schemas.results`,
    `schemas.manifest`). Each loss is a column `loss_NAME`, and each step of the reconstruction a
    column `step_seconds_NAME`. Raises `store.RunError` when the run cannot be read.
    """
    metrics = store.read_metrics(run)
    plain = metrics.drop_columns(list(MAPS)).to_pandas()
    wide = [_map_columns(metrics[name], prefix) for name, prefix in MAPS.items()]
    frame = pd.concat([plain, *wide], axis=1)
    manifest = pd.DataFrame(store.read_manifest(run)).set_index("row")
    frame = frame.join(manifest[manifest.columns.difference(frame.columns)], on="row")
    return frame.set_index("image_id")


def _map_columns(column: pa.ChunkedArray, prefix: str) -> pd.DataFrame:
    """A column of maps from names to numbers, as a column for each name."""
    pair = pa.struct([("name", pa.string()), ("value", pa.float64())])
    pairs = column.cast(pa.list_(pair))
    values = pc.list_flatten(pairs)
    long = pd.DataFrame({name: pc.struct_field(values, name) for name in ("name", "value")})
    long["place"] = pc.list_parent_indices(pairs)
    wide = long.pivot(index="place", columns="name", values="value")
    return wide.reindex(range(len(column))).astype(float).add_prefix(prefix)


def seconds_per_image(frame: pd.DataFrame) -> float:
    """Seconds of computing per image that was tried; NaN without such images."""
    return float(frame[SECONDS].sum().sum()) / len(frame) if len(frame) else np.nan


def entries(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries, with `None` for what is missing."""
    plain = frame.reset_index()
    rows = plain.astype(object).where(plain.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


@dataclass(frozen=True)
class RunResults:
    """All that a report says about one run."""

    label: str
    run: store.Run
    frame: pd.DataFrame
    """Of `results_frame`."""
    rotation: pd.DataFrame
    """Predicted `AXES` in degrees of the images in `done`."""
    references: dict[str, pd.DataFrame]
    """Scores of the reference rows on the scored images; empty without ground truth."""
    references_note: str | None
    """Why the reference rows are missing, where there was ground truth."""

    @property
    def images(self) -> int:
        return self.run.record.images

    @property
    def left(self) -> int:
        """Images of shards that are not committed yet."""
        return self.images - len(self.frame)

    @cached_property
    def done(self) -> pd.DataFrame:
        """Images with a result."""
        return self.frame[self.frame["status"] == COMMITTED]

    @cached_property
    def failed(self) -> pd.DataFrame:
        """Images without a result; `reason` is the error without the image's name."""
        failed = self.frame[self.frame["status"] == FAILED]
        errors = failed["error"].fillna(NO_REASON)
        pairs = zip(failed.index, errors, strict=True)
        reasons = [generic_reason(image_id, error) for image_id, error in pairs]
        return failed.assign(error=errors, reason=np.array(reasons, object))

    @property
    def unscored(self) -> pd.DataFrame:
        """Images with a result whose ground truth could not be used; `error` says why."""
        return self.done[self.done["error"].notna()]

    @property
    def scores(self) -> pd.DataFrame:
        """`SCORES` of the images with a result; NaN where there is none."""
        return self.done[list(SCORES)]

    @cached_property
    def statistics(self) -> pd.DataFrame:
        """Of the scores, one row for each."""
        return statistics(self.scores)

    @property
    def scored(self) -> bool:
        """Whether any image was compared with ground truth."""
        return bool(self.statistics["count"]["side"])

    @property
    def constant(self) -> pd.DataFrame | None:
        """Scores of constant depth, to which ratios are taken."""
        return self.references.get(CONSTANT)

    @cached_property
    def seconds(self) -> pd.Series:
        """Seconds of computing per image by stage, and by step within the reconstruction."""
        total = self.frame[SECONDS].sum().set_axis(list(STAGES))
        steps = self.frame.filter(regex=f"^{STEP}").sum()
        steps.index = steps.index.str.removeprefix(STEP)
        total["reconstruction"] = max(total["reconstruction"] - steps.sum(), 0.0)
        known = [step for step in STEPS if step in steps]
        order = ["load", "inversion", *known, *steps.index.difference(known), *STAGES[2:]]
        return pd.concat([total, steps])[order] / max(len(self.frame), 1)

    @cached_property
    def losses(self) -> pd.Series:
        """Mean of each loss over the images, and last the inversion's error."""
        columns = self.frame.filter(regex=f"^{LOSS}").sort_index(axis=1)
        columns = columns.rename(columns=lambda name: name.removeprefix(LOSS).replace("_", " "))
        columns = columns.assign(**{"inversion L1": self.done["inversion_l1"]})
        return columns.where(np.isfinite(columns)).mean().dropna()

    @cached_property
    def spread(self) -> pd.DataFrame:
        """Rotations by `AXES` in degrees: `predicted` and `sampled` standard deviation, their
        `ratio`, and the `mean` of the samples.
        """
        prior = self.run.record.config.view_prior
        found = pd.DataFrame({"predicted": self.rotation.std(ddof=0)}, list(AXES))
        found["sampled"] = np.degrees([prior.std[0], prior.yaw_std, prior.std[2]])
        found["mean"] = np.degrees(prior.mean[:3])
        return found.assign(ratio=found["predicted"] / found["sampled"].where(found["sampled"] > 0))

    @property
    def yaw(self) -> dict[str, float]:
        """The yaw's row of `spread`."""
        return {str(name): float(values["yaw"]) for name, values in self.spread.items()}

    @property
    def devices(self) -> list[str]:
        """Devices that shards ran on, the one with most images first."""
        return list(self.frame["device"].replace("", None).value_counts().index)


def read_results(paths: Sequence[Path]) -> list[RunResults]:
    """Read the committed results of every run. Raises `store.RunError` for what is no run."""
    runs = [store.open_run(Path(path)) for path in paths]
    labels = _labels([run.path for run in runs])
    return [_read(run, label) for run, label in zip(runs, labels, strict=True)]


def _labels(paths: Sequence[Path]) -> list[str]:
    """The runs' folder names, with their parents where names repeat."""
    full = [path.resolve() for path in paths]
    names = [path.name for path in full]
    return [
        f"{path.parent.name}/{path.name}" if names.count(path.name) > 1 else path.name
        for path in full
    ]


def _read(run: store.Run, label: str) -> RunResults:
    frame = results_frame(run)
    done = frame[frame["status"] == COMMITTED]
    view = store.read_rows(run.path, "view", slice(0, run.record.images))[done["row"]]
    degrees = pd.DataFrame(np.degrees(view[:, :3].astype(np.float64)), done.index, list(AXES))
    scored = entries(done.loc[np.isfinite(done["side"]), ["truth_uri", "mask_uri"]])
    references, note = reference_rows(scored, run.record.config.camera)
    return RunResults(label, run, frame, degrees, references, note)


def generic_reason(image_id: str, error: str) -> str:
    """The error without the path or name of the image, so that equal reasons count as one."""
    words = error.split(" ")
    if len(words) > 1 and image_id in words[0]:
        words = words[1:]
    # A word that is no more than the name may be a number that has nothing to do with it.
    return " ".join(word if word == image_id else word.replace(image_id, "...") for word in words)
