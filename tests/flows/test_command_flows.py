"""Flows of commands: what they ask for is what the commands take."""

import typer

from flows import command_flows
from flows.cli import build_app, command_names
from flows.command_flows import command_arguments


def test_arguments_of_a_command():
    given = {"out": "a b", "epochs": 3, "seed": None, "balance": True, "adapt": False, "by": ["x", "y"]}
    assert command_arguments(["train", "440300"], given) == [
        "train", "440300", "--out", "a b", "--epochs", "3", "--balance", "--no-adapt", "--by", "x", "--by", "y",
    ]  # fmt: skip


def test_every_option_that_a_flow_gives_is_one_of_its_command(monkeypatch):
    asked = []

    class Ended:
        message = ""

        def is_completed(self):
            return True

        def result(self):
            return {}

    def run(_what, arguments, _slot, *, return_state):
        asked.append(arguments)
        return Ended()

    monkeypatch.setattr(command_flows, "run_command", run)
    monkeypatch.setattr(command_flows, "publish", lambda *_, **__: None)
    everything = {"size": "tiny", "epochs": 1, "max_seconds": 1.0}
    command_flows.uv_pretrain.fn(["440300"], **everything)
    command_flows.uv_train.fn(["440300"], encoder="e", pretrained="p", epochs=1, max_seconds=1.0)
    command_flows.uv_sample.fn(7)
    command_flows.uv_estimate.fn("labelled.parquet", product="p")
    command_flows.uv_analyze.fn(products="p", assessment="a")
    command_flows.uv_release.fn("1.0.0")
    known = typer.main.get_command(build_app())
    for arguments in asked:
        if arguments[0] not in command_names():
            continue  # of a part that is not there yet
        command, words = known, list(arguments)
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        options = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
        assert {w for w in words if w.startswith("--")} <= options, arguments
    assert len(asked) == 7
