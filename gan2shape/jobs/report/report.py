"""The report of one or several runs: a web page in one file, Markdown and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from gan2shape.jobs.files import storage_error, write_whole
from gan2shape.jobs.report import gallery as pictures
from gan2shape.jobs.report.comparison import TABLE_SCORES, count, digits, spread_view, table_rows
from gan2shape.jobs.report.page import page
from gan2shape.jobs.report.summary import RunSummary, summarise
from gan2shape.jobs.report.tables import comma_separated, markdown


def write_report(runs: Sequence[Path], out: Path | None = None) -> tuple[Path, Table]:
    """Write `index.html`, `report.md` and `report.csv` on the runs; gives the page's path, and the
    table for the terminal.

    They go to `out`, or into the run: `RUN/report`, and for several runs `RUN/report/comparison` of
    the first. Of a run 24 images are shown, of each of several runs fewer. Raises `UserError` when
    a run cannot be read or the disk refuses.
    """
    if not runs:
        raise ValueError("A report needs at least one run.")
    summaries = summarise(runs)
    folder = out
    if folder is None:
        folder = Path(runs[0]) / "report" / ("" if len(runs) == 1 else "comparison")
    html = page(summaries, max(pictures.LIMIT // len(runs), 8))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "report.md", markdown(summaries).encode())
        write_whole(folder / "report.csv", comma_separated(summaries).encode())
        write_whole(folder / "index.html", html.encode())
    except OSError as error:
        raise storage_error(error, folder) or error from error
    return folder / "index.html", summary_table(summaries)


def summary_table(summaries: Sequence[RunSummary]) -> Table:
    """SIDE and MAD (mean ± std over images) of the runs and the trivial rows, for the terminal."""
    rows = table_rows(summaries)
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("method", min_width=12)
    headers = {"images": 6, "SIDE x100": 11, "ratio": 5, "MAD deg": 10, "ratio ": 5, "relief": 6}
    for header, width in headers.items():
        table.add_column(header, justify="right", no_wrap=True, min_width=width)
    for row in rows:
        cells = [str(count(row.method))]
        for score, factor in TABLE_SCORES:
            found, ratio = row.method.spread(score), row.method.ratio(score, row.reference)
            if found is None:
                cells += ["-", "-"]
                continue
            view = spread_view(found, factor, digits(score))
            cells += [
                f"{view['mean']} ± {view['std']}",
                "-" if ratio is None else f"{ratio:.2f}",
            ]
        relief = row.method.spread("relief_scale")
        cells.append("-" if relief is None or row.method.trivial else f"{relief.median:.2f}")
        table.add_row(row.name, *cells, style="dim" if row.method.trivial else "bold")
    return table
