"""The ledger: done means key and checksum fit, nothing else."""

import errno
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.disk import DiskFullError, writing_to
from pipeline.files import digest_of
from pipeline.ledger import Ledger, LedgerBusyError


def test_done_only_with_the_same_key_and_a_whole_file(tmp_path):
    with Ledger(tmp_path / "w") as ledger:
        entry = ledger.commit("a", b"result", key="k1", stamp="s1", suffix="txt", note={"n": 3})
        assert ledger.path(entry).read_bytes() == b"result"
        assert ledger.find("a", key="k1") == entry == ledger.find("a", stamp="s1")
        assert ledger.find("a", key="k1").note == {"n": 3}
        assert ledger.find("a", key="k2") is None
        assert ledger.find("a", stamp="") is None, "no stamp is not a stamp"
        assert ledger.find("b", key="k1") is None
        for damage in (b"resul", b"", b"reSult"):
            ledger.path(entry).write_bytes(damage)
            assert ledger.find("a", key="k1") is None
        ledger.path(entry).unlink()
        assert ledger.find("a", key="k1") is None
        assert ledger.damaged == ["a"] * 4


def test_a_new_key_replaces_the_old_file_and_nothing_else(tmp_path):
    with Ledger(tmp_path) as ledger:
        other = ledger.commit("b", b"other", key="k")
        old = ledger.commit("a", b"1", key="k1")
        new = ledger.commit("a", b"2", key="k2")
        assert not ledger.path(old).exists()
        assert ledger.find("a", key="k1") is None
        assert ledger.find("a", key="k2") == new
        assert ledger.find("b", key="k") == other
        nothing = ledger.commit("a", None, key="k3")
        assert ledger.find("a", key="k3") == nothing
        assert not ledger.path(new).exists()


def test_restamped_entry_answers_to_the_new_stamp(tmp_path):
    with Ledger(tmp_path) as ledger:
        entry = ledger.commit("a", b"1", key="k", stamp="s1")
        ledger.restamp(entry, "s2")
        assert ledger.find("a", stamp="s1") is None
        assert ledger.find("a", stamp="s2").key == "k"
        assert ledger.path(entry).exists()


def test_a_result_elsewhere_is_checked_too(tmp_path):
    product = tmp_path / "product.tif"
    product.write_bytes(b"pixels")
    with Ledger(tmp_path / "w") as ledger:
        ledger.register("raster", product, key="k")
        assert ledger.find("raster", key="k").size == 6
        assert ledger.latest("raster").key == "k" and ledger.latest("mask") is None
        product.write_bytes(b"pixelz")
        assert ledger.find("raster", key="k") is None and ledger.latest("raster") is None
        ledger.commit("raster", None, key="k2")
    assert product.exists(), "a file outside the ledger is never removed by it"


def test_torn_entry_and_left_over_parts(tmp_path):
    with Ledger(tmp_path) as ledger:
        ledger.commit("a", b"1", key="k")
    entry = tmp_path / "entries/a.json"
    entry.write_text(entry.read_text()[:-9])
    part = tmp_path / "files/.a-k.host-77-0.tmp.bin"
    part.write_bytes(b"half")
    with Ledger(tmp_path) as ledger:
        assert ledger.find("a", key="k") is None
        assert not part.exists()
        entry.write_text(json.dumps({"name": "a", "key": "k"}))
        assert ledger.find("a", key="k") is None


def test_second_process_is_told_to_wait(tmp_path):
    code = f"from pathlib import Path; from pipeline.ledger import Ledger; Ledger(Path({str(tmp_path)!r})).__enter__()"
    with Ledger(tmp_path):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "LedgerBusyError" in other.stderr
        with pytest.raises(LedgerBusyError, match="another process is working here"):
            Ledger(tmp_path).__enter__()


def test_no_space_becomes_a_typed_error(tmp_path):
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        expected = pytest.raises(DiskFullError, match=r"5\.0 MB needed, .* MB free .*run the same command again")
        with expected, writing_to(tmp_path / "f", size=5_000_000):
            raise OSError(number, "No space left on device")
    with pytest.raises(PermissionError), writing_to(tmp_path / "f"):
        raise PermissionError(errno.EACCES, "no")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda c: st.lists(c) | st.dictionaries(st.text(), c),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=5), st.randoms())
def test_digest_ignores_the_order_of_keys_only(facts, random):
    items = list(facts.items())
    random.shuffle(items)
    assert digest_of(dict(items)) == digest_of(facts)
    assert digest_of(facts | {"one more": 1}) != digest_of(facts | {"one more": 2})


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("12"), st.booleans()), max_size=12))
def test_behaves_like_a_dictionary_of_whole_files(tmp_path_factory, steps):
    """Commits and damages in any order: found exactly what was committed last and not damaged since."""
    folder = tmp_path_factory.mktemp("ledger")
    truth: dict[str, str] = {}
    with Ledger(folder) as ledger:
        for name, key, damage in steps:
            if damage and name in truth:
                ledger.path(ledger.find(name, key=truth[name])).write_bytes(b"")
                del truth[name]
            else:
                ledger.commit(name, f"{name}{key}".encode(), key=key)
                truth[name] = key
        for name in "ab":
            for key in "12":
                assert (ledger.find(name, key=key) is not None) == (truth.get(name) == key)
        assert len(list((folder / "files").iterdir())) <= 2
