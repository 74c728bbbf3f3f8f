"""The task under Lightning, on batches as the contract has them."""

import json
import warnings

import pytest
import torch
import yaml
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader

from tasks.asr.decoding import CTCBeam, JointBeam
from tasks.asr.evaluation import error_rates
from tasks.asr.module import ASRModule
from tasks.build import TaskParser, add_model_arguments, build
from tasks.checkpoint import load
from tasks.errors import TaskError
from tasks.means import shares
from tests.tasks.asr.helpers import RATE, VOCABULARY, asr, speech

FACTS = {"vocabulary": VOCABULARY, "vocab_size": len(VOCABULARY), "sample_rate": RATE}
CONFIG = """
model:
  encoder: {class_path: core.Encoder, init_args: {embed_dim: 16, num_heads: 2, num_layers: 1}}
  decoder: {class_path: core.Decoder, init_args: {embed_dim: 16, num_heads: 2, num_layers: 1}}
  features: {class_path: tasks.asr.features.LogMel, init_args: {num_mels: 20}}
  subsampling: {class_path: tasks.asr.subsampling.ConvSubsampling, init_args: {kernel_size: 3}}
  spec_augment: {class_path: tasks.asr.features.SpecAugment, init_args: {max_bands: 3}}
  vocab_size: 4
  sample_rate: 8000
training:
  decoding: {class_path: tasks.asr.decoding.JointBeam, init_args: {beam_size: 2}}
  optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 1.0e-3}}
"""


def batch(*texts, lengths=(4000, 2400, 1600), seed=0):
    audio, samples = speech(*lengths[: len(texts)], seed=seed)
    tokens = [[VOCABULARY.index(letter) for letter in text] for text in texts]
    most = max(map(len, tokens))
    return {
        "audio": audio,
        "audio_lengths": samples,
        "tokens": torch.tensor([[*each, *[0] * (most - len(each))] for each in tokens]).reshape(len(tokens), most),
        "token_lengths": torch.tensor([len(each) for each in tokens]),
        "text": list(texts),
        "name": [f"{seed}/{number}.wav" for number in range(len(texts))],
    }


def windows(*starts, index=0):
    audio, samples = speech(*[8000] * len(starts))
    return {
        "audio": audio,
        "audio_lengths": samples,
        "index": torch.full((len(starts),), index),
        "start": torch.tensor(starts, dtype=torch.float64),
        "last": torch.tensor([False] * (len(starts) - 1) + [True]),
        "failed": [],
    }


def loader(*batches):
    return DataLoader(list(batches), batch_size=None, collate_fn=lambda batch: batch)


def trainer(folder, **arguments):
    warnings.simplefilter("ignore")
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    return Trainer(**quiet | {"max_epochs": 1, "default_root_dir": folder, "enable_checkpointing": False} | arguments)


def training_loss(module, given):
    encoded = module.asr.encode(given["audio"], given["audio_lengths"])
    return module._with_loss(shares(module._means(encoded, given, "train")))["loss"]


BATCHES = [batch("ab c", "ca", ""), batch("b", "cab", "a a", seed=1)]


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_it_trains_validates_and_tests(tmp_path, weight):
    module, run = ASRModule(asr(weight), facts=FACTS), trainer(tmp_path)
    run.fit(module, loader(*BATCHES), loader(*BATCHES))
    run.validate(module, loader(*BATCHES), verbose=False)
    assert set(module.metric_names()) <= set(run.callback_metrics)
    parts = {"ctc_loss": 1 - weight, "attention_loss": weight}
    found = sum(each * run.callback_metrics[f"val/{name}"] for name, each in parts.items() if each)
    torch.testing.assert_close(run.callback_metrics["val/loss"], found)
    run.test(module, loader(*BATCHES), verbose=False)
    assert {"test/wer", "test/cer", "test/loss"} <= set(run.callback_metrics)
    assert ("test/blank_ratio" in run.callback_metrics) == (weight < 1)
    module.save_plots(tmp_path)
    assert (tmp_path / "worst.txt").read_text().count("said:") <= 10


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_it_learns_a_batch_by_heart(weight):
    """Until every way of decoding that the network can serve makes no error."""
    learnt = batch("ab c", "ca", "b b", seed=3)
    module = ASRModule(asr(weight), facts=FACTS, label_smoothing=0.0)
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3)
    decodings = [module.greedy, *([CTCBeam()] if weight < 1 else []), *([JointBeam()] if 0 < weight < 1 else [])]
    for _ in range(20):
        for _ in range(20):
            optimizer.zero_grad()
            training_loss(module, learnt).backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
        with torch.inference_mode():
            encoded = module.asr.encode(learnt["audio"], learnt["audio_lengths"])
            found = [[module.text(each.tokens) for each in decoding(module.asr, encoded)] for decoding in decodings]
        if all(each == learnt["text"] for each in found):
            break
    assert found == [learnt["text"]] * len(decodings)
    if weight < 1:
        with torch.inference_mode():
            tokens = [each.tokens for each in module.greedy(module.asr, encoded)]
            heard = module._words(encoded, tokens, learnt)
            learnt["words"] = [[(word.text, word.start + 0.1, word.end) for word in words] for words in heard]
            module.measure(learnt, "test")
        assert error_rates(module.evaluation.gather())["word_time_error"] == pytest.approx(0.05)


def test_gradients_are_finite_where_nothing_can_be_learnt():
    module = ASRModule(asr(0.5), facts=FACTS)
    hopeless = batch("abcabcabc", "", lengths=(100, 0))
    with pytest.warns(UserWarning, match=r"0/0\.wav \(1 frames, its text needs 9\)"):
        loss = training_loss(module, hopeless)
    loss.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_too_many_texts_that_cannot_be_said_are_an_error(tmp_path):
    hopeless = batch("abcabcabc", "a", lengths=(400, 4000))
    with pytest.raises(TaskError, match="1 of 2 utterances of the training part"):
        trainer(tmp_path, limit_val_batches=0).fit(ASRModule(asr(), facts=FACTS), loader(hopeless))
    with pytest.raises(TaskError, match="1 of 2 utterances of the test part"):
        trainer(tmp_path).test(ASRModule(asr(), facts=FACTS), loader(hopeless), verbose=False)
    patient = ASRModule(asr(), facts=FACTS, max_infeasible=0.5)
    trainer(tmp_path).fit(patient, loader(hopeless), loader(hopeless))
    speaks = ASRModule(asr(1.0), facts=FACTS)  # the decoder alone can say any text
    trainer(tmp_path).fit(speaks, loader(hopeless), loader(hopeless))


def test_a_look_at_the_first_batches_is_no_look_at_the_whole_part(tmp_path):
    validation = loader(batch("abcabcabc", "a", lengths=(400, 4000)), *BATCHES)
    run = trainer(tmp_path, num_sanity_val_steps=1)
    run.fit(ASRModule(asr(), facts=FACTS, max_infeasible=0.2), loader(*BATCHES), validation)


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_predictions_of_windows_are_joined(tmp_path, weight):
    network = asr(weight)
    heads = [network.ctc_head, None if network.tokens is None else network.tokens.head]
    with torch.no_grad():
        for head in filter(None, heads):
            head.bias[:3] += 3.0
    module = ASRModule(network, facts=FACTS)
    silent = windows(0.0, index=1) | {"audio": torch.zeros(1, 8000)}
    unread = {"index": torch.zeros(0).long(), "failed": [(2, "c.wav: no audio")]}
    unread |= {"audio": torch.zeros(0, 0), "audio_lengths": torch.zeros(0).long(), "start": torch.zeros(0).double()}
    batches = trainer(tmp_path).predict(module, loader(windows(0.0, 0.8), windows(1.6), silent, unread))
    assert batches[-1]["failed"] == [(2, "c.wav: no audio")]
    read = [each for each in batches if len(each["index"])]
    module.save_predictions(read, ["a.wav", "b.wav", "c.wav"], tmp_path / "out")
    heard = json.loads((tmp_path / "out/a.json").read_text())
    assert heard["words"]
    assert max(word["end"] for word in heard["words"]) <= 2.6
    assert [word["start"] for word in heard["words"]] == sorted(word["start"] for word in heard["words"])
    assert {word["confidence"] is None for word in heard["words"]} == {weight == 1}
    assert (tmp_path / "out/b.txt").read_text() == ""
    assert not (tmp_path / "out/c.txt").exists()


def test_configuration_and_checkpoint_rebuild_it(tmp_path):
    config = yaml.safe_load(CONFIG)
    module = build(ASRModule, config, FACTS)
    module.config = config
    assert isinstance(module.decoding, JointBeam)
    assert module.asr.features.num_features == 20
    run = trainer(tmp_path)
    run.fit(module, loader(*BATCHES), loader(*BATCHES))
    run.save_checkpoint(tmp_path / "last.ckpt")
    again = load(tmp_path / "last.ckpt", ASRModule)
    audio, samples = speech(2000)
    torch.testing.assert_close(again.asr(audio, samples), module.eval().asr(audio, samples))
    other = build(ASRModule, config, FACTS | {"vocabulary": ["x", "y", "z", " "]})
    with pytest.raises(TaskError, match="text pieces"):
        trainer(tmp_path, max_epochs=2).fit(other, loader(*BATCHES), ckpt_path=tmp_path / "last.ckpt")


def test_the_command_line_takes_decoding_and_attention_by_name():
    parser = TaskParser()
    add_model_arguments(parser, ASRModule)
    config = yaml.safe_load(CONFIG)
    given = parser.parse_args(
        [f"--{name}={json.dumps(value)}" for name, value in config.items()]
        + [
            "--training.decoding=CTCBeam",
            "--training.decoding.beam_size=5",
            "--model.encoder.attention=LinearAttention",
        ]
        + ["--model.attention_weight=0", "--model.decoder=null", "--model.position=null"]
    )
    init = parser.instantiate_classes(given)
    module = ASRModule(init["model"], facts=FACTS, **init["training"])
    assert isinstance(module.decoding, CTCBeam)
    assert module.decoding.beam_size == 5
    assert module.asr.decoder is module.asr.position is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label_smoothing": 1.0}, r"label_smoothing=1\.0"),
        ({"max_infeasible": -0.1}, r"max_infeasible=-0\.1"),
        ({"decoding": JointBeam()}, "JointBeam needs a decoder"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ASRModule(asr(0.0), facts=FACTS, **arguments)
