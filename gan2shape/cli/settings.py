"""The command that prints the settings."""

from __future__ import annotations

import click

from gan2shape.cli.terminal import terminal


@click.command()
@click.argument("key", required=False, metavar="[KEY]")
def settings(key: str | None) -> None:
    """Print settings, defaults, ranges and meanings.

    KEY is a setting, or a part whose settings are printed; without it all are printed.

    A category, a recipe, a model and '--set KEY=VALUE' change them, each of these the ones before.

    \b
    Examples:
      gan2shape settings
      gan2shape settings view_prior
      gan2shape settings optimization.decay
    """
    from rich.table import Column, Table

    from gan2shape.schemas.fields import settings_under

    table = Table(Column("setting", no_wrap=True), "default", "range", "meaning")
    for field in settings_under(key):
        table.add_row(field.key, field.default_text, field.range, field.text)
    terminal().print(table, markup=False, highlight=False)
