"""A campaign cut into runs of about equal size, and locks that say which machine holds them."""

import json
import socket

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from flows import locks
from flows.cli import build_app
from flows.errors import CityBusyError, ServiceError
from flows.scatter import shares
from flows.service import setup
from flows.service.processes import Services
from regions.demo import generate_demo_city


def test_the_worked_example():
    assert shares([("a", 9), ("b", 5), ("c", 4), ("d", 1)], 2) == [["a", "d"], ["b", "c"]]
    assert shares([("a", 1)], 3) == [["a"]]
    assert shares([], 3) == []


@given(st.lists(st.integers(1, 1000), max_size=60), st.integers(1, 12))
def test_every_city_is_in_one_share_and_shares_are_balanced(sizes, runs):
    cities = [(f"{k:06d}", size) for k, size in enumerate(sizes)]
    parts = shares(cities, runs)
    assert sorted(c for part in parts for c in part) == [c for c, _ in cities]
    assert shares(reversed(cities), runs) == parts
    weights = [sum(dict(cities)[c] for c in part) for part in parts]
    if len(parts) == runs and sizes:
        assert max(weights) - min(weights) <= max(sizes)


def test_shares_of_a_campaign(tmp_path):
    generate_demo_city(tmp_path / "data/990101", side_m=1000, adcode="990101")
    campaign = {
        "name": "two", "version": "1.0.0", "cities": ["990101", "990102"], "data_root": str(tmp_path / "data"),
        "out_root": str(tmp_path / "out"), "checkpoint": str(tmp_path / "model"),
    }  # fmt: skip
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(campaign), encoding="utf-8")
    how = ["scatter", "--campaign", str(path), "--runs", "4", "--dry-run"]
    found = json.loads(CliRunner().invoke(build_app(), [*how, "--json"]).output)
    assert found == {"runs": [], "shares": [["990101"]], "missing": ["990102"]}
    assert "1 runs of 1 cities, 1 without data" in CliRunner().invoke(build_app(), how).output


def test_a_busy_city_names_process_and_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "BUSY_PATIENCE_S", 0.0)
    with (
        locks.city_lock(tmp_path / "990101"),
        pytest.raises(CityBusyError, match=rf"process \d+ on {socket.gethostname()}"),
        locks.city_lock(tmp_path / "990101"),
    ):
        pass


def test_joining_a_server_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("UVMAP_HOME", str(tmp_path))
    with pytest.raises(ServiceError, match=r"http://127\.0\.0\.1:1/api: no server answers"):
        setup.join("http://127.0.0.1:1/", say=print)
    away = Services(joined="http://10.0.0.5:4200/api")
    assert away.api_url == "http://10.0.0.5:4200/api"
    assert setup.worker_name(away) != setup.worker_name(Services(port=4200))
    assert setup.runs_in_progress(away) == []
