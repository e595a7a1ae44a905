"""Commands of `uvmap` in the process of the test: their modules are imported once for all of them."""

import json
from typing import Any

from typer.testing import CliRunner

from flows.cli import build_app


def json_of(*args: object) -> Any:
    """Run a command with `--json` among its arguments and read what it prints; its errors are raised."""
    result = CliRunner().invoke(build_app(), [str(a) for a in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output[-3000:]
    return json.loads(result.stdout)
