"""The paper's image manipulations as parts of a benchmark: heads turned and relit.

views/   rotation.parquet, relighting.parquet, their pictures, and checkpoints
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from gan2shape.benchmark.manipulation import relighting, rotation
from gan2shape.benchmark.manipulation.heads import FEWEST, TooFewHeadsError
from gan2shape.benchmark.manipulation.identity import FULL
from gan2shape.benchmark.manipulation.scoring import result_files
from gan2shape.benchmark.manipulation.table import ALL, METHODS, Views, read_views
from gan2shape.benchmark.methods import BY_NUMBER
from gan2shape.benchmark.methods import METHODS as ROWS
from gan2shape.benchmark.record import Bench
from gan2shape.benchmark.rows import is_made
from gan2shape.benchmark.sections import Experiment, Section
from gan2shape.jobs.progress import Display, steps_of
from gan2shape.jobs.report.gallery import data_uri
from gan2shape.jobs.report.tables import Table, decimals
from gan2shape.jobs.run import store
from gan2shape.schemas.packaged import NETWORKS_FILE, asset_path

FOLDER = "views"
SHAPES = (10, 6)
"""Numbers of the rows whose shapes may be used: the first one that is finished is."""
BUDGET = FULL
"""Of the network that tells heads apart."""
CACHED = "identity"
"""Its folder in the benchmark's cache."""
COLUMNS = {
    "l1_inside": ("L1, head", 4),
    "l1": ("L1, image", 4),
    "ssim": ("SSIM", 3),
    "identity": ("Identity", 3),
    "lpips": ("LPIPS", 3),
}
"""Titles and digits of the scores."""


@dataclass(frozen=True)
class Manipulation:
    """A manipulation, and what people read about it."""

    name: str
    title: str
    run: Callable[..., Views]
    changes: dict[str, str]
    """The changes: names in the table to names for people."""
    lead: str


ROTATION = Manipulation(
    "rotation",
    "Face rotation",
    rotation.rotation,
    dict(zip(rotation.EXPERIMENT.changes, rotation.EXPERIMENT.titles, strict=True)),
    "Every head turned by fixed yaws from where its picture shows it, held against the true "
    "rendering of the head at that yaw. The light turns with the head.",
)
RELIGHTING = Manipulation(
    "relighting",
    "Relighting",
    relighting.relighting,
    dict(zip(relighting.EXPERIMENT.changes, relighting.EXPERIMENT.titles, strict=True)),
    "Every head under new lights, held against its true rendering under them.",
)


def experiment(manipulation: Manipulation) -> Experiment:
    """A manipulation as a part of the benchmark."""
    return Experiment(
        f"{manipulation.title.lower()} against true renderings",
        partial(_make, manipulation),
        partial(_section, manipulation),
    )


def _make(manipulation: Manipulation, bench: Bench, display: Display) -> None:
    run = _shapes(bench)
    if run is None:
        rows = " or ".join(str(number) for number in sorted(SHAPES))
        display.note(f"{manipulation.name} is left out: it needs row {rows}, finished")
        return
    networks = run.record.networks
    if networks is None or not asset_path(networks.path, NETWORKS_FILE).is_file():
        display.note(f"{manipulation.name} is left out: the networks of {run.path} are gone")
        return
    try:
        manipulation.run(
            run.path,
            bench.record.gan.path,
            networks.path,
            bench.out / FOLDER,
            identity=BUDGET,
            cache=bench.cache / CACHED,
            lpips=bench.record.lpips and Path(bench.record.lpips),
            show=steps_of(display.show, manipulation.name),
        )
    except TooFewHeadsError:
        display.note(f"{manipulation.name} is left out: it needs {FEWEST} heads with a result")


def _shapes(bench: Bench) -> store.Run | None:
    """The run of the row whose shapes are shown."""
    for number in SHAPES:
        folder = bench.row(BY_NUMBER[number].folder)
        if is_made(folder):
            return store.open_run(folder)
    return None


def _section(manipulation: Manipulation, bench: Bench) -> Section | None:
    views = read_views(*result_files(bench.out / FOLDER, manipulation.name))
    if views is None:
        return None
    with Image.open(views.picture) as image:
        picture = data_uri(np.asarray(image.convert("RGB"), np.float32) / 255)
    return Section(
        manipulation.title,
        manipulation.lead,
        (_overall(views), _by_change(manipulation, views)),
        _notes(views),
        picture,
    )


def _overall(views: Views) -> Table:
    """All scores of every method, over all changes."""
    found = _rows(views, ALL)
    columns = {
        title: _mean(found, name, digits) + " ± " + decimals(found[f"{name}_std"], digits)
        for name, (title, digits) in COLUMNS.items()
        if found[f"{name}_mean"].notna().any()
    }
    return Table("Method", pd.DataFrame(columns))


def _by_change(manipulation: Manipulation, views: Views) -> Table:
    """The first score of every method under every change."""
    score, (title, digits) = next(iter(COLUMNS.items()))
    columns = {
        shown: _mean(_rows(views, name), score, digits)
        for name, shown in manipulation.changes.items()
    }
    return Table(title, pd.DataFrame(columns))


def _rows(views: Views, change: str) -> pd.DataFrame:
    """The table's rows of one change, by the methods' names for people."""
    table = views.table.to_pandas()
    rows = table[table["change"] == change]
    return rows.set_axis(rows["method"].map(METHODS))


def _mean(rows: pd.DataFrame, score: str, digits: int) -> pd.Series:
    return decimals(rows[f"{score}_mean"].round(digits), digits)


def _notes(views: Views) -> list[str]:
    """How to read the scores."""
    told = views.verification
    rows = [f"row {row.label}" for row in ROWS if row.folder == views.run]
    return [
        f"Means and standard deviations over {views.heads} heads, with the shapes and networks of "
        f"{rows[0] if rows else views.run}.",
        *([f"{views.left_out} heads have no result."] if views.left_out else []),
        "L1 is on [0, 1]; lower is better but for SSIM. Identity is the distance of embeddings by "
        f"a network that tells pairs of heads apart with an AUC of {told.auc:.3f} (same head "
        f"{told.same:.2f}, different heads {told.different:.2f}, on heads it has not seen).",
        f"“{METHODS['truth']}” and “{METHODS['other']}” under the same view and light show the "
        "range of each score.",
    ]
