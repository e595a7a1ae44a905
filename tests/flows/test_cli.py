"""The command line as a user meets it: help, JSON, exit codes, one line for a mistake."""

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from flows.cli import build_app, command_names, main

runner = CliRunner()


def leaves():
    """Every command as a user types it, those in groups too."""
    group = typer.main.get_command(build_app())
    for name, command in group.commands.items():
        parts = getattr(command, "commands", None)
        yield from ((name,),) if parts is None else ((name, part) for part in parts)


LEAVES = list(leaves())


def test_all_modules_are_there():
    assert {path[0] for path in LEAVES} == set(command_names())


@pytest.mark.parametrize("path", [*LEAVES, *sorted({(p[0],) for p in LEAVES if len(p) > 1})], ids=" ".join)
def test_every_command_has_help_with_an_example_and_speaks_json(path):
    result = runner.invoke(build_app(), [*path, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "Example: uvmap " + path[0] in " ".join(result.output.split())
    assert "--json" in result.output or path not in LEAVES or path[0] in {"up", "down"}


@pytest.mark.parametrize(("text", "adcode"), [("深圳", "440300"), ("Shenzhen", "440300"), ("5101", "510100")])
def test_cities_are_found(text, adcode):
    result = runner.invoke(build_app(), ["cities", text, "--json"])
    assert result.exit_code == 0
    assert adcode in [c["adcode"] for c in json.loads(result.output)["cities"]]


def test_national_list():
    result = runner.invoke(build_app(), ["cities", "--national", "--json"])
    assert json.loads(result.output)["count"] == 342
    assert runner.invoke(build_app(), ["cities", "Atlantis"]).exit_code == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["plan", "Shenzen"], "440300"),
        (["plan", "Suzhou"], "320500"),
        (["plan", "440300", "--data-root", "nowhere"], "imagery/"),
        (["plan", "--campaign", "chine"], "china"),
        (["plan"], "--imagery"),
        (["report", "nowhere"], "uvmap map"),
        (["map", "--checkpoint", "nowhere", "--imagery", "none.tif"], "none.tif"),
    ],
)
def test_a_mistake_is_one_line_without_traceback(args, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["uvmap", *args])
    monkeypatch.delenv("UVMAP_DEBUG", raising=False)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in lines[-1]
    assert lines[-1].startswith("error: ")


def test_a_mistake_in_a_process_of_its_own():
    result = subprocess.run(
        [sys.executable, "-m", "flows.cli", "plan", "Shenzen"], capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.strip().splitlines()[-1].startswith("error: no city 'Shenzen'")
    assert "Traceback" not in result.stderr
