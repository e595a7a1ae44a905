"""Stages in processes of their own: outcomes, errors in one line, and death together with the parent."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from flows import failures, locks, nursery, process
from flows.errors import CityBusyError, StageFailedError
from pipeline.errors import PipelineError

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = """
    import sys

    if "flows.nursery" in " ".join(sys.orig_argv):
        import types

        def run_stage(name, job, *, progress=False):
            import os, signal, subprocess, time
            from pipeline.errors import PipelineError

            orders = job.ground.sources.imagery[0].read_text()
            print("first line", flush=True)
            print("second line", file=sys.stderr, flush=True)
            if orders == "typed":
                raise PipelineError("a.tif: 4 bands,\\nnot 3")
            if orders == "bug":
                return 1 / 0
            if orders == "network":
                try:
                    raise ConnectionResetError("peer went away")
                except ConnectionResetError as error:
                    raise PipelineError("tiles.example: cannot be read") from error
            while orders == "wait":
                time.sleep(0.05)
                orders = job.ground.sources.imagery[0].read_text()
            if orders == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if orders == "exit":
                os._exit(3)
            if orders == "sleep":
                subprocess.Popen(["sleep", "300"])
                time.sleep(300)
            return {"stage": name, "adcode": job.adcode, "word": "城中村"}

        from flows.nursery import modules_to_warm

        for name in modules_to_warm():  # heavy, and not what is tested here
            if not name.startswith("flows"):
                sys.modules[name] = types.ModuleType(name)
        sys.modules["pipeline.city.stages"].run_stage = run_stage
"""


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """A folder on the path of the nursery, which serves all tests here."""
    folder = tmp_path_factory.mktemp("path")
    (folder / "sitecustomize.py").write_text(textwrap.dedent(STAND_IN))
    return folder


@pytest.fixture
def request_of(stand_in, tmp_path, monkeypatch):
    """Makes requests whose stage does what the word in its scene says."""
    path = [str(stand_in), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # it differs from test to test, and a nursery serves one environment

    def make(orders):
        from pipeline.city.job import job_of
        from regions.campaign import Campaign
        from regions.registry import find_city

        scene = tmp_path / "data" / "440300" / "imagery" / "a.tif"
        scene.parent.mkdir(parents=True)
        scene.write_text(orders)
        campaign = Campaign(
            name="t", version="1.0.0", cities=["440300"], data_root=tmp_path / "data", out_root=tmp_path / "out",
            checkpoint=tmp_path / "model",
        )  # fmt: skip
        job = job_of(campaign, find_city("440300"))
        return {"kind": "stage", "stage": "graph", "job": job.model_dump(mode="json")}

    return make


def test_result_comes_back_and_lines_are_streamed(request_of):
    lines = []
    done = process.run_isolated(request_of("fine"), what="440300 graph", log=lines.append)
    assert 0 < done.cpu_s < 5
    assert done.peak_bytes > 1_000_000
    assert done.result == {"stage": "graph", "adcode": "440300", "word": "城中村"}
    assert lines == ["first line", "second line"]


@pytest.mark.parametrize(
    ("orders", "message", "transient"),
    [
        ("typed", "a.tif: 4 bands, not 3", False),
        ("bug", "ZeroDivisionError: division by zero", False),
        ("network", "tiles.example: cannot be read", True),
        ("killed", "440300 graph: killed from outside (SIGKILL): most likely out of memory", True),
        ("exit", "440300 graph: the process ended with exit code 3 and no result; its last lines: first line", False),
    ],
)
def test_errors_come_back_as_one_line(request_of, orders, message, transient):
    lines = []
    with pytest.raises(StageFailedError) as caught:
        process.run_isolated(request_of(orders), what="440300 graph", log=lines.append)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert caught.value.transient is transient
    assert any("Traceback" in line for line in lines) is (orders == "bug")  # a mistake of ours, not of the user


def test_stage_and_its_children_die_with_a_killed_parent(request_of):
    code = (
        "import json, sys\nfrom flows.process import run_isolated\n"
        "run_isolated(json.loads(sys.argv[1]), what='x', log=lambda line: print(line, flush=True))\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(request_of("sleep"))], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout.readline() == "first line\n"
    deadline = time.monotonic() + 20
    family = []
    while not any(p.name() == "sleep" for p in family):
        assert time.monotonic() < deadline
        time.sleep(0.05)
        family = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, left = psutil.wait_procs(family, timeout=20)
    assert left == []


def test_a_city_has_one_process_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "BUSY_PATIENCE_S", 0.3)
    with (
        locks.city_lock(tmp_path / "440300"),
        locks.city_lock(tmp_path / "440100"),
        pytest.raises(CityBusyError, match=rf"440300: process {os.getpid()} on \S+ works on this city"),
        locks.city_lock(tmp_path / "440300"),
    ):
        pass
    with locks.city_lock(tmp_path / "440300"):
        pass


def test_stages_of_all_runs_share_the_processors_of_a_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("UVMAP_HOME", str(tmp_path))
    entered = threading.Event()

    def third():
        with locks.hold_processor(2):
            entered.set()

    with locks.hold_processor(2):
        with locks.hold_processor(2):
            waiting = threading.Thread(target=third)
            waiting.start()
            assert not entered.wait(0.5)
        assert entered.wait(10)
    waiting.join()


def test_each_stage_gets_a_gpu_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("UVMAP_HOME", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5")
    with locks.hold_accelerator():
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5")
        with locks.hold_accelerator():
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-5"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert locks.gpu_devices() == []
    with locks.hold_accelerator():
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (TimeoutError(), True),
        (httpx.ConnectTimeout("slow"), True),
        (OSError(5, "Input/output error"), True),
        (OSError(28, "No space left on device"), False),
        (FileNotFoundError(2, "nothing there"), False),
        (PipelineError("wrong bands"), False),
        (MemoryError(), False),
    ],
)
def test_only_what_may_mend_itself_is_transient(error, transient):
    assert failures.is_transient(error) is transient
    wrapped = PipelineError("read failed")
    wrapped.__cause__ = error
    assert failures.is_transient(wrapped) is transient


def test_a_killed_nursery_costs_no_stage_and_is_replaced(request_of):
    request = request_of("wait")
    scene = Path(request["job"]["ground"]["sources"]["imagery"][0])
    heard = threading.Event()
    results = []

    def run():
        results.append(process.run_isolated(request, what="440300 graph", log=lambda _: heard.set()).result["stage"])

    thread = threading.Thread(target=run)
    thread.start()
    assert heard.wait(60)
    (forking,) = [c for c in psutil.Process().children() if "flows.nursery" in " ".join(c.cmdline())]
    forking.kill()
    scene.write_text("fine")
    thread.join(20)
    run()
    assert results == ["graph", "graph"]


def test_all_running_stages_are_stopped_at_once(request_of):
    request = request_of("sleep")
    heard = threading.Semaphore(0)
    failed = []

    def run():
        try:
            process.run_isolated(request, what="440300 graph", log=lambda _: heard.release())
        except StageFailedError as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        assert heard.acquire(timeout=60)
    process.stop_all()
    for thread in threads:
        thread.join(20)
    assert len(failed) == 2


def test_an_initialised_accelerator_is_seen(tmp_path):
    (tmp_path / "3").symlink_to("/dev/null")
    assert not nursery.cuda_is_open(tmp_path)
    (tmp_path / "4").symlink_to("/dev/nvidia-uvm")
    assert nursery.cuda_is_open(tmp_path)
