"""Publishing against a server with Zenodo's interface and with its faults."""

import hashlib
import json
import os
import shutil
import signal
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.release import layout
from pipeline.release.record import read_record
from pipeline.release.zenodo import drafts, retries, transfer
from pipeline.release.zenodo import publish as publishing
from pipeline.release.zenodo.client import ZenodoClient
from pipeline.release.zenodo.drafts import predecessor
from pipeline.release.zenodo.errors import ApiError, PublishError
from pipeline.release.zenodo.publish import PublishRequest, publish_release, stamp_release
from pipeline.release.zenodo.retries import asked_pause_s
from pipeline.release.zenodo.state import alone, read_state, state_path
from tests.support.command_line import json_of
from tests.support.products import write_campaign, write_product, write_products
from tests.support.releases import build, make_campaign
from tests.support.zenodo_server import TOKEN, ZenodoServer

CITIES = ("350100", "440300")
BIG = "province_44_guangdong.zip"
PUBLISH = "actions/publish"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.02)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = ZenodoServer(tmp_path_factory.mktemp("server") / "log")
    yield running
    running.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A release of two cities, as it was built."""
    root = tmp_path_factory.mktemp("made")
    write_products(root / "products", CITIES)
    build(make_campaign(root, CITIES), root / "release-1.0.0", with_accuracy=True)
    return root


@pytest.fixture
def release(made, tmp_path):
    shutil.copytree(made / "release-1.0.0", tmp_path / "release-1.0.0")
    return tmp_path / "release-1.0.0"


def next_release(made, root, version, previous, cities=CITIES):
    """A release of changed products that follows ``previous``."""
    for adcode in cities:
        write_product(root / version, adcode, release=version, previous=made / "products" / adcode)
    campaign = make_campaign(root, cities, products=version)
    return build(campaign, root / f"release-{version}", version=version, previous=previous, with_accuracy=True)


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
    assert metadata["creators"] == [{"name": "The uvmap authors"}] and metadata["license"] == "odbl-1.0"
    assert "notes" not in metadata, "the mark of a fresh draft is gone"


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


def test_a_file_that_never_arrives_whole_is_never_published(server, release, monkeypatch):
    monkeypatch.setattr(transfer, "ATTEMPTS", 2)
    server.fault("PUT", BIG, "corrupt", times=2)
    with pytest.raises(PublishError, match=BIG):
        run(server, release)
    number = read_state(state_path(release, "sandbox")).deposition
    assert not held(server, number)["submitted"]
    assert server.count("POST", f"/{number}/{PUBLISH}", done=False) == 0
    done, _ = run(server, release)
    assert done.state.deposition == number and is_whole(server, number, release)


def test_a_file_that_changed_since_the_build_is_never_published(server, release):
    done, _ = run(server, release, publish=False)
    (release / BIG).write_bytes(b"x" * 100_000)
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


def test_new_version_has_the_concept_and_only_its_own_files(server, made, release, tmp_path):
    first, _ = run(server, release)
    newer = next_release(made, tmp_path, "1.1.0", release, CITIES[:1])
    assert read_record(newer).concept_doi == first.state.concept_doi
    server.fault("POST", "newversion", "commit", status=504)
    done, _ = run(server, newer)
    number = done.state.deposition
    assert number != first.state.deposition and done.state.concept_doi == first.state.concept_doi
    assert is_whole(server, number, newer) and is_whole(server, first.state.deposition, release)
    assert set(done.removed) == {BIG, "item_44.json"}
    assert layout.DICTIONARY in done.held and layout.DICTIONARY not in puts(server, number), "copied, the same bytes"
    third = next_release(made, tmp_path, "1.2.0", newer)
    token = {"Authorization": f"Bearer {TOKEN}"}
    server.http.post(f"/api/deposit/depositions/{number}/actions/newversion", headers=token)
    for wanted in (None, first.state.concept_doi, str(first.state.deposition)):
        with pytest.raises(PublishError, match="open draft"):
            run(server, third, new_version_of=wanted)
    record = read_record(third).model_copy(update={"concept_doi": "10.5281/zenodo.1"})
    with pytest.raises(PublishError, match="--new-version-of"):
        predecessor(record, None, target="sandbox")


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
    child = os.fork()
    if child == 0:
        run(server, release)
        os._exit(1)
    for _ in range(600):
        time.sleep(0.05)
        if any(e["method"] == "PUT" and e["path"].endswith(BIG) and not e["done"] for e in server.log()[-3:]):
            break
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
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


def test_killed_while_publishing_the_next_run_finds_the_record(server, release, monkeypatch):
    def published_and_killed(self, deposition):
        self._send("POST", f"/api/deposit/depositions/{deposition}/actions/publish", again=False)
        os._exit(0)

    monkeypatch.setattr(ZenodoClient, "publish", published_and_killed)
    child = os.fork()
    if child == 0:
        run(server, release)
        os._exit(1)
    os.waitpid(child, 0)
    monkeypatch.undo()
    assert read_state(state_path(release, "sandbox")).phase == "publishing"
    done, _ = run(server, release)
    assert done.reconciled and not done.sent and is_whole(server, done.state.deposition, release)
    assert server.count("POST", f"/{done.state.deposition}/{PUBLISH}") == 1


FAULTS = st.lists(
    st.tuples(
        st.sampled_from([("PUT", BIG), ("PUT", "README"), ("POST", "depositions$"), ("GET", "files$"),
                         ("PUT", r"depositions/\d+$"), ("GET", r"depositions/\d+$"), ("POST", PUBLISH)]),
        st.sampled_from([{"kind": "status", "status": 500}, {"kind": "commit", "status": 504},
                         {"kind": "status", "status": 429, "headers": {"Retry-After": "0"}},
                         {"kind": "status", "status": 403}]),
        st.integers(1, 3),
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=FAULTS)
def test_whatever_fails_nothing_is_half_published_or_made_twice(server, made, tmp_path, monkeypatch, faults):
    """Runs until one ends well: one draft, every file in effect sent once, a record only when it is whole."""
    for module in (transfer, drafts, publishing):
        monkeypatch.setattr(module.time, "sleep", lambda _: None)
    folder = tmp_path / f"release-{time.perf_counter_ns()}"
    shutil.copytree(made / "release-1.0.0", folder)
    before = len(server.depositions())
    for (method, path), fault, times in faults:
        server.fault(method, path, times=times, **{k: v for k, v in fault.items() if k != "times"})
    for _ in range(20):
        try:
            done, _ = run(server, folder, attempts=2)
            break
        except PublishError:
            there = server.depositions()[before:]
            assert all(not d["submitted"] or is_whole(server, d["id"], folder) for d in there)
    assert is_whole(server, done.state.deposition, folder)
    assert len(server.depositions()) == before + 1
    assert set(puts(server, done.state.deposition).values()) == {1}
    server.http.delete("/_test/faults")


def test_two_processes_do_not_publish_one_release(server, release):
    with alone(state_path(release, "sandbox")), pytest.raises(PublishError, match="another process"):
        run(server, release)


def test_the_token_may_come_from_a_secret_block(server, release, monkeypatch):
    from prefect.blocks.system import Secret

    monkeypatch.delenv("ZENODO_SANDBOX_TOKEN", raising=False)
    monkeypatch.setattr(Secret, "load", classmethod(lambda cls, name: Secret(value=TOKEN)))
    given_it = ("--secret-block", "zenodo-sandbox", "--base-url", server.base_url, "--json")
    assert not json_of("release", "publish", release, *given_it)["published"]


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

    assert asked(503, Retry_After="7") == 7 and asked(503, Retry_After="0.2") == 0.2
    assert asked(429, Retry_After="Sun, 09 Sep 2001 01:46:45 GMT") == 5
    assert asked(429, X_RateLimit_Reset=str(10**9 + 3)) == 3
    assert asked(500) is None and asked(429, Retry_After="soon") is None


def test_the_commands_build_publish_change_and_publish_anew(server, tmp_path, monkeypatch):
    """The documented way, by commands alone, against the server."""
    write_products(tmp_path / "products", CITIES)
    campaign = write_campaign(tmp_path / "made.yaml", tmp_path / "products", CITIES)
    one, two = tmp_path / "release-1.0.0", tmp_path / "release-1.1.0"
    to = ("--base-url", server.base_url, "--json")
    waive = (
        "--waive",
        "accuracy",
        "--reason",
        "made ground",
        "--waive",
        "leakage",
        "--reason",
        "made ground",
        "--json",
    )
    monkeypatch.delenv("ZENODO_SANDBOX_TOKEN", raising=False)
    json_of("release", "build", "--campaign", campaign, "--version", "1.0.0", "--out", one, "--json")
    with pytest.raises(PublishError, match="accuracy"):
        json_of("release", "publish", one, *to)
    json_of("release", "check", one, *waive)
    with pytest.raises(PublishError, match="ZENODO_SANDBOX_TOKEN"):
        json_of("release", "publish", one, *to)
    before = server.depositions()
    plan = json_of("release", "publish", one, *to, "--dry-run")
    assert plan["blocking"] == [] and len(plan["files"]) == len(layout.record_files(one))
    assert server.depositions() == before
    monkeypatch.setenv("ZENODO_SANDBOX_TOKEN", TOKEN)
    first = json_of("release", "publish", one, *to, "--publish")
    assert first["published"] and is_whole(server, first["deposition"], one)
    shutil.copytree(tmp_path / "products" / "440300", tmp_path / "old")
    write_product(tmp_path / "products", "440300", release="1.1.0", previous=tmp_path / "old")
    follow = ("--previous", one)
    json_of("release", "build", "--campaign", campaign, "--version", "1.1.0", "--out", two, *follow, "--json")
    json_of("release", "check", two, *follow, *waive)
    second = json_of("release", "publish", two, *follow, *to, "--publish")
    assert second["published"] and second["concept_doi"] == first["concept_doi"] and second["doi"] != first["doi"]
    assert is_whole(server, second["deposition"], two) and len(server.depositions()) == len(before) + 2
    for name in (layout.README, layout.CITATION, layout.CRATE, layout.RECORD):
        assert second["doi"] in (two / name).read_text(encoding="utf-8"), name
    assert json_of("release", "check", two, *follow, "--json")["publishable"]
