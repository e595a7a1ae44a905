"""Publishing against a server with Zenodo's interface and with its faults."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.release import layout
from pipeline.release.record import read_record
from pipeline.release.zenodo.client import ZenodoClient
from pipeline.release.zenodo.errors import ApiError, PublishError
from pipeline.release.zenodo.publish import PublishRequest, publish_release, stamp_release
from pipeline.release.zenodo.retries import asked_pause_s
from pipeline.release.zenodo.state import read_state, state_path
from tests.support.releases import write_release
from tests.support.zenodo_server import TOKEN, ZenodoServer

BIG = "province_44_guangdong.zip"
PUT = "/api/files/"
PUBLISH = "actions/publish"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = ZenodoServer(tmp_path_factory.mktemp("server") / "log")
    yield running
    running.close()


@pytest.fixture
def release(tmp_path):
    write_release(tmp_path / "release-1.0.0")
    return tmp_path / "release-1.0.0"


def run(server, folder, *, publish=True, attempts=4, **more):
    lines = []
    with ZenodoClient(server.base_url, TOKEN, attempts=attempts) as client:
        done = publish_release(client, PublishRequest(folder=folder, publish=publish, **more), tell=lines.append)
    return done, lines


def held(server, deposition):
    return next((d for d in server.depositions() if d["id"] == deposition), None)


def is_whole(server, deposition, folder):
    """The record is published, with the bytes of the folder and nothing else."""
    there = held(server, deposition)
    local = {
        p.name: hashlib.md5(p.read_bytes(), usedforsecurity=False).hexdigest() for p in layout.record_files(folder)
    }
    return there["submitted"] and {n: f["checksum"] for n, f in there["files"].items()} == local


def puts(server, deposition):
    """Uploads that took effect, by file name."""
    names = [e["path"].rpartition("/")[2] for e in server.log()
             if e["method"] == "PUT" and e["done"] and f"/b-{deposition}/" in e["path"]]  # fmt: skip
    return {n: names.count(n) for n in names}


def test_draft_first_then_published_then_nothing_more(server, release):
    done, _ = run(server, release, publish=False)
    number = done.state.deposition
    assert not held(server, number)["submitted"]
    assert done.state.doi == f"10.5072/zenodo.{number}"
    assert read_record(release).doi == done.state.doi and read_record(release).date == done.state.date
    before = len(server.depositions())
    done, _ = run(server, release)
    assert done.state.phase == "published" and not done.sent
    assert is_whole(server, number, release)
    assert set(puts(server, number).values()) == {1}
    again, _ = run(server, release)
    assert again.as_dict()["published"] and len(server.depositions()) == before
    assert server.count("POST", f"/{number}/{PUBLISH}") == 1
    metadata = held(server, number)["metadata"]
    assert metadata["creators"][0] == {"name": "Li, Mei", "orcid": "0000-0002-1825-0097"}
    assert metadata["license"] == "cc-by-4.0" and "notes" not in metadata


@pytest.mark.parametrize(
    ("method", "path", "fault"),
    [
        ("PUT", BIG, {"kind": "drop", "at": 0.99}),
        ("PUT", BIG, {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}}),
        ("PUT", BIG, {"kind": "status", "status": 500, "times": 2}),
        ("PUT", BIG, {"kind": "commit", "status": 502}),
        ("PUT", BIG, {"kind": "corrupt"}),
        ("POST", "depositions$", {"kind": "commit", "status": 504}),
        ("POST", "depositions$", {"kind": "status", "status": 503}),
        ("GET", "files$", {"kind": "status", "status": 500}),
        ("POST", PUBLISH, {"kind": "commit", "status": 504}),
        ("POST", PUBLISH, {"kind": "status", "status": 500}),
    ],
)
def test_faults_that_pass(server, release, method, path, fault):
    before = len(server.depositions())
    server.fault(method, path, **fault)
    done, _ = run(server, release)
    number = done.state.deposition
    assert is_whole(server, number, release)
    assert len(server.depositions()) == before + 1, "one draft, whatever became of the answers"
    twice = {n: k for n, k in puts(server, number).items() if k > 1}
    assert twice == ({BIG: 2} if fault["kind"] == "corrupt" else {})
    assert done.reconciled == (path == PUBLISH and fault["kind"] == "commit")


def test_a_file_that_never_arrives_whole_is_never_published(server, release):
    server.fault("PUT", BIG, "corrupt", times=5)
    with pytest.raises(PublishError, match=BIG):
        run(server, release)
    number = read_state(state_path(release, "sandbox")).deposition
    assert not held(server, number)["submitted"]
    assert server.count("POST", f"/{number}/{PUBLISH}", done=False) == 0
    done, _ = run(server, release)
    assert done.state.deposition == number and is_whole(server, number, release)


def test_a_file_that_changed_since_the_build_is_never_published(server, release):
    done, _ = run(server, release, publish=False)
    (release / BIG).write_bytes(b"x" * 300_001)
    with pytest.raises(PublishError, match="changed after"):
        run(server, release)
    assert not held(server, done.state.deposition)["submitted"]


def test_an_expired_draft_is_begun_anew_with_another_doi(server, release):
    first, _ = run(server, release, publish=False)
    server.expire(first.state.deposition)
    done, lines = run(server, release)
    assert done.state.deposition != first.state.deposition
    assert read_record(release).doi == done.state.doi
    assert is_whole(server, done.state.deposition, release)
    assert any("draft is gone" in line for line in lines)


def test_refused_metadata_leave_a_draft(server, release):
    server.fault("POST", PUBLISH, "status", status=400)
    with pytest.raises(PublishError, match="HTTP 400"):
        run(server, release)
    state = read_state(state_path(release, "sandbox"))
    assert state.phase == "draft" and not held(server, state.deposition)["submitted"]
    assert run(server, release)[0].state.deposition == state.deposition


def test_new_version_has_the_concept_and_only_its_own_files(server, release, tmp_path):
    first, _ = run(server, release)
    newer = tmp_path / "release-1.1.0"
    write_release(
        newer, "1.1.0", previous="1.0.0", concept_doi=first.state.concept_doi, seed=0,
        data={BIG: 300_000, "province_45_guangxi.zip": 4_000},
    )  # fmt: skip
    server.fault("POST", "newversion", "commit", status=504)
    done, _ = run(server, newer)
    number = done.state.deposition
    assert number != first.state.deposition and done.state.concept_doi == first.state.concept_doi
    assert is_whole(server, number, newer) and is_whole(server, first.state.deposition, release)
    assert done.removed == ("province_35_fujian.zip",)
    assert BIG not in puts(server, number), "copied by the repository, the same bytes"
    third = tmp_path / "release-1.2.0"
    write_release(third, "1.2.0", previous="1.1.0", seed=3)
    with pytest.raises(PublishError, match="--new-version-of"):
        run(server, third)
    server.http.post(
        f"/api/deposit/depositions/{number}/actions/newversion", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with pytest.raises(PublishError, match="open draft"):
        run(server, third, new_version_of=first.state.concept_doi)


def test_the_stamp_is_the_same_bytes_again(release):
    stamp = {"doi": "10.5072/zenodo.7", "concept_doi": "10.5072/zenodo.6", "date": "2026-01-02"}
    stamp_release(release, **stamp)
    first = {p.name: p.read_bytes() for p in layout.record_files(release)}
    stamp_release(release, **stamp)
    assert first == {p.name: p.read_bytes() for p in layout.record_files(release)}
    for name, digest in (line.split("  ")[::-1] for line in (release / layout.MD5).read_text().splitlines()):
        assert hashlib.md5((release / name).read_bytes(), usedforsecurity=False).hexdigest() == digest


@pytest.mark.parametrize("share", [0.01, 0.6])
def test_killed_in_an_upload_the_next_run_finishes(server, release, share):
    before = len(server.depositions())
    server.fault("PUT", BIG, "hang", at=share)
    code = (
        "import sys; from pathlib import Path; from tests.support.zenodo_server import TOKEN\n"
        "from pipeline.release.zenodo.client import ZenodoClient\n"
        "from pipeline.release.zenodo.publish import *\n"
        "publish_release(ZenodoClient(sys.argv[1], TOKEN), PublishRequest(folder=Path(sys.argv[2]), publish=True))"
    )
    killed = subprocess.Popen(
        [sys.executable, "-c", code, server.base_url, str(release)], cwd=Path(__file__).parents[3]
    )
    for _ in range(600):
        time.sleep(0.1)
        if any(e["method"] == "PUT" and e["path"].endswith(BIG) and not e["done"] for e in server.log()[-3:]):
            break
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    done, _ = run(server, release)
    assert is_whole(server, done.state.deposition, release)
    assert len(server.depositions()) == before + 1
    assert set(puts(server, done.state.deposition).values()) == {1}
    assert done.held, "what the killed run had sent is not sent again"


def test_killed_before_the_draft_is_known_the_next_run_finds_it(server, release, monkeypatch):
    """The repository made the draft, and the client died before it read the answer."""
    before = len(server.depositions())
    monkeypatch.setattr(ZenodoClient, "create", lambda self, metadata: (
        self._send("POST", "/api/deposit/depositions", json=metadata.body(), again=False), os._exit)[1](0)
    )  # fmt: skip
    child = os.fork()
    if child == 0:
        run(server, release)
        os._exit(1)
    os.waitpid(child, 0)
    monkeypatch.undo()
    assert len(server.depositions()) == before + 1
    done, lines = run(server, release)
    assert len(server.depositions()) == before + 1 and is_whole(server, done.state.deposition, release)
    assert any("had been made" in line for line in lines)


def test_the_token_is_nowhere(server, release, tmp_path):
    _, lines = run(server, release)
    with pytest.raises(ApiError) as refused, ZenodoClient(server.base_url, TOKEN + "wrong", attempts=1) as client:
        client.get(1)
    assert refused.value.status == 401
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    asked = json.dumps([e["path"] + e["query"] for e in server.log()])
    for text in (written.decode("latin-1"), " ".join(lines), str(refused.value), asked):
        assert TOKEN not in text


def test_the_token_goes_over_https_and_to_one_host_alone(server, release):
    with pytest.raises(PublishError, match="https alone"):
        ZenodoClient("http://zenodo.example", TOKEN)
    with ZenodoClient(server.base_url, TOKEN) as client:
        draft = client.get(run(server, release, publish=False)[0].state.deposition)
        elsewhere = draft.model_copy(update={"links": {"bucket": "https://elsewhere.example/api/files/x"}})
        with pytest.raises(PublishError, match="no token goes there"):
            client.upload(elsewhere, release / BIG, md5="0" * 32)


def test_pauses_that_an_answer_asks_for():
    import httpx

    def asked(status, **headers):
        return asked_pause_s(
            httpx.Response(status, headers={k.replace("_", "-"): v for k, v in headers.items()}), now_s=1e9
        )

    assert asked(503, Retry_After="7") == 7
    assert asked(429, Retry_After="Sun, 09 Sep 2001 01:46:45 GMT") == 5
    assert asked(429, X_RateLimit_Reset=str(10**9 + 3)) == 3
    assert asked(500) is None and asked(429, Retry_After="soon") is None
