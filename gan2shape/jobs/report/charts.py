"""Charts by Plotly. Colours are CSS variables, which charts.js resolves for light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
WHISKERS = {"lowerfence": 0.05, "q1": 0.25, "median": 0.5, "q3": 0.75, "upperfence": 0.95}
"""Quantiles by Plotly's names for them."""
INK, DIM, LINE, TRUTH = "var(--ink)", "var(--dim)", "var(--line)", "var(--run-2)"
AXIS = {"zeroline": False, "fixedrange": True, "automargin": True}
LAYOUT = {
    "template": "none",
    "showlegend": False,
    "dragmode": False,
    "barmode": "stack",
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": DIM, "size": 12, "family": "system-ui, sans-serif"},
    "hoverlabel": {"bgcolor": "var(--card)", "font": {"color": INK}},
    "margin": {"l": 10, "r": 20, "t": 8, "b": 40},
}


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
    finite = [replace(s, values=s.values[np.isfinite(s.values)]) for s in samples]
    rows = [sample for sample in finite if len(sample.values)]
    if not rows:
        return None
    reach = 1.04 * max(float(sample.values.quantile(0.99)) for sample in rows)
    traces: list[Any] = []
    for place, sample in enumerate(rows):
        values = sample.values
        if len(values) <= DOTS:
            y = place + (np.arange(len(values)) * 0.618034 % 1 - 0.5) / 2
            texts = [f"{escape(str(name))}: {value:.2f}" for name, value in values.items()]
            x = values.clip(upper=reach).to_numpy()
            traces.append(_dots(x, y, texts, _css(sample.colour), size=5, opacity=0.4))
        box = {name: [float(values.quantile(share))] for name, share in WHISKERS.items()}
        line = {"color": _css(sample.colour), "width": 1.5}
        traces.append(
            go.Box(y=[place], orientation="h", line=line, width=0.5, hoverinfo="x", **box)
        )
    return _chart(traces, (0, reach), unit, title, caption, [sample.name for sample in rows])


def mark_chart(table: pd.DataFrame, colours: Sequence[str], unit: str, title: str) -> Chart | None:
    """A dot and its interval for every row; a diamond where the paper's value is.

    `table` has the rows' names as its index and the columns `value`, `low`, `high` and `paper`,
    with NaN for what is not known.
    """
    if table.empty:
        return None
    names = [str(name) for name in table.index]
    paper = [f"the paper: {value:.3f}" for value in table["paper"]]
    places = np.arange(len(table))
    traces = [_dots(table["paper"].to_numpy(), places, paper, INK, size=11, symbol="diamond-open")]
    for place, (mark, colour) in enumerate(zip(table.to_dict("records"), colours, strict=True)):
        text = [f"{escape(names[place])}: {mark['value']:.3f}"]
        ends = [mark["low"], mark["high"]]
        traces.append(_line(ends, [place] * 2, color=_css(colour), width=1.5))
        traces.append(_dots([mark["value"]], [place], text, _css(colour), size=9))
    reach = 1.04 * float(table[["value", "high", "paper"]].max().max())
    return _chart(traces, (0, reach), unit, title, names=names)


def stacked_bars(
    table: pd.DataFrame, colours: Sequence[str], unit: str, title: str
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
            marker={"color": _css(colour), "line": {"width": 0}},
            hovertemplate=f"{escape(str(name))}: %{{x:.2f}} {unit}<extra></extra>",
        )
        for (name, values), colour in zip(table.iterrows(), colours, strict=True)
    ]
    reach = 1.02 * float(table.sum().max())
    return _chart(traces, (0, reach), unit, title, names=[str(name) for name in table])


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
    width = (high - low) / BINS
    counts, _ = np.histogram(values, edges)
    bins = zip(edges[:-1], edges[1:], counts, strict=True)
    traces: list[Any] = [
        go.Bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts / max(counts.sum(), 1) / width,
            width=0.92 * width,
            hovertext=[f"{left:.4g} to {right:.4g}: {count}" for left, right, count in bins],
            hoverinfo="text",
            marker={"color": _css(colour), "opacity": 0.6, "line": {"width": 0}},
        )
    ]
    if std:
        x = np.linspace(low, high, 161)
        y = np.exp(-((x - mean) ** 2) / (2 * std**2)) / (std * math.sqrt(2 * math.pi))
        traces.append(_line(x, y, color=INK, width=2))
    if truth is not None:
        density = np.append(np.histogram(truth, edges, density=True)[0], 0.0)
        traces.append(_line(edges, density, color=TRUTH, width=1.6, dash="dash", shape="hv"))
    return _chart(traces, (low, high), unit, title, caption)


def _dots(x: Any, y: Any, texts: Sequence[str], colour: str, **marker: Any) -> go.Scatter:
    marker = {"color": colour} | marker
    return go.Scatter(x=x, y=y, mode="markers", marker=marker, text=texts, hoverinfo="text")


def _line(x: Any, y: Any, **line: Any) -> go.Scatter:
    return go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip")


def _chart(
    traces: Sequence[Any],
    reach: tuple[float, float],
    unit: str,
    title: str,
    caption: str = "",
    names: Sequence[str] = (),
) -> Chart:
    """A chart over `reach`, with a row for each of the names, from the top, if there are any."""
    rows: dict[str, Any] = {"visible": False, "fixedrange": True}
    if names:
        rows = AXIS | {"range": [len(names) - 0.5, -0.5], "showgrid": False}
        rows |= {"tickvals": list(range(len(names))), "tickfont": {"color": INK}}
        rows["ticktext"] = [escape(_short(name)) for name in names]
    axis = AXIS | {"title": {"text": unit, "standoff": 8}, "range": reach, "gridcolor": LINE}
    figure = go.Figure(list(traces), LAYOUT | {"xaxis": axis, "yaxis": rows})
    height = 60 + 40 * len(names) if names else 210
    return Chart(title, height, Markup(figure.to_json()), caption)


def _css(name: str) -> str:
    return f"var(--{name})"


def _short(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…"
