"""Tables of printed text, which pages, Markdown and the terminal show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import pandas as pd
from rich.table import Table as TerminalTable

MISSING = "-"


@dataclass(frozen=True)
class Table:
    """Rows of text under headings."""

    corner: str
    """Heading of the rows' names."""
    text: pd.DataFrame
    """The index holds the rows' names. Columns are headings, or pairs of a group and a heading.
    Missing cells are NaN or `None`. A page shows further lines of a cell in small print."""
    colours: Sequence[str] = ()
    """Names of CSS variables, one for each row that has a colour key."""
    dim: Sequence[bool] = ()
    """Rows that stand back, one value for each row."""

    @property
    def headings(self) -> list[tuple[str, str]]:
        """Group and heading of each column; the group is empty where there is none."""
        return [name if isinstance(name, tuple) else ("", str(name)) for name in self.text]

    @property
    def groups(self) -> list[tuple[str, list[str]]]:
        """Groups with their headings; columns without a group stand alone."""
        found: list[tuple[str, list[str]]] = []
        for group, names in groupby(self.headings, lambda name: name[0]):
            headings = [heading for _, heading in names]
            found += [(group, headings)] if group else [("", [heading]) for heading in headings]
        return found

    @property
    def firsts(self) -> list[bool]:
        """For each column, whether it is the first of its group."""
        return [bool(group) and not i for group, names in self.groups for i in range(len(names))]

    def rows(self) -> Iterator[tuple[str, list[str | None]]]:
        """Name and cells of each row."""
        cells = self.text.astype(object).where(self.text.notna(), None)
        for name, *values in cells.itertuples():
            yield str(name), values

    @property
    def flat_headings(self) -> list[str]:
        """Headings in one line: a group stands before its first heading."""
        names = []
        for group, headings in self.groups:
            names += [f"{group}, {headings[0]}" if group else headings[0], *headings[1:]]
        return names


def decimals(values: pd.Series, digits: int, factor: float = 1.0) -> pd.Series:
    """Numbers times `factor` as text with so many decimals; NaN stays missing."""
    text = (values.astype(float) * factor + 0.0).map(f"{{:.{digits}f}}".format, na_action="ignore")
    return text.astype("string")


def markdown(table: Table) -> list[str]:
    """The lines of a Markdown table."""
    rows = [[table.corner, *table.flat_headings], ["---"] * (len(table.headings) + 1)]
    rows += [[name, *(cell or MISSING for cell in cells)] for name, cells in table.rows()]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines[1] = lines[1].replace(" ", "")
    return lines


def terminal(table: Table) -> TerminalTable:
    """The table for a terminal of 80 characters or more."""
    found = TerminalTable(box=None, pad_edge=False, padding=(0, 1))
    found.add_column(table.corner, min_width=12)
    for heading in table.flat_headings:
        found.add_column(heading, justify="right", no_wrap=True)
    dim = table.dim or [False] * len(table.text)
    for (name, cells), back in zip(table.rows(), dim, strict=True):
        found.add_row(name, *(cell or MISSING for cell in cells), style="dim" if back else "bold")
    return found
