"""The recogniser: padding changes nothing, every part learns, what does not fit is refused."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core import Decoder, Encoder, RotaryPositionalEncoding
from tasks.asr.features import SpecAugment
from tasks.asr.model import ASR
from tasks.asr.subsampling import ConvSubsampling
from tasks.asr.tokens import TokenEmbedding
from tests.core.helpers import ATTENTIONS, with_each
from tests.tasks.asr.helpers import LENGTHS, RATE, VOCABULARY, WIDTH, asr, speech

BLANK = len(VOCABULARY)


@with_each(ATTENTIONS)
def test_an_utterance_alone_is_what_it_is_in_a_batch(attention):
    model = asr(attention=attention).eval()
    audio, samples = speech(*LENGTHS)
    encoded = model.encode(audio, samples)
    tokens = torch.tensor([[BLANK, 0, 3]]).expand(len(LENGTHS), -1)
    log_probs, logits = model.ctc_log_probs(encoded), model.token_logits(tokens, encoded)
    assert encoded.lengths.tolist() == [13, 5, 0, 1, 8]
    for number, length in enumerate(LENGTHS):
        alone = model.encode(audio[number : number + 1, :length], samples[number : number + 1])
        frames = int(encoded.lengths[number])
        assert alone.memory.shape == (1, frames, WIDTH)
        torch.testing.assert_close(log_probs[number, :frames], model.ctc_log_probs(alone)[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits[number], model.token_logits(tokens[:1], alone)[0], rtol=1e-4, atol=1e-4)


def test_what_lies_in_padding_changes_nothing():
    model = asr().eval()
    audio, samples = speech(*LENGTHS)
    garbage = audio.clone()
    for number, length in enumerate(LENGTHS):
        garbage[number, length:] = torch.nan
    torch.testing.assert_close(model(garbage, samples), model(audio, samples), rtol=0, atol=0)


def test_rotary_positions_in_place_of_sinusoidal_ones():
    encoder = Encoder(WIDTH, 2, 1, rotary=RotaryPositionalEncoding)
    model = ASR(encoder, vocab_size=3, sample_rate=RATE, position=None, attention_weight=0.0).eval()
    audio, samples = speech(*LENGTHS)
    log_probs, frames = model(audio, samples)
    alone, _ = model(audio[1:2, : LENGTHS[1]], samples[1:2])
    torch.testing.assert_close(log_probs[1, : frames[1]], alone[0], rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=4),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.integers(0, 2),
    st.sampled_from([1, 3, 5]),
)
def test_subsampling_has_exact_lengths_alone_and_padded(lengths, strides, blocks, kernel):
    torch.manual_seed(0)
    subsampling = ConvSubsampling(4, 6, strides=strides, num_blocks=blocks, kernel_size=kernel)
    for block in subsampling.blocks:
        torch.nn.init.ones_(block.norm.bias)  # so that a norm makes something of padding
    x, frames = torch.randn(len(lengths), max(lengths), 4), torch.tensor(lengths)
    shorter, left = subsampling(x, frames)
    assert left.tolist() == [-(-length // math.prod(strides)) for length in lengths]
    assert subsampling.lengths(frames).tolist() == left.tolist()
    for number, length in enumerate(lengths):
        alone, _ = subsampling(x[number : number + 1, :length], frames[number : number + 1])
        torch.testing.assert_close(shorter[number, : left[number]], alone[0], rtol=1e-5, atol=1e-5)
        assert not shorter[number, left[number] :].any()


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("tied", [True, False])
def test_gradients_reach_every_parameter(weight, tied):
    model = asr(weight, tokens=partial(TokenEmbedding, tied=tied), spec_augment=SpecAugment())
    audio, samples = speech(*LENGTHS)
    encoded = model.encode(audio, samples)
    loss = torch.zeros(())
    if model.ctc_head is not None:
        loss = loss + model.ctc_log_probs(encoded)[..., 0].sum()
    if model.decoder is not None:
        tokens = torch.arange(BLANK + 1).flip(0).expand(len(LENGTHS), -1)
        loss = loss + model.token_logits(tokens, encoded).square().sum()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_ctc_alone_has_no_decoder_and_the_decoder_alone_no_ctc():
    ctc, both, attention = asr(0.0), asr(0.5), asr(1.0)
    assert not [name for name, _ in ctc.named_parameters() if name.startswith(("decoder", "tokens"))]
    assert not [name for name, _ in attention.named_parameters() if name.startswith("ctc_head")]
    assert both.tokens.head.weight is both.tokens.embedding.weight
    audio, samples = speech(800)
    with pytest.raises(ValueError, match=r"attention_weight=1\.0"):
        attention(audio, samples)
    with pytest.raises(ValueError, match=r"attention_weight=0\.0"):
        ctc.token_logits(torch.zeros(1, 1).long(), ctc.encode(audio, samples))


def test_step_by_step_with_a_cache_is_all_at_once():
    model = asr().eval()
    audio, samples = speech(*LENGTHS)
    tokens = torch.randint(BLANK, (len(LENGTHS), 6), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        encoded = model.encode(audio, samples)
        cache = model.decoder.make_cache()
        steps = [model.token_logits(tokens[:, step : step + 1], encoded, cache) for step in range(6)]
        torch.testing.assert_close(torch.cat(steps, 1), model.token_logits(tokens, encoded), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: asr(vocab_size=0), "vocab_size=0"),
        (lambda: asr(1.5), r"attention_weight=1\.5"),
        (lambda: _of(None), "needs a decoder"),
        (lambda: _of(Decoder(8, 2, 1)), "width 8"),
        (lambda: _of(Decoder(16, 2, 1, cross_attention=None)), "encoder-decoder attention"),
        (lambda: ConvSubsampling(8, 8, strides=[2, 0]), r"strides=\[2, 0\]"),
        (lambda: ConvSubsampling(8, 8, strides=[]), r"strides=\[\]"),
        (lambda: ConvSubsampling(8, 8, num_blocks=-1), "num_blocks=-1"),
        (lambda: ConvSubsampling(8, 8, kernel_size=4), "kernel_size=4"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def _of(decoder) -> ASR:
    return ASR(Encoder(16, 2, 1), decoder, vocab_size=3, sample_rate=RATE)


def test_untrained_a_blank_is_as_probable_as_all_tokens_together():
    model = asr(0.0)
    encoded = model.encode(*speech(*LENGTHS))
    silent = encoded._replace(memory=torch.zeros_like(encoded.memory))
    assert torch.allclose(model.ctc_log_probs(silent)[..., BLANK].exp(), torch.tensor(0.5))
