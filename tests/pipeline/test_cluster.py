"""Work over cities on Dask: order, errors, lost workers, and what is said of clusters that cannot be had."""

import os
import signal
import sys
import time
import types
from functools import partial

import psutil
import pytest
from distributed import LocalCluster

from pipeline.errors import PipelineError
from pipeline.national import cluster as module
from pipeline.national.cluster import ClusterError, in_order, open_cluster
from regions.settings import ClusterConfig

pytestmark = pytest.mark.xdist_group("dask")


@pytest.fixture(scope="module")
def client():
    with open_cluster(ClusterConfig(workers=2, losses=1, arguments={"memory_limit": "1GiB"})) as opened:
        yield opened


def slow_first(n):
    time.sleep(0.3 if n % 5 == 0 else 0.0)
    return n * n, os.getpid()


def test_answers_come_in_the_order_of_the_questions(client):
    found = list(in_order(client, slow_first, range(20)))
    assert [value for value, _ in found] == [n * n for n in range(20)]
    assert len({pid for _, pid in found}) == 2
    assert os.getpid() not in {pid for _, pid in found}
    assert list(in_order(None, slow_first, range(3))) == [(n * n, os.getpid()) for n in range(3)]


def write_name(folder, n):
    (folder / str(n)).touch()
    time.sleep(0.05)
    return n


def test_few_are_held_and_the_rest_is_called_off(client, tmp_path):
    results = in_order(client, partial(write_name, tmp_path), range(1000), ahead=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()
    time.sleep(0.3)
    assert len(list(tmp_path.iterdir())) < 12


def refuse(n):
    if n == 3:
        raise PipelineError("990103: no imagery")
    return n


def test_an_error_comes_as_it_is(client):
    results = in_order(client, refuse, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(PipelineError, match="990103: no imagery"):
        next(results)
    assert list(in_order(client, refuse, [7, 8])) == [7, 8]


def die_once(folder, n):
    mark = folder / str(n)
    if n == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def die(n):
    os.kill(os.getpid(), signal.SIGKILL)
    return n


def test_a_lost_worker_costs_nothing_but_time(client, tmp_path):
    assert list(in_order(client, partial(die_once, tmp_path), range(6))) == list(range(6))


def test_work_that_kills_its_workers_is_named(client):
    with pytest.raises(ClusterError, match="990101: its worker was lost 2 times: most likely out of memory"):
        list(in_order(client, die, ["990101"]))


def test_a_scheduler_by_its_address(client):
    with open_cluster(ClusterConfig(address=client.scheduler.address)) as second:
        assert list(in_order(second, refuse, [1])) == [1]
    assert list(in_order(client, refuse, [1])) == [1], "who joins a cluster does not take it down"


def test_only_this_machine_reaches_a_local_cluster(client):
    me = psutil.Process()
    family = [me, *me.children(recursive=True)]
    listening = [c.laddr.ip for p in family for c in p.net_connections() if c.status == "LISTEN"]
    assert len(listening) >= 6
    assert set(listening) == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("slurm", "needs the package dask-jobqueue, which is not installed"),
        ("kubernetes", "needs the package dask-kubernetes"),
        ("cluster_of_nobody.Cluster", "needs the package cluster_of_nobody"),
        ("big", "give one of local, ssh, slurm"),
        ("distributed.BigCluster", "has no class BigCluster"),
        ({"arguments": {"processes": False, "n_workers": "many"}}, r"LocalCluster with .*: mend cluster\.arguments"),
        ("tcp://127.0.0.1:1", "no Dask scheduler answers"),
        ("nowhere/scheduler.json", "no such scheduler file"),
        (
            {"arguments": {"processes": False, "n_workers": 0}, "wait_s": 0.5},
            "no worker came within 0.5 s: look at the queue",
        ),
    ],
)
def test_clusters_that_cannot_be_had(config, said, monkeypatch):
    monkeypatch.setattr(module, "CONNECT_S", 0.5)
    if "package" in said:
        monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
        monkeypatch.setitem(sys.modules, "dask_kubernetes.operator", None)
        monkeypatch.setitem(sys.modules, "dask_kubernetes", None)
    with pytest.raises(ClusterError, match=said), open_cluster(ClusterConfig.model_validate(config)):
        pass


class Workers:
    """A client whose workers run other code."""

    def run(self, _function):
        return {"tcp://10.0.0.7:4000": "other", "tcp://10.0.0.6:4000": module.code_digest()}


def test_workers_with_other_code_are_refused():
    with pytest.raises(ClusterError, match=r"1 of 2 workers run other code .*10\.0\.0\.7"):
        module._check_code(Workers(), ClusterConfig())


class SiteCluster(LocalCluster):
    """What a site may have: a class of its own that starts without workers."""

    def __init__(self, queue, **kwargs):
        self.queue = queue
        super().__init__(n_workers=0, processes=False, dashboard_address="127.0.0.1:0", **kwargs)


@pytest.mark.parametrize(("wanted", "least"), [({"workers": 2}, 2), ({"workers": 1, "most_workers": 2}, 1)])
def test_another_class_is_scaled_as_the_campaign_says(monkeypatch, wanted, least):
    site = types.ModuleType("site_of_ours")
    site.SiteCluster = SiteCluster
    monkeypatch.setitem(sys.modules, "site_of_ours", site)
    config = ClusterConfig(kind="site_of_ours.SiteCluster", arguments={"queue": "short"}, wait_s=20, **wanted)
    with open_cluster(config) as opened:
        assert opened.cluster.queue == "short"
        opened.wait_for_workers(least, timeout=10)
        assert list(in_order(opened, refuse, range(3))) == [0, 1, 2]
