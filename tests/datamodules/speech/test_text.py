import json
import unicodedata
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.speech.text import CharacterTokenizer, SubwordTokenizer, TextNormalizer, restore_tokenizer

TEXTS = ["the cat sat on the mat", "the cat ate the rat", "that is the hat", "it's a cat"]
normalizers = st.builds(
    TextNormalizer,
    case=st.sampled_from(["lower", "upper", "kept"]),
    punctuation=st.sampled_from(["dropped", "kept"]),
    apostrophes=st.sampled_from(["kept", "dropped"]),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Hello,\tWORLD!\n", "hello world"),
        ("don\u2019t 'quote' o`clock", "don't quote o'clock"),
        ("don\u1fefT", "don't"),
        ("twenty-one 3.5 %", "twenty one 3 5"),
        ("\ufb01ne \uff12 cafe\u0301", "fine 2 caf\u00e9"),
        ("soft\u00adhyphen \ufeffbom", "softhyphen bom"),
        ("Привет, мир", "привет мир"),
        (
            "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
        ("...", ""),
        ("", ""),
    ],
)
def test_normalised(text, expected):
    assert TextNormalizer()(text) == expected


def test_what_can_be_chosen():
    text = "Don\u2019t stop, Ann's dog!"
    assert TextNormalizer(case="upper")(text) == "DON'T STOP ANN'S DOG"
    assert TextNormalizer(case="kept", punctuation="kept")(text) == "Don't stop, Ann's dog!"
    assert TextNormalizer(apostrophes="dropped")(text) == "dont stop anns dog"


@given(normalizers, st.text(max_size=30))
def test_a_normalised_text_stays(normalize, text):
    once = normalize(text)
    assert normalize(once) == once
    assert once == unicodedata.normalize("NFKC", once) == " ".join(once.split())
    assert TextNormalizer(**json.loads(json.dumps(asdict(normalize)))) == normalize


def tokenizers():
    return [CharacterTokenizer.train(TEXTS), SubwordTokenizer.train(TEXTS, 30)]


def facts(tokenizer):
    return json.loads(json.dumps({"vocabulary": tokenizer.vocabulary, "tokenizer": tokenizer.state}))


@pytest.mark.parametrize("tokenizer", tokenizers(), ids=["characters", "subwords"])
class TestEveryTokenizer:
    @given(words=st.lists(st.text("acehimnorst'", min_size=1, max_size=6), max_size=5))
    def test_pieces_make_the_text_again(self, tokenizer, words):
        text = " ".join(words)
        tokens = tokenizer.encode(text)
        assert "".join(tokenizer.vocabulary[token] for token in tokens).strip() == text
        assert all(0 <= token < len(tokenizer.vocabulary) for token in tokens)

    @given(text=st.text(max_size=20))
    def test_unknown_characters_are_left_out(self, tokenizer, text):
        known = " ".join("".join(c for c in text if c in set("acehimnorst' ")).split())
        assert tokenizer.encode(text) == tokenizer.encode(known)

    def test_restored_from_facts(self, tokenizer):
        again = restore_tokenizer(facts(tokenizer))
        assert type(again) is type(tokenizer)
        assert again.vocabulary == tokenizer.vocabulary
        assert again.encode("the hat is a mat") == tokenizer.encode("the hat is a mat")

    def test_nothing_has_no_tokens(self, tokenizer):
        assert tokenizer.encode("") == tokenizer.encode("  ") == tokenizer.encode("§") == []


def test_characters_are_those_of_the_transcripts_and_the_space():
    assert CharacterTokenizer.train(["ba", "c"]).vocabulary == [" ", "a", "b", "c"]


def test_subwords_are_shorter_than_characters_and_never_span_words():
    tokenizer = SubwordTokenizer.train(TEXTS, 30)
    assert len(tokenizer.vocabulary) == 30
    assert " the" in tokenizer.vocabulary
    assert not [piece for piece in tokenizer.vocabulary if " " in piece[1:]]
    assert len(tokenizer.encode("the cat")) <= 3
    assert SubwordTokenizer.train(TEXTS, 30).state == tokenizer.state


def test_few_subwords_are_refused_and_few_texts_make_fewer():
    with pytest.raises(ValueError, match="num_subwords=5 is less than the 13 characters of the transcripts"):
        SubwordTokenizer.train(TEXTS, 5)
    assert SubwordTokenizer.train(["ab"], 500).vocabulary == [" ", "a", "b", " a", " ab"]


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="'words' is unknown; known are characters, bpe, bytes"):
        restore_tokenizer({"vocabulary": [], "tokenizer": {"kind": "words"}})
