"""The command that prints the settings."""

from __future__ import annotations

import click

from gan2shape.cli.terminal import terminal


@click.command()
@click.argument("key", required=False, metavar="[KEY]")
def settings(key: str | None) -> None:
    """Print settings, defaults, ranges and meanings.

    KEY is the name of a setting or of a part. Without KEY, all settings are printed.

    The values of a run come from the category, the recipe, the model, --priors, the networks that
    it starts from, and its options and '--set KEY=VALUE', in this order. A later value replaces an
    earlier one.

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
