"""Files and folders that change in one step: killed at every step of the way, the old or the new is there, whole."""

import errno
import os
import shutil
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import files
from pipeline.disk import DiskFullError, exchange
from pipeline.files import digest_of, recover_folder, remove_leftovers, replacing, replacing_folder

STEPS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "open", "shutil.rmtree"}
"""Events of the interpreter that come before what they name is done."""
OLD = {"a": "old a", "sub/b": "old b", "only old": "x"}
NEW = {"a": "new a", "sub/b": "new b", "only new": "y"}


def killed_at(step: int, work) -> bool:
    """Do ``work`` in a process that is killed before its ``step``-th change of the file system; False: it ended."""
    child = os.fork()
    if child == 0:
        left = step

        def count_down(event: str, _: tuple) -> None:
            nonlocal left
            if event in STEPS or event == "test.exchange":
                if left == 0:
                    os._exit(9)
                left -= 1

        true = files.exchange

        def told(a, b):
            sys.audit("test.exchange")
            return true(a, b)

        files.exchange = told
        sys.addaudithook(count_down)
        try:
            work()
        except BaseException:  # noqa: BLE001 -- the parent reports it
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9), "the work itself failed"
    return code == 9


def fill(folder, content):
    for name, text in content.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)


def content_of(folder) -> dict:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("can_exchange", [True, False])
@pytest.mark.parametrize("before", [None, OLD])
def test_a_folder_is_old_or_new_whenever_the_writer_is_killed(tmp_path, monkeypatch, before, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(files, "exchange", lambda _a, _b: False)
    elif before and not exchange_works(tmp_path):
        pytest.skip("this file system cannot exchange folders; the two renames are tested in any case")
    folder = tmp_path / "city" / "a [1]"

    def work():
        with replacing_folder(folder) as temporary:
            fill(temporary, NEW)

    seen = []
    for step in range(200):
        shutil.rmtree(tmp_path / "city", ignore_errors=True)
        if before is not None:
            fill(folder, before)
        killed = killed_at(step, work)
        now = content_of(folder) if folder.exists() else None
        if can_exchange:
            assert now in (before, NEW), "not for a moment is it anything else"
        elif now not in (before, NEW):
            assert now is None
            assert before == OLD
        # the next run, which fails as well: what is there now is the old or the new, and nothing else
        with pytest.raises(StoppedError), replacing_folder(folder):
            raise StoppedError
        after = content_of(folder) if folder.exists() else None
        assert after in (before, NEW)
        assert now is None or after == now
        assert [p.name for p in folder.parent.iterdir()] == ([folder.name] if after is not None else [])
        seen.append(after == NEW)
        if not killed:
            break
    assert not killed
    assert seen[-1]
    assert not seen[0]
    assert seen == sorted(seen), "once it is new it stays new"
    assert len(seen) > 6


@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_is_old_or_new_whenever_the_writer_is_killed(tmp_path, before):
    path = tmp_path / "d" / "scores.tif"

    def work():
        with replacing(path) as temporary:
            temporary.write_text("new")
            temporary.with_name(temporary.name + ".ovr.tmp").write_text("of a driver")
            temporary.with_name(temporary.name + ".ovr.tmp").unlink()

    seen = []
    for step in range(50):
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        if before is not None:
            path.parent.mkdir()
            path.write_text(before)
        killed = killed_at(step, work)
        now = path.read_text() if path.exists() else None
        assert now in (before, "new")
        with pytest.raises(StoppedError), replacing(path):
            raise StoppedError
        assert (path.read_text() if path.exists() else None) == now
        assert [p.name for p in path.parent.iterdir()] == ([path.name] if now else [])
        seen.append(now)
        if not killed:
            break
    assert not killed
    assert seen[-1] == "new"
    assert len(seen) > 4


def exchange_works(tmp_path) -> bool:
    (tmp_path / "p").mkdir()
    (tmp_path / "q").mkdir()
    try:
        return exchange(tmp_path / "p", tmp_path / "q")
    finally:
        (tmp_path / "p").rmdir()
        (tmp_path / "q").rmdir()


def test_exchange_changes_places_or_says_that_it_cannot(tmp_path):
    fill(tmp_path / "a", OLD)
    fill(tmp_path / "b", NEW)
    if exchange(tmp_path / "a", tmp_path / "b"):
        assert content_of(tmp_path / "a") == NEW
        assert content_of(tmp_path / "b") == OLD
    else:
        assert content_of(tmp_path / "a") == OLD
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "not there")


def test_what_a_living_process_or_another_host_writes_is_left_alone(tmp_path):
    with replacing_folder(tmp_path / "p") as outer:
        with replacing_folder(tmp_path / "p") as inner:
            (inner / "inner").touch()
        assert outer.exists()
        (outer / "outer").touch()
    assert [p.name for p in (tmp_path / "p").iterdir()] == ["outer"], "whoever ends last"
    foreign = tmp_path / ".p.another-host-1-0.tmp"
    foreign.mkdir()
    other = tmp_path / ".pp.x.tmp"
    other.mkdir()
    recover_folder(tmp_path / "p")
    assert foreign.exists()
    assert other.exists()


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    fill(tmp_path / "disk" / "real", OLD)
    (tmp_path / "p").symlink_to(tmp_path / "disk" / "real")
    with replacing_folder(tmp_path / "p") as temporary:
        fill(temporary, NEW)
    assert (tmp_path / "p").is_symlink()
    assert content_of(tmp_path / "disk" / "real") == NEW
    assert [p.name for p in (tmp_path / "disk").iterdir()] == ["real"]


def test_a_full_disk_is_named(tmp_path):
    with pytest.raises(DiskFullError, match=r"x\.bin: .*3\.0 MB needed"), replacing(tmp_path / "x.bin", size=3_000_000):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(DiskFullError, match="folder"), replacing_folder(tmp_path / "folder"):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_leftovers_is_swept(tmp_path):
    (tmp_path / ".a.other-7-1.tmp.json").touch()
    (tmp_path / "a.json").touch()
    (tmp_path / ".hidden").touch()
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", "a.json"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(st.dictionaries(st.text(), json_values, min_size=1, max_size=4), st.randoms())
def test_digests_do_not_depend_on_the_order_of_keys(facts, random):
    items = list(facts.items())
    random.shuffle(items)
    assert digest_of(dict(items)) == digest_of(facts)
    assert digest_of([facts]) != digest_of(facts)


def test_only_json_has_a_digest(tmp_path):
    with pytest.raises(TypeError):
        digest_of({"file": tmp_path})
