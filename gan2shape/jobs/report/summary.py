"""What a run came to, as plain data: scores, trivial rows, failures, timings, rotation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gan2shape.jobs.inputs.images import ImageError
from gan2shape.jobs.report.reference_rows import TRUTH_BATCH, average_depth, plane_scores
from gan2shape.jobs.run import store
from gan2shape.pipeline.evaluation.reference_depths import constant_depth
from gan2shape.pipeline.scene.camera import Camera
from gan2shape.schemas.results import FAILED

Values = npt.NDArray[np.float64]

SCORES = ("side", "mad_degrees", "mad_paper_degrees", "relief_scale", "inversion_l1")
STAGES = ("load", "inversion", "reconstruction", "metrics")
STEPS = {
    "prior": "starting shape",
    "step1": "step 1, albedo",
    "step2": "step 2, projection",
    "views": "turns of projected samples",
    "step3": "step 3, shape",
    "inputs": "inputs alone",
}
"""Parts of the reconstruction by the names that it times them under."""
PEAKS = ("peak_memory_mb", "peak_device_memory_mb")
FAILURES_KEPT = 1000
AXES = ("pitch", "yaw", "roll")


@dataclass(frozen=True)
class Spread:
    """How a score is spread over images."""

    count: int
    mean: float
    std: float
    """Over images (of the population); 0 for a single image."""
    q25: float
    median: float
    q75: float
    low: float
    high: float


def spread(values: Values) -> Spread | None:
    """The spread of the finite numbers among `values`, or `None` when there are none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    low, q25, median, q75, high = np.percentile(finite, [0, 25, 50, 75, 100])
    return Spread(
        count=int(finite.size),
        mean=float(finite.mean()),
        std=float(finite.std()),
        q25=float(q25),
        median=float(median),
        q75=float(q75),
        low=float(low),
        high=float(high),
    )


@dataclass(frozen=True)
class Method:
    """One row of the table: a run, or one of the trivial predictions on a run's images."""

    name: str
    trivial: bool
    scores: dict[str, Values]
    """Names of `SCORES` to values per image, NaN where there is none."""

    def spread(self, score: str) -> Spread | None:
        """Spread of one score."""
        return spread(self.scores[score]) if score in self.scores else None

    def ratio(self, score: str, reference: Method | None) -> float | None:
        """Mean score as a share of `reference`'s, which must be on the same images."""
        ours = self.spread(score)
        theirs = reference.spread(score) if reference else None
        return ours.mean / theirs.mean if ours and theirs and theirs.mean else None


@dataclass(frozen=True)
class Failure:
    """An image without a result."""

    image_id: str
    row: int
    reason: str


@dataclass(frozen=True)
class Rotation:
    """Predicted rotations (degrees) beside the Gaussian that pseudo views are drawn from."""

    degrees: Values
    """(N, 3) pitch, yaw, roll of the images that are done."""
    prior_std: tuple[float, float, float]
    prior_mean: tuple[float, float, float]

    def std(self, axis: int) -> float:
        """Standard deviation of the predicted rotation about one axis; NaN without images."""
        return float(self.degrees[:, axis].std()) if len(self.degrees) else math.nan

    def ratio(self, axis: int) -> float:
        """Predicted spread as a share of the sampled one."""
        return self.std(axis) / self.prior_std[axis] if self.prior_std[axis] else math.nan


@dataclass(frozen=True)
class RunSummary:
    """All that the report says about one run."""

    label: str
    run: store.Run
    method: Method
    trivial: tuple[Method, ...]
    """Constant depth and average true depth on the scored images; empty without ground truth."""
    trivial_note: str | None
    """Why the trivial rows are missing, where ground truth was there once."""
    rows: npt.NDArray[np.int64]
    """Manifest rows of the images that are done, in order; `method.scores` go with them."""
    images: int
    failures: tuple[Failure, ...]
    """At most `FAILURES_KEPT` of them."""
    failed: int
    reasons: tuple[tuple[str, int], ...]
    """Reasons without the image's name, most frequent first."""
    notes: tuple[Failure, ...]
    """Images that are done but whose ground truth could not be used."""
    seconds: dict[str, float]
    """Stage to seconds of computing, over all images."""
    steps: dict[str, float]
    """Step of the reconstruction to seconds of computing, over all images."""
    losses: dict[str, float]
    """Mean of every loss over the images that are done."""
    peak_memory_mb: float | None
    peak_device_memory_mb: float | None
    devices: tuple[str, ...]
    rotation: Rotation

    @property
    def done(self) -> int:
        """Images with a result."""
        return len(self.rows)

    @property
    def left(self) -> int:
        """Images of shards that are not committed yet."""
        return self.images - self.done - self.failed

    @property
    def scored(self) -> int:
        """Images compared with ground truth."""
        return int(np.isfinite(self.method.scores["side"]).sum())

    @property
    def constant(self) -> Method | None:
        """The constant-depth row, to which ratios are taken."""
        return self.trivial[0] if self.trivial else None

    @property
    def average(self) -> Method | None:
        """The row of the average true depth."""
        return self.trivial[1] if self.trivial else None

    @property
    def seconds_per_image(self) -> float | None:
        """Seconds of computing per image that was tried."""
        tried = self.done + self.failed
        return sum(self.seconds.values()) / tried if tried else None


def summarise(paths: Sequence[Path]) -> list[RunSummary]:
    """Read the committed results of every run. Raises `store.RunError` for what is no run."""
    runs = [store.open_run(Path(path)) for path in paths]
    labels = _labels([run.path for run in runs])
    return [_summarise(run, label) for run, label in zip(runs, labels, strict=True)]


def _labels(paths: Sequence[Path]) -> list[str]:
    """The runs' folder names, with their parents where names repeat."""
    full = [path.resolve() for path in paths]
    names = [path.name for path in full]
    return [
        f"{path.parent.name}/{path.name}" if names.count(path.name) > 1 else path.name
        for path in full
    ]


@dataclass
class _Totals:
    """Running sums over shards."""

    scores: dict[str, list[Values]] = field(default_factory=lambda: {name: [] for name in SCORES})
    rows: list[Values] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    notes: list[Failure] = field(default_factory=list)
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    steps: dict[str, float] = field(default_factory=dict)
    losses: dict[str, list[float]] = field(default_factory=dict)
    peaks: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in PEAKS})
    devices: Counter[str] = field(default_factory=Counter)

    def add(self, table: pa.Table) -> None:
        """Take in the rows of one committed shard."""
        failed = np.array([status == FAILED for status in table["status"].to_pylist()])
        for name in SCORES:
            self.scores[name].append(_floats(table, name)[~failed])
        self.rows.append(table["row"].to_numpy()[~failed])
        for name in STAGES:
            self.seconds[name] += float(np.nansum(_floats(table, f"seconds_{name}")))
        for name, value in _pairs(table, "seconds_stages"):
            self.steps[name] = self.steps.get(name, 0.0) + value
        for name, value in _pairs(table, "losses"):
            if math.isfinite(value):
                total = self.losses.setdefault(name, [0.0, 0.0])
                total[0] += value
                total[1] += 1
        for name, kept in self.peaks.items():
            values = _floats(table, name)
            kept.extend(values[np.isfinite(values)])
            kept[:] = [max(kept)] if kept else []
        self.devices.update(device for device in table["device"].to_pylist() if device)
        self._add_failures(table, failed)

    def _add_failures(self, table: pa.Table, failed: npt.NDArray[np.bool_]) -> None:
        errors, ids = table["error"].to_pylist(), table["image_id"].to_pylist()
        rows = table["row"].to_pylist()
        for bad, error, image_id, row in zip(failed, errors, ids, rows, strict=True):
            if not bad and error is None:
                continue
            failure = Failure(image_id, row, error or "no reason was recorded")
            kept = self.failures if bad else self.notes
            if len(kept) < FAILURES_KEPT:
                kept.append(failure)
            if bad:
                self.failed += 1
                self.reasons[generic_reason(failure)] += 1


def _summarise(run: store.Run, label: str) -> RunSummary:
    totals = _Totals()
    for table in committed_parts(run):
        totals.add(table)
    scores = {name: np.concatenate([*parts, []]) for name, parts in totals.scores.items()}
    rows = np.concatenate([*totals.rows, np.zeros(0, np.int64)]).astype(np.int64)
    scored = rows[np.isfinite(scores["side"])]
    trivial, note = trivial_rows(run, scored)
    return RunSummary(
        label=label,
        run=run,
        method=Method(label, False, scores),
        trivial=trivial,
        trivial_note=note,
        rows=rows,
        images=run.record.images,
        failures=tuple(totals.failures),
        failed=totals.failed,
        reasons=tuple(totals.reasons.most_common()),
        notes=tuple(totals.notes),
        seconds={name: value for name, value in totals.seconds.items() if value},
        steps=totals.steps,
        losses={name: total / count for name, (total, count) in sorted(totals.losses.items())},
        **{name: max(kept, default=None) for name, kept in totals.peaks.items()},
        devices=tuple(name for name, _ in totals.devices.most_common()),
        rotation=_rotation(run, rows),
    )


def committed_parts(run: store.Run) -> Iterator[pa.Table]:
    """The metrics of every committed shard, one after the other."""
    for plan in run.plan:
        table = store.read_part(run, plan.index)
        if table is not None:
            yield table


def generic_reason(failure: Failure) -> str:
    """The reason without the path or name of the image, so that equal reasons count as one."""
    words = failure.reason.split(" ")
    name = failure.image_id
    if len(words) > 1 and name in words[0]:
        words = words[1:]
    # A word that is no more than the name may be a number that has nothing to do with it.
    return " ".join(word if word == name else word.replace(name, "...") for word in words)


def _floats(table: pa.Table, name: str) -> Values:
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def _pairs(table: pa.Table, name: str) -> Iterator[tuple[str, float]]:
    for pairs in table[name].to_pylist():
        for key, value in pairs or []:
            if value is not None:
                yield key, value


def _rotation(run: store.Run, rows: npt.NDArray[np.int64]) -> Rotation:
    prior = run.record.config.view_prior
    view = store.read_rows(run.path, "view", slice(0, run.record.images))[rows]
    pitch, yaw, roll = np.degrees((prior.std[0], prior.yaw_std, prior.std[2])).tolist()
    return Rotation(
        degrees=np.degrees(view[:, :3].astype(np.float64)),
        prior_std=(pitch, yaw, roll),
        prior_mean=tuple(np.degrees(prior.mean[:3]).tolist()),
    )


def manifest_rows(run: store.Run, rows: Sequence[int]) -> list[dict[str, Any]]:
    """The manifest's entries of some rows, in their order."""
    return list(_manifest(run).take(pa.array(rows, pa.int64())).to_pylist())


def _manifest(run: store.Run) -> pa.Table:
    return store.manifest_table(run).select(["image_id", "uri", "truth_uri", "mask_uri", "row"])


def trivial_rows(
    run: store.Run, rows: npt.NDArray[np.int64]
) -> tuple[tuple[Method, ...], str | None]:
    """Constant depth and average true depth, scored on the given images of a run.

    Reads the ground truth twice (the average comes first), `TRUTH_BATCH` images at a time. Gives no
    rows, and the reason, when a file is not there any more: the ratios would be of other images.
    """
    if not len(rows):
        return (), None
    camera = run.record.config.camera
    try:
        mean = average_depth(_entries(run, rows), camera)
        planes = {
            "Constant depth": constant_depth(Camera.from_config(camera), 1)[0].double(),
            "Average true depth": mean.result(),
        }
        scores = plane_scores(planes, _entries(run, rows), camera)
    except ImageError as error:
        return (), f"ground truth {error}."
    except ValueError as error:
        return (), str(error)
    return tuple(Method(name, True, values) for name, values in scores.items()), None


def _entries(run: store.Run, rows: npt.NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """The manifest's entries of some rows, `TRUTH_BATCH` at a time in memory."""
    manifest = _manifest(run)
    for start in range(0, len(rows), TRUTH_BATCH):
        yield from manifest.take(pa.array(rows[start : start + TRUTH_BATCH])).to_pylist()
