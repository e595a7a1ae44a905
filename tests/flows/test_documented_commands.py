"""What documents, help and error messages say of the command line is what the program has."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from flows.cli import build_app
from flows.command_reference import command_reference, commands, option_names

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("regions", "models", "pipeline", "accuracy", "flows")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
OF_OTHER_PROGRAMS = {
    "--config",  # osmium extract
    "--username",  # createdb
    "--maximum-zoom",
    "--minimum-zoom",
    "--output",
    "--temporary-directory",
    "--description",  # tippecanoe
    "--strict",  # mypy
    "--all",  # prefect deploy
    "--param",  # prefect deployment run
    "--watch",  # prefect deployment run
    "--require-hashes",  # pip
    "--auth",  # initdb
    "--type",  # prefect work-pool create
    "--gres",  # sbatch, as the next four
    "--cpus-per-task",
    "--mem",
    "--time",
    "--array",
}
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


@cache
def known_flags():
    """Options of the commands, of our scripts, and of other programs."""
    return option_names(build_app()) | flags_of_scripts() | OF_OTHER_PROGRAMS


def flags_of_scripts():
    """Options that benchmarks and `python -m` programs define themselves with argparse."""
    files = [*ROOT.glob("benchmarks/*.py"), *(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))]
    return {f for p in files for f in re.findall(r'add_argument\(\s*"(--[a-z0-9-]+)"', p.read_text())}


def messages(path):
    """String constants of a module that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            docstrings.add(id(body[0].value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_flags_in_documents_exist(path):
    known = known_flags()
    unknown = sorted(set(FLAG.findall(path.read_text(encoding="utf-8"))) - known)
    assert not unknown, f"{path.name} names options that no command has: {unknown}"


@pytest.mark.parametrize("room", ROOMS)
def test_flags_in_messages_exist(room):
    known = known_flags()
    unknown = {}
    for path in sorted((ROOT / room).rglob("*.py")):
        for text in messages(path):
            for flag in FLAG.findall(text):
                if flag not in known and not _is_foreign(text, flag):
                    unknown.setdefault(str(path.relative_to(ROOT)), set()).add(flag)
    assert not unknown, f"messages name options that no command has: {unknown}"


def _is_foreign(text, flag):
    """Arguments that we pass to, or recommend of, other programs: they stand after that program's name, or alone."""
    programs = r"(?:prefect|rio|chromium|osmium|gdal\w*|ogr\w+|git|pip)"
    return text.strip() == flag or re.search(rf"{programs}\b[^.;]*{flag}", text)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_commands_in_documents_exist(path):
    names = {name for name, _ in commands(build_app())}
    groups = {name.rsplit(" ", 1)[0] for name in names}
    for line in path.read_text(encoding="utf-8").splitlines():
        for words in re.findall(r"(?:^|[`/ ])uvmap ((?:[a-z]+ ?){1,2})", line):
            first, *rest = words.split()
            typed = f"uvmap {first}"
            if typed in names:
                continue
            assert typed in groups, f"{path.name}: no command '{typed}' in: {line}"
            assert not rest or f"{typed} {rest[0]}" in names or "`" in line, f"{path.name}: {typed} {rest} in: {line}"


def test_the_command_reference_is_that_of_the_program():
    written = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert written == command_reference(build_app()), "run: python -m flows.command_reference > docs/commands.md"


OF_A_LABELLED_SAMPLE = [
    *(ROOT / "accuracy/survey" / f"{name}.py" for name in ("sample", "design", "design_checks", "design_arrays")),
    *(ROOT / "accuracy/estimation").glob("*.py"),
]


@pytest.mark.parametrize(
    ("command", "modules"),
    [
        ("uvmap estimate", OF_A_LABELLED_SAMPLE),
        ("uvmap assess sample", [*OF_A_LABELLED_SAMPLE, *(ROOT / "accuracy/reporting").glob("*.py")]),
    ],
    ids=["estimate", "assess"],
)
def test_commands_offer_every_option_that_their_messages_advise(command, modules):
    known = {o for name, c in commands(build_app()) if name == command for p in c.params for o in p.opts}
    advised = {}
    for path in modules:
        for text in messages(path):
            for flag in set(FLAG.findall(text)) - known:
                advised.setdefault(path.name, set()).add(flag)
    assert not advised, f"{command} does not have what its messages advise: {advised}"
