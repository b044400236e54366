"""The command line: `latentia …`, a module for each command or two."""

import os
import sys

import typer

from latentia.cli import align, claims, compare, explain, measure, separate
from latentia.cli.terminal import stop

# The base of all of Typer's complaints about a command line, whether it brings its own copy of Click or not.
_CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    help="Shape, measure, align, discover and generate: the latent spaces of deep models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(separate.separate)
app.command()(separate.layers)
app.command()(measure.measure)
app.command(context_settings={"ignore_unknown_options": True})(measure.view)
app.command()(compare.compare)
app.command()(align.align)
app.command()(explain.explain)
app.add_typer(claims.claims, name="claims")


def main() -> None:
    """Run the command line; whatever the user can mend is said in one line, with exit code 2."""
    try:
        code = app(standalone_mode=False)
    except _CommandLineError as error:
        stop(error.format_message())  # type: ignore[attr-defined]
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("LATENTIA_DEBUG"):
            raise
        stop(str(error))
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if code == 130:  # some versions of Typer return it
        stop("interrupted", code=130)
    sys.exit(code if isinstance(code, int) else 0)
