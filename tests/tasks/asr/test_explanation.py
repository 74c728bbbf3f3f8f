"""Where the network looked for each token: the weights by hand, and the pictures of the real command line."""

import io
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from matplotlib.figure import Figure
from PIL import Image

from core import Decoder, Encoder, FullAttention, LinearAttention
from core.explain import each_sequence
from tasks.asr.__main__ import main
from tasks.asr.alignment import Word, split_words
from tasks.asr.decoding.base import Decoding, Hypothesis
from tasks.asr.explanation import Listening, cross_attention, ctc_posteriors, draw, word_frames
from tasks.asr.features import LogMel
from tasks.asr.joining import Window
from tasks.asr.model import ASR
from tasks.asr.module import ASRModule
from tasks.asr.tokens import TokenEmbedding
from tests.core.helpers import ATTENTIONS, assert_same, with_each
from tests.tasks.asr.helpers import LENGTHS, RATE, VOCABULARY, WIDTH, asr, speech
from tests.tasks.explaining import explained, last_layer, rollout

BLANK = len(VOCABULARY)
TEXTS = [[0, 1, 1, 3, 2], [2], [], [], [3, 0]]
"""Of `LENGTHS`: the third has no frames, the fourth one frame and no text."""


def weights_by_hand(model, encoded, text):
    """Softmax of the last layer's products, for the last query after each beginning of a text."""
    seen = {}
    mechanism = model.decoder.layers[-1].cross_attention.attention
    hook = mechanism.register_forward_pre_hook(lambda _, args: seen.update(q=args[0], k=args[1]))
    rows = []
    for count in range(len(text)):
        model.token_logits(torch.tensor([[*model.tokens.prompt, *text[:count]]]), encoded)
        scores = seen["q"][0, :, -1:] @ seen["k"][0].mT / seen["q"].shape[-1] ** 0.5
        rows.append(scores.softmax(-1).mean(0)[0])
    hook.remove()
    return torch.stack(rows)


@pytest.mark.parametrize("prompt", [[BLANK], [BLANK + 1, BLANK + 2]])
@torch.no_grad()
def test_a_tokens_weights_are_those_of_the_query_that_says_it_alone_and_in_a_batch(prompt):
    model = asr(tokens=partial(TokenEmbedding, num_special=3, prompt=prompt)).eval()
    audio, samples = speech(*LENGTHS)
    audio[1, LENGTHS[1] :] = torch.nan
    heard = cross_attention(model, model.encode(audio, samples), TEXTS)
    assert [each.shape for each in heard] == [(5, 13), (1, 5), (0, 0), (0, 1), (2, 8)]
    for number in (0, 1, 4):
        alone = model.encode(audio[number : number + 1, : LENGTHS[number]], samples[number : number + 1])
        torch.testing.assert_close(heard[number], weights_by_hand(model, alone, TEXTS[number]), rtol=1e-4, atol=1e-6)
    assert heard[0].std(0).max() > 1e-4, "tokens look elsewhere than each other"


@pytest.mark.parametrize("mechanism", [FullAttention, LinearAttention])
def test_rows_sum_to_one_over_real_frames_whatever_the_mechanism(mechanism):
    torch.manual_seed(0)
    decoder = Decoder(WIDTH, 2, 2, cross_attention=mechanism)
    model = ASR(Encoder(WIDTH, 2, 1), decoder, vocab_size=BLANK, sample_rate=RATE).eval()
    heard = cross_attention(model, model.encode(*speech(*LENGTHS)), TEXTS)
    for weights in heard:
        torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)), rtol=1e-4, atol=1e-4)


def test_nothing_recognised_asks_nothing():
    model = asr().eval()
    encoded = model.encode(torch.zeros(2, 800), torch.tensor([800, 400]))
    assert [each.shape for each in cross_attention(model, encoded, [[], []])] == [(0, 0), (0, 0)]
    with pytest.raises(ValueError, match="has no decoder"):
        cross_attention(asr(0.0), encoded, [[], []])


class Given(Decoding):
    """Recognises `TEXTS`, whatever is said."""

    def __call__(self, model, encoded):
        return [Hypothesis(text, 0.0) for text in TEXTS]


@with_each(ATTENTIONS)
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_tokens_and_words_are_explained(attention, weight):
    """By CTC alone, by both heads, by the decoder alone: of what the encoder's frames of each word saw."""
    facts = {"vocabulary": VOCABULARY, "sample_rate": RATE}
    module = ASRModule(asr(weight, attention=attention), facts=facts, decoding=Given())
    audio, samples = speech(*LENGTHS)
    batch = {"audio": audio, "audio_lengths": samples, "index": torch.arange(5), "failed": []}
    batch["start"] = torch.arange(5) * 100.0
    explanations, recorded = explained(module, batch, [f"{number}.wav" for number in range(5)])
    encoded = module.asr.encode(audio, samples)
    assert [each.part for each in explanations[:2]] == ["_00000.000s", "_00100.000s"]
    spoken = "cross_attention" if weight else "posteriors"
    heard = cross_attention(module.asr, encoded, TEXTS) if weight else ctc_posteriors(module.asr, encoded, TEXTS)
    for explanation, rows in zip(explanations, heard, strict=True):
        torch.testing.assert_close(explanation.weights[spoken], rows)
    assert explanations[0].weights["pieces"].tolist() == ["a", "b", "b", " ", "c"]
    assert explanations[0].weights["words"].tolist() == ["abb", "c"]
    with_frames = [0, 1, 3, 4]
    sequences = {name: each_sequence(calls) for name, calls in recorded.items()}
    predicted = module.predict_step(batch, 0)
    for number in (0, 1, 4):
        calls = [each[with_frames.index(number)] for each in sequences.values()]
        frames = calls[0].q.shape[2]
        reading = word_frames(predicted["windows"][number], frames, module.asr.frame_seconds)
        if weight == 1:  # nothing but the decoder says where the words are
            reading = torch.stack([heard[number][indices].mean(0) for _, indices in split_words(pieces(number))])
        for name, matrix in {"last_layer": last_layer(calls)[0], "rollout": rollout(calls)[0]}.items():
            assert_same(explanations[number].weights[name], reading @ matrix)
    for number in (2, 3):
        assert "rollout" not in explanations[number].weights, "nothing was said"


def pieces(number):
    return [VOCABULARY[token] for token in TEXTS[number]]


def test_a_words_frames_are_those_that_it_reaches_into():
    """Frames of 0.1 s; a word's own rounding error reaches into none."""
    times = [(0.0, 0.1), (0.05, 0.25), (0.2, 0.30000001), (0.39, 0.39), (0.4, 0.9), (0.7, 0.7)]
    window = Window(5.0, 5.5, [Word("w", 5 + start, 5 + end, 1.0) for start, end in times])
    shares = word_frames(window, 5, 0.1)
    expected = [[0], [0, 1, 2], [2], [3], [4], [4]]
    assert [row.nonzero().flatten().tolist() for row in shares] == expected
    torch.testing.assert_close(shares.sum(1), torch.ones(6))


def test_without_a_decoder_it_is_what_ctc_says():
    model = asr(0.0).eval()
    encoded = model.encode(*speech(*LENGTHS))
    probs = model.ctc_log_probs(encoded).exp()
    for number, heard in enumerate(ctc_posteriors(model, encoded, TEXTS)):
        assert heard.shape == (len(TEXTS[number]), int(encoded.lengths[number]))
        for row, token in enumerate(TEXTS[number]):
            assert heard[row].tolist() == probs[number, : heard.shape[1], token].tolist()


def test_band_frequencies_are_those_of_pure_tones():
    features = LogMel(RATE, num_mels=20)
    for band in (5, 10, 18):
        pitch = float(features.band_frequencies[band])
        tone = (torch.arange(8000) * pitch * 2 * torch.pi / RATE).sin()
        power = features.mel(tone)[:, 10]
        assert int(power.argmax()) == band


def listening(weights, pieces=None):
    """Weights of tokens, and no words; black features."""
    pieces = list("abcdefgh"[: len(weights)]) if pieces is None else pieces
    return Listening(pieces, [], {"posteriors": weights}, torch.zeros(4 * weights.shape[1], 20))


def picture(weights, words=(), pieces=None, start=0.0, seconds=2.0):
    """The pixels of what is drawn of them."""
    window = Window(start, start + seconds, list(words))
    ((_, drawn),) = draw(
        listening(weights, pieces), window, "x.wav", features=LogMel(RATE, num_mels=20), frame_seconds=0.04
    )
    return np.array(Image.open(io.BytesIO(drawn)).convert("RGB")).astype(int)


def spot(row, frame):
    weights = torch.full((4, 50), 1e-3)
    weights[row, frame] = 1.0
    return picture(weights).sum(-1)


def test_the_heat_is_where_the_weight_is():
    first, second = spot(0, 10), spot(2, 35)
    (top, left), (bottom, right) = (np.argwhere(each > 300).mean(0) for each in (first - second, second - first))
    assert top + 20 < bottom
    columns = np.argwhere((spot(0, 0) - spot(0, 49)).any(0))
    width = columns.max() - columns.min()
    assert right - left == pytest.approx(width * 25 / 50, abs=0.02 * width), "frame 35 of 50 is 25 behind frame 10"


def test_labels_and_seconds_name_the_weights(monkeypatch):
    """Tokens below the spectrogram, words below the tokens, on one axis of seconds."""
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    weights = {"cross_attention": torch.rand(3, 50), "last_layer": torch.rand(2, 50), "rollout": torch.rand(2, 50)}
    explained = Listening(list("abc"), ["one", "two"], weights, torch.zeros(200, 20))
    window = Window(26.0, 28.0, [])
    list(draw(explained, window, "x", features=LogMel(RATE, num_mels=20), frame_seconds=0.04))
    drawn[0].canvas.draw()
    for axes, measure in zip(drawn[0].axes[1:4], weights, strict=True):
        labels = "abc" if measure == "cross_attention" else ["one", "two"]
        for row, label in enumerate(axes.get_yticklabels()):
            assert label.get_text() == labels[row]
            for frame in (0, 20, 49):
                x, y = axes.transData.transform((26.02 + 0.04 * frame, label.get_position()[1]))
                shown = axes.images[0].get_cursor_data(SimpleNamespace(x=x, y=y))
                assert shown == pytest.approx(float(weights[measure][row, frame]))


def test_only_aligned_words_are_marked():
    weights = torch.rand(2, 50, generator=torch.Generator().manual_seed(0))
    plain, spread, aligned = (
        picture(weights, [Word("one", 0.5, 1.0, confidence)] if word else [])
        for word, confidence in [(False, None), (True, None), (True, 0.9)]
    )
    assert (plain == spread).all()
    assert plain.shape != aligned.shape or (plain != aligned).any()


@pytest.mark.parametrize(
    ("tokens", "frames", "piece"), [(0, 0, "a"), (0, 50, "a"), (1, 1, "$x$"), (3, 7, "\n"), (2, 5, "語"), (900, 3, "$")]
)
def test_anything_that_can_be_recognised_can_be_drawn(tokens, frames, piece):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        words = [Word(piece, 100.0, 100.02, 0.5)] if tokens else []
        drawn = picture(torch.rand(tokens, frames), words, [piece] * tokens, 100.0, max(0.04 * frames, 1 / RATE))
    assert max(drawn.shape) < 8000


@pytest.fixture
def recording(tmp_path, sentences):
    """A file of which there are several windows."""
    parts = [soundfile.read(path)[0] for path in sorted((sentences / "spoken_sentences/test").glob("*.flac"))[:2]]
    path = tmp_path / "in/long.wav"
    path.parent.mkdir()
    soundfile.write(path, np.concatenate(parts)[:40_000], 16_000)
    return path


def test_explain_draws_each_window_of_each_file(asr_trained, recording, tmp_path):
    windows = ["--data.window_seconds=1.5", "--data.overlap_seconds=0.5"]
    checkpoint = torch.load(asr_trained / "checkpoints/best.ckpt", weights_only=False)
    checkpoint["state_dict"]["network.ctc_head.bias"][-1] = -10.0  # it hears something everywhere
    torch.save(checkpoint, tmp_path / "talkative.ckpt")
    arguments = [f"--ckpt_path={tmp_path / 'talkative.ckpt'}", f"--input={recording}"]
    last = [f"--output={tmp_path / 'out'}", *windows, "--training.decoding=CTCGreedy"]
    assert main(["explain", *arguments, *last]) == 0
    folder, starts = tmp_path / "out/attention", ["00000.000", "00001.000"]
    written = {f"long_{start}s{suffix}" for start in starts for suffix in (".png", ".npz")}
    assert written == {path.name for path in folder.iterdir()}
    for start in starts:
        assert Image.open(folder / f"long_{start}s.png").size[0] > 500
        with np.load(folder / f"long_{start}s.npz") as saved:
            assert len(saved["pieces"]) == len(saved["cross_attention"]) > 0
            assert saved["cross_attention"].shape[1] * float(saved["frame_seconds"]) == pytest.approx(1.5, abs=0.04)
            np.testing.assert_allclose(saved["cross_attention"].sum(1), 1.0, rtol=1e-4)
            assert float(saved["start"]) == float(start)
            assert (
                saved["last_layer"].shape
                == saved["rollout"].shape
                == (
                    len(saved["words"]),
                    saved["cross_attention"].shape[1],
                )
            )
