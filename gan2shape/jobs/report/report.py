"""The report of one or several runs: a web page, Markdown and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from rich.console import Group

from gan2shape.jobs.files import storage_error, write_whole
from gan2shape.jobs.report import comparison, gallery
from gan2shape.jobs.report.comparison import Method, memory_text, seconds_text
from gan2shape.jobs.report.notes import RELIEF_RANGE, notes
from gan2shape.jobs.report.page import render, write_page
from gan2shape.jobs.report.results import RunResults, entries, read_results, seconds_per_image
from gan2shape.jobs.report.scores import ratios
from gan2shape.jobs.report.tables import Table, markdown, terminal
from gan2shape.jobs.run.store import RunRecord, Weights

SHOWN_FAILURES = 100
SHOWN_THUMBNAILS = 24
BOXES = {
    "side": (comparison.SIDE_FACTOR, "SIDE x100", "SIDE of every image"),
    "mad_degrees": (1.0, "MAD, degrees", "MAD of every image"),
}
"""Scores that are drawn: factor, unit and title."""


def write_report(runs: Sequence[Path], out: Path | None = None) -> tuple[Path, Group]:
    """Write `index.html`, `report.md` and `report.csv` on the runs; gives the page's path, and the
    table for the terminal.

    They go to `out`, or into the run: `RUN/report`, and for several runs `RUN/report/comparison` of
    the first. Of a run 24 images are shown, of each of several runs fewer. Raises `UserError` when
    a run cannot be read or the disk refuses.
    """
    if not runs:
        raise ValueError("A report needs at least one run.")
    results = read_results(runs)
    folder = out
    if folder is None:
        folder = Path(runs[0]) / "report" / ("" if len(runs) == 1 else "comparison")
    methods = comparison.methods(results)
    scores = comparison.score_table(methods)
    printed = comparison.printed_scores(methods, scores)
    html = report_page(results, methods, printed, max(gallery.LIMIT // len(runs), 8))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "report.md", report_markdown(results, printed).encode())
        write_whole(folder / "report.csv", scores.to_csv(index=False).encode())
        write_page(folder / "index.html", html)
    except OSError as error:
        raise storage_error(error, folder) or error from error
    return folder / "index.html", terminal_tables(results, methods, printed)


def title(runs: Sequence[RunResults]) -> str:
    """The runs' names in one phrase."""
    *others, last = (results.label for results in runs)
    return f"{', '.join(others)} and {last}" if others else last


def terminal_tables(runs: Sequence[RunResults], methods: Sequence[Method], printed: Table) -> Group:
    """Scores of the runs with ground truth, and counts and losses of those without."""
    bare = [results for results in runs if not results.scored]
    shown = [method.results not in bare for method in methods]
    tables = []
    if any(shown):
        dim = [back for back, kept in zip(printed.dim, shown, strict=True) if kept]
        scored = Table(printed.corner, printed.text[shown], dim=dim)
        tables.append(comparison.terminal_scores(scored))
    if bare:
        tables.append(comparison.terminal_counts(bare))
    return Group(*map(terminal, tables))


def report_markdown(runs: Sequence[RunResults], printed: Table) -> str:
    """Notes, table of scores, counts and failures as Markdown."""
    lines = [f"# {title(runs)}", ""]
    for text in notes(runs):
        lines += [f"> {text}", ""]
    if any(results.scored for results in runs):
        foot = "Ratios are to constant depth on the same images; lower is better."
        lines += [*markdown(printed), "", foot]
    else:
        lines += ["No ground-truth depth came with these images."]
    lines += ["", *markdown(comparison.printed_counts(runs))]
    for results in runs:
        if len(results.failed):
            counts = results.failed["reason"].value_counts()
            lines += ["", f"Failures of {results.label}:", ""]
            lines += [f"- {count} x {reason}" for reason, count in counts.items()]
    return "\n".join(lines) + "\n"


def report_page(
    runs: Sequence[RunResults], methods: Sequence[Method], printed: Table, limit: int
) -> str:
    """The HTML text, with pictures of up to `limit` images of every run."""
    from gan2shape.jobs.report import charts

    views = [_run_view(number, results, limit) for number, results in enumerate(runs, 1)]
    seconds = comparison.seconds_table(runs)
    boxes = []
    for score, (factor, unit, what) in BOXES.items():
        samples = [charts.Sample(m.name, m.scores[score] * factor, m.colour) for m in methods]
        boxes.append(charts.box_chart(samples, unit, f"{what} by method", what))
    stages = list(seconds.index)
    bars = charts.stacked_bars(
        seconds.set_axis([comparison.stage_name(stage) for stage in stages]),
        [comparison.stage_colour(stage) for stage in stages],
        "seconds per image",
        "Computing time per image by stage",
    )
    losses = comparison.printed_losses(runs)
    return render(
        "report.html.j2",
        title=title(runs),
        several=len(runs) > 1,
        runs=views,
        notes=notes(runs),
        scores=printed if any(results.scored for results in runs) else None,
        boxes=boxes,
        losses=losses if len(losses.headings) else None,
        rotations=[view for view in views if view["yaw"]],
        failures=[view for view in views if view["failed"]],
        seconds=comparison.printed_seconds(runs, seconds) if len(seconds) else None,
        bars=bars,
    )


def _run_view(number: int, results: RunResults, limit: int) -> dict[str, Any]:
    record = results.run.record
    chosen = gallery.choose(results.done, limit)
    shown = list(gallery.gallery(results.run, chosen))
    truth = any(entry.pictures["truth"] for entry in shown)
    columns = {key: name for key, name in gallery.COLUMNS.items() if truth or key != "truth"}
    return {
        "label": results.label,
        "images": results.images,
        "failed": len(results.failed),
        "recipe": record.config.recipe,
        "size": record.config.camera.size,
        "created": record.created.replace("T", " ").replace("+00:00", " UTC"),
        "weights": [(name, weights.sha256) for name, weights in _weights(record)],
        "priors": Path(record.inputs.get("priors") or "").name,
        "tiles": _tiles(results),
        "columns": columns,
        "gallery": shown,
        "shown": _shown(results, chosen),
        "yaw": _yaw_chart(number, results),
        "rotation": comparison.printed_rotation(results),
        "reasons": list(results.failed["reason"].value_counts().head(SHOWN_THUMBNAILS).items()),
        "failure_rows": _failure_rows(results),
        "provenance": _provenance(results),
        "config_yaml": yaml.safe_dump(record.config.model_dump(mode="json"), sort_keys=False),
    }


def _tiles(results: RunResults) -> list[dict[str, Any]]:
    tiles: list[dict[str, Any]] = []

    def tile(name: str, value: str, unit: str, note: str, warn: bool = False) -> None:
        tiles.append({"name": name, "value": value, "unit": unit, "note": note, "warn": warn})

    counts = {"failed": len(results.failed), "left": results.left}
    told = [f"{count} {what}" for what, count in counts.items() if count]
    done = str(len(results.done))
    tile(
        "Reconstructed", done, f"of {results.images}", ", ".join(told) or "none failed", bool(told)
    )
    found = results.statistics
    shares = ratios(results.scores, results.constant)
    units = {"side": ("SIDE", "x100"), "mad_degrees": ("MAD", "degrees")}
    for score, factor, digits in comparison.SCORE_GROUPS.values():
        if found["count"][score]:
            share = shares[score]
            note = "mean over images" if pd.isna(share) else f"{share:.2f} of constant depth"
            name, unit = units[score]
            tile(name, f"{found['mean'][score] * factor:.{digits}f}", unit, note)
    if found["count"]["relief_scale"]:
        relief = found["median"]["relief_scale"]
        off = not RELIEF_RANGE[0] <= relief <= RELIEF_RANGE[1]
        tile("Best relief scale", f"{relief:.2f}", "", "1 is right", off)
    if len(results.done):
        yaw = results.yaw
        note = f"sampled with {yaw['sampled']:.1f}"
        tile("Yaw spread", f"{yaw['predicted']:.1f}", "degrees", note)
    if seconds_per_image(results.frame) > 0:
        peak = memory_text(results.frame["peak_memory_mb"].max())
        seconds = seconds_text(seconds_per_image(results.frame)) or ""
        tile("Time per image", seconds, "s", f"peak memory {peak}" if peak else "")
    return tiles


def _shown(results: RunResults, chosen: pd.DataFrame) -> str:
    done = len(results.done)
    if len(chosen) == done:
        return "All reconstructed images." if done > 1 else "The reconstructed image."
    tagged = int(chosen["tag"].notna().sum())
    rest = len(chosen) - tagged
    first = f"the first {rest}{' others' if tagged else ''}" if rest > 1 else "the first other"
    best = "The best, the median and the worst by MAD, then " if tagged else ""
    text = f"{best}{first} of {done} reconstructed images."
    return text[0].upper() + text[1:]


def _yaw_chart(number: int, results: RunResults) -> Any:
    from gan2shape.jobs.report import charts

    if not len(results.done):
        return None
    yaw = results.yaw
    return charts.distribution(
        results.rotation["yaw"].to_numpy(),
        yaw["mean"],
        yaw["sampled"],
        None,
        comparison.colour(number),
        f"Predicted yaw of {results.label} and the sampled distribution",
        "degrees",
        f"Yaw of {results.label}: predicted ± {yaw['predicted']:.1f}°, "
        f"sampled ± {yaw['sampled']:.1f}°",
    )


def _failure_rows(results: RunResults) -> list[dict[str, Any]]:
    size = results.run.size
    return [
        {
            "image_id": entry["image_id"],
            "error": entry["error"],
            "picture": gallery.thumbnail(entry["uri"], size) if i < SHOWN_THUMBNAILS else None,
        }
        for i, entry in enumerate(entries(results.failed.head(SHOWN_FAILURES)))
    ]


def _provenance(results: RunResults) -> list[tuple[str, str]]:
    record = results.run.record
    rows = [
        ("Run", str(results.run.path)),
        ("Images", str(record.inputs.get("source") or "")),
        *(
            (f"{n[0].upper()}{n[1:]}", f"{w.path} (SHA-256 {w.sha256})")
            for n, w in _weights(record)
        ),
        ("Priors", str(record.inputs.get("priors") or "")),
        ("Started", record.created),
        ("Seed", str(record.config.seed)),
        ("Manifest", f"SHA-256 {record.manifest_sha256}"),
        ("Settings and weights", f"SHA-256 {record.config_hash}"),
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
