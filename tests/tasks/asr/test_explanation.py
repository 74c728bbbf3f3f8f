"""Where the network looked for each token: the weights by hand, and the pictures of the real command line."""

import io
import json
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
from tasks.asr.__main__ import main
from tasks.asr.alignment import Word
from tasks.asr.explanation import POSTERIORS, Explanation, cross_attention, ctc_posteriors, draw, explain
from tasks.asr.features import LogMel
from tasks.asr.joining import Window
from tasks.asr.model import ASR
from tasks.asr.tokens import TokenEmbedding
from tests.tasks.asr.helpers import LENGTHS, RATE, VOCABULARY, WIDTH, asr, speech

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


def test_without_a_decoder_it_is_what_ctc_says_and_says_so():
    model = asr(0.0).eval()
    audio, samples = speech(*LENGTHS)
    encoded = model.encode(audio, samples)
    probs = model.ctc_log_probs(encoded).exp()
    for number, heard in enumerate(ctc_posteriors(model, encoded, TEXTS)):
        assert heard.shape == (len(TEXTS[number]), int(encoded.lengths[number]))
        for row, token in enumerate(TEXTS[number]):
            assert heard[row].tolist() == probs[number, : heard.shape[1], token].tolist()
    explained = explain(model, audio, samples, encoded, TEXTS, VOCABULARY)
    assert {each.measure for each in explained} == {POSTERIORS}
    assert explained[0].pieces == ["a", "b", "b", " ", "c"]
    assert [len(each.features) for each in explained] == [51, 17, 0, 1, 30]


def test_band_frequencies_are_those_of_pure_tones():
    features = LogMel(RATE, num_mels=20)
    for band in (5, 10, 18):
        pitch = float(features.band_frequencies[band])
        tone = (torch.arange(8000) * pitch * 2 * torch.pi / RATE).sin()
        power = features.mel(tone)[:, 10]
        assert int(power.argmax()) == band


def picture(weights, words=(), pieces=None, start=0.0, seconds=2.0):
    """The pixels of what is drawn of black features."""
    frames = weights.shape[1]
    pieces = list("abcdefgh"[: len(weights)]) if pieces is None else pieces
    explained = Explanation(pieces, weights, "weights", torch.zeros(4 * frames, 20))
    window = Window(start, start + seconds, list(words))
    drawn = draw(explained, window, "x.wav", features=LogMel(RATE, num_mels=20), frame_seconds=0.04)
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
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    explained = Explanation(list("abc"), torch.rand(3, 50), "weights", torch.zeros(200, 20))
    window = Window(26.0, 28.0, [])
    draw(explained, window, "x", features=LogMel(RATE, num_mels=20), frame_seconds=0.04)
    drawn[0].canvas.draw()
    below = drawn[0].axes[1]
    for row, label in enumerate(below.get_yticklabels()):
        assert label.get_text() == "abc"[row]
        for frame in (0, 20, 49):
            x, y = below.transData.transform((26.02 + 0.04 * frame, label.get_position()[1]))
            shown = below.images[0].get_cursor_data(SimpleNamespace(x=x, y=y))
            assert shown == pytest.approx(float(explained.weights[row, frame]))


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


def test_predict_draws_each_window_of_each_file(asr_trained, recording, tmp_path):
    windows = ["--data.window_seconds=1.5", "--data.overlap_seconds=0.5"]
    ckpt, texts = asr_trained / "checkpoints/best.ckpt", []
    for value in ("false", "true"):
        out = tmp_path / value
        arguments = [f"--ckpt_path={ckpt}", f"--input={recording}", f"--output={out}", f"--explain={value}"]
        assert main(["predict", *arguments, *windows, "--training.decoding=CTCGreedy"]) == 0
        texts.append(json.loads((out / "long.json").read_text()))
    assert texts[0] == texts[1]
    assert not (tmp_path / "false/attention").exists()
    starts = ["00000.000", "00001.000"]
    written = {path.name for path in (tmp_path / "true/attention").iterdir()}
    assert written == {f"long_{start}s{suffix}" for start in starts for suffix in (".png", ".npz")}
    for start in starts:
        assert Image.open(tmp_path / f"true/attention/long_{start}s.png").size[0] > 500
        with np.load(tmp_path / f"true/attention/long_{start}s.npz") as saved:
            assert len(saved["pieces"]) == len(saved["weights"]) > 0
            assert saved["weights"].shape[1] * float(saved["frame_seconds"]) == pytest.approx(1.5, abs=0.04)
            np.testing.assert_allclose(saved["weights"].sum(1), 1.0, rtol=1e-4)
            assert float(saved["start"]) == float(start)
            assert "the decoder's last" in str(saved["measure"])


def test_earlier_pictures_stay(asr_trained, recording, tmp_path):
    for _ in range(2):
        arguments = [f"--input={recording}", f"--output={tmp_path / 'out'}", "--explain=true"]
        assert main(["predict", f"--ckpt_path={asr_trained / 'checkpoints/best.ckpt'}", *arguments]) == 0
    assert len(list((tmp_path / "out/attention").glob("*.png"))) == 2
