"""Transcripts: how they are normalised, and the pieces of text that a model's tokens stand for."""

import json
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as _Library

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\uff07\u0060\u00b4", "'"))
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_BYTES = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + place): byte for place, byte in enumerate(_OTHERS)}
"""The byte that each character of a published piece stands for: GPT-2 writes bytes as characters that can be seen."""
_JOINERS = "\u200c\u200d"  # shape letters of some scripts, unlike the other invisible characters


@dataclass(frozen=True)
class TextNormalizer:
    """Brings transcripts to one form: Unicode NFKC, one space between words; digits stay as they are.

    Applied twice it changes nothing more.

    Args:
        case: Whether letters become `lower` or `upper` case, or stay as they are (`kept`).
        punctuation: Whether punctuation and symbols are `dropped`, each leaving a space, or `kept`.
        apostrophes: Whether an apostrophe within a word is `kept`, or `dropped` without a space ("dont"); every kind of
            it becomes ', and elsewhere it is punctuation.

    >>> TextNormalizer()("“Don’t,” she said —  it’s 5 O'CLOCK!")
    "don't she said it's 5 o'clock"
    """

    case: Literal["lower", "upper", "kept"] = "lower"
    punctuation: Literal["dropped", "kept"] = "dropped"
    apostrophes: Literal["kept", "dropped"] = "kept"

    def __call__(self, text: str) -> str:
        """Normalises a transcript."""
        text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).translate(_APOSTROPHES)
        if self.case != "kept":
            text = unicodedata.normalize("NFKC", text.lower() if self.case == "lower" else text.upper())
        text = "".join(self._character(text, place) for place in range(len(text)))
        return " ".join(unicodedata.normalize("NFKC", text).split())

    def _character(self, text: str, place: int) -> str:
        character, category = text[place], unicodedata.category(text[place])
        if character == "'" and text[place - 1 : place].isalnum() and text[place + 1 : place + 2].isalnum():
            return "'" if self.apostrophes == "kept" else ""
        if category == "Cf":
            return character if character in _JOINERS else ""
        if category[0] in "CZ" or (category[0] in "PS" and self.punctuation == "dropped"):
            return " "
        return character


class Tokenizer(ABC):
    """Cuts normalised text into pieces.

    Args:
        vocabulary: The piece that each token stands for.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = list(vocabulary)
        self._alphabet = frozenset("".join(vocabulary)) | {" "}

    def knows(self, character: str) -> bool:
        """Whether pieces can hold this character; others are left out of the tokens."""
        return character in self._alphabet

    def encode(self, text: str) -> list[int]:
        """Gives the tokens of a normalised text; `"".join(vocabulary[token] ...).strip()` is the text again."""
        known = " ".join("".join(filter(self.knows, text)).split())
        return self._encode(known) if known else []

    @property
    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What rebuilds it, beside the vocabulary: plain values."""

    @abstractmethod
    def _encode(self, text: str) -> list[int]: ...


class CharacterTokenizer(Tokenizer):
    """A token for each character.

    >>> CharacterTokenizer.train(["a cab"]).encode("bad cab")  # no d
    [2, 1, 0, 3, 1, 2]
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        super().__init__(vocabulary)
        self._numbers = {character: number for number, character in enumerate(vocabulary)}

    @classmethod
    def train(cls, texts: Iterable[str]) -> "CharacterTokenizer":
        """Takes the space and all characters of normalised texts, sorted."""
        return cls(sorted({" "}.union(*texts)))

    @property
    def state(self) -> dict[str, Any]:
        """Nothing but its kind."""
        return {"kind": "characters"}

    def _encode(self, text: str) -> list[int]:
        return [self._numbers[character] for character in text]


class LibraryTokenizer(Tokenizer):
    """Byte pair encoding by the library `tokenizers`; a text begins with a space.

    Args:
        json: As the library writes it.
    """

    kind: ClassVar[str]
    """What a checkpoint calls it."""

    def __init__(self, json: str) -> None:
        self._library = _Library.from_str(json)
        pieces = (self._library.id_to_token(number) or "" for number in range(self._library.get_vocab_size()))
        super().__init__(list(map(self._text_of, pieces)))

    def _text_of(self, piece: str) -> str:
        """The text that a piece of the library stands for."""
        return piece

    @property
    def state(self) -> dict[str, Any]:
        """Its kind, and itself as the library writes it."""
        return {"kind": self.kind, "json": self._library.to_str()}

    def _encode(self, text: str) -> list[int]:
        return self._library.encode(f" {text}").ids


class SubwordTokenizer(LibraryTokenizer):
    """Subword units by byte pair encoding over characters (Sennrich et al. 2016), a word's space at its beginning."""

    kind = "bpe"

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> "SubwordTokenizer":
        """Joins the most frequent pairs of pieces of texts until there are `size` pieces, or no pair is left.

        Raises:
            ValueError: If `size` is less than the number of characters.
        """
        library = _Library(models.BPE())
        library.pre_tokenizer = pre_tokenizers.Split(Regex(" ?[^ ]+"), "isolated")
        trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, special_tokens=[])
        spaced = [f" {text}" for text in texts]
        library.train_from_iterator(spaced, trainer)
        if library.get_vocab_size() > size:
            characters = len(set().union(*spaced))
            raise ValueError(f"num_subwords={size} is less than the {characters} characters of the transcripts")
        return cls(library.to_str())


class ByteTokenizer(LibraryTokenizer):
    """Byte pair encoding over bytes (Radford et al. 2019, section 2.2), as of GPT-2 and Whisper: it knows all text.

    Pieces of text only: a file's special tokens are left out (`read`). A piece is the text of its bytes; those that
    make no whole character stand in it as Python's "surrogateescape" has them, so that of joined pieces
    `.encode("utf-8", "surrogateescape")` gives the bytes.
    """

    kind = "bytes"

    def _text_of(self, piece: str) -> str:
        return bytes(map(_BYTES.__getitem__, piece)).decode("utf-8", "surrogateescape")

    def knows(self, character: str) -> bool:  # noqa: ARG002
        """Always: every character is bytes."""
        return True

    @classmethod
    def read(cls, path: Path) -> "ByteTokenizer":
        """Reads a published model's `tokenizer.json`, and keeps what concerns pieces of text.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no such tokenizer, or its pieces are not numbered from 0 on; one line.
        """
        if not path.is_file():
            raise FileNotFoundError(f"tokenizer_file={path}: there is no such file; give a model's tokenizer.json")
        try:
            content = json.loads(path.read_bytes())
            kinds = content["model"]["type"], content["pre_tokenizer"]["type"]
            if kinds != ("BPE", "ByteLevel"):
                raise ValueError(f"its model and its pre-tokenizer are {' and '.join(map(str, kinds))}")
            special = {token["content"] for token in content["added_tokens"]}
            pieces = {piece: id_ for piece, id_ in content["model"]["vocab"].items() if piece not in special}
            if sorted(pieces.values()) != list(range(len(pieces))):
                raise ValueError(f"its {len(pieces)} pieces of text are not numbered from 0 to {len(pieces) - 1}")
            plain = dict.fromkeys(("normalizer", "post_processor", "truncation", "padding"), None)
            cut = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
            model = content["model"] | {"vocab": pieces}
            content |= plain | {"added_tokens": [], "pre_tokenizer": cut, "model": model}
            return cls(json.dumps(content))
        except Exception as error:  # foreign files can be wrong in any way, and the library has an exception of its own
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"tokenizer_file={path} is no byte-level BPE as GPT-2's and Whisper's tokenizer.json: {reason}"
            ) from None


def restore_tokenizer(facts: Mapping[str, Any]) -> Tokenizer:
    """Rebuilds a tokenizer from `facts["tokenizer"]` and `facts["vocabulary"]`.

    Raises:
        ValueError: If its kind is unknown.
    """
    state = facts["tokenizer"]
    if state["kind"] == "characters":
        return CharacterTokenizer(facts["vocabulary"])
    for tokenizer in (SubwordTokenizer, ByteTokenizer):
        if state["kind"] == tokenizer.kind:
            return tokenizer(state["json"])
    raise ValueError(f"tokenizer of kind {state['kind']!r} is unknown; known are characters, bpe, bytes")
