"""The benchmark's page and table.md: what they show, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gan2shape.benchmark import pictures
from gan2shape.benchmark.checks import Check
from gan2shape.benchmark.methods import Method, paper_ratio
from gan2shape.benchmark.scores import Results, RowScores
from gan2shape.benchmark.sections import Section
from gan2shape.benchmark.table import SCORES, Estimate, Line
from gan2shape.jobs.progress import duration
from gan2shape.jobs.report import charts
from gan2shape.jobs.report.comparison import SIDE_FACTOR, seconds_text
from gan2shape.jobs.report.page import environment
from gan2shape.schemas.benchmark import QUICK

FACTORS = {"side": SIDE_FACTOR, "mad": 1.0}
DIGITS = {"side": 3, "mad": 2}
"""The paper's."""
STYLES = {None: "plain", "refine": "run-1", "forward": "run-2", "tune": "run-3"}
SCORE_COLUMNS = ("mean", "std", "interval", "ratio", "ratio_interval", "paper", "paper_ratio")
DASH = "–"


def notes(results: Results, lines: Sequence[Line]) -> list[str]:
    """What a reader should know before trusting the numbers."""
    found = []
    if results.bench.record.recipe.get("name") == QUICK:
        found.append(
            "Made with --quick: budgets are a small part of the full ones, so the figures show how "
            "the benchmark works and say little about the methods."
        )
    found += [f"Row {line.method.label}: {line.state}." for line in lines if line.state]
    heads, compared = len(results.entries), int(results.compared.sum())
    if compared < heads:
        found.append(
            f"All numbers are over the {compared} of {heads} heads that every finished row has "
            "scores for."
        )
    if any(line.state.endswith("failed") for line in lines):
        found.append("A row whose images all failed is left out of the comparison.")
    return found


def line_view(line: Line) -> dict[str, Any]:
    """A line of the table as printed text."""
    method = line.method
    view: dict[str, Any] = {
        "number": method.number,
        "name": method.name,
        "symmetry": method.symmetry,
        "state": line.state,
        "trivial": method.recipe is None,
        "style": STYLES[method.recipe],
        "images": str(line.images),
        "failed": line.failed,
        "relief": DASH if method.recipe is None else _fixed(line.relief_median, 2),
        "training": DASH if line.training_seconds is None else duration(line.training_seconds),
        "seconds": seconds_text(line.seconds_per_image) or DASH,
    }
    return view | {score: _score_view(line, score) for score in SCORES}


def _score_view(line: Line, score: str) -> dict[str, str]:
    factor, digits, name = FACTORS[score], DIGITS[score], SCORES[score]
    found, paper, ratios = line.figures(score), line.method.paper, paper_ratio(line.method)
    view = dict.fromkeys(SCORE_COLUMNS, DASH)
    if found is not None:
        view |= {
            "mean": _fixed(found.mean.value, digits, factor),
            "std": _fixed(found.std, digits, factor),
            "interval": _interval(found.mean, digits, factor),
            "ratio": _fixed(found.ratio.value, 3),
            "ratio_interval": _interval(found.ratio, 3),
        }
    if paper is not None and ratios is not None:
        view["paper"] = _fixed(getattr(paper, name), digits, factor)
        view["paper_ratio"] = _fixed(getattr(ratios, name), 3)
    return view


def _fixed(value: float | None, digits: int, factor: float = 1.0) -> str:
    return DASH if value is None else f"{value * factor:.{digits}f}"


def _interval(found: Estimate, digits: int, factor: float = 1.0) -> str:
    if found.low is None:
        return DASH
    return f"{_fixed(found.low, digits, factor)} to {_fixed(found.high, digits, factor)}"


def markdown(
    results: Results,
    lines: Sequence[Line],
    checks: Sequence[Check],
    sections: Sequence[Section],
) -> str:
    """Notes, table, checks and experiments as Markdown."""
    text = [f"# {title(results)}", ""]
    for note in notes(results, lines):
        text += [f"> {note}", ""]
    scores = "mean | std | 95 % interval | ratio | 95 % interval | paper | paper's ratio"
    text += [
        f"| No. | Method | Sym. | Images | SIDE x100, {scores} | MAD deg, {scores} "
        "| Best relief scale | Training | Seconds per image | Failed |",
        "|---" * (4 + 2 * len(SCORE_COLUMNS) + 4) + "|",
    ]
    for view in map(line_view, lines):
        cells = [str(view["number"]), view["name"], view["symmetry"]]
        cells.append(view["state"] or view["images"])
        cells += [view[score][column] for score in SCORES for column in SCORE_COLUMNS]
        cells += [str(view[name]) for name in ("relief", "training", "seconds", "failed")]
        text.append("| " + " | ".join(cells).replace(DASH, "-") + " |")
    text += ["", FOOT, "", "## Checks", ""]
    text += [f"- {check}" for check in checks]
    for section in sections:
        text += ["", f"## {section.title}", "", section.markdown]
    return "\n".join(text) + "\n"


FOOT = (
    "Ratios are to row 2 on the same heads, the paper's to its own row 2; lower is better. "
    "Intervals are bootstrapped over heads. Rows 6 and 9 start from the same "
    "networks; row 10's were trained further from such."
)


def title(results: Results) -> str:
    """The benchmark in one phrase."""
    heads = results.bench.record.heads
    return f"The paper’s table on {len(results.entries)} heads of the {heads.split} split"


def page(
    results: Results,
    lines: Sequence[Line],
    checks: Sequence[Check],
    sections: Sequence[Section],
) -> str:
    """The HTML text."""
    counting = [row for row in results.rows if row.counts] if results.compared.any() else []
    record = results.bench.record
    return (
        environment()
        .get_template("benchmark.html.j2")
        .render(
            title=title(results),
            record=record,
            notes=notes(results, lines),
            rows=[line_view(line) for line in lines],
            foot=FOOT,
            charts={score: _chart(lines, score) for score in SCORES},
            checks=checks,
            maps=[_map_view(results, row) for row in counting],
            ramp=pictures.ramp_picture(),
            map_degrees=pictures.MAP_DEGREES,
            map_share=pictures.LEAST_SHARE,
            columns=pictures.COLUMNS,
            galleries=_galleries(results, counting),
            size=record.heads.size,
            sections=sections,
            provenance=_provenance(results),
        )
    )


def _chart(lines: Sequence[Line], score: str) -> charts.Markup:
    marks = []
    for line in lines:
        found, paper = line.figures(score), paper_ratio(line.method)
        if found is not None:
            marks.append(
                charts.Mark(
                    line.method.short_label,
                    found.ratio.value,
                    (found.ratio.low, found.ratio.high),
                    None if paper is None else getattr(paper, SCORES[score]),
                    STYLES[line.method.recipe],
                )
            )
    name = {"side": "SIDE", "mad": "MAD"}[score]
    return charts.mark_chart(marks, f"{name}, ratio to row 2", f"{name} ratio of every row")


def _map_view(results: Results, row: RowScores) -> dict[str, str]:
    picture = pictures.map_picture(pictures.error_map(results, row))
    return {"label": row.method.label, "picture": picture}


def _galleries(
    results: Results, rows: Sequence[RowScores]
) -> list[tuple[Method, list[pictures.Case]]]:
    found = [(row.method, pictures.cases(results, row)) for row in rows]
    return [(method, shown) for method, shown in found if shown]


def _provenance(results: Results) -> list[tuple[str, str]]:
    record = results.bench.record
    rows = [
        ("Heads", str(record.heads)),
        ("Train heads", str(record.train_heads)),
        ("GAN", f"{record.gan.path} (SHA-256 {record.gan.sha256})"),
        ("Priors", record.priors or "the category's"),
        ("Cache", str(results.bench.cache)),
    ]
    for row in results.rows:
        if row.run is not None:
            networks = row.run.record.networks
            begun = record.rows.get(row.method.number)
            start = begun.trainings[-1] if begun and begun.trainings else "packaged networks"
            rows.append(
                (
                    f"Row {row.method.label}",
                    f"recipe {row.run.record.config.recipe}, from {start}, SHA-256 "
                    f"{networks.sha256 if networks else ''}; settings, weights and manifest "
                    f"{row.run.record.config_hash}",
                )
            )
    return rows
