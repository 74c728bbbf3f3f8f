"""Error rates: those of jiwer, over a whole set."""

import random

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.asr.evaluation import TranscriptEvaluation, compare, describe_worst, edit_distance, error_rates


def pairs(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Sentences of 0 to 9 words, and what was made of them: words left out, changed, put in."""
    rng = random.Random(seed)
    words = ["one", "two", "zwölf", "a", "an", "and", "hand"]
    references = [" ".join(rng.choices(words, k=rng.randint(0, 9))) for _ in range(count)]
    transcripts = []
    for reference in references:
        heard = [word for word in reference.split() if rng.random() > 0.1]
        heard = [rng.choice(words) if rng.random() < 0.2 else word for word in heard]
        transcripts.append(" ".join([*heard, *rng.choices(words, k=rng.choice([0, 0, 1, 2]))]))
    return references, transcripts


def rates(references, transcripts):
    evaluation = TranscriptEvaluation()
    evaluation.update([str(number) for number in range(len(references))], references, transcripts)
    return error_rates(evaluation.gather())


def test_rates_are_jiwers_on_200_pairs():
    references, transcripts = pairs(200, seed=0)
    assert "" in references
    found = rates(references, transcripts)
    assert found["wer"] == pytest.approx(jiwer.wer(references, transcripts), abs=1e-12)
    assert found["cer"] == pytest.approx(jiwer.cer(references, transcripts), abs=1e-12)
    for reference, transcript in zip(references, transcripts, strict=True):
        assert rates([reference], [transcript])["wer"] == jiwer.wer(reference, transcript)
        assert rates([reference], [transcript])["cer"] == jiwer.cer(reference, transcript)


@pytest.mark.parametrize("transcript", ["", "a", "a bc d"])
def test_nothing_said_is_as_in_jiwer(transcript):
    assert rates([""], [transcript]) == {"wer": jiwer.wer("", transcript), "cer": jiwer.cer("", transcript)}
    assert rates(["", "a b"], [transcript, "a b"])["wer"] == jiwer.wer(["", "a b"], [transcript, "a b"])


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab \t", max_size=9), st.text(alphabet="abc ", max_size=9))
def test_distances_are_the_fewest_edits(one, other):
    assert edit_distance(one, other) == _plain(one, other)
    assert edit_distance(one.split(), other.split()) == _plain(one.split(), other.split())


def _plain(one, other):
    """The textbook's recursion."""
    if not one or not other:
        return len(one) + len(other)
    if one[-1] == other[-1]:
        return _plain(one[:-1], other[:-1])
    return 1 + min(_plain(one[:-1], other), _plain(one, other[:-1]), _plain(one[:-1], other[:-1]))


def test_very_long_transcripts_are_no_trouble():
    text = "lorem ipsum dolor " * 400
    assert compare("x", text, text.replace("dolor", "colour")).words == (400, 1200)


def test_an_utterance_counts_once_and_a_reset_forgets():
    evaluation = TranscriptEvaluation()
    evaluation.update(["a", "b"], ["one two", "one"], ["one", "one"])
    evaluation.update(["a"], ["one two"], ["one"])
    assert error_rates(evaluation.gather()) == {"wer": 1 / 3, "cer": 4 / 10}
    evaluation.reset()
    assert error_rates(evaluation.gather()) == {}


def test_the_worst_are_written_out_most_wrong_first():
    evaluation = TranscriptEvaluation()
    for number in range(14):
        said = ["a"] * 14
        evaluation.update([f"{number:02}.wav"], [" ".join(said)], [" ".join(said[number:])])
    text = describe_worst(evaluation.gather())
    assert text.startswith("13.wav: 13 wrong of 14 words\n  said:  a a a")
    assert text.count("heard:") == 10
    assert "03.wav" not in text
    assert describe_worst(evaluation.gather()[:1]) == ""
