"""The command reference, written from the program itself: `python -m flows.command_reference > docs/commands.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

from flows.cli import build_app

INTRODUCTION = """# Commands

Written from the program (`python -m flows.command_reference > docs/commands.md`); a test compares the two. Every
command that prints a result has `--json`: one JSON object on standard output, progress and warnings on standard error.
A mistake is one line on standard error and exit code 1.
"""


def commands(app: typer.Typer) -> Iterator[tuple[str, Any]]:
    """Every command as a user types it ("uvmap sample points") with its definition, groups unfolded."""
    yield from _unfold("uvmap", typer.main.get_command(app))


def option_names(app: typer.Typer) -> set[str]:
    """Every long option of every command, with its two dashes."""
    return {
        name
        for _, command in commands(app)
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("--")
    } | {"--help"}


def command_reference(app: typer.Typer) -> str:
    """The reference as Markdown: per command its help, its usage and a table of options with their defaults."""
    parts = [INTRODUCTION]
    for name, command in commands(app):
        parts.append(f"## {name}\n\n{_paragraphs(command.help or '')}\n")
        rows = [row for parameter in command.params if (row := _row(parameter)) is not None]
        if rows:
            parts.append("| option | default | what |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _unfold(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
        return
    for part, inner in command.commands.items():
        yield from _unfold(f"{name} {part}", inner)


def _paragraphs(text: str) -> str:
    """Help texts are wrapped in the source; an example becomes a line of its own in code style."""
    joined = [" ".join(p.split()) for p in text.strip().split("\n\n")]
    return "\n\n".join(f"Example: `{p.removeprefix('Example: ')}`" if p.startswith("Example: ") else p for p in joined)


def _row(parameter: Any) -> str | None:
    if "--help" in parameter.opts:
        return None
    is_option = parameter.opts[0].startswith("-")
    names = [*parameter.opts, *parameter.secondary_opts] if is_option else [parameter.name.rstrip("_").upper()]
    what = " ".join(str(getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    return f"| `{' / '.join(names)}` | {_default(parameter)} | {what} |"


def _default(parameter: Any) -> str:
    value: Any = parameter.default
    if parameter.required:
        return "required"
    if value is None or callable(value) or value in ((), []):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"`{value}`" if str(value) else ""


def main() -> None:
    """Print the reference."""
    sys.stdout.write(command_reference(build_app()))


if __name__ == "__main__":
    main()
