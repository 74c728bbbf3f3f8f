"""Every way of decoding: exact where the beam is wide enough, the same alone and in a batch, and it always ends."""

from functools import partial
from itertools import groupby, product

import pytest
import torch

from tasks.asr.decoding import AttentionBeam, AttentionGreedy, CTCBeam, CTCGreedy, JointBeam
from tasks.asr.decoding.prefix import PrefixScores
from tasks.asr.decoding.search import repeating
from tasks.asr.model import Encoded
from tasks.asr.tokens import TokenEmbedding
from tests.core.helpers import ATTENTIONS, CAUSAL, randomise, with_each
from tests.tasks.asr.helpers import LENGTHS, asr, speech

EVERY = {
    "ctc greedy": CTCGreedy(),
    "ctc beam": CTCBeam(4),
    "attention greedy": AttentionGreedy(),
    "attention beam": AttentionBeam(3),
    "joint beam": JointBeam(3, ctc_weight=0.4),
}
every_decoding = pytest.mark.parametrize("decoding", EVERY.values(), ids=EVERY)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


def collapse(path, blank):
    return tuple(label for label, _ in groupby(path) if label != blank)


def texts_of(log_probs):
    """The probability of every text, summed over its paths; the last output is the blank."""
    probs, texts = log_probs.exp(), {}
    for path in product(range(probs.shape[1]), repeat=len(probs)):
        text = collapse(path, probs.shape[1] - 1)
        texts[text] = texts.get(text, 0.0) + float(probs[range(len(path)), path].prod())
    return texts


def random_log_probs(seed, frames=5, outputs=3):
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(frames, outputs, generator=generator, dtype=torch.float64)).log_softmax(-1)


@pytest.mark.parametrize("seed", range(8))
def test_ctc_beam_finds_the_most_probable_text(seed):
    log_probs = random_log_probs(seed)
    texts = texts_of(log_probs)
    best = max(texts, key=lambda text: texts[text])
    found = CTCBeam(1000, min_probability=0.0).search(log_probs.numpy())
    assert tuple(found.tokens) == best
    assert found.score == pytest.approx(torch.tensor(texts[best]).log().item(), abs=1e-5)


def test_the_best_text_need_not_be_on_the_best_path():
    log_probs = torch.tensor([[0.4, 0.6], [0.4, 0.6]]).log()
    assert CTCBeam().search(log_probs.numpy()).tokens == [0]  # 0.64 in three paths, against 0.36 in the best one
    model = asr(0.0)
    model.ctc_log_probs = lambda encoded: encoded.memory
    model.vocab_size = 1
    assert CTCGreedy()(model, Encoded(log_probs[None], torch.tensor([2]), None))[0].tokens == []


def test_ctc_greedy_collapses_the_best_path():
    model = asr(0.0)
    model.ctc_log_probs = lambda encoded: encoded.memory
    model.vocab_size = 2
    paths = torch.tensor([[0, 0, 2, 0, 1, 1], [2, 1, 2, 1, 0, 0]])
    memory = torch.nn.functional.one_hot(paths, 3).double().log_softmax(-1)
    found = CTCGreedy()(model, Encoded(memory, torch.tensor([6, 4]), None))
    assert [each.tokens for each in found] == [[0, 0, 1], [1, 1]]


@pytest.mark.parametrize("seed", range(3))
def test_prefix_scores_are_sums_over_all_texts_that_begin_so(seed):
    log_probs = torch.stack([random_log_probs(seed), random_log_probs(seed + 50)]).float()
    lengths = torch.tensor([5, 3])
    scores, candidates = PrefixScores(log_probs, lengths, 2), torch.tensor([0, 1]).expand(2, 2, 2)
    texts = [texts_of(each[:length]) for each, length in zip(log_probs, lengths, strict=True)]
    beam = [[(), ()], [(), ()]]
    for parents, chosen in [([[0, 0], [0, 0]], [[0, 1], [1, 0]]), ([[0, 1], [1, 1]], [[0, 1], [0, 1]])]:
        found, ended = scores.extended(candidates), scores.ended()
        for row, column in product(range(2), range(2)):
            prefix = beam[row][column]
            assert ended[row, column].exp() == pytest.approx(texts[row].get(prefix, 0.0), abs=1e-5)
            for token in range(2):
                longer = (*prefix, token)
                expected = sum(p for text, p in texts[row].items() if text[: len(longer)] == longer)
                assert found[row, column, token].exp() == pytest.approx(expected, abs=1e-5)
        scores.select(torch.tensor([0, 1]), torch.tensor(parents), torch.tensor(chosen))
        beam = [[(*beam[row][parents[row][column]], chosen[row][column]) for column in range(2)] for row in range(2)]


def all_texts(model, encoded, most):
    """Score by the decoder and by CTC of every text of up to `most` tokens."""
    every = {}
    ctc = texts_of(model.ctc_log_probs(encoded)[0].double())
    for length in range(most + 1):
        for text in product(range(model.vocab_size), repeat=length):
            given = torch.tensor([[model.vocab_size, *text]])
            log_probs = model.token_logits(given, encoded)[0].log_softmax(-1)
            score = float(log_probs[range(length + 1), [*text, model.vocab_size]].sum())
            every[text] = score, float(torch.tensor(ctc.get(text, 0.0)).log())
    return every


def chatty(vocab_size, seed):
    """Random weights that do not end soon, so that hypotheses change places for a while."""
    model = asr(vocab_size=vocab_size).eval()
    randomise(model, seed)
    model.tokens.head.bias[vocab_size] -= 6.0
    return model


@pytest.mark.parametrize("decoding", [AttentionBeam(4, length_penalty=0.5), JointBeam(4, ctc_weight=0.4)])
@pytest.mark.parametrize("seed", range(3))
def test_a_score_is_that_of_its_text(decoding, seed):
    """As the decoder gives it for the whole text at once, and CTC's loss."""
    model = chatty(6, seed)
    encoded = model.encode(*speech(4000, 2600, 1500, seed=seed))
    for number, found in enumerate(decoding(model, encoded)):
        assert len(found.tokens) >= 4
        alone = encoded.select(torch.tensor([number]))
        log_probs = model.token_logits(torch.tensor([[6, *found.tokens]]), alone)[0].log_softmax(-1)
        length = len(found.tokens) + 1
        expected = log_probs[range(length), [*found.tokens, 6]].sum()
        if isinstance(decoding, JointBeam):
            ctc = torch.nn.functional.ctc_loss(
                model.ctc_log_probs(alone).transpose(0, 1), torch.tensor([found.tokens]), alone.lengths,
                torch.tensor([length - 1]), blank=6, reduction="sum",
            )  # fmt: skip
            expected = 0.6 * expected - 0.4 * ctc
        else:
            expected = expected / length**0.5
        assert found.score == pytest.approx(float(expected), abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_beams_find_the_best_of_all_texts(seed):
    model = chatty(2, seed)
    encoded = model.encode(*speech(1280, seed=seed))  # 4 frames
    every = all_texts(model, encoded, 4)
    (found,) = AttentionBeam(100, length_penalty=0.5)(model, encoded)
    scores = {text: decoder / (len(text) + 1) ** 0.5 for text, (decoder, _) in every.items()}
    best = max(scores, key=lambda text: scores[text])
    assert (tuple(found.tokens), found.score) == (best, pytest.approx(scores[best], abs=1e-3))
    for weight in (0.3, 1.0):
        (found,) = JointBeam(100, ctc_weight=weight)(model, encoded)
        scores = {text: weight * ctc + (1 - weight) * decoder for text, (decoder, ctc) in every.items()}
        best = max(scores, key=lambda text: scores[text])
        assert (tuple(found.tokens), found.score) == (best, pytest.approx(scores[best], abs=1e-3))


def test_attention_greedy_takes_the_best_token_each_time():
    model = asr(vocab_size=6).eval()
    randomise(model, 1)
    encoded = model.encode(*speech(4000, 1500, seed=1))
    for number, found in enumerate(AttentionGreedy(max_repeats=100)(model, encoded)):
        tokens = [6]
        while len(tokens) <= int(encoded.lengths[number]):
            alone = Encoded(encoded.memory[number : number + 1, : encoded.lengths[number]], torch.ones(1).long(), None)
            best = int(model.token_logits(torch.tensor([tokens]), alone)[0, -1].argmax())
            if best == 6:
                break
            tokens.append(best)
        assert found.tokens == tokens[1:]
        assert found.tokens


@every_decoding
@with_each(ATTENTIONS)
def test_a_text_is_the_same_alone_and_in_a_batch(decoding, attention):
    model = asr(attention=attention, vocab_size=5).eval()
    randomise(model, 3)
    audio, samples = speech(*LENGTHS)
    together = decoding(model, model.encode(audio, samples))
    assert len({tuple(each.tokens) for each in together}) > 2
    for number, length in enumerate(LENGTHS):
        (alone,) = decoding(model, model.encode(audio[number : number + 1, :length], samples[number : number + 1]))
        assert together[number].tokens == alone.tokens
        assert together[number].score == pytest.approx(alone.score, abs=1e-2)


@with_each(CAUSAL, "target_attention")
def test_a_decoder_of_any_causal_attention(target_attention):
    model = asr(target_attention=target_attention, vocab_size=5).eval()
    randomise(model, 3)
    audio, samples = speech(*LENGTHS)
    together = AttentionBeam(3)(model, model.encode(audio, samples))
    (alone,) = AttentionBeam(3)(model, model.encode(audio[1:2, : LENGTHS[1]], samples[1:2]))
    assert together[1].tokens == alone.tokens


@every_decoding
@pytest.mark.parametrize("lengths", [(0,), (0, 0), ()], ids=str)
def test_nothing_to_hear_gives_an_empty_text(decoding, lengths):
    model = asr().eval()
    found = decoding(model, model.encode(torch.zeros(len(lengths), 0), torch.tensor(lengths, dtype=torch.long)))
    assert [each.tokens for each in found] == [[] for _ in lengths]


def stubborn(token: int, vocab_size: int = 4):
    """A model whose decoder always says the same token."""
    model = asr(1.0, vocab_size=vocab_size, tokens=partial(TokenEmbedding, tied=False)).eval()
    model.tokens.head.weight.zero_()
    model.tokens.head.bias.zero_()
    model.tokens.head.bias[token] = 50.0
    return model


@pytest.mark.parametrize("decoding", [AttentionGreedy, AttentionBeam])
def test_a_text_is_bounded_by_the_frames(decoding):
    model = stubborn(0)
    encoded = model.encode(*speech(4000, 1500))
    found = decoding(max_repeats=1000, max_ratio=0.5)(model, encoded)
    assert encoded.lengths.tolist() == [13, 5]
    assert [each.tokens for each in found] == [[0] * 7, [0] * 3]


@pytest.mark.parametrize("decoding", [AttentionGreedy, AttentionBeam])
def test_a_text_does_not_repeat_itself_for_ever(decoding):
    model = stubborn(1)
    (found,) = decoding(max_repeats=3)(model, model.encode(*speech(8000)))
    assert found.tokens[:3] == [1, 1, 1]
    for period in range(1, 6):
        for start in range(len(found.tokens)):
            block = found.tokens[start : start + period]
            assert found.tokens[start : start + 4 * period] != block * 4


@pytest.mark.parametrize(
    ("tokens", "max_repeats", "blocked"),
    [([], 1, []), ([0], 1, [0]), ([0, 0], 2, [0]), ([0, 1, 0], 1, [0, 1]), ([0, 1, 1], 1, [1]), ([2, 0, 1, 0], 2, [])],
)
def test_what_would_repeat_is_blocked(tokens, max_repeats, blocked):
    found = repeating(torch.tensor([[tokens]], dtype=torch.long).reshape(1, 1, -1), max_repeats, 3)
    assert found[0, 0].nonzero()[:, 0].tolist() == blocked


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CTCBeam(0), "beam_size=0"),
        (lambda: CTCBeam(min_probability=1.0), r"min_probability=1\.0"),
        (lambda: AttentionBeam(0), "beam_size=0"),
        (lambda: AttentionBeam(length_penalty=-1.0), r"length_penalty=-1\.0"),
        (lambda: AttentionGreedy(max_ratio=0.0), r"max_ratio=0\.0"),
        (lambda: AttentionGreedy(max_repeats=0), "max_repeats=0"),
        (lambda: JointBeam(ctc_weight=0.0), "AttentionBeam"),
        (lambda: JointBeam().check(asr(1.0)), "JointBeam needs a CTC head"),
        (lambda: JointBeam().check(asr(0.0)), "JointBeam needs a decoder"),
        (lambda: CTCGreedy().check(asr(1.0)), "CTCGreedy needs a CTC head"),
        (lambda: AttentionGreedy().check(asr(0.0)), "AttentionGreedy needs a decoder"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
