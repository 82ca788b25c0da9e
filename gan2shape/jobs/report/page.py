"""Pages: a template and plain values become HTML that opens without a network."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from gan2shape.jobs.files import write_whole

PLOTLY = "plotly.min.js"
"""Plotly's own script, which stands beside a page with charts."""


def render(template: str, **values: Any) -> str:
    """The HTML text of a template that extends `base.html.j2`.

    Values are plain, or `Table` and `Chart`, which have a macro each. Text is escaped.
    """
    return _environment().get_template(template).render(values, plotly=PLOTLY)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("gan2shape.jobs.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["thousands"] = lambda number: f"{number:,}".replace(",", "\u202f")
    return environment


def write_page(file: Path, html: str) -> None:
    """Write a page, and Plotly's script beside it where the page has charts.

    Raises `OSError` when the disk refuses.
    """
    if f'src="{PLOTLY}"' in html:
        from plotly.offline import get_plotlyjs

        script, content = file.with_name(PLOTLY), get_plotlyjs().encode()
        if not script.is_file() or script.read_bytes() != content:
            write_whole(script, content)
    write_whole(file, html.encode())
