"""The table's numbers: means over the heads that all finished rows share, ratios, intervals."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa

from gan2shape.benchmark.methods import CONSTANT, METHODS, paper_ratio
from gan2shape.benchmark.scores import Results, column
from gan2shape.jobs.report.scores import confidence_interval, ratios, statistics

SCORES = {"side": "side", "mad": "mad_degrees"}
"""Names of the table's columns to those of the scores."""
SCORED = [*SCORES.values(), "relief_scale"]


def _score_columns(short: str, units: str, name: str) -> list[pa.Field]:
    number, ratio = pa.float64(), "to the constant row on the same images"
    return [
        column(f"{short}_mean", number, units, f"mean {name} over images"),
        column(f"{short}_std", number, units, f"standard deviation of {name} over images"),
        column(f"{short}_ci_low", number, units, "95 % confidence interval of the mean"),
        column(f"{short}_ci_high", number, units, "95 % confidence interval of the mean"),
        column(f"{short}_ratio", number, "1", f"ratio of the mean {ratio}"),
        column(f"{short}_ratio_ci_low", number, "1", "95 % confidence interval of the ratio"),
        column(f"{short}_ratio_ci_high", number, "1", "95 % confidence interval of the ratio"),
        column(f"paper_{short}", number, units, "as printed in the paper, on its faces"),
        column(f"paper_{short}_ratio", number, "1", "to the paper's constant row"),
    ]


TABLE_SCHEMA = pa.schema(
    [
        column("number", pa.int32(), "", "number of the row in the table"),
        column("name", pa.string(), "", "name of the row"),
        column("symmetry", pa.string(), "", "Y, N or /"),
        column("state", pa.string(), "", "what is missing; empty where it is finished"),
        column("images", pa.int64(), "", "heads that the numbers are over"),
        *_score_columns("side", "1", "SIDE (tables print it x 100)"),
        *_score_columns("mad", "degree", "MAD"),
        column("relief_median", pa.float64(), "1", "median of the best relief scale"),
        column("training_seconds", pa.float64(), "s", "wall time of the networks' training"),
        column("seconds_per_image", pa.float64(), "s", "computing time of the run"),
        column("failed", pa.int64(), "", "heads without a result"),
    ]
)


def make_table(results: Results) -> pd.DataFrame:
    """All rows in the paper's order, with the columns of `TABLE_SCHEMA`, by number.

    Rows that are not finished have no figures (NaN).
    """
    heads = results.compared.index[results.compared]
    scores = {number: results.row(number).loc[heads, SCORED] for number in results.counting}
    lines: list[dict[str, Any]] = []
    for method in METHODS:
        state, own = results.states.loc[method.number], scores.get(method.number)
        line = {
            "number": method.number,
            "name": method.name,
            "symmetry": method.symmetry,
            "state": state["state"],
            "images": 0 if own is None else len(heads),
            "failed": state["failed"],
        }
        if own is not None:
            line |= _figures(own, scores[CONSTANT])
        shares = paper_ratio(method)
        if method.paper is not None and shares is not None:
            for short, name in SCORES.items():
                line[f"paper_{short}"] = getattr(method.paper, name)
                line[f"paper_{short}_ratio"] = getattr(shares, name)
        lines.append(line | dict(results.seconds.loc[method.number]))
    table = pd.DataFrame(lines, columns=TABLE_SCHEMA.names)
    return table.set_index("number", drop=False)


def _figures(ours: pd.DataFrame, constant: pd.DataFrame) -> dict[str, float]:
    found, shares = statistics(ours), ratios(ours, constant)
    figures = {"relief_median": found["median"]["relief_scale"]}
    for short, name in SCORES.items():
        values, reference = ours[name].to_numpy(), constant[name].to_numpy()
        low, high = confidence_interval(values)
        ratio_low, ratio_high = confidence_interval(values, reference)
        figures |= {
            f"{short}_mean": found["mean"][name],
            f"{short}_std": found["std"][name],
            f"{short}_ci_low": low,
            f"{short}_ci_high": high,
            f"{short}_ratio": shares[name],
            f"{short}_ratio_ci_low": ratio_low,
            f"{short}_ratio_ci_high": ratio_high,
        }
    return figures
