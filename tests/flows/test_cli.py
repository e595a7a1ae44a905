"""The command line as a user meets it: help, JSON, exit codes, one line for a mistake."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from flows.cli import build_app, command_names

runner = CliRunner()


def run(*args):
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *args], capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.parametrize("name", command_names())
def test_every_command_has_help_with_an_example(name):
    result = runner.invoke(build_app(), [name, "--help"])
    assert result.exit_code == 0
    assert f"uvmap {name}" in result.output.replace("\n", " ")
    assert "Example" in result.output


@pytest.mark.parametrize("name", [c for c in command_names() if c not in {"up", "down"}])
def test_every_command_speaks_json(name):
    assert "--json" in runner.invoke(build_app(), [name, "--help"], env={"COLUMNS": "200"}).output


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
def test_a_mistake_is_one_line_without_traceback(args, said):
    result = run(*args)
    assert result.returncode == 1
    lines = result.stderr.strip().splitlines()
    assert said in lines[-1]
    assert lines[-1].startswith("error: ")
    assert "Traceback" not in result.stderr
