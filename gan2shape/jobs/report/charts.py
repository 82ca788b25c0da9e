"""Charts by Plotly. Colours are CSS variables, which charts.js resolves for light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup

Values = npt.NDArray[np.float64]

DOTS = 400
"""Samples with more values than this are drawn as boxes without dots."""
BINS = 30
NAME_LENGTH = 26
INK, DIM, LINE, TRUTH = "var(--ink)", "var(--dim)", "var(--line)", "var(--run-2)"


@dataclass(frozen=True)
class Chart:
    """A figure for the macro `chart` of the pages."""

    title: str
    """What it shows, for people who do not see it."""
    height: int
    """Pixels."""
    figure: Markup
    """JSON, safe inside a script element."""
    caption: str = ""


@dataclass(frozen=True)
class Sample:
    """One row of a box chart."""

    name: str
    values: pd.Series
    """By image id."""
    colour: str
    """Name of a CSS variable."""


def box_chart(samples: Sequence[Sample], unit: str, title: str, caption: str = "") -> Chart | None:
    """Boxes (quartiles, median), whiskers (5 to 95 %), dots for single images, one row a sample."""
    finite = [(sample, sample.values[np.isfinite(sample.values)]) for sample in samples]
    rows = [(sample, values) for sample, values in finite if len(values)]
    if not rows:
        return None
    reach = 1.04 * max(float(values.quantile(0.99)) for _, values in rows)
    traces: list[Any] = []
    for place, (sample, values) in enumerate(rows):
        low, q25, median, q75, high = ([float(values.quantile(q))] for q in QUANTILES)
        line = {"color": _css(sample.colour), "width": 1.5}
        if len(values) <= DOTS:
            shift = (np.arange(len(values)) * 0.618034 % 1 - 0.5) * 0.5
            traces.append(
                go.Scatter(
                    x=values.clip(upper=reach).to_numpy(),
                    y=place + shift,
                    text=[f"{escape(str(i))}: {value:.2f}" for i, value in values.items()],
                    mode="markers",
                    marker={"color": _css(sample.colour), "size": 5, "opacity": 0.4},
                    hoverinfo="text",
                )
            )
        box = {"lowerfence": low, "q1": q25, "median": median, "q3": q75, "upperfence": high}
        traces.append(
            go.Box(y=[place], orientation="h", line=line, width=0.5, hoverinfo="x", **box)
        )
    names = [sample.name for sample, _ in rows]
    return _rows_chart(traces, names, (0, reach), unit, title, caption)


QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def mark_chart(table: pd.DataFrame, colours: Sequence[str], unit: str, title: str) -> Chart | None:
    """A dot and its interval for every row; a diamond where the paper's value is.

    `table` has the rows' names as its index and the columns `value`, `low`, `high` and `paper`,
    with NaN for what is not known.
    """
    if table.empty:
        return None
    names, places = list(table.index), np.arange(len(table))
    paper = {"symbol": "diamond-open", "size": 11, "color": INK}
    traces: list[Any] = [
        go.Scatter(
            x=table["paper"].to_numpy(),
            y=places,
            mode="markers",
            marker=paper,
            hovertemplate="the paper: %{x:.3f}<extra></extra>",
        )
    ]
    marks = zip(table.to_dict("records"), names, places, colours, strict=True)
    for mark, name, place, colour in marks:
        ends, value = [mark["low"], mark["high"]], mark["value"]
        line = {"color": _css(colour), "width": 1.5}
        dot = {"color": _css(colour), "size": 9}
        text = f"{escape(name)}: {value:.3f}"
        traces += [
            go.Scatter(x=ends, y=[place] * 2, mode="lines", line=line, hoverinfo="skip"),
            go.Scatter(
                x=[value], y=[place], mode="markers", marker=dot, text=text, hoverinfo="text"
            ),
        ]
    reach = 1.04 * float(table[["value", "high", "paper"]].max().max())
    return _rows_chart(traces, names, (0, reach), unit, title)


def stacked_bars(
    table: pd.DataFrame, colours: Mapping[str, str], unit: str, title: str
) -> Chart | None:
    """Bars of pieces laid end to end: a bar for each column, a piece for each row."""
    if table.empty:
        return None
    places = np.arange(len(table.columns))
    traces = [
        go.Bar(
            x=values.to_numpy(),
            y=places,
            orientation="h",
            width=0.6,
            marker={"color": _css(colours[str(name)]), "line": {"width": 0}},
            hovertemplate=f"{escape(str(name))}: %{{x:.2f}} {unit}<extra></extra>",
        )
        for name, values in table.iterrows()
    ]
    reach = 1.02 * float(table.sum().max())
    return _rows_chart(traces, [str(name) for name in table], (0, reach), unit, title)


def distribution(
    values: Values,
    mean: float,
    std: float,
    truth: Values | None,
    colour: str,
    title: str,
    unit: str = "",
    caption: str = "",
) -> Chart:
    """Density of values in bins, a Gaussian as a line, and the density of true values as dashes."""
    values = values[np.isfinite(values)]
    both = values if truth is None else np.concatenate([values, truth])
    low = min(float(both.min(initial=math.inf)), mean - 3 * std)
    high = max(float(both.max(initial=-math.inf)), mean + 3 * std)
    if high - low < 1e-6:
        low, high = low - 1, high + 1
    edges = np.linspace(low, high, BINS + 1)
    counts, _ = np.histogram(values, edges)
    width = float(edges[1] - edges[0])
    traces: list[Any] = [
        go.Bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts / max(counts.sum(), 1) / width,
            width=0.92 * width,
            text=[_bin_text(*bin_) for bin_ in zip(edges[:-1], edges[1:], counts, strict=True)],
            textposition="none",
            hoverinfo="text",
            marker={"color": _css(colour), "opacity": 0.6, "line": {"width": 0}},
        )
    ]
    if std:
        x = np.linspace(low, high, 161)
        y = np.exp(-((x - mean) ** 2) / (2 * std**2)) / (std * math.sqrt(2 * math.pi))
        traces.append(_line(x, y, {"color": INK, "width": 2}))
    if truth is not None:
        density, _ = np.histogram(truth, edges, density=True)
        line = {"color": TRUTH, "width": 1.6, "dash": "dash", "shape": "hv"}
        traces.append(_line(edges, np.append(density, 0.0), line))
    layout = {"yaxis": {"visible": False, "fixedrange": True}, "xaxis": _axis(unit, (low, high))}
    return _chart(traces, 210, title, caption, layout)


def _bin_text(low: float, high: float, count: int) -> str:
    return f"{low:.4g} to {high:.4g}: {count}"


def _line(x: Values, y: Values, line: dict[str, Any]) -> go.Scatter:
    return go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip")


def _rows_chart(
    traces: Sequence[Any],
    names: Sequence[str],
    reach: tuple[float, float],
    unit: str,
    title: str,
    caption: str = "",
) -> Chart:
    """A chart with one row for each name, from the top."""
    rows = {
        "tickvals": list(range(len(names))),
        "ticktext": [escape(_short(name)) for name in names],
        "range": [len(names) - 0.5, -0.5],
        "tickfont": {"color": INK},
        "automargin": True,
        "fixedrange": True,
        "showgrid": False,
        "zeroline": False,
    }
    layout = {"yaxis": rows, "xaxis": _axis(unit, reach), "barmode": "stack"}
    return _chart(traces, 60 + 40 * len(names), title, caption, layout)


def _axis(unit: str, reach: tuple[float, float]) -> dict[str, Any]:
    return {
        "title": {"text": unit, "standoff": 8},
        "range": list(reach),
        "gridcolor": LINE,
        "zeroline": False,
        "fixedrange": True,
        "automargin": True,
    }


def _chart(
    traces: Sequence[Any], height: int, title: str, caption: str, layout: dict[str, Any]
) -> Chart:
    layout |= {
        "template": "none",
        "showlegend": False,
        "dragmode": False,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": DIM, "size": 12, "family": "system-ui, sans-serif"},
        "hoverlabel": {"bgcolor": "var(--card)", "font": {"color": INK}},
        "margin": {"l": 10, "r": 20, "t": 8, "b": 40},
    }
    figure = go.Figure(list(traces), layout)
    return Chart(title, height, Markup(figure.to_json()), caption)


def _css(name: str) -> str:
    return f"var(--{name})"


def _short(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…"
