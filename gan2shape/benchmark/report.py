"""Table and page of a benchmark, from what is there."""

from __future__ import annotations

from pathlib import Path

from gan2shape.benchmark import experiments
from gan2shape.benchmark.checks import all_checks
from gan2shape.benchmark.page import markdown, page
from gan2shape.benchmark.record import open_bench
from gan2shape.benchmark.scores import read_results, write_scores, write_table
from gan2shape.benchmark.table import TABLE_SCHEMA, make_table
from gan2shape.jobs.files import storage_error, write_whole
from gan2shape.jobs.report.page import write_page

PAGE = "index.html"


def write_benchmark(out: Path) -> Path:
    """Write the files of `out`; returns the page.

    index.html, table.md, table.csv and table.parquet hold the table, scores.parquet the scores of
    every head. Rows that are not finished say so. Raises `UserError` when the directory
    cannot be read or the disk refuses.
    """
    bench = open_bench(out)
    results = read_results(bench)
    table = make_table(results)
    checks = all_checks(table)
    made = (experiment.section(bench) for experiment in experiments.EXPERIMENTS)
    sections = [section for section in made if section is not None]
    text = markdown(results, table, checks, sections)
    html = page(results, table, checks, sections)
    try:
        write_scores(results, out / "scores.parquet")
        write_table(table, TABLE_SCHEMA, out / "table.parquet")
        write_whole(out / "table.csv", table.to_csv(index=False).encode())
        write_whole(out / "table.md", text.encode())
        write_page(out / PAGE, html)
    except OSError as error:
        raise storage_error(error, out, "give the same command again") or error from error
    return out / PAGE
