"""`uvmap release`: from the products of many cities to a dataset that is checked, published and compared.

Each command of the group is a module of its own, `release_*.py`, that defines `register(app)`.
"""

import importlib
import pkgutil

import typer

import flows.commands

app = typer.Typer(
    no_args_is_help=True,
    help="From city products to a published dataset: build, check, publish, compare.\n\n"
    "Example: uvmap release build --help",
)
PREFIX = "release_"
ORDER = ("build", "check", "publish", "diff")


def register(main: typer.Typer) -> None:
    """Add the group with all its commands."""
    found = {m.name for m in pkgutil.iter_modules(flows.commands.__path__) if m.name.startswith(PREFIX)}
    for name in sorted(found, key=lambda n: (*_place(n.removeprefix(PREFIX)), n)):
        importlib.import_module(f"flows.commands.{name}").register(app)
    main.add_typer(app, name="release")


def _place(name: str) -> tuple[int]:
    return (ORDER.index(name) if name in ORDER else len(ORDER),)
