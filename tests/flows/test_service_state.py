"""The record of runs, the state of the services and the Prefect profile."""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.settings import PREFECT_PROFILES_PATH, temporary_settings

from flows.campaign_run import configured
from flows.choice import chosen
from flows.errors import RunError, ServiceError
from flows.finished import find_finished, forget_finished, mark_finished
from flows.home import CHECKOUT
from flows.record import CityEntry, Owner, RunRecord, find_run, now, read_record, stamp_of
from flows.service import setup
from flows.service.processes import Service, Services, last_words, log_file, read_services, start, stop
from flows.service.profile import how_to_point_here, leave_profile, write_profile
from pipeline.city.job import job_of
from regions.campaign import CampaignError
from regions.registry import UnknownCityError, find_city

STATES = ("waiting", "running", "done", "failed", "missing")


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("UVMAP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_PROFILE", raising=False)


def record_in(folder, run="0123", name="calm-crane", **changes):
    fields = {
        "run": run, "name": name, "flow": "uv-map", "campaign": "china", "version": "1.0.0", "data_root": folder,
        "out_root": folder, "checkpoint": folder, "failure_tolerance": 0.5, "owner": Owner.me(), "started": now(),
        "updated": now(),
    }  # fmt: skip
    return RunRecord(**{**fields, **changes})


@given(
    states=st.lists(st.sampled_from(STATES), max_size=30),
    tolerance=st.floats(0, 1),
    reason=st.none() | st.text(max_size=20),
)
def test_record_counts_every_city_once_and_survives_json(tmp_path_factory, states, tolerance, reason):
    folder = tmp_path_factory.getbasetemp()
    cities = {f"{100000 + k}": CityEntry(name=f"city {k}", state=s, reason=reason) for k, s in enumerate(states)}
    record = record_in(folder, cities=cities, failure_tolerance=tolerance)
    counts = record.counts()
    assert sum(counts.values()) == len(states)
    assert all(counts[s] == states.count(s) for s in STATES)
    assert 0 <= record.progress <= 1
    with_data = [s for s in states if s != "missing"]
    assert record.too_many_failed == (with_data.count("failed") > tolerance * len(with_data))
    assert RunRecord.model_validate_json(record.model_dump_json()) == record
    page = record.markdown()
    assert all(code in page for code in cities)


def test_runs_are_found_by_id_start_of_id_and_name(tmp_path):
    record_in(tmp_path, run="aa11", name="calm-crane").save()
    record_in(tmp_path, run="aa22", name="shy-shark").save()
    assert find_run("aa1").run == "aa11"
    assert find_run("shy-shark").run == "aa22"
    with pytest.raises(RunError, match="fits 2 runs: aa11, aa22"):
        find_run("aa")
    with pytest.raises(RunError, match="no run 'zz' on this machine; the last one is aa22"):
        find_run("zz")


def test_damaged_and_lost_records_are_told_in_one_line(tmp_path):
    record = record_in(tmp_path)
    record.save()
    record.path.write_text('{"run": 1}')
    with pytest.raises(RunError, match="not a record of this version"):
        read_record(record.path)
    record.path.unlink()
    with pytest.raises(RunError, match="start the run anew"):
        read_record(record.path)


def test_owner_is_dead_when_its_process_is_and_unknown_elsewhere():
    assert Owner.me().alive() is True
    gone = subprocess.Popen([sys.executable, "-c", ""])
    owner = Owner(host=Owner.me().host, pid=gone.pid, started=psutil.Process(gone.pid).create_time())
    gone.wait()
    assert owner.alive() is False
    assert Owner.me().model_copy(update={"started": 1.0}).alive() is False  # the id was given to another process
    assert Owner.me().model_copy(update={"host": "elsewhere"}).alive() is None


def test_a_done_city_is_current_until_data_model_or_product_change(tmp_path):
    scene = tmp_path / "data" / "440300" / "imagery" / "a.tif"
    scene.parent.mkdir(parents=True)
    scene.write_text("x")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("w")
    campaign = configured(
        "china",
        data_root=str(tmp_path / "data"),
        out_root=str(tmp_path / "out"),
        checkpoint=str(tmp_path / "model"),
    )
    city = find_city("440300")
    product = campaign.product_folder("440300")
    assert not is_found(campaign)
    mark_finished(job_of(campaign, city), stamp_of(job_of(campaign, city)), {"scores": {"predicted_px": 3}})
    assert not is_found(campaign)  # no product, so no mark
    product.mkdir(parents=True)
    (product / "a.tif").write_text("abc")
    (product / "manifest.json").write_text(json.dumps({"files": {"a.tif": {"bytes": 3}}}))

    def finish():
        mark_finished(job_of(campaign, city), stamp_of(job_of(campaign, city)), {"scores": {"predicted_px": 3}})

    finish()
    assert find_finished(job_of(campaign, city))[1] == {"scores": {"predicted_px": 3}}
    (tmp_path / "model" / "throughput.json").write_text("{}")  # measured by the plan
    assert is_found(campaign)
    (product / "a.tif").write_text("ab")
    assert not is_found(campaign)
    (product / "a.tif").write_text("abc")
    assert is_found(campaign)
    (product / "manifest.json").write_text(json.dumps({"files": {}}))
    assert not is_found(campaign)
    finish()
    (tmp_path / "model" / "weights").write_text("other")
    assert not is_found(campaign)
    finish()
    assert is_found(campaign)
    assert not is_found(campaign.model_copy(update={"batch_size": 3}))
    os.utime(scene, (1, 1))
    assert not is_found(campaign)
    finish()
    forget_finished(job_of(campaign, city))
    assert not is_found(campaign)


def is_found(campaign):
    return find_finished(job_of(campaign, find_city("440300"))) is not None


def test_parameters_take_the_place_of_the_campaigns(tmp_path):
    campaign = configured("china", data_root="here", out_root=None, checkpoint=None, failure_tolerance=0.0)
    assert campaign.data_root.is_absolute()
    assert campaign.data_root.name == "here"
    assert campaign.out_root.parts[-2:] == ("out", "china")
    assert campaign.failure_tolerance == 0.0
    assert len(chosen(campaign, None)) == 342
    assert [c.adcode for c in chosen(campaign, ["深圳", 440100, "Guangzhou"])] == ["440300", "440100"]
    assert {c.region for c in chosen(campaign, regions=["South", "north"])} == {"South", "North"}
    assert {c.adcode[:2] for c in chosen(campaign, provinces=["Guangdong", "11"])} == {"44", "11"}
    with pytest.raises(RunError, match="no city of this choice lies in the province 'Atlantis'"):
        chosen(campaign, provinces=["Atlantis"])
    with pytest.raises(UnknownCityError):
        chosen(campaign, ["Atlantis"])
    with pytest.raises(CampaignError, match="no campaign 'moon'"):
        configured("moon", data_root=None, out_root=None, checkpoint=None)


def test_started_process_can_be_interrupted_and_stubborn_ones_are_killed():
    ask = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, flush=True)"
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a script
    try:
        service = start("asked", ["-c", ask], env=os.environ)
        psutil.wait_procs([service.process()] if service.process() else [], timeout=20)
        deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(300)"
        stubborn = start("stubborn", ["-c", deaf], env=os.environ)
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert last_words("asked") == "True"
    while last_words("stubborn") != "deaf":
        assert stubborn.alive
    assert stop(stubborn, patience_s=0.3)
    assert not stubborn.alive
    assert not stop(stubborn)
    assert not stop(None)
    assert log_file("stubborn").exists()


def test_a_server_of_another_home_on_the_same_port_is_not_taken_for_our_own(tmp_path, monkeypatch):
    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        port = other.server_address[1]
        me = Service(pid=os.getpid(), created=psutil.Process().create_time())
        assert me.listens_on(port)
        assert not Service(pid=os.getppid(), created=psutil.Process(os.getppid()).create_time()).listens_on(port)

        services = Services(port=port)
        assert setup.healthy(services)
        monkeypatch.setattr(setup, "_is_free", lambda _: True)  # the other came a moment later
        late = "import socket, sys; s = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[-1]))); print('bound')"
        monkeypatch.setattr(setup, "start", lambda name, words, *, env: start(name, ["-c", late, words[-1]], env=env))
        with pytest.raises(ServiceError, match=r"the server ended before answering.*already in use"):
            setup._server(services, lambda _: None)
        other.shutdown()


def test_state_of_the_services_is_kept_and_damage_is_told(tmp_path):
    assert read_services() == Services()
    with pytest.raises(ServiceError, match="run `uvmap up`"):
        _ = Services().api_url
    services = Services(port=4242, gpus=1, cpus=2)
    services.save()
    assert read_services() == services
    (tmp_path / "home" / "services.json").write_text('{"port": "x"}')
    with pytest.raises(ServiceError, match="remove it and run `uvmap up`"):
        read_services()


@pytest.mark.parametrize(
    ("before", "activate", "active"),
    [
        ("", False, "uvmap"),
        ('active = "mine"\n[profiles.mine]\nPREFECT_LOGGING_LEVEL = "DEBUG"\n', False, "uvmap"),
        ('active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://far:4200/api"\n', False, "mine"),
        ('active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://far:4200/api"\n', True, "uvmap"),
    ],
)
def test_profile_is_added_and_taken_back_without_touching_others(tmp_path, before, activate, active):
    import tomllib

    path = tmp_path / "profiles.toml"
    if before:
        path.write_text(before)
    services = Services(port=4321)
    with temporary_settings({PREFECT_PROFILES_PATH: path}):
        write_profile(services, activate=activate)
        write_profile(services, activate=activate)  # idempotent
        written = tomllib.loads(path.read_text())
        assert written["active"] == active
        assert written["profiles"]["uvmap"]["PREFECT_API_URL"] == services.api_url
        hint = how_to_point_here(services)
        assert (hint is None) == (active == "uvmap")
        assert hint is None or "export PREFECT_PROFILE=uvmap" in hint
        leave_profile(services)
        after = tomllib.loads(path.read_text())
    had = tomllib.loads(before)
    assert after.get("active") == had.get("active")
    assert {k: v for k, v in after["profiles"].items() if k != "uvmap"} == had.get("profiles", {})


def test_a_shell_that_points_elsewhere_is_told_so(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://far:4200/api")
    assert "unset PREFECT_API_URL" in how_to_point_here(Services(port=4321))


def test_deployments_of_the_file_are_the_flows_of_the_code():
    import yaml
    from prefect.flows import load_flow_from_entrypoint

    described = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())
    names = {}
    for deployment in described["deployments"]:
        flow = load_flow_from_entrypoint(str(CHECKOUT / deployment["entrypoint"]))
        names[f"{flow.name}/{deployment['name']}"] = flow
        assert set(deployment["parameters"]) <= set(flow.parameters.properties)
    assert set(names) == {
        "uv-map/china", "uv-map/demo", "uv-map-city/regenerate", "uv-pretrain/pretrain", "uv-train/train",
        "uv-sample/draw", "uv-estimate/estimate", "uv-analyze/analyze", "uv-release/build",
    }  # fmt: skip
    for flow in names.values():
        described_by = {name: spec.get("description") for name, spec in flow.parameters.properties.items()}
        assert all(described_by.values()), described_by
    schema = json.dumps(names["uv-map-city/regenerate"].parameters.properties["city"])
    assert "integer" in schema
    assert "string" in schema


def test_records_of_before_are_read_under_the_new_name():
    assert CityEntry.model_validate({"name": "Shenzhen", "fingerprint": "x"}).stamp == "x"
    assert '"stamp":"x"' in CityEntry(name="Shenzhen", stamp="x").model_dump_json()
