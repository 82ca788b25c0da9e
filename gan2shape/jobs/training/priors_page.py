"""What people see of estimated priors: a table, and a page of distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gan2shape.jobs.inputs.scan import IMAGE_FOLDERS
from gan2shape.jobs.report.page import render, write_page
from gan2shape.jobs.report.tables import Table
from gan2shape.pipeline.training.priors import Priors

Values = npt.NDArray[np.float64]

TRUTH = "truth.parquet"
DEGREES = 180 / math.pi


@dataclass(frozen=True)
class Component:
    """One number of a view or light, and how people read it."""

    name: str
    column: str
    """Of the table of truth."""
    unit: str = ""
    factor: float = 1.0
    """From the settings' unit to this one."""


VIEW = (
    Component("pitch", "rotation_x", "degrees", DEGREES),
    Component("yaw", "rotation_y", "degrees", DEGREES),
    Component("roll", "rotation_z", "degrees", DEGREES),
    Component("shift to the right", "translation_x", "scene units"),
    Component("shift downwards", "translation_y", "scene units"),
    Component("shift away", "translation_z", "scene units"),
)
LIGHT = (
    Component("ambient", "light_ambient"),
    Component("diffuse", "light_diffuse"),
    Component("direction x", "light_x"),
    Component("direction y", "light_y"),
)


@dataclass(frozen=True)
class Distribution:
    """One component over all images, in its unit; it is a constant 0 where `std` is 0."""

    component: Component
    values: Values
    """(M,) what the networks see."""
    mean: float
    std: float
    """Of the fitted Gaussian."""
    truth: Values | None
    """(M,) where it is known."""

    def figures(self) -> dict[str, float | str]:
        """Fitted and true mean and standard deviation, rounded."""
        known = self.truth
        found = {"mean": self.mean, "std": self.std}
        if known is not None:
            found |= {"true_mean": float(known.mean()), "true_std": float(known.std())}
        return {"unit": self.component.unit} | {k: float(f"{v:.4g}") for k, v in found.items()}


def read_truth(source: str, ids: Sequence[str]) -> Values | None:
    """True views and lights (M, 10) of the images `ids` of a data set of synthetic heads.

    They are in the settings' units. `None` where the data set has no such table, or not of them.
    """
    path = Path(source) / TRUTH
    if not path.is_file() or not any((path.parent / name).is_dir() for name in IMAGE_FOLDERS):
        return None
    columns = [component.column for component in VIEW + LIGHT]
    try:
        table = pq.read_table(path, columns=["image_id", *columns])
    except (OSError, pa.ArrowInvalid):
        return None
    if not {"image_id", *columns} <= set(table.column_names):
        return None
    rows = {name: row for row, name in enumerate(table["image_id"].to_pylist())}
    if not set(ids) <= set(rows):
        return None
    values = np.stack([table[name].to_numpy() for name in columns], axis=1)
    return values[[rows[name] for name in ids]].astype(np.float64)


def distributions(priors: Priors, truth: Values | None) -> list[Distribution]:
    """The components of views and lights that vary."""
    fit = priors.rounds[-1]
    seen = np.concatenate([priors.view.numpy(force=True), priors.light.numpy(force=True)], axis=1)
    means, stds = fit.view_mean + fit.light_mean, fit.view_std + fit.light_std
    return [
        Distribution(
            component,
            seen[:, i].astype(np.float64) * component.factor,
            means[i] * component.factor,
            stds[i] * component.factor,
            None if truth is None else truth[:, i] * component.factor,
        )
        for i, component in enumerate(VIEW + LIGHT)
        if stds[i] > 0
    ]


def table(found: Sequence[Distribution]) -> Table:
    """Fitted means and standard deviations, and the true ones where known."""
    rows = {}
    for item in found:
        figures = item.figures()
        unit = f", {figures.pop('unit')}" if item.component.unit else ""
        rows[item.component.name + unit] = {
            name.replace("_", " "): f"{value:.4g}" for name, value in figures.items() if value != ""
        }
    return Table("Component", pd.DataFrame.from_dict(rows, "index"))


def write_priors_page(
    file: Path, priors: Priors, found: Sequence[Distribution], origin: dict[str, Any]
) -> None:
    """Write the page; `origin` is what the estimation was made from."""
    from gan2shape.jobs.report import charts

    unstable = (
        "The Gaussians still changed in the last round. Take them with care, or allow more rounds "
        "with --rounds."
    )
    html = render(
        "priors.html.j2",
        title=f"Priors of {origin['source']}",
        notes=[] if priors.stable else [unstable],
        origin=origin,
        images=len(priors.ids),
        rounds=len(priors.rounds),
        has_truth=any(item.truth is not None for item in found),
        table=table(found),
        charts=[
            charts.distribution(
                *(item.values, item.mean, item.std, item.truth, "run-1"),
                f"Distribution of {item.component.name}",
                item.component.unit,
                item.component.name,
            )
            for item in found
        ],
    )
    write_page(file, html)
