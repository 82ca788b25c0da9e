"""Table and page of a benchmark, from what is there."""

from __future__ import annotations

from pathlib import Path

from gan2shape.benchmark import experiments
from gan2shape.benchmark.checks import all_checks
from gan2shape.benchmark.page import markdown, page
from gan2shape.benchmark.record import open_bench
from gan2shape.benchmark.scores import read_results, write_scores, write_table
from gan2shape.benchmark.table import as_table, comma_separated, table_lines
from gan2shape.jobs.files import storage_error, write_whole

PAGE = "index.html"


def write_benchmark(out: Path) -> Path:
    """Write the files of `out`; returns the page.

    index.html, table.md, table.csv and table.parquet hold the table, scores.parquet the scores of
    every head. Rows that are not finished are told as such. Raises `UserError` when the directory
    cannot be read or the disk refuses.
    """
    bench = open_bench(out)
    results = read_results(bench)
    lines = table_lines(results)
    checks = all_checks(lines)
    made = (experiment.section(bench) for experiment in experiments.EXPERIMENTS)
    sections = [section for section in made if section is not None]
    texts = {
        "table.md": markdown(results, lines, checks, sections),
        "table.csv": comma_separated(lines),
        PAGE: page(results, lines, checks, sections),
    }
    try:
        write_scores(results, out / "scores.parquet")
        write_table(as_table(lines), out / "table.parquet")
        for name, text in texts.items():
            write_whole(out / name, text.encode())
    except OSError as error:
        raise storage_error(error, out, "give the same command again") or error from error
    return out / PAGE
