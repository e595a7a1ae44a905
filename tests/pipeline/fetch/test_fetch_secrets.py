"""Secrets and signed addresses are in no file and no message."""

import json
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.fetch.confidential import public_url
from pipeline.fetch.errors import FetchError, SecretMissingError
from regions.campaign import load_campaign
from tests.support.command_line import json_of
from tests.support.source_server import KEY
from tests.support.source_world import ADCODE, campaign_of, fetched, stac, xyz


def test_secrets_are_in_no_file_and_no_message(world, tmp_path, monkeypatch, capsys):
    keyed = xyz(world, "keyed", key_env="MADE_KEY")
    keyed["url"] += "?key={key}"
    path = campaign_of(world, tmp_path, [keyed])
    with pytest.raises(SecretMissingError, match="MADE_KEY"):
        fetched(path)
    monkeypatch.setenv("MADE_KEY", "wrong-but-secret")
    with pytest.raises(FetchError, match=r"403.*missing or refused") as refused:
        fetched(path)
    assert "wrong-but-secret" not in str(refused.value)
    monkeypatch.setenv("MADE_KEY", KEY)
    said = json_of("fetch", ADCODE, "--campaign", path, "--json")
    assert said["failed"] == 0
    captured = capsys.readouterr()
    everything = [json.dumps(said), captured.out, captured.err]
    everything += [p.read_bytes().decode("latin-1") for p in tmp_path.rglob("*") if p.is_file()]
    for text in everything:
        assert KEY not in text
        assert "wrong-but-secret" not in text


@given(st.text(alphabet="abcdefghij", min_size=4), st.text(alphabet="abcdefghij", min_size=4))
def test_public_addresses_have_no_user_and_no_query(user, signature):
    url = f"https://{user}X:{signature}@h.example/a/b.tif?X-Amz-Signature={signature}Y#f"
    assert public_url(url) == "https://h.example/a/b.tif"


def test_signatures_of_addresses_are_in_no_message(world, tmp_path, capsys):
    """Signed addresses of files, which no environment variable holds: of what is absent, planned and brought."""
    signed = "?X-Amz-Signature=5168ab"
    absent = {"kind": "parquet", "path": f"{world['address']}/files/absent.parquet{signed}"}
    no_catalog = stac(world, url=f"{world['address']}/files/absent.json{signed}")
    tables = {"kind": "parquet", "path": f"{world['address']}/files/features.parquet{signed}"}
    told = []
    for k, (imagery, vectors) in enumerate((([xyz(world)], [absent]), ([no_catalog], []))):
        with pytest.raises(FetchError, match=r"/files/absent\.") as refused:
            fetched(campaign_of(world, tmp_path / str(k), imagery, vectors))
        told += ["".join(traceback.format_exception(refused.value))]
    path = campaign_of(world, tmp_path / "here", [xyz(world)], [tables])
    told += [json.dumps(json_of("fetch", ADCODE, "--campaign", path, *more, "--json")) for more in (["--dry-run"], [])]
    captured = capsys.readouterr()
    folder = load_campaign(path).data_folder(ADCODE)
    told += [captured.out, captured.err, *(p.read_text("latin-1") for p in folder.rglob("*") if p.is_file())]
    assert "features.parquet" in told[2]
    assert not any("5168ab" in text for text in told)
