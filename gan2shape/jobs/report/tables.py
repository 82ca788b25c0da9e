"""The report as Markdown and CSV, for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from gan2shape.jobs.report.comparison import (
    any_truth,
    count,
    memory_text,
    notes,
    row_view,
    seconds_text,
    table_rows,
    title,
)
from gan2shape.jobs.report.summary import RunSummary


def markdown(summaries: Sequence[RunSummary]) -> str:
    """Notes, table of scores, counts and failures as Markdown."""
    lines = [f"# {title(summaries)}", ""]
    for text in notes(summaries):
        lines += [f"> {text}", ""]
    if any_truth(summaries):
        lines += [
            "| Method | Images | SIDE x100, mean ± std | median | quartiles | ratio "
            "| MAD deg, mean ± std | median | quartiles | ratio "
            "| Best relief scale | MAD, published formula |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in map(row_view, table_rows(summaries)):
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
            seconds_text(summary.seconds_per_image) or "-",
            memory_text(summary.peak_memory_mb) or "-",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    for summary in summaries:
        if summary.failed:
            lines += ["", f"Failures of {summary.label}:", ""]
            lines += [f"- {count} x {reason}" for reason, count in summary.reasons]
    return "\n".join(lines) + "\n"


def comma_separated(summaries: Sequence[RunSummary]) -> str:
    """One line for every row of the table; SIDE plain (not times 100), angles in degrees."""
    by_method = {id(summary.method): summary for summary in summaries}
    statistics = ("mean", "std", "median", "q25", "q75", "low", "high")
    scores = ("side", "mad_degrees", "mad_paper_degrees", "relief_scale")
    columns = ["method", "kind", "images_scored"]
    columns += [f"{score}_{statistic}" for score in scores for statistic in statistics]
    columns += ["side_ratio", "mad_ratio", "images", "done", "failed", "left"]
    columns += ["seconds_per_image", "peak_memory_mb", "yaw_std_predicted", "yaw_std_sampled"]
    columns += ["config_hash", "gan_sha256", "networks_sha256"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in table_rows(summaries):
        line: dict[str, Any] = {
            "method": row.name,
            "kind": "trivial" if row.method.trivial else "run",
            "images_scored": count(row.method),
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
                "networks_sha256": record.networks and record.networks.sha256,
            }
        writer.writerow(line)
    return text.getvalue()
