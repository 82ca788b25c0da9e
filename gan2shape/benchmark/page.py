"""The benchmark's page and table.md: what they show, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from gan2shape.benchmark import pictures
from gan2shape.benchmark.checks import Check
from gan2shape.benchmark.methods import BY_NUMBER, METHODS
from gan2shape.benchmark.scores import Results
from gan2shape.benchmark.sections import Section
from gan2shape.jobs.progress import duration
from gan2shape.jobs.report.comparison import SIDE_FACTOR, seconds_text
from gan2shape.jobs.report.page import render
from gan2shape.jobs.report.tables import Table, decimals
from gan2shape.jobs.report.tables import markdown as markdown_table
from gan2shape.schemas.benchmark import QUICK

GROUPS = {"side": ("SIDE x100", SIDE_FACTOR, 3), "mad": ("MAD deg", 1.0, 2)}
"""Names of the scores for people, their factors, and the paper's decimals."""
COLOURS = {None: "plain", "refine": "run-1", "forward": "run-2", "tune": "run-3"}
FOOT = (
    "Ratios are to row 2 on the same heads, the paper's to its own row 2; lower is better. "
    "Intervals are bootstrapped over heads. Rows 6 and 9 start from the same networks. Row 10's "
    "networks were trained further from such networks."
)


def title(results: Results) -> str:
    """The benchmark in one phrase."""
    heads = results.bench.record.heads
    return f"The paper’s table on {len(results.entries)} heads of the {heads.split} split"


def notes(results: Results) -> list[str]:
    """What a reader should know before trusting the numbers."""
    found = []
    if results.bench.record.recipe.get("name") == QUICK:
        found.append(
            "Made with --quick: budgets are a small part of the full ones. The figures show how "
            "the benchmark works and say little about the methods."
        )
    states = results.states["state"]
    unfinished = [method for method in METHODS if states[method.number]]
    found += [f"Row {method.label}: {states[method.number]}." for method in unfinished]
    heads, compared = len(results.entries), int(results.compared.sum())
    if compared < heads:
        found.append(
            f"All numbers are over the {compared} of {heads} heads that every finished row has "
            "scores for."
        )
    if states.str.endswith("failed").any():
        found.append("A row whose images all failed is left out of the comparison.")
    return found


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """The numbers of `make_table` as text, by the headings of table.md; missing ones are NaN."""
    ours = np.array([BY_NUMBER[row].recipe is not None for row in table.index])
    images = table["images"].astype("string")
    columns: dict[tuple[str, str], Any] = {
        ("", "Method"): table["name"],
        ("", "Sym."): table["symmetry"],
        ("", "Images"): images.mask(table["state"] != "", table["state"]),
    }
    for short, (group, factor, digits) in GROUPS.items():
        columns |= {
            (group, "mean"): decimals(table[f"{short}_mean"], digits, factor),
            (group, "std"): decimals(table[f"{short}_std"], digits, factor),
            (group, "95 % interval"): _interval(table, f"{short}_ci", digits, factor),
            (group, "ratio"): decimals(table[f"{short}_ratio"], 3),
            (group, "ratio's 95 % interval"): _interval(table, f"{short}_ratio_ci", 3),
            (group, "paper"): decimals(table[f"paper_{short}"], digits, factor),
            (group, "paper's ratio"): decimals(table[f"paper_{short}_ratio"], 3),
        }
    training = table["training_seconds"].map(duration, na_action="ignore")
    columns |= {
        ("", "Best relief scale"): decimals(table["relief_median"].where(ours), 2),
        ("", "Training"): training.astype("string"),
        ("", "Seconds per image"): table["seconds_per_image"].map(seconds_text),
        ("", "Failed"): table["failed"].astype("string"),
    }
    return pd.DataFrame(columns)


def _interval(table: pd.DataFrame, name: str, digits: int, factor: float = 1.0) -> pd.Series:
    low, high = (decimals(table[f"{name}_{end}"], digits, factor) for end in ("low", "high"))
    return low + " to " + high


def page_table(table: pd.DataFrame) -> Table:
    """The table with standard deviations and intervals in small print below the numbers."""
    text = printed(table)
    state = table["failed"].astype("string") + " failed"
    state = state.where(table["failed"] > 0, "").mask(table["state"] != "", table["state"])
    names = table.index.astype(str) + " " + table["name"] + ("\n" + state).where(state != "", "")
    columns = {("", "Sym."): text["", "Sym."]}
    for group, _, _ in GROUPS.values():
        own = text[group]
        spread = "\n± " + own["std"] + ("\n" + own["95 % interval"]).fillna("")
        columns[group, "mean"] = own["mean"] + spread
        columns[group, "ratio"] = own["ratio"] + ("\n" + own["ratio's 95 % interval"]).fillna("")
        columns |= {(group, name): own[name] for name in ("paper", "paper's ratio")}
    columns["", "Relief scale"] = text["", "Best relief scale"]
    columns["", "Training"] = text["", "Training"]
    columns["", "Seconds per head"] = text["", "Seconds per image"]
    colours = [COLOURS[method.recipe] for method in METHODS]
    dim = [colour == "plain" for colour in colours]
    return Table("Method", pd.DataFrame(columns).set_axis(names), colours, dim)


def markdown(
    results: Results,
    table: pd.DataFrame,
    checks: Sequence[Check],
    sections: Sequence[Section],
) -> str:
    """Notes, table, checks and experiments as Markdown."""
    lines = [f"# {title(results)}", ""]
    for note in notes(results):
        lines += [f"> {note}", ""]
    lines += [*markdown_table(Table("No.", printed(table))), "", FOOT, "", "## Checks", ""]
    lines += [f"- {check}" for check in checks]
    for section in sections:
        lines += ["", *section.markdown]
    return "\n".join(lines) + "\n"


def page(
    results: Results,
    table: pd.DataFrame,
    checks: Sequence[Check],
    sections: Sequence[Section],
) -> str:
    """The HTML text."""
    record = results.bench.record
    names = {row: BY_NUMBER[row].label for row in results.counting}
    galleries = {name: pictures.cases(results, row) for row, name in names.items()}
    return render(
        "benchmark.html.j2",
        title=title(results),
        record=record,
        notes=notes(results),
        table=page_table(table),
        foot=FOOT,
        charts=[_chart(table, short) for short in GROUPS] if names else [],
        checks=checks,
        maps={
            name: pictures.map_picture(pictures.error_map(results, row))
            for row, name in names.items()
        },
        ramp=pictures.ramp_picture(),
        map_degrees=pictures.MAP_DEGREES,
        map_share=pictures.LEAST_SHARE,
        columns=pictures.COLUMNS,
        galleries={name: shown for name, shown in galleries.items() if shown},
        size=record.heads.size,
        sections=sections,
        provenance=_provenance(results),
    )


def _chart(table: pd.DataFrame, short: str) -> Any:
    from gan2shape.jobs.report import charts

    columns = ["ratio", "ratio_ci_low", "ratio_ci_high"]
    values = table[[*(f"{short}_{name}" for name in columns), f"paper_{short}_ratio"]]
    values = values.set_axis(["value", "low", "high", "paper"], axis=1).dropna(subset="value")
    shown = [method for method in METHODS if method.number in values.index]
    values = values.set_axis([method.short_label for method in shown])
    colours = [COLOURS[method.recipe] for method in shown]
    name = GROUPS[short][0].split()[0]
    unit, title = f"{name}, ratio to row 2", f"{name} ratio of every row"
    return charts.mark_chart(values, colours, unit, title)


def _provenance(results: Results) -> list[tuple[str, str]]:
    record = results.bench.record
    rows = [
        ("Heads", str(record.heads)),
        ("Train heads", str(record.train_heads)),
        ("GAN", f"{record.gan.path} (SHA-256 {record.gan.sha256})"),
        ("Priors", record.priors or "the category's"),
        ("Cache", str(results.bench.cache)),
    ]
    for row, run in results.runs.items():
        networks, begun = run.record.networks, record.rows.get(row)
        start = begun.trainings[-1] if begun and begun.trainings else "packaged networks"
        text = (
            f"recipe {run.record.config.recipe}, from {start}, SHA-256 "
            f"{networks.sha256 if networks else ''}; settings and weights "
            f"{run.record.config_hash}"
        )
        rows.append((f"Row {BY_NUMBER[row].label}", text))
    return rows
