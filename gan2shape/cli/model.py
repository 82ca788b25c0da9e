"""Commands on models: list them, describe one."""

from __future__ import annotations

import click

from gan2shape.cli.terminal import terminal


@click.group()
def model() -> None:
    """List and describe models.

    A model is all that has been learnt about a category, in one folder.
    """


@model.command("list")
def model_list() -> None:
    """List the models that come with the package.

    \b
    Example:
      gan2shape model list
    """
    from gan2shape.jobs.weights.about import models_table

    terminal().print(models_table())


@model.command("info")
@click.argument("model", metavar="MODEL")
def model_info(model: str) -> None:
    """Describe a model, and check its files.

    MODEL is the name of a packaged model, or a folder.

    \b
    Examples:
      gan2shape model info heads64
      gan2shape model info my-model/
    """
    from gan2shape.jobs.weights.about import model_table

    terminal().print(model_table(model), markup=False, highlight=False)
