import doctest
import itertools
import re
from collections import Counter

import numpy as np
import pytest

from datamodules.speech import sentences
from datamodules.speech.espeak import list_speakers
from datamodules.speech.sentences import SPEAKERS, TEMPLATES, WORDS, draw_line, draw_sentence, part_of, vocabulary

PARTS = ("train", "val", "test")


@pytest.fixture(scope="module")
def lines():
    return {part: [draw_line(np.random.default_rng([0, seed]), part) for seed in range(2000)] for part in PARTS}


def test_doctests():
    assert doctest.testmod(sentences) == (0, 1)


def test_no_speaker_is_in_two_parts_and_all_are_there():
    speakers = {part: SPEAKERS[part].split() for part in PARTS}
    for one, other in itertools.combinations(speakers.values(), 2):
        assert not set(one) & set(other)
    everyone = [*itertools.chain(*speakers.values())]
    assert len(everyone) == len(set(everyone)) >= 40
    assert set(everyone) <= set(list_speakers())


def test_lines_of_two_parts_share_neither_sentence_nor_voice(lines):
    for one, other in itertools.combinations(PARTS, 2):
        assert not {line.text for line in lines[one]} & {line.text for line in lines[other]}
        assert not {line.voice for line in lines[one]} & {line.voice for line in lines[other]}
    for part in PARTS:
        assert {line.voice.partition("+")[2] for line in lines[part]} == set(SPEAKERS[part].split())
        assert {part_of(line.text) for line in lines[part]} == {part}


def test_every_part_has_a_share_of_the_sentences():
    random = np.random.default_rng(0)
    shares = Counter(part_of(draw_sentence(random)) for _ in range(3000))
    assert shares["train"] > 2300
    assert min(shares["val"], shares["test"] / 2) > 130


def test_lengths_rates_and_pitches(lines):
    drawn = [line for part in PARTS for line in lines[part]]
    lengths = Counter(len(line.text.split()) for line in drawn)
    assert set(lengths) == set(range(2, 9))
    assert min(lengths.values()) > 60
    assert {min(line.rate for line in drawn), max(line.rate for line in drawn)} == {120, 220}
    assert {min(line.pitch for line in drawn), max(line.pitch for line in drawn)} == {25, 75}


def test_about_200_words_that_all_occur(lines):
    assert 190 <= len(vocabulary()) <= 220
    for part in PARTS:
        said = Counter(word for line in lines[part] for word in line.text.split())
        assert set(said) == set(vocabulary())
        assert min(said.values()) >= 5


def test_sentences_are_varied(lines):
    assert len({line.text for line in lines["train"]}) > 1800


def test_templates_name_what_there_is():
    for template in TEMPLATES:
        assert set(re.findall(r"[A-Z]+", template)) <= set(WORDS)
    assert set(re.findall(r"[A-Z]+", " ".join(TEMPLATES))) == set(WORDS), "no word is never said"
