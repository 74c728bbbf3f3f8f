"""Our recogniser with Whisper's weights is Whisper, and what does not fit is refused in one line."""

import re
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.nn.utils.rnn import pad_sequence
from transformers import WhisperFeatureExtractor
from transformers.modeling_outputs import BaseModelOutput

from tasks.asr.decoding import AttentionBeam, AttentionGreedy, JointBeam
from tasks.asr.module import ASRModule
from tasks.asr.pretrained import load_pretrained
from tasks.asr.whisper import WhisperLogMel
from tests.tasks.asr.whisper import PROMPT, SPECIAL, VOCAB, openai_names, reference, whisper
from tests.tasks.damaged import CHANGES, damaged

SMALL = {"width": 16, "layers": 1, "heads": 2}
SMALL_OURS = {
    f"{stack}.{part}": value
    for stack in ("encoder", "decoder")
    for part, value in {"embed_dim": 16, "num_layers": 1, "num_heads": 2}.items()
}


def utterances(*lengths: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise whose loudness changes, and with a loud end: where frames beyond an utterance's own would be loudest."""
    generator = torch.Generator().manual_seed(seed)
    each = []
    for length in lengths:
        loudness = torch.rand(length // 800 + 1, generator=generator).repeat_interleave(800)[:length]
        noise = 0.2 * loudness * torch.randn(length, generator=generator)
        noise[-1:] = 1.0
        each.append(noise)
    return pad_sequence(each, batch_first=True), torch.tensor(lengths)


@pytest.fixture(scope="module")
def published():
    return reference()


@pytest.fixture(scope="module")
def file(published, tmp_path_factory):
    """As transformers saves it, the output head left out as the embedding's twin."""
    folder = tmp_path_factory.mktemp("published")
    published.save_pretrained(folder)
    return str(folder / "model.safetensors")


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "tiny.pt"
    torch.save({"dims": {"n_mels": 80}, "model_state_dict": openai_names(reference(**SMALL).state_dict())}, path)
    return str(path)


def test_features_are_the_published_ones():
    lengths = [100, 16_000, 21_333, 479_900, 480_000]
    audio, samples = utterances(*lengths)
    each = [audio[number, :length].numpy() for number, length in enumerate(lengths)]
    theirs = WhisperFeatureExtractor()(each, sampling_rate=16_000, return_tensors="pt").input_features
    mine, frames = WhisperLogMel(16_000)(audio, samples)
    assert frames.tolist() == [3000] * 5
    torch.testing.assert_close(mine.transpose(1, 2), theirs, rtol=0, atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 9000), min_size=1, max_size=4), st.booleans())
@example([1760], False)  # its last frame reaches beyond its end
@example([479_950, 16_000], False)
def test_features_of_the_true_length_are_the_first_of_the_padded_ones(lengths, is_longest):
    lengths = [*lengths, 480_000] if is_longest else lengths
    audio, samples = utterances(*lengths)
    true, frames = WhisperLogMel(16_000, padded=False)(audio, samples)
    padded, _ = WhisperLogMel(16_000)(audio, samples)
    assert frames.tolist() == [-(-length // 160) for length in lengths]
    for number, length in enumerate(frames.tolist()):
        torch.testing.assert_close(true[number, :length], padded[number, :length], rtol=0, atol=1e-6)
        assert not true[number, length:].any()


@pytest.mark.parametrize("names", ["transformers", "transformers, inside", "openai"])
@torch.inference_mode()
def test_it_is_transformers_whisper(names, published, file, tmp_path):
    if names != "transformers":
        state = published.state_dict()
        inside = {name.removeprefix("model."): weight for name, weight in published.model.state_dict().items()}
        state = openai_names(state) if names == "openai" else inside
        file = str(tmp_path / "whisper.bin")
        torch.save(state, file)
    model = whisper(pretrained=file)
    audio, samples = utterances(30_000, 9_000)
    features, _ = model.features(audio, samples)
    theirs = published.model.encoder(features.transpose(1, 2)).last_hidden_state
    encoded = model.encode(audio, samples)
    torch.testing.assert_close(encoded.memory, theirs, rtol=0, atol=1e-4)
    tokens = torch.randint(VOCAB + SPECIAL, (2, 25), generator=torch.Generator().manual_seed(0))
    logits = published(encoder_outputs=BaseModelOutput(theirs), decoder_input_ids=tokens).logits
    assert logits.std() > 0.1
    torch.testing.assert_close(model.token_logits(tokens, encoded), logits, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_greedy_tokens_are_transformers_with_a_cache_and_without(published, file):
    model = whisper(pretrained=file)
    audio, samples = utterances(30_000, 9_000)
    encoded = model.encode(audio, samples)
    steps = 15
    found = [each.tokens for each in AttentionGreedy(max_ratio=(steps - 0.5) / 1500, max_repeats=100)(model, encoded)]
    assert all(len(set(tokens)) > 3 for tokens in found)
    memory = BaseModelOutput(encoded.memory)
    for is_cached in (True, False):
        tokens, past = torch.tensor([PROMPT, PROMPT]), None
        for _ in range(steps):
            new = tokens if past is None else tokens[:, -1:]
            theirs = published(encoder_outputs=memory, decoder_input_ids=new, past_key_values=past, use_cache=is_cached)
            past = theirs.past_key_values if is_cached else None
            best = theirs.logits[:, -1, : VOCAB + 1].argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, best], dim=1)
        for mine, other in zip(found, tokens[:, len(PROMPT) :].tolist(), strict=True):
            assert mine == (other[: other.index(VOCAB)] if VOCAB in other else other)
    without = torch.tensor([PROMPT, PROMPT])
    for _ in range(8):
        best = model.token_logits(without, encoded)[:, -1, : VOCAB + 1].argmax(-1, keepdim=True)
        without = torch.cat([without, best], dim=1)
    assert [tokens[:8] for tokens in found] == without[:, len(PROMPT) :].tolist()


@pytest.mark.parametrize("padded", [True, False])
@torch.inference_mode()
def test_an_utterance_alone_is_what_it_is_in_a_batch(padded, small_file):
    model = whisper(SMALL_OURS | {"features.padded": padded}, pretrained=small_file)
    lengths = [30_000, 9_000, 0, 159, 48_000]
    audio, samples = utterances(*lengths)
    decoding = AttentionGreedy(max_ratio=12 / 1500 if padded else 0.5)
    together = decoding(model, model.encode(audio, samples))
    assert [len(each.tokens) > 0 for each in together] == [True, True, False, True, True]
    for number, length in enumerate(lengths):
        alone = model.encode(audio[number : number + 1, :length], samples[number : number + 1])
        assert alone.lengths.tolist() == [1500 if padded and length else -(-length // 320)]
        (found,) = decoding(model, alone)
        assert found.tokens == together[number].tokens


@pytest.mark.parametrize("decoding", [AttentionGreedy(), AttentionBeam(3), JointBeam(3)], ids=lambda each: type(each))
@torch.inference_mode()
def test_special_tokens_are_no_text_and_texts_end_where_the_positions_do(decoding):
    weight = 0.5 if decoding.needs_ctc else 1.0
    changes = SMALL_OURS | {"tokens.position": {"class_path": "core.LearnedPositionalEncoding"}}
    changes["tokens.position"]["init_args"] = {"num_positions": 9}
    model = whisper(changes | {"attention_weight": weight})
    model.tokens.head.bias[VOCAB:] = torch.tensor([-50.0] + [50.0] * (SPECIAL - 1))
    encoded = model.encode(*utterances(3200))
    decoding.settings.__dict__["max_repeats"] = 100
    (found,) = decoding(model, encoded)
    assert len(found.tokens) == model.tokens.max_length == 7
    assert all(0 <= token < VOCAB for token in found.tokens)


def test_the_prompt_is_given_and_not_learnt():
    model = whisper(SMALL_OURS)
    module = ASRModule(model, facts={"vocabulary": ["a"] * VOCAB}, label_smoothing=0.0)
    given = []

    def token_logits(tokens, encoded):
        given.append(tokens)
        return torch.zeros(*tokens.shape, VOCAB + SPECIAL)

    model.token_logits, module.log = token_logits, Mock()
    audio, samples = utterances(3200, 1600)
    batch = {"tokens": torch.tensor([[5, 6] + [7] * 498, [5] + [0] * 499]), "token_lengths": torch.tensor([500, 1])}
    with pytest.warns(match="utterance 0 .* its text is too long"):
        means = module._means(model.encode(audio, samples), batch | {"name": ["utterance 0", "utterance 1"]}, "train")
    loss = module._with_loss({name: mean.value for name, mean in means.items()})["loss"]
    assert given[0].shape == (2, 448)
    assert given[0][1, :4].tolist() == [*PROMPT, 5, VOCAB]
    torch.testing.assert_close(loss, torch.tensor(float(np.log(VOCAB + SPECIAL))))


def test_the_bias_of_keys_changes_nothing_and_does_not_learn(small_file):
    model = whisper(SMALL_OURS, pretrained=small_file)
    encoded = model.encode(*utterances(3200))
    model.token_logits(torch.tensor([[*PROMPT, 3, 4]]), encoded).square().sum().backward()
    for name, parameter in model.named_parameters():
        if name.endswith("in_proj.bias"):
            queries, keys, values = parameter.grad.chunk(3)
            assert keys.abs().max() < 1e-3 * min(queries.abs().max(), values.abs().max()), name
            assert not parameter.chunk(3)[1].any()


def test_our_own_checkpoints_and_a_fresh_ctc_head(small_file, tmp_path, caplog):
    caplog.set_level("INFO")
    first = whisper(SMALL_OURS, pretrained=small_file)
    module = ASRModule(first, facts={"vocabulary": ["a"] * VOCAB})
    torch.save({"state_dict": module.state_dict(), "epoch": 1}, tmp_path / "last.ckpt")
    second = whisper(SMALL_OURS, pretrained=str(tmp_path / "last.ckpt"))
    torch.testing.assert_close(dict(second.state_dict()), dict(first.state_dict()), rtol=0, atol=0)
    assert "fresh" not in caplog.text
    both = whisper(SMALL_OURS | {"attention_weight": 0.5}, pretrained=small_file)
    assert "fresh stay ctc_head.bias, ctc_head.weight" in caplog.text
    assert both.ctc_head is not None
    ctc = whisper(SMALL_OURS | {"attention_weight": 0.0}, pretrained=small_file)
    assert "its decoder is left out" in caplog.text
    torch.testing.assert_close(dict(ctc.encoder.state_dict()), dict(first.encoder.state_dict()), rtol=0, atol=0)


REFUSED = [
    ({"encoder.num_layers": 2}, r"encoder\.num_layers=2, but the checkpoint has 1"),
    ({"decoder.ffn_dim": 32}, r"decoder\.ffn_dim=32, but the checkpoint has 64"),
    (
        {"encoder.embed_dim": 32, "decoder.embed_dim": 32},
        r"encoder\.embed_dim=32, but the checkpoint has 16; .*decoder\.embed_dim=32",
    ),
    ({"features.num_mels": 128}, r"features\.num_mels=128, but the checkpoint has 80"),
    ({"vocab_size": VOCAB + 1}, r"vocab_size \+ tokens\.num_special=409, but the checkpoint has 408"),
    ({"position.num_positions": 700}, r"position\.num_positions=700, but the checkpoint has 1500"),
    ({"tokens.position.num_positions": 40}, r"tokens\.position\.num_positions=40, but the checkpoint has 448"),
    ({"tokens.scaled": True}, r"tokens\.scaled=True, but the checkpoint has False"),
    ({"subsampling.strides": [2, 1]}, r"subsampling\.strides=\[2, 1\], but the checkpoint has \[1, 2\]"),
    ({"subsampling.kernel_size": 5}, r"subsampling\.kernel_size=5, but the checkpoint has 3"),
    ({"encoder.norm_first": False}, r"encoder\.norm_first=False, but the checkpoint has True"),
    ({"decoder.activation": "torch.nn.ReLU"}, r"decoder\.activation=ReLU, but the checkpoint has GELU"),
    (
        {"features": {"class_path": "tasks.asr.features.LogMel"}},
        "features=LogMel, but the checkpoint has WhisperLogMel",
    ),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_refusals_name_the_argument_and_both_values(changes, message, small_file):
    model = whisper(SMALL_OURS | changes)
    with pytest.raises(ValueError, match=message) as caught:
        load_pretrained(model, small_file)
    assert small_file in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_output_head_of_its_own_needs_one_here(tmp_path):
    state = dict(reference(**SMALL).state_dict())
    state["proj_out.weight"] = state["proj_out.weight"] + 1.0
    save_file(state, tmp_path / "untied.safetensors")
    with pytest.raises(ValueError, match=r"tokens\.tied=True, but the checkpoint has False"):
        whisper(SMALL_OURS, pretrained=str(tmp_path / "untied.safetensors"))
    model = whisper(SMALL_OURS | {"tokens.tied": False}, pretrained=str(tmp_path / "untied.safetensors"))
    torch.testing.assert_close(model.tokens.head.weight, state["proj_out.weight"])


@settings(max_examples=6, deadline=None)
@given(data=st.data(), change=st.sampled_from(CHANGES))
def test_one_tensor_that_is_wrong_is_named(tmp_path_factory, data, change):
    state = openai_names(reference(**SMALL).state_dict())
    name = data.draw(st.sampled_from([name for name in state if ".blocks." in name]))
    path = tmp_path_factory.mktemp("wrong") / "model.pt"
    torch.save(damaged(state, name, change), path)
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        load_pretrained(whisper(SMALL_OURS), str(path))
    assert "\n" not in str(caught.value)
    assert any(
        each in str(caught.value) for each in ("layers.0.", "blocks.0.", "ffn_dim=", "embed_dim=", "num_layers=")
    )


def test_what_is_no_recogniser_is_one_line(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    (tmp_path / "foreign.bin").write_bytes(b"foreign")
    for name, message in {"absent.pt": "no such file", "other.pt": "not a recogniser's", "foreign.bin": "read"}.items():
        with pytest.raises(ValueError, match=message) as caught:
            load_pretrained(whisper(SMALL_OURS), str(tmp_path / name))
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WhisperLogMel(8000), r"sample_rate=8000: Whisper hears 16000 Hz"),
        (lambda: WhisperLogMel(16_000, num_mels=0), "num_mels=0"),
        (lambda: WhisperLogMel(16_000)(*utterances(480_161)), r"30\.01 s is longer than the 30 s"),
        (lambda: WhisperLogMel(16_000, max_seconds=1.0, padded=False)(*utterances(16_001)), "longer than the 1 s"),
        (lambda: whisper(SMALL_OURS | {"tokens.prompt": [VOCAB + SPECIAL]}), r"prompt=\[408\] .* 0 to 407"),
        (lambda: whisper(SMALL_OURS | {"tokens.prompt": []}), r"prompt=\[\]"),
        (lambda: whisper(SMALL_OURS | {"tokens.prompt": [VOCAB] * 448}), "none of the 448 positions"),
        (lambda: whisper(SMALL_OURS | {"tokens.num_special": 0}), "num_special=0"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
