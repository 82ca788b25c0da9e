"""The `gan2shape` command: parse, call one function of `jobs`, print.

Imports inside the commands keep `gan2shape --help` quick: torch alone takes seconds.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from gan2shape.cli import benchmark, gan, model, runs, settings, synth, train
from gan2shape.cli.terminal import INTERRUPTED
from gan2shape.schemas.errors import UserError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="gan2shape", prog_name="gan2shape")
def cli() -> None:
    """The 3D shape of every image in a folder, from a 2D StyleGAN2 of such images.

    Images show one category of things. A model is what has been learnt about a category, a recipe
    is how much work to spend, and a run is what comes out.

    \b
    Examples:
      gan2shape reconstruct examples/heads64 --model heads64 --out run
      gan2shape reconstruct photos/ --gan faces.pt --category faces --out run
      gan2shape train photos/ --category faces --out my-model
      gan2shape status run
      gan2shape report run other-run --out comparison
    """


for _command in (
    runs.reconstruct,
    runs.resume,
    runs.status,
    runs.report,
    train.train,
    model.model,
    settings.settings,
    gan.gan,
    synth.synth,
    benchmark.benchmark,
):
    cli.add_command(_command)


def main() -> NoReturn:
    """Run the command; people see one sentence for what they can put right, and no traceback."""
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        code = INTERRUPTED
    except UserError as error:
        click.echo(f"gan2shape: {error}", err=True)
        code = 1
    except OSError as error:
        if error.errno is None:
            raise
        place = "" if error.filename is None else f"{error.filename}: "
        click.echo(f"gan2shape: {place}{error.strerror}.", err=True)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
