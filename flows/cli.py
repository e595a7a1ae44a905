"""The command line `uvmap`: assembles the commands and turns users' mistakes into one line."""

import importlib
import logging
import os
import pkgutil
import sys
import warnings

import typer

import flows.commands
from accuracy.errors import AccuracyError
from models.errors import ModelsError
from pipeline.errors import PipelineError
from regions.errors import RegionsError

ORDER = (
    "demo",
    "cities",
    "plan",
    "train",
    "thresholds",
    "map",
    "report",
    "sample",
    "label",
    "estimate",
    "assess",
    "gallery",
    "diff",
    "release",
)
"""The order in which a user meets the commands; the others follow by name."""


PARTS = {
    "options",
    "label_active",
    "assess_attributes",
    "release_build",
    "release_check",
    "release_publish",
    "release_diff",
}
"""Modules of `flows.commands` that are parts of commands."""


def command_names() -> list[str]:
    """Modules of `flows.commands` that are commands (all but `PARTS`); each defines `register(app)`."""
    found = {m.name for m in pkgutil.iter_modules(flows.commands.__path__)} - PARTS
    return [n for n in ORDER if n in found] + sorted(found - set(ORDER))


def build_app() -> typer.Typer:
    """The application with all its commands."""
    app = typer.Typer(
        name="uvmap",
        help="Maps of urban villages: from imagery and OpenStreetMap to polygons with a measured accuracy.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in command_names():
        importlib.import_module(f"flows.commands.{name}").register(app)
    return app


def main() -> None:
    """Run `uvmap`; exit code 0 only on success, one line and no traceback for a user's mistake."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    if "UVMAP_DEBUG" not in os.environ:
        warnings.simplefilter("ignore")
    try:
        build_app()()
    except (RegionsError, ModelsError, PipelineError, AccuracyError, OSError) as error:
        if "UVMAP_DEBUG" in os.environ:
            raise
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on where it stopped\n")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
