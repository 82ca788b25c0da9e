"""The page of a report: what the template shows, as plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from gan2shape.jobs.report import charts
from gan2shape.jobs.report import gallery as pictures
from gan2shape.jobs.report.comparison import (
    RELIEF_RANGE,
    SIDE_FACTOR,
    any_truth,
    digits,
    memory_text,
    notes,
    row_view,
    seconds_text,
    style_of,
    table_rows,
    title,
)
from gan2shape.jobs.report.summary import AXES, STAGES, STEPS, RunSummary, manifest_rows
from gan2shape.jobs.run.store import RunRecord, Weights

SHOWN_FAILURES = 100
SHOWN_THUMBNAILS = 24
STAGE_NAMES = {
    "load": "reading images",
    "inversion": "inversion",
    "reconstruction": "reconstruction, other",
    "metrics": "metrics",
}


def environment() -> Environment:
    """Where the templates of pages are."""
    found = Environment(
        loader=PackageLoader("gan2shape.jobs.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    found.filters["thousands"] = lambda number: f"{number:,}".replace(",", "\u202f")
    return found


def page(summaries: Sequence[RunSummary], limit: int) -> str:
    """The HTML text, with pictures of up to `limit` images of every run."""
    views = [_run_view(summary, limit) for summary in summaries]
    rows = [row_view(row) for row in table_rows(summaries)] if any_truth(summaries) else []
    times = _times(summaries)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            title=title(summaries),
            runs=views,
            notes=notes(summaries),
            rows=rows,
            losses=_losses(summaries),
            charts=_charts(summaries, times),
            columns=pictures.COLUMNS,
            rotations=[_rotation_view(i, s) for i, s in enumerate(summaries) if s.done],
            failed=[view for view in views if view["failed"]],
            times=times,
            has_device_memory=any(s.peak_device_memory_mb for s in summaries),
        )
    )


def _run_view(summary: RunSummary, limit: int) -> dict[str, Any]:
    record = summary.run.record
    chosen = pictures.choose(summary, limit)
    entries = list(pictures.gallery(summary, chosen))
    return {
        "label": summary.label,
        "images": summary.images,
        "failed": summary.failed,
        "recipe": record.config.recipe,
        "size": record.config.camera.size,
        "created": record.created.replace("T", " ").replace("+00:00", " UTC"),
        "weights": [(name, weights.sha256) for name, weights in _weights(record)],
        "priors": Path(record.inputs.get("priors") or "").name,
        "tiles": _tiles(summary),
        "gallery": entries,
        "has_truth": any(entry.pictures["truth"] for entry in entries),
        "shown": _shown(summary, chosen),
        "reasons": summary.reasons[:SHOWN_THUMBNAILS],
        "failure_rows": _failure_rows(summary),
        "per_image": seconds_text(summary.seconds_per_image),
        "memory": memory_text(summary.peak_memory_mb),
        "device_memory": memory_text(summary.peak_device_memory_mb),
        "devices": ", ".join(summary.devices),
        "provenance": _provenance(summary),
        "config_yaml": yaml.safe_dump(record.config.model_dump(mode="json"), sort_keys=False),
    }


def _tiles(summary: RunSummary) -> list[dict[str, Any]]:
    def tile(name: str, value: str, unit: str, note: str, warn: bool = False) -> dict[str, Any]:
        return {"name": name, "value": value, "unit": unit, "note": note, "warn": warn}

    counts = []
    counts += [f"{summary.failed} failed"] if summary.failed else []
    counts += [f"{summary.left} left"] if summary.left else []
    tiles = [
        tile(
            "Reconstructed",
            f"{summary.done}",
            f"of {summary.images}",
            ", ".join(counts) or "none failed",
            bool(counts),
        )
    ]
    for name, score, factor, unit in (
        ("SIDE", "side", SIDE_FACTOR, "×10⁻²"),
        ("MAD", "mad_degrees", 1.0, "degrees"),
    ):
        found = summary.method.spread(score)
        if found:
            ratio = summary.method.ratio(score, summary.constant)
            note = f"{ratio:.2f} of constant depth" if ratio is not None else "mean over images"
            tiles.append(tile(name, f"{found.mean * factor:.{digits(score)}f}", unit, note))
    relief = summary.method.spread("relief_scale")
    if relief:
        off = not RELIEF_RANGE[0] <= relief.median <= RELIEF_RANGE[1]
        tiles.append(tile("Best relief scale", f"{relief.median:.2f}", "", "1 is right", off))
    if summary.done:
        std, prior = summary.rotation.std(1), summary.rotation.prior_std[1]
        tiles.append(
            tile("Yaw spread", f"{std:.1f}", "degrees", f"sampled with {prior:.1f}", False)
        )
    if summary.seconds_per_image:
        seconds = summary.seconds_per_image
        note = (
            f"peak memory {memory_text(summary.peak_memory_mb)}" if summary.peak_memory_mb else ""
        )
        tiles.append(tile("Time per image", seconds_text(seconds) or "", "s", note))
    return tiles


def _shown(summary: RunSummary, chosen: Sequence[pictures.Chosen]) -> str:
    if len(chosen) == summary.done:
        return "All reconstructed images." if summary.done > 1 else "The reconstructed image."
    tagged = sum(1 for item in chosen if item.tag)
    rest = len(chosen) - tagged
    first = f"the first {rest}{' others' if tagged else ''}" if rest > 1 else "the first other"
    best = "The best, the median and the worst by MAD, then " if tagged else ""
    text = f"{best}{first} of {summary.done} reconstructed images."
    return text[0].upper() + text[1:]


def _failure_rows(summary: RunSummary) -> list[dict[str, Any]]:
    shown = summary.failures[:SHOWN_FAILURES]
    entries = manifest_rows(summary.run, [failure.row for failure in shown])
    size = summary.run.size
    return [
        {
            "image_id": failure.image_id,
            "reason": failure.reason,
            "picture": pictures.thumbnail(entry["uri"], size) if i < SHOWN_THUMBNAILS else None,
        }
        for i, (failure, entry) in enumerate(zip(shown, entries, strict=True))
    ]


def _losses(summaries: Sequence[RunSummary]) -> dict[str, Any] | None:
    """Mean final losses, and the inversion's error, by run."""
    found = []
    for summary in summaries:
        values = dict(summary.losses)
        inversion = summary.method.spread("inversion_l1")
        if inversion:
            values["inversion L1"] = inversion.mean
        found.append((summary.label, values))
    names = sorted({name for _, values in found for name in values})
    if not names:
        return None
    return {
        "names": names,
        "rows": [
            (label, [f"{values[name]:.4f}" if name in values else "–" for name in names])
            for label, values in found
        ],
    }


def _rotation_view(number: int, summary: RunSummary) -> dict[str, Any]:
    rotation = summary.rotation
    ratios = [rotation.ratio(axis) for axis in range(len(AXES))]
    return {
        "label": summary.label,
        "chart": charts.histogram(
            rotation.degrees[:, 1],
            rotation.prior_mean[1],
            rotation.prior_std[1],
            f"Predicted yaw of {summary.label} and the sampled distribution",
            style_of(number),
        ),
        "predicted": [f"{rotation.std(axis):.1f}" for axis in range(len(AXES))],
        "prior": [f"{std:.1f}" for std in rotation.prior_std],
        "ratio": [f"{ratio:.2f}" if math.isfinite(ratio) else "–" for ratio in ratios],
    }


def _time_pieces(summary: RunSummary) -> dict[str, tuple[str, float, str]]:
    """Key to (name, seconds per image, CSS class) of the parts of the computing time."""
    tried = max(summary.done + summary.failed, 1)
    pieces: dict[str, tuple[str, float, str]] = {}
    for stage in STAGES:
        total = summary.seconds.get(stage, 0.0)
        if stage == "reconstruction":
            for step, value in summary.steps.items():
                style = f"t-{step}" if step in STEPS else "t-other"
                pieces[f"step {step}"] = (STEPS.get(step, step), value / tried, style)
            total = max(total - sum(summary.steps.values()), 0.0)
        style = "t-other" if stage == "reconstruction" else f"t-{stage}"
        pieces[stage] = (STAGE_NAMES[stage], total / tried, style)
    return pieces


def _times(summaries: Sequence[RunSummary]) -> list[dict[str, Any]]:
    by_run = [_time_pieces(summary) for summary in summaries]
    keys = list(dict.fromkeys(key for pieces in by_run for key in pieces))
    rows = []
    for key in keys:
        name, _, style = next(pieces[key] for pieces in by_run if key in pieces)
        values = [pieces[key][1] if key in pieces else 0.0 for pieces in by_run]
        if any(values):
            cells = [seconds_text(value) or "–" for value in values]
            rows.append(
                {
                    "name": name[0].upper() + name[1:],
                    "style": style,
                    "seconds": cells,
                    "values": values,
                }
            )
    return rows


def _charts(
    summaries: Sequence[RunSummary], times: Sequence[dict[str, Any]]
) -> dict[str, charts.Markup]:
    rows = table_rows(summaries)

    def boxes(score: str, factor: float, unit: str, title: str) -> charts.Markup:
        samples = [
            charts.Sample(row.name, row.method.scores[score] * factor, row.style) for row in rows
        ]
        return charts.box_chart(samples, unit, title)

    bars = [
        charts.Bar(
            summary.label, tuple((t["name"], t["values"][i], str(t["style"])) for t in times)
        )
        for i, summary in enumerate(summaries)
    ]
    return {
        "side": boxes("side", SIDE_FACTOR, "SIDE × 10⁻²", "SIDE of every image by method"),
        "mad": boxes("mad_degrees", 1.0, "MAD, degrees", "MAD of every image by method"),
        "time": charts.stacked_bars(bars, "seconds per image", "Computing time per image by stage"),
    }


def _provenance(summary: RunSummary) -> list[tuple[str, str]]:
    record = summary.run.record
    rows = [
        ("Run", str(summary.run.path)),
        ("Images", str(record.inputs.get("source") or "")),
        *(
            (f"{n[0].upper()}{n[1:]}", f"{w.path} (SHA-256 {w.sha256})")
            for n, w in _weights(record)
        ),
        ("Priors", str(record.inputs.get("priors") or "")),
        ("Started", record.created),
        ("Seed", str(record.config.seed)),
        ("Manifest", f"SHA-256 {record.manifest_sha256}"),
        ("Settings, weights and manifest", f"SHA-256 {record.config_hash}"),
        ("Execution", _listed(record.execution)),
        ("Versions", _listed(record.versions)),
    ]
    return [(name, value) for name, value in rows if value]


def _weights(record: RunRecord) -> list[tuple[str, Weights]]:
    """All that the run takes weights from, by names for people."""
    found = {"GAN": record.gan, "networks": record.networks, "LPIPS": record.lpips}
    return [(name, weights) for name, weights in found.items() if weights]


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {v}" for name, v in values.items() if v is not None)
