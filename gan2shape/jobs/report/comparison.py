"""The tables of one or several runs: scores by method, counts, losses, seconds, rotation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gan2shape.jobs.report.reference_rows import DEPTH_SCORES
from gan2shape.jobs.report.results import AXES, RunResults, seconds_per_image
from gan2shape.jobs.report.scores import STATISTICS, ratios, statistics
from gan2shape.jobs.report.tables import Table, decimals

SIDE_FACTOR = 100.0
"""Tables print SIDE times 100."""
SIDE, MAD, RELIEF = "SIDE x100", "MAD deg", "relief"
SCORE_GROUPS = {SIDE: ("side", SIDE_FACTOR, 2), MAD: ("mad_degrees", 1.0, 1)}
"""Groups of the table's columns: the score, its factor and its decimals."""
RATIOS = {"side": "side_ratio", "mad_degrees": "mad_ratio"}
COUNTS = ["images", "done", "failed", "left"]
STAGE_NAMES = {
    "load": "Reading images",
    "inversion": "Inversion",
    "prior": "Starting shape",
    "step1": "Step 1, albedo",
    "step2": "Step 2, projection",
    "views": "Turns of projected samples",
    "step3": "Step 3, shape",
    "inputs": "Inputs alone",
    "reconstruction": "Reconstruction, other",
    "metrics": "Metrics",
}
TERMINAL_LOSSES = 3
"""The terminal has room for so many losses."""


@dataclass(frozen=True)
class Method:
    """One line of the table of scores: a run, or a reference row on the images of runs."""

    name: str
    scores: pd.DataFrame
    constant: pd.DataFrame | None
    """Scores of constant depth on the same images, to which ratios are taken."""
    colour: str
    """Name of its CSS variable."""
    results: RunResults | None = None
    """`None` for reference rows."""


def methods(runs: Sequence[RunResults]) -> list[Method]:
    """The lines of the table: for every set of images the reference rows, then the runs on it."""
    sets: list[list[tuple[int, RunResults]]] = []
    for number_of_run, results in enumerate(runs, 1):
        home = next((group for group in sets if _same_images(group[0][1], results)), None)
        if home is None:
            sets.append(home := [])
        home.append((number_of_run, results))
    found: list[Method] = []
    for group in sets:
        first = group[0][1]
        suffix = f" ({first.label})" if len(sets) > 1 else ""
        for name, scores in first.references.items():
            found.append(Method(name + suffix, scores, first.constant, "plain"))
        for place, results in group:
            style = colour(place)
            found.append(Method(results.label, results.scores, first.constant, style, results))
    return found


def _same_images(a: RunResults, b: RunResults) -> bool:
    """Whether two runs were scored on the same ground truth, as their reference rows show."""
    if not a.references or not b.references:
        return False
    return all(
        np.array_equal(scores["side"], b.references[name]["side"])
        for name, scores in a.references.items()
    )


def colour(number_of_run: int) -> str:
    """CSS variable of the colour of a run, counted from 1."""
    return f"run-{(number_of_run - 1) % 6 + 1}"


def score_table(found: Sequence[Method]) -> pd.DataFrame:
    """One row for each method; SIDE plain (not times 100), angles in degrees.

    This is report.csv, and what all other tables of scores are printed from.
    """
    table = pd.DataFrame([_score_line(method) for method in found])
    return table.astype(dict.fromkeys(COUNTS, "Int64"))


def _score_line(method: Method) -> dict[str, Any]:
    found, shares = statistics(method.scores), ratios(method.scores, method.constant)
    line: dict[str, Any] = {
        "method": method.name,
        "kind": "run" if method.results else "reference",
        "images_scored": int(found["count"]["side"]),
    }
    for score in DEPTH_SCORES:
        line |= {f"{score}_{name}": found[name][score] for name in STATISTICS}
    line |= {column: shares[score] for score, column in RATIOS.items()}
    return line | _run_columns(method.results)


def _run_columns(results: RunResults | None) -> dict[str, Any]:
    names = [*COUNTS, "seconds_per_image", "peak_memory_mb", "yaw_std_predicted"]
    names += ["yaw_std_sampled", "config_hash", "gan_sha256", "networks_sha256"]
    if results is None:
        return dict.fromkeys(names)
    record, yaw = results.run.record, results.yaw
    values: list[Any] = _counts(results)
    values += [seconds_per_image(results.frame), results.frame["peak_memory_mb"].max()]
    values += [yaw["predicted"], yaw["sampled"], record.config_hash, record.gan.sha256]
    return dict(zip(names, [*values, record.networks and record.networks.sha256], strict=True))


def printed_scores(found: Sequence[Method], scores: pd.DataFrame) -> Table:
    """The table of scores as people read it."""
    columns = {("", "Images"): scores["images_scored"].astype("string")}
    for group, (score, factor, digits) in SCORE_GROUPS.items():
        part = {name: decimals(scores[f"{score}_{name}"], digits, factor) for name in STATISTICS}
        columns[group, "mean ± std"] = part["mean"] + " ± " + part["std"]
        columns[group, "median"] = part["median"]
        columns[group, "quartiles"] = part["q25"] + " to " + part["q75"]
        columns[group, "ratio"] = decimals(scores[RATIOS[score]], 2)
    runs = scores["kind"] == "run"
    columns["", "Best relief scale"] = decimals(scores["relief_scale_median"].where(runs), 2)
    columns["", "MAD, published formula"] = decimals(scores["mad_paper_degrees_mean"], 1)
    text = pd.DataFrame(columns).set_axis(scores["method"])
    return Table("Method", text, [method.colour for method in found], list(~runs))


def terminal_scores(printed: Table) -> Table:
    """The columns of the table of scores that a terminal has room for."""
    names = {("", "Images"): "images", (SIDE, "mean ± std"): SIDE, (SIDE, "ratio"): "ratio"}
    names |= {(MAD, "mean ± std"): MAD, (MAD, "ratio"): "ratio "}
    names |= {("", "Best relief scale"): RELIEF}
    text = printed.text[list(names)].set_axis(list(names.values()), axis=1)
    return Table("method", text, dim=printed.dim)


def printed_counts(runs: Sequence[RunResults]) -> Table:
    """Counts, time and memory of every run."""
    rows = {
        results.label: [
            *(str(count) for count in _counts(results)),
            seconds_text(seconds_per_image(results.frame)),
            memory_text(results.frame["peak_memory_mb"].max()),
        ]
        for results in runs
    }
    heads = ["Images", "Done", "Failed", "Left", "Seconds per image", "Peak memory"]
    return Table("Run", pd.DataFrame(rows.values(), list(rows), heads))


def _counts(results: RunResults) -> list[int]:
    return [results.images, len(results.done), len(results.failed), results.left]


def terminal_counts(runs: Sequence[RunResults]) -> Table:
    """What a terminal shows of runs without ground truth: counts and the main losses."""
    rows = [dict(zip(COUNTS, map(str, _counts(results)), strict=True)) for results in runs]
    text = pd.DataFrame(rows, [results.label for results in runs])
    text = text.rename(columns={"done": "reconstructed"})
    losses = printed_losses(runs).text
    return Table("run", text.join(losses.iloc[:, -TERMINAL_LOSSES:]))


def printed_losses(runs: Sequence[RunResults]) -> Table:
    """Mean losses, and the inversion's error, by run."""
    losses = pd.DataFrame({results.label: results.losses for results in runs}).T
    order = sorted(losses, key=lambda name: (name == "inversion L1", name))
    return Table("Fit to the input, mean over images", losses[order].apply(decimals, digits=4))


def seconds_table(runs: Sequence[RunResults]) -> pd.DataFrame:
    """Seconds per image: one row for each stage that took time, one column for each run."""
    table = pd.concat([results.seconds for results in runs], axis=1).fillna(0.0)
    names = [*STAGE_NAMES, *table.index.difference(list(STAGE_NAMES))]
    table = table.loc[[name for name in names if name in table.index]]
    return table.set_axis([results.label for results in runs], axis=1)[table.any(axis=1)]


def printed_seconds(runs: Sequence[RunResults], seconds: pd.DataFrame) -> Table:
    """Seconds by stage, then peak memory and devices of every run."""
    text = seconds.map(seconds_text).set_axis([stage_name(stage) for stage in seconds.index])
    peaks = {
        "Peak memory of a worker": "peak_memory_mb",
        "Peak memory on the accelerator": "peak_device_memory_mb",
    }
    text.loc["Together"] = [seconds_text(seconds_per_image(results.frame)) for results in runs]
    for name, column in peaks.items():
        values = [memory_text(results.frame[column].max()) for results in runs]
        if column == "peak_memory_mb" or any(values):
            text.loc[name] = values
    text.loc["Computed on"] = [", ".join(results.devices) or None for results in runs]
    colours = [stage_colour(stage) for stage in seconds.index]
    return Table("Seconds per image", text, colours + [""] * (len(text) - len(colours)))


def stage_name(stage: str) -> str:
    """A stage or step for people."""
    return STAGE_NAMES.get(stage, stage.capitalize())


def stage_colour(stage: str) -> str:
    """CSS variable of the colour of a stage or step."""
    known = stage in STAGE_NAMES and stage != "reconstruction"
    return f"t-{stage}" if known else "t-other"


def printed_rotation(results: RunResults) -> Table:
    """Spread of the predicted rotations beside that of the samples."""
    spread = results.spread
    degrees = {
        name.capitalize(): decimals(spread[name], 1) + "°" for name in ("predicted", "sampled")
    }
    text = pd.DataFrame(degrees | {"Ratio": decimals(spread["ratio"], 2)})
    return Table("Spread (std)", text.set_axis([axis.capitalize() for axis in AXES]))


def seconds_text(value: float | None) -> str | None:
    """Three figures at most; `None` for what is not known."""
    if value is None or np.isnan(value):
        return None
    if value < 0.005:
        return "<0.01"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def memory_text(megabytes: float | None) -> str | None:
    """Memory as people read it; `None` for what is not known."""
    if megabytes is None or np.isnan(megabytes):
        return None
    return f"{megabytes / 1024:.1f} GiB" if megabytes >= 1024 else f"{megabytes:.0f} MiB"
