"""The report of one or several runs: a web page in one file, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.table import Table

from gan2shape.jobs import charts, pictures
from gan2shape.jobs.files import storage_error, write_whole
from gan2shape.jobs.summary import (
    AXES,
    STAGES,
    STEPS,
    Method,
    RunSummary,
    Spread,
    manifest_rows,
    summarise,
)

SIDE_FACTOR = 100.0
"""Tables print SIDE times 100."""
SHOWN_FAILURES = 100
SHOWN_THUMBNAILS = 24
RELIEF_RANGE = (0.8, 1.25)
YAW_RATIO = 0.6
TABLE_SCORES = (("side", SIDE_FACTOR), ("mad_degrees", 1.0))
STAGE_NAMES = {
    "load": "reading images",
    "inversion": "inversion",
    "reconstruction": "reconstruction, other",
    "metrics": "metrics",
}


@dataclass(frozen=True)
class Row:
    """One line of the table of scores, with the row that its ratios are taken to."""

    method: Method
    name: str
    reference: Method | None
    style: str
    """CSS class of its colour."""


def write_report(runs: Sequence[Path], out: Path | None = None, limit: int | None = None) -> Path:
    """Write `index.html`, `report.md` and `report.csv` on the runs; gives the page's path.

    They go to `out`, or into the run: `RUN/report`, and for several runs `RUN/report/comparison` of
    the first. `limit` images are shown for each run (24 by default, fewer for several runs).
    Raises `UserError` when a run cannot be read or the disk refuses.
    """
    if not runs:
        raise ValueError("A report needs at least one run.")
    summaries = summarise(runs)
    folder = out
    if folder is None:
        folder = Path(runs[0]) / "report" / ("" if len(runs) == 1 else "comparison")
    if limit is None:
        limit = max(pictures.LIMIT // len(runs), 8)
    page = _html(summaries, limit)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "report.md", _markdown(summaries).encode())
        write_whole(folder / "report.csv", _csv(summaries).encode())
        write_whole(folder / "index.html", page.encode())
    except OSError as error:
        raise storage_error(error, folder) or error from error
    return folder / "index.html"


def summary_table(runs: Sequence[Path]) -> Table:
    """SIDE and MAD (mean ± std over images) of the runs and the trivial rows, for the terminal."""
    rows = table_rows(summarise(runs))
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("method", no_wrap=True, min_width=12)
    headers = {"images": 6, "SIDE x100": 11, "ratio": 5, "MAD deg": 10, "ratio ": 5, "relief": 6}
    for header, width in headers.items():
        table.add_column(header, justify="right", no_wrap=True, min_width=width)
    for row in rows:
        cells = [str(_count(row.method))]
        for score, factor in TABLE_SCORES:
            found, ratio = row.method.spread(score), row.method.ratio(score, row.reference)
            if found is None:
                cells += ["-", "-"]
                continue
            view = _spread_view(found, factor, _digits(score))
            cells += [
                f"{view['mean']} ± {view['std']}",
                "-" if ratio is None else f"{ratio:.2f}",
            ]
        relief = row.method.spread("relief_scale")
        cells.append("-" if relief is None or row.method.trivial else f"{relief.median:.2f}")
        table.add_row(row.name, *cells, style="dim" if row.method.trivial else "bold")
    return table


def table_rows(summaries: Sequence[RunSummary]) -> list[Row]:
    """The lines of the table: trivial rows once for every set of images, then the runs on it."""
    sets: list[list[tuple[int, RunSummary]]] = []
    for number, summary in enumerate(summaries):
        home = next((group for group in sets if _same_images(group[0][1], summary)), None)
        if home is None:
            sets.append(home := [])
        home.append((number, summary))
    rows: list[Row] = []
    for group in sets:
        first = group[0][1]
        suffix = f" ({first.label})" if len(sets) > 1 else ""
        for method in first.trivial:
            rows.append(Row(method, method.name + suffix, first.constant, "plain"))
        rows += [
            Row(summary.method, summary.label, first.constant, _style(number))
            for number, summary in group
        ]
    return rows


def _same_images(a: RunSummary, b: RunSummary) -> bool:
    """Whether two runs were scored on the same ground truth, as their trivial rows show."""
    if not a.trivial or not b.trivial:
        return False
    return all(
        np.array_equal(x.scores["side"], y.scores["side"])
        for x, y in zip(a.trivial, b.trivial, strict=True)
    )


def notes(summaries: Sequence[RunSummary]) -> list[str]:
    """What a reader should know before trusting the numbers, one sentence or two each."""
    found = []
    for summary in summaries:
        name = f"{summary.label}: " if len(summaries) > 1 else ""
        if summary.left:
            found.append(
                f"{name}{summary.left} of {summary.images} images are not done yet; "
                f"'gan2shape resume {summary.run.path}' goes on with them."
            )
        if summary.trivial_note:
            found.append(
                f"{name}The trivial rows are missing, because the ground truth cannot be read any "
                f"more: {summary.trivial_note}"
            )
        if summary.notes:
            found.append(
                f"{name}{len(summary.notes)} reconstructed images have no scores, because their "
                f"ground truth could not be used; the first: {summary.notes[0].reason}"
            )
        found += [name + text for text in _shape_notes(summary)]
    return found


def _shape_notes(summary: RunSummary) -> list[str]:
    found = []
    relief = summary.method.spread("relief_scale")
    if relief and not RELIEF_RANGE[0] <= relief.median <= RELIEF_RANGE[1]:
        verb = "too deep" if relief.median < 1 else "too shallow"
        found.append(
            f"The relief is {verb}: scaled by {relief.median:.2f}, the typical "
            f"shape fits the truth best."
        )
    rotation = summary.rotation
    deep = relief is None or relief.median < 1  # scores, where there are any, know better
    if deep and len(rotation.degrees) >= 8 and rotation.ratio(1) < YAW_RATIO:
        found.append(
            f"The predicted yaw spreads by {rotation.std(1):.1f}°, the pseudo views by "
            f"{rotation.prior_std[1]:.1f}°. Unless the images really turn so little, the shapes "
            f"explain by relief what is rotation, and are too deep."
        )
    return found


def _count(method: Method) -> int:
    found = method.spread("side")
    return found.count if found else 0


def _digits(score: str) -> int:
    return 2 if score in ("side", "relief_scale") else 1


def _style(number: int) -> str:
    return f"run-{number % 6 + 1}"


# The page


def _html(summaries: Sequence[RunSummary], limit: int) -> str:
    environment = Environment(
        loader=PackageLoader("gan2shape.jobs"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["thousands"] = lambda number: f"{number:,}".replace(",", "\u202f")
    views = [_run_view(summary, limit) for summary in summaries]
    rows = [_row_view(row) for row in table_rows(summaries)] if _any_truth(summaries) else []
    times = _times(summaries)
    return environment.get_template("report.html.j2").render(
        title=_title(summaries),
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


def _title(summaries: Sequence[RunSummary]) -> str:
    *others, last = (summary.label for summary in summaries)
    return f"{', '.join(others)} and {last}" if others else last


def _any_truth(summaries: Sequence[RunSummary]) -> bool:
    return any(summary.scored for summary in summaries)


def _row_view(row: Row) -> dict[str, Any]:
    relief, paper = row.method.spread("relief_scale"), row.method.spread("mad_paper_degrees")
    view: dict[str, Any] = {
        "name": row.name,
        "trivial": row.method.trivial,
        "style": row.style,
        "count": _count(row.method),
        "relief": f"{relief.median:.2f}" if relief and not row.method.trivial else None,
        "mad_paper": f"{paper.mean:.1f}" if paper else None,
    }
    for (score, factor), name in zip(TABLE_SCORES, ("side", "mad"), strict=True):
        found = row.method.spread(score)
        ratio = row.method.ratio(score, row.reference)
        view[name] = found and _spread_view(found, factor, _digits(score)) | {
            "ratio": None if ratio is None else f"{ratio:.2f}"
        }
    return view


def _spread_view(found: Spread, factor: float, digits: int) -> dict[str, Any]:
    names = ("mean", "std", "median", "q25", "q75")
    return {name: f"{getattr(found, name) * factor:.{digits}f}" for name in names}


def _run_view(summary: RunSummary, limit: int) -> dict[str, Any]:
    record = summary.run.record
    chosen = pictures.choose(summary, limit)
    entries = list(pictures.gallery(summary, chosen))
    return {
        "label": summary.label,
        "images": summary.images,
        "failed": summary.failed,
        "preset": record.config.name,
        "size": record.config.camera.size,
        "created": record.created.replace("T", " ").replace("+00:00", " UTC"),
        "gan_sha256": record.gan.sha256,
        "tiles": _tiles(summary),
        "gallery": entries,
        "has_truth": any(entry.pictures["truth"] for entry in entries),
        "shown": _shown(summary, chosen),
        "reasons": summary.reasons[:SHOWN_THUMBNAILS],
        "failure_rows": _failure_rows(summary),
        "per_image": _seconds(summary.seconds_per_image),
        "memory": _memory(summary.peak_memory_mb),
        "device_memory": _memory(summary.peak_device_memory_mb),
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
            tiles.append(tile(name, f"{found.mean * factor:.{_digits(score)}f}", unit, note))
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
        note = f"peak memory {_memory(summary.peak_memory_mb)}" if summary.peak_memory_mb else ""
        tiles.append(tile("Time per image", _seconds(seconds) or "", "s", note))
    return tiles


def _shown(summary: RunSummary, chosen: Sequence[pictures.Chosen]) -> str:
    if len(chosen) == summary.done:
        return "All reconstructed images." if summary.done > 1 else "The reconstructed image."
    tagged = sum(1 for item in chosen if item.tag)
    first = f"the first {len(chosen) - tagged}{' others' if tagged else ''}"
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
            _style(number),
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
            cells = [_seconds(value) or "–" for value in values]
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
        ("GAN", f"{record.gan.path} (SHA-256 {record.gan.sha256})"),
    ]
    if record.lpips:
        rows.append(("LPIPS", f"{record.lpips.path} (SHA-256 {record.lpips.sha256})"))
    rows += [
        ("Started", record.created),
        ("Seed", str(record.config.seed)),
        ("Manifest", f"SHA-256 {record.manifest_sha256}"),
        ("Settings, weights and manifest", f"SHA-256 {record.config_hash}"),
        ("Execution", _listed(record.execution)),
        ("Versions", _listed(record.versions)),
    ]
    return [(name, value) for name, value in rows if value]


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {v}" for name, v in values.items() if v is not None)


def _seconds(value: float | None) -> str | None:
    """Three figures at most."""
    if value is None:
        return None
    if value < 0.005:
        return "<0.01"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _memory(megabytes: float | None) -> str | None:
    if megabytes is None:
        return None
    return f"{megabytes / 1024:.1f} GiB" if megabytes >= 1024 else f"{megabytes:.0f} MiB"


# Tables for other programs


def _markdown(summaries: Sequence[RunSummary]) -> str:
    lines = [f"# {_title(summaries)}", ""]
    for text in notes(summaries):
        lines += [f"> {text}", ""]
    if _any_truth(summaries):
        lines += [
            "| Method | Images | SIDE x100, mean ± std | median | quartiles | ratio "
            "| MAD deg, mean ± std | median | quartiles | ratio "
            "| Best relief scale | MAD, published formula |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in map(_row_view, table_rows(summaries)):
            cells = [row["name"].replace("|", "\\|"), str(row["count"])]
            for score in (row["side"], row["mad"]):
                cells += (
                    [
                        f"{score['mean']} ± {score['std']}",
                        score["median"],
                        f"{score['q25']} to {score['q75']}",
                        score["ratio"] or "-",
                    ]
                    if score
                    else ["-"] * 4
                )
            cells += [row["relief"] or "-", row["mad_paper"] or "-"]
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", "Ratios are to constant depth on the same images; lower is better."]
    else:
        lines += ["No ground-truth depth came with these images."]
    lines += ["", "| Run | Images | Done | Failed | Left | Seconds per image | Peak memory |"]
    lines.append("|---|---|---|---|---|---|---|")
    for summary in summaries:
        counts = (summary.images, summary.done, summary.failed, summary.left)
        cells = [summary.label.replace("|", "\\|"), *map(str, counts)]
        cells += [
            _seconds(summary.seconds_per_image) or "-",
            _memory(summary.peak_memory_mb) or "-",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    for summary in summaries:
        if summary.failed:
            lines += ["", f"Failures of {summary.label}:", ""]
            lines += [f"- {count} x {reason}" for reason, count in summary.reasons]
    return "\n".join(lines) + "\n"


def _csv(summaries: Sequence[RunSummary]) -> str:
    """One line for every row of the table; SIDE plain (not times 100), angles in degrees."""
    by_method = {id(summary.method): summary for summary in summaries}
    statistics = ("mean", "std", "median", "q25", "q75", "low", "high")
    scores = ("side", "mad_degrees", "mad_paper_degrees", "relief_scale")
    columns = ["method", "kind", "images_scored"]
    columns += [f"{score}_{statistic}" for score in scores for statistic in statistics]
    columns += ["side_ratio", "mad_ratio", "images", "done", "failed", "left"]
    columns += ["seconds_per_image", "peak_memory_mb", "yaw_std_predicted", "yaw_std_sampled"]
    columns += ["config_hash", "gan_sha256"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in table_rows(summaries):
        line: dict[str, Any] = {
            "method": row.name,
            "kind": "trivial" if row.method.trivial else "run",
            "images_scored": _count(row.method),
            "side_ratio": row.method.ratio("side", row.reference),
            "mad_ratio": row.method.ratio("mad_degrees", row.reference),
        }
        for score in scores:
            found = row.method.spread(score)
            if found:
                line |= {f"{score}_{name}": getattr(found, name) for name in statistics}
        summary = by_method.get(id(row.method))
        if summary:
            record = summary.run.record
            line |= {name: getattr(summary, name) for name in ("images", "done", "failed", "left")}
            line |= {
                "seconds_per_image": summary.seconds_per_image,
                "peak_memory_mb": summary.peak_memory_mb,
                "yaw_std_predicted": summary.rotation.std(1) if summary.done else None,
                "yaw_std_sampled": summary.rotation.prior_std[1],
                "config_hash": record.config_hash,
                "gan_sha256": record.gan.sha256,
            }
        writer.writerow(line)
    return text.getvalue()
