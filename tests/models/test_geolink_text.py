"""Tags to vectors: published spelling and weights, each tag once, odd input is normal input."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.geolink.text import (
    HashedTagEncoder,
    Tag,
    TagTable,
    TagTextError,
    spelled,
    tag_set_embeddings,
)
from models.geolink.text_encoders import named_text_encoder

WORDS = "highway building building addr street residential footway note very long text"


class Counting:
    """A stub encoder that remembers what it was asked."""

    name, width, digest = "stub", 4, "0"

    def __init__(self) -> None:
        self.asked: list[Tag] = []

    def encode(self, tags: Sequence[Tag]) -> NDArray[np.float32]:
        self.asked += tags
        rows = [np.random.default_rng(len(repr(t)) * 31 + sum(map(ord, repr(t)))).random(4) for t in tags]
        return np.array(rows, np.float32).reshape(-1, 4)


def test_published_spelling():
    assert spelled(("building", "yes")) == "building:building"
    assert spelled(("oneway", "yes")) == "oneway:oneway"
    assert spelled(("addr:street", "High Street")) == "addr street:High Street"
    assert spelled(("social_facility:for", "yes")) == "social_facility for:social_facility for"


def test_tag_sets_are_log_count_weighted_means_of_tags_encoded_once():
    encoder = Counting()
    sets = [
        {"highway": "service", "lit": "yes"},
        {"lit": "yes"},
        {},
        {"never seen": "x", "lit": "yes"},
        {"a:b": "c"},
    ]
    counts = {"highway": 3_940_545, "lit": 460_000}
    got = tag_set_embeddings(sets, encoder, counts)
    assert len(encoder.asked) == len(set(encoder.asked)) == 4
    vector = {t: encoder.encode([t])[0].astype(float) for t in set(encoder.asked)}
    wh, wl = np.log(3_940_545), np.log(460_000)
    expected = (wh * vector["highway", "service"] + wl * vector["lit", "yes"]) / (wh + wl)
    np.testing.assert_allclose(got[0], expected, rtol=1e-6)
    np.testing.assert_allclose(got[1], vector["lit", "yes"], rtol=1e-6)
    assert not got[2].any()
    np.testing.assert_allclose(got[3], vector["lit", "yes"], rtol=1e-6)  # an unknown key has weight ln 1 = 0
    np.testing.assert_allclose(got[4], vector["a:b", "c"], rtol=1e-6)  # and is all there is here
    plain = tag_set_embeddings(sets, encoder)
    np.testing.assert_allclose(plain[0], (vector["highway", "service"] + vector["lit", "yes"]) / 2, rtol=1e-6)
    assert tag_set_embeddings([], encoder).shape == (0, 4)
    with pytest.raises(TagTextError, match="count 0"):
        tag_set_embeddings(sets, encoder, {"lit": 0})


def test_key_counts_are_looked_up_as_the_vocabulary_spells_them():
    tags = [{"addr:street": "x", "lit": "no"}]
    known = tag_set_embeddings(tags, Counting(), {"addr street": 1000, "lit": 1000})
    np.testing.assert_allclose(known, tag_set_embeddings(tags, Counting()), rtol=1e-6)


def test_hashed_vectors_never_change_and_likes_lie_close():
    encoder = HashedTagEncoder()
    tags = [("highway", "residential"), ("highway", "service"), ("natural", "water"), ("landuse", "residential")]
    x = encoder.encode(tags)
    assert x.dtype == np.float32
    np.testing.assert_allclose((x**2).mean(1), 1, rtol=1e-6)
    near = x @ x.T / encoder.width
    assert near[0, 1] > 0.25 > abs(near[0, 2])
    assert near[0, 3] > 0.2
    # fixed for ever: trained weights depend on it
    np.testing.assert_allclose(x[0, :6], FIRST, atol=1e-4)
    assert HashedTagEncoder(64).encode(tags).shape == (4, 64)


FIRST = [-1.6256, -1.6256, -0.0221, -1.2027, 0.1336, -2.1601]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=400)), max_size=6), st.randoms())
def test_any_text_is_normal_input_and_mates_do_not_matter(tags, random):
    encoder = HashedTagEncoder(64)
    x = encoder.encode(tags)
    assert x.shape == (len(tags), 64)
    assert np.isfinite(x).all()
    order = list(range(len(tags)))
    random.shuffle(order)
    assert np.array_equal(encoder.encode([tags[k] for k in order]), x[order])


def test_a_table_gives_its_encoder_and_the_same_bytes(tmp_path):
    encoder = HashedTagEncoder()
    tags = [("building", "yes"), ("note", "word " * 80), ("名", "城中村"), ("building", "yes")]
    table = TagTable.build(tags, encoder)
    assert len(table.vectors) == 3
    for name in ("a", "b"):
        TagTable.build(tags[::-1], encoder).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    back = named_text_encoder("table", path=tmp_path / "a")
    assert (back.name, back.width, back.digest) == (encoder.name, 512, encoder.digest)
    assert np.array_equal(back.encode(tags), encoder.encode(tags))
    with pytest.raises(TagTextError, match="lacks 1 tags, first 'lit=no'"):
        back.encode([("lit", "no")])
    for name, content in (("half", (tmp_path / "a").read_bytes()[:300]), ("text", b"hello")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TagTextError, match=name):
            TagTable.load(tmp_path / name)


def test_unknown_encoders_are_named(tmp_path):
    for name, path, message in (
        ("bert", None, "'bert' is unknown"),
        ("clip", None, "needs a path"),
        ("table", tmp_path / "none", "no such file"),
        ("clip", tmp_path / "none", "no such folder"),
        ("hashed-9", None, "multiple of 8"),
    ):
        with pytest.raises(TagTextError, match=message):
            named_text_encoder(name, path=path)
    with pytest.raises(TagTextError, match="no CLIP text tower"):
        named_text_encoder("clip", path=tmp_path)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A small random text tower with a character tokenizer, as CLIP's files are laid out."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    characters = [chr(c) for c in range(33, 127)]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *characters, *(f"{c}</w>" for c in characters)]
    (folder / "vocab.json").write_text(json.dumps({t: k for k, t in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    CLIPTextModel(config).save_pretrained(str(folder))
    return folder


def test_clip_gives_the_mean_of_all_tokens_but_the_first(clip_folder):
    import torch
    from transformers import CLIPTextModel, CLIPTokenizer

    encoder = named_text_encoder("clip", path=clip_folder)
    assert encoder.width == 32
    tags = [("building", "yes"), ("lit", "no"), ("addr:street", "Main"), ("note", "word " * 80), ("lit", "no")]
    got = encoder.encode(tags)
    model, tokenizer = CLIPTextModel.from_pretrained(clip_folder), CLIPTokenizer.from_pretrained(clip_folder)
    for row, text in zip(got, ["building:building", "lit:no", "addr street:Main"], strict=False):
        tokens = tokenizer(text, return_tensors="pt")["input_ids"]
        assert tokens[0, 0] == 0
        assert tokens[0, -1] == 1
        with torch.inference_mode():
            hidden = model(input_ids=tokens).last_hidden_state[0]
        np.testing.assert_allclose(row, hidden[1:].mean(0).numpy(), rtol=1e-5, atol=1e-6)
    assert np.array_equal(got[1], got[4])
    assert np.isfinite(got[3]).all()
    long = tokenizer("note:" + "word " * 80, truncation=True, max_length=77)["input_ids"]
    assert len(long) == 77
    assert long[-1] == 1
    assert encoder.encode([]).shape == (0, 32)


def test_clip_tables_match_the_tower(clip_folder, tmp_path):
    encoder = named_text_encoder("clip", path=clip_folder)
    tags = [("lit", "no"), ("building", "yes")]
    TagTable.build(tags, encoder).save(tmp_path / "table.safetensors")
    table = TagTable.load(tmp_path / "table.safetensors")
    assert table.digest == encoder.digest
    np.testing.assert_allclose(table.encode(tags), encoder.encode(tags), rtol=1e-6)
