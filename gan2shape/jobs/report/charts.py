"""Small charts as inline SVG: their colours come from the page's style sheet, light or dark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

Values = npt.NDArray[np.float64]

DOTS = 400
"""Samples with more values than this are drawn as boxes without dots."""


@dataclass(frozen=True)
class Sample:
    """One row of a box chart."""

    name: str
    values: Values
    style: str
    """CSS class that sets the colour."""


@dataclass(frozen=True)
class Bar:
    """One stacked bar: pieces of (name, length, CSS class)."""

    name: str
    pieces: tuple[tuple[str, float, str], ...]


@dataclass(frozen=True)
class Mark:
    """One row of a chart of numbers: a value with its interval, and one to hold it against."""

    name: str
    value: float
    interval: tuple[float | None, float | None]
    reference: float | None
    style: str


def mark_chart(marks: Sequence[Mark], unit: str, title: str) -> Markup:
    """A dot and its interval for every row; a diamond where the reference is."""
    if not marks:
        return Markup("")
    left, right, row, top, width = _name_width([mark.name for mark in marks]), 20, 30, 8, 600
    bottom = top + row * len(marks)
    reach = [[m.value, m.interval[1] or 0.0, m.reference or 0.0] for m in marks]
    largest = max(map(max, reach))
    ticks = nice_ticks(largest * 1.04)
    span = max(ticks[-1], largest * 1.04)

    def at(value: float) -> float:
        return left + value / span * (width - left - right)

    parts = list(_grid([(at(t), f"{t:g}") for t in ticks], top, bottom))
    for i, mark in enumerate(marks):
        y, (low, high) = top + row * (i + 0.5), mark.interval
        parts.append(
            f'<text class="name" x="{left - 12}" y="{y + 4:.1f}" text-anchor="end">'
            f"{escape(_short(mark.name))}</text>"
        )
        if mark.reference is not None:
            parts.append(
                f'<path class="reference" d="M{at(mark.reference):.1f} {y - 6}l6 6l-6 6l-6-6z">'
                f"<title>{mark.reference:.3f}</title></path>"
            )
        parts.append(f'<g class="{mark.style}">')
        if low is not None and high is not None:
            parts.append(f'<path class="whisker" d="M{at(low):.1f} {y}H{at(high):.1f}"/>')
        parts.append(
            f'<circle class="mark" cx="{at(mark.value):.1f}" cy="{y}" r="4.5">'
            f"<title>{escape(mark.name)}: {mark.value:.3f}</title></circle></g>"
        )
    parts.append(_axis_name(left, width - right, bottom, unit))
    return _svg(width, bottom + 44, title, parts)


def box_chart(samples: Sequence[Sample], unit: str, title: str) -> Markup:
    """Boxes (quartiles, median), whiskers (5 to 95 %), dots for single images, one row a sample."""
    rows = [
        (sample, finite)
        for sample in samples
        if (finite := sample.values[np.isfinite(sample.values)]).size
    ]
    if not rows:
        return Markup("")
    left, right, row, top = _name_width([sample.name for sample, _ in rows]), 20, 42, 8
    width, bottom = 600, top + row * len(rows)
    largest = max(float(np.percentile(values, 99)) for _, values in rows)
    ticks = nice_ticks(largest * 1.04)
    span = max(ticks[-1], largest * 1.04)

    def at(value: float) -> float:
        return left + min(value / span, 1.0) * (width - left - right)

    parts = list(_grid([(at(t), f"{t:g}") for t in ticks], top, bottom))
    for i, (sample, values) in enumerate(rows):
        middle = top + row * (i + 0.5)
        low, q25, median, q75, high = np.percentile(values, [5, 25, 50, 75, 95])
        parts.append(
            f'<text class="name" x="{left - 12}" y="{middle + 4:.1f}" text-anchor="end">'
            f"{escape(_short(sample.name))}</text>"
        )
        parts.append(f'<g class="{sample.style}">')
        if values.size <= DOTS:
            for k, value in enumerate(values):
                shift = ((k * 0.618034) % 1 - 0.5) * 22
                parts.append(
                    f'<circle class="dot" cx="{at(value):.1f}" cy="{middle + shift:.1f}" r="2.2">'
                    f"<title>{value:.2f}</title></circle>"
                )
        parts.append(
            f'<path class="whisker" d="M{at(low):.1f} {middle}H{at(q25):.1f}'
            f'M{at(q75):.1f} {middle}H{at(high):.1f}"/>'
            f'<rect class="box" x="{at(q25):.1f}" y="{middle - 11}" '
            f'width="{max(at(q75) - at(q25), 1):.1f}" height="22" rx="3">'
            f"<title>{escape(sample.name)}: median {median:.2f}, quartiles {q25:.2f} and {q75:.2f}"
            f"</title></rect>"
            f'<path class="median" d="M{at(median):.1f} {middle - 11}v22"/></g>'
        )
    parts.append(_axis_name(left, width - right, bottom, unit))
    return _svg(width, bottom + 44, title, parts)


def histogram(values: Values, mean: float, std: float, title: str, style: str) -> Markup:
    """Shares of values (degrees) in bins, and the Gaussian they are held against as a line."""
    values = values[np.isfinite(values)]
    reach = max(float(np.abs(values).max(initial=0.0)), abs(mean) + 3 * std, 10.0)
    step = 5.0 if reach <= 75 else 10.0
    reach = math.ceil(reach / step) * step
    width, top, bottom, left, right = 600, 10, 170, 20, 20
    edges = np.arange(-reach, reach + step / 2, step)
    counts, _ = np.histogram(values, edges)
    shares = counts / max(values.size, 1)
    x = np.linspace(-reach, reach, 161)
    line = (
        np.exp(-((x - mean) ** 2) / (2 * std**2)) / (std * math.sqrt(2 * math.pi)) * step
        if std
        else np.zeros_like(x)
    )
    highest = max(float(shares.max(initial=0.0)), float(line.max()), 1e-9)

    def at(value: float) -> float:
        return left + (value + reach) / (2 * reach) * (width - left - right)

    def up(share: float) -> float:
        return bottom - share / highest * (bottom - top)

    tick = next(t for t in (10, 15, 20, 30, 45, 90, 180) if 2 * reach / t <= 10)
    marks = np.arange(-(reach // tick) * tick, reach + 1, tick)
    parts = list(_grid([(at(t), f"{t:g}°") for t in marks], top, bottom))
    parts.append(f'<g class="{style}">')
    for edge, share, count in zip(edges[:-1], shares, counts, strict=True):
        if count:
            parts.append(
                f'<rect class="bin" x="{at(edge) + 1:.1f}" y="{up(share):.1f}" '
                f'width="{at(edge + step) - at(edge) - 2:.1f}" height="{bottom - up(share):.1f}" '
                f'rx="2"><title>{edge:g}° to {edge + step:g}°: {count}</title></rect>'
            )
    points = " ".join(f"{at(a):.1f},{up(b):.1f}" for a, b in zip(x, line, strict=True))
    parts.append(f'</g><polyline class="prior" points="{points}"/>')
    return _svg(width, bottom + 26, title, parts)


def distribution(
    values: Values, mean: float, std: float, truth: Values | None, title: str, style: str
) -> Markup:
    """Density of values in bins, a Gaussian as a line, and the density of true values as steps."""
    both = values if truth is None else np.concatenate([values, truth])
    low = min(float(both.min()), mean - 3 * std)
    high = max(float(both.max()), mean + 3 * std)
    edges = np.linspace(low, high, 31)
    x = np.linspace(low, high, 161)
    line = np.exp(-((x - mean) ** 2) / (2 * std**2)) / (std * math.sqrt(2 * math.pi))
    bins, _ = np.histogram(values, edges, density=True)
    true = None if truth is None else np.histogram(truth, edges, density=True)[0]
    highest = max(float(part.max()) for part in (bins, line, true) if part is not None)
    width, top, bottom, margin = 600, 10, 170, 20

    def at(value: float) -> float:
        return margin + (value - low) / (high - low) * (width - 2 * margin)

    def up(density: float) -> float:
        return bottom - density / highest * (bottom - top)

    step = nice_ticks(high - low)[1]
    marks = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
    parts = list(_grid([(at(t), f"{t:.6g}") for t in marks], top, bottom))
    parts.append(f'<g class="{style}">')
    for left, right, density in zip(edges[:-1], edges[1:], bins, strict=True):
        parts.append(
            f'<rect class="bin" x="{at(left) + 0.5:.1f}" y="{up(density):.1f}" '
            f'width="{at(right) - at(left) - 1:.1f}" height="{bottom - up(density):.1f}"/>'
        )
    points = " ".join(f"{at(a):.1f},{up(b):.1f}" for a, b in zip(x, line, strict=True))
    parts.append(f'</g><polyline class="prior" points="{points}"/>')
    if true is not None:
        steps = " ".join(
            f"V{up(d):.1f}H{at(right):.1f}" for d, right in zip(true, edges[1:], strict=True)
        )
        parts.append(f'<path class="truth" d="M{at(low):.1f} {bottom}{steps}V{bottom}"/>')
    return _svg(width, bottom + 26, title, parts)


def stacked_bars(bars: Sequence[Bar], unit: str, title: str) -> Markup:
    """Horizontal bars of pieces laid end to end."""
    lengths = [sum(length for _, length, _ in bar.pieces) for bar in bars]
    if not lengths or not max(lengths):
        return Markup("")
    left, right, row, top, width = _name_width([bar.name for bar in bars]), 20, 40, 8, 1100
    bottom = top + row * len(bars)
    ticks = nice_ticks(max(lengths))
    span = max(ticks[-1], max(lengths))
    scale = (width - left - right) / span
    parts = list(_grid([(left + t * scale, f"{t:g}") for t in ticks], top, bottom))
    for i, bar in enumerate(bars):
        y, x = top + row * i + 8, float(left)
        parts.append(
            f'<text class="name" x="{left - 12}" y="{y + 16}" text-anchor="end">'
            f"{escape(_short(bar.name))}</text>"
        )
        for name, length, style in bar.pieces:
            if length > 0:
                parts.append(
                    f'<rect class="piece {style}" x="{x:.1f}" y="{y}" '
                    f'width="{max(length * scale - 1.5, 0.8):.1f}" height="24" rx="2">'
                    f"<title>{escape(name)}: {length:.2f} {escape(unit)}</title></rect>"
                )
            x += length * scale
    parts.append(_axis_name(left, width - right, bottom, unit))
    return _svg(width, bottom + 44, title, parts)


def nice_ticks(largest: float, count: int = 6) -> list[float]:
    """Round numbers from 0 to about `largest`, at steps of 1, 2, 2.5 or 5 times a power of 10."""
    if not largest > 0:
        return [0.0, 1.0]
    rough = largest / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= rough * (1 - 1e-9))
    return [round(i * step, 10) for i in range(int(largest / step + 1e-9) + 1)]


def _grid(ticks: Sequence[tuple[float, str]], top: float, bottom: float) -> Iterator[str]:
    for x, label in ticks:
        yield f'<path class="grid" d="M{x:.1f} {top}V{bottom}"/>'
        place = f'x="{x:.1f}" y="{bottom + 17}" text-anchor="middle"'
        yield f'<text class="tick" {place}>{label}</text>'


def _axis_name(left: float, right: float, bottom: float, unit: str) -> str:
    middle = (left + right) / 2
    return (
        f'<text class="tick" x="{middle:.0f}" y="{bottom + 36}" text-anchor="middle">'
        f"{escape(unit)}</text>"
    )


def _short(name: str, length: int = 26) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _name_width(names: Sequence[str]) -> float:
    """Room for the longest of the names, at a generous width per letter."""
    return 20 + 7 * max(len(_short(name)) for name in names)


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> Markup:
    body = "".join(parts)
    return Markup(
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
        f"{body}</svg>"
    )
