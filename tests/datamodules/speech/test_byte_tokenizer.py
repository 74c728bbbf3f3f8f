"""Published byte-level tokenizers: their pieces are the library's, all text goes through, what is none is refused."""

import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules import SpeechManifest
from datamodules.speech.text import ByteTokenizer, TextNormalizer, restore_tokenizer
from tests.datamodules.speech.sets import write_tokenizer


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "tokenizer.json"
    return path, write_tokenizer(path)


def joined(tokenizer: ByteTokenizer, tokens: list[int]) -> str:
    pieces = "".join(tokenizer.vocabulary[token] for token in tokens)
    return pieces.encode("utf-8", "surrogateescape").decode("utf-8")


@settings(max_examples=100, deadline=None)
@given(text=st.one_of(st.text(max_size=20), st.sampled_from(["one two", "naïve 日本", "🙂🙂", "<|endoftext|>"])))
def test_pieces_are_the_librarys_and_give_the_text_again(published, text):
    path, library = published
    tokenizer = ByteTokenizer.read(path)
    text = TextNormalizer(case="kept", punctuation="kept")(text)
    tokens = tokenizer.encode(text)
    assert joined(tokenizer, tokens) == (f" {text}" if text else "")
    assert max(tokens, default=0) < len(tokenizer.vocabulary)
    if text and "<|" not in text:
        assert tokens == library.encode(f" {text}").ids


def test_special_tokens_are_no_pieces(published):
    path, library = published
    tokenizer = ByteTokenizer.read(path)
    assert len(tokenizer.vocabulary) == library.token_to_id("<|endoftext|>")
    assert " one" in tokenizer.vocabulary
    assert len(tokenizer.encode("<|endoftext|>")) > 1


def test_special_tokens_among_the_pieces_and_merges_as_pairs_or_texts(published, tmp_path):
    """As in the file of tiny.en, and as the library wrote files before."""
    path, _ = published
    content = json.loads(path.read_text())
    end = content["added_tokens"][0]
    content["model"]["vocab"][end["content"]] = end["id"]
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    content["pre_tokenizer"]["add_prefix_space"] = True
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    one, other = ByteTokenizer.read(path), ByteTokenizer.read(tmp_path / "tokenizer.json")
    assert one.vocabulary == other.vocabulary
    assert one.encode("one two") == other.encode("one two")


def test_a_checkpoint_holds_all_of_it(published, tmp_path):
    data = SpeechManifest(root=str(tmp_path / "nothing"), tokenizer_file=str(published[0]))
    torch.save(data.facts, tmp_path / "facts.pt")
    facts = torch.load(tmp_path / "facts.pt", weights_only=True)
    assert facts == data.facts == json.loads(json.dumps(data.facts))
    restored = restore_tokenizer(facts)
    assert restored.vocabulary == facts["vocabulary"]
    assert any("\udc80" <= piece <= "\udcff" for piece in restored.vocabulary), "some are parts of characters"
    assert restored.encode("one 日本🙂") == ByteTokenizer.read(published[0]).encode("one 日本🙂")
    assert restored.knows("🙂")


def change(content, keys, value):
    for key in keys[:-1]:
        content = content[key]
    content[keys[-1]] = value


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("model", "type"), "Unigram", "its model and its pre-tokenizer are Unigram and ByteLevel"),
        (("pre_tokenizer", "type"), "Whitespace", "are BPE and Whitespace"),
        (("pre_tokenizer",), None, ""),
        (("model", "vocab", "zz"), 5000, "pieces of text are not numbered from 0 to"),
        (("model", "vocab", "日"), 297, ""),
        (("model", "merges"), [["x", "yzzz"]], ""),
        (("added_tokens",), 3, ""),
    ],
)
def test_another_kind_of_tokenizer_is_one_line(published, tmp_path, keys, value, message):
    content = json.loads(published[0].read_text())
    change(content, keys, value)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is no byte-level BPE .*{message}") as caught:
        ByteTokenizer.read(path)
    assert "\n" not in str(caught.value)


@settings(max_examples=30, deadline=None)
@given(content=st.one_of(st.binary(max_size=40), st.sampled_from([b"{}", b"[]", b"null", b'{"model": 3}'])))
def test_foreign_files_are_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("foreign") / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        ByteTokenizer.read(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer_file=.*absent\.json: there is no such file"):
        _ = SpeechManifest(tokenizer_file=str(tmp_path / "absent.json")).facts
