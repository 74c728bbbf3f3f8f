"""The real command line of speech recognition, from spoken sentences to transcripts with word times."""

import json

import pytest

from tasks.asr.__main__ import main


def test_fit_measures_error_rates_and_names_the_worst(asr_trained):
    metrics = json.loads((asr_trained / "metrics.json").read_text())
    assert {"test/wer", "test/cer", "test/loss", "test/blank_ratio"} <= metrics.keys()
    assert "test" in (asr_trained / "worst.txt").read_text()


@pytest.mark.parametrize("decoding", ["CTCGreedy", "CTCBeam", "AttentionGreedy", "AttentionBeam", "JointBeam"])
def test_every_decoding_is_a_flag_of_test(decoding, asr_trained, sentences, monkeypatch):
    monkeypatch.setenv("ONECORE_DATA", str(sentences))
    ckpt = asr_trained / "checkpoints/best.ckpt"
    assert main(["test", f"--ckpt_path={ckpt}", f"--training.decoding={decoding}", "--trainer.logger=false"]) == 0


def test_predict_writes_texts_subtitles_and_word_times(asr_trained, sentences, tmp_path, monkeypatch):
    """With the checkpoint alone: no data set is there."""
    monkeypatch.setenv("ONECORE_DATA", str(tmp_path / "nothing"))
    source = sentences / "spoken_sentences/test"
    ckpt = asr_trained / "checkpoints/best.ckpt"
    assert main(["predict", f"--ckpt_path={ckpt}", f"--input={source}", f"--output={tmp_path / 'out'}"]) == 0
    for number in range(4):
        name = f"0000{number}"
        found = json.loads((tmp_path / f"out/{name}.json").read_text())
        assert found["text"] == (tmp_path / f"out/{name}.txt").read_text().strip()
        assert " ".join(word["word"] for word in found["words"]) == found["text"]
        assert (tmp_path / f"out/{name}.vtt").read_text().startswith("WEBVTT")
        assert (tmp_path / f"out/{name}.srt").is_file()


def test_a_file_that_is_no_audio_is_one_line_and_the_others_are_heard(asr_trained, sentences, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/bad.wav").write_bytes(b"no audio")
    (tmp_path / "in/good.flac").write_bytes((sentences / "spoken_sentences/test/00000.flac").read_bytes())
    ckpt = asr_trained / "checkpoints/best.ckpt"
    assert main(["predict", f"--ckpt_path={ckpt}", f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "bad.wav" in line]
    assert "Traceback" not in line
    assert (tmp_path / "out/good.json").is_file()
