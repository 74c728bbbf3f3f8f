import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.speech.reading import AudioReader, read_audio
from datamodules.speech.windows import AudioWindows
from tests.datamodules.speech.sets import RATE, noise, write
from tests.datamodules.speech.test_base import make


def batches(files, *, window=1.0, overlap=0.25, batch=4.0, sample_rate=RATE, workers=0, root="nowhere"):
    data = make(root, window_seconds=window, overlap_seconds=overlap, batch_seconds=batch, num_workers=workers)
    data.restore_facts(
        {"sample_rate": sample_rate, "vocabulary": [], "vocab_size": 0, "normalization": {}, "tokenizer": {}}
    )
    return list(data.predict_loader(files))


def windows(them):
    keys = ("index", "start", "last", "audio_lengths")
    rows = [row for batch in them for row in zip(*(batch[key].tolist() for key in keys), batch["audio"], strict=True)]
    return [(index, start, last, audio[:length]) for index, start, last, length, audio in rows]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    seconds = {"a.wav": 3.3, "b.flac": 0.5, "c.ogg": 1.0, "d.mp3": 2.6}
    return [write(folder / name, noise(length, rate=16000), 16000) for name, length in seconds.items()]


@pytest.mark.parametrize("workers", [0, 2])
def test_windows_cover_every_file_in_order(files, workers):
    them = batches(files, workers=workers)
    for number, file in enumerate(files):
        whole = read_audio(file, RATE)
        mine = [window for window in windows(them) if window[0] == number]
        assert [start for _, start, *_ in mine] == [0.75 * place for place in range(len(mine))]
        assert [last for *_, last, _ in mine] == [False] * (len(mine) - 1) + [True]
        covered = 0
        for _, start, _, audio in mine:
            first = round(start * RATE)
            torch.testing.assert_close(audio, whole[first : first + RATE], atol=1e-6, rtol=0)
            assert first <= covered
            covered = first + len(audio)
        assert covered == len(whole)
        assert all(len(audio) > 0.25 * RATE for *_, audio in mine)
    assert not [failure for batch in them for failure in batch["failed"]]


def test_batches_keep_the_contract(files):
    them = batches(files)
    assert len(them) > 1
    for batch in them:
        assert set(batch) == {"audio", "audio_lengths", "index", "start", "last", "failed"}
        dtypes = [batch[name].dtype for name in ("audio", "audio_lengths", "index", "start", "last")]
        assert dtypes == [torch.float32, torch.int64, torch.int64, torch.float64, torch.bool]
        assert batch["audio"].numel() <= 4 * RATE
    assert all(len(batch["index"]) == 1 for batch in batches(files, batch=0.1)), "a window at least"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 300), st.integers(1, 100), st.data())
def test_the_last_window_is_never_within_the_one_before(tmp_path, total, window, data):
    overlap = data.draw(st.integers(0, window - 1))
    file = write(tmp_path / "a.wav", np.zeros(total))
    loader = AudioWindows([file], sample_rate=RATE, window=window, overlap=overlap, limit=1000)
    them = windows(loader)
    ends = [round(start * RATE) + len(audio) for _, start, _, audio in them]
    assert ends[-1] == total == max(ends)
    assert all(end < total for end in ends[:-1])
    assert [last for *_, last, _ in them] == [end == total for end in ends]


def test_files_that_cannot_be_read(tmp_path, files):
    (tmp_path / "bad.wav").write_text("no audio")
    write(tmp_path / "empty.wav", np.zeros(0))
    nan = noise(0.5)
    nan[5] = np.nan
    write(tmp_path / "nan.wav", nan, subtype="FLOAT")
    names = ["bad.wav", "none.wav", "empty.wav", "nan.wav"]
    them = batches([tmp_path / "bad.wav", files[1], *(tmp_path / name for name in names[1:])])
    assert {index for index, *_ in windows(them)} == {1}
    failed = dict(failure for batch in them for failure in batch["failed"])
    assert sorted(failed) == [0, 2, 3, 4]
    for index, words in ((0, "is not readable audio"), (2, "no such file"), (3, "holds no audio"), (4, "NaN")):
        assert words in failed[index]
    (alone,) = batches([tmp_path / "bad.wav"])
    assert len(alone["index"]) == len(alone["audio"]) == 0
    assert alone["failed"][0][0] == 0


@pytest.mark.parametrize("suffix", ["flac", "mp3"])
def test_a_truncated_file_gives_what_it_has_and_fails(tmp_path, files, suffix):
    file = write(tmp_path / f"a.{suffix}", noise(12.0, rate=16000), 16000)
    whole = read_audio(file, RATE)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    them = batches([file, files[1]])
    mine = [window for window in windows(them) if window[0] == 0]
    assert [last for *_, last, _ in mine] == [False] * (len(mine) - 1) + [True]
    end = mine[-1][1] + len(mine[-1][3]) / RATE
    assert 4 < end < 8
    torch.testing.assert_close(mine[3][3], whole[round(2.25 * RATE) :][:RATE], atol=1e-6, rtol=0)
    ((index, reason),) = [failure for batch in them for failure in batch["failed"]]
    assert index == 0
    assert f"is truncated or damaged: {end:.2f} of 12.00 s can be read" in reason
    assert [last for index, _, last, _ in windows(them) if index == 1] == [True]


def test_a_number_that_is_none_further_on(tmp_path):
    wave = noise(4.0)
    wave[3 * RATE] = np.nan
    file = write(tmp_path / "a.wav", wave, subtype="FLOAT")
    them = batches([file])
    assert [(start, last) for _, start, last, _ in windows(them)] == [(0.0, False), (0.75, False), (1.5, True)]
    assert "NaN" in them[-1]["failed"][0][1]


def test_a_file_is_never_read_as_a_whole(tmp_path, monkeypatch):
    file = write(tmp_path / "a.wav", noise(20.0, rate=22050), 22050)
    held = []
    plain = AudioReader.read

    def read(self, start, stop):
        audio = plain(self, start, stop)
        held.append(len(self._kept))
        return audio

    monkeypatch.setattr(AudioReader, "read", read)
    loader = AudioWindows([file], sample_rate=RATE, window=RATE, overlap=2000, limit=2 * RATE)
    assert sum(len(batch["index"]) for batch in loader) == len(held) > 20
    assert max(held) < 1.1 * 22050


def test_which_files(tmp_path, files):
    data = make(tmp_path)
    assert data.predict_files(files[0].parent) == files
    assert data.predict_files(files[0]) == [files[0]]
    with pytest.raises(ValueError, match=r"holds no recording \(\.flac \.mp3 \.ogg \.opus \.wav\)"):
        data.predict_files(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        data.predict_files(tmp_path / "none")


def test_damage_where_a_window_ends_adds_no_window(tmp_path, monkeypatch):
    """What could be read of the next window was all in the one before."""
    file = write(tmp_path / "a.wav", noise(4.0))
    plain, end = AudioReader.read, round(1.75 * RATE)
    monkeypatch.setattr(AudioReader, "read", lambda self, start, stop: plain(self, start, min(stop, end)))
    them = batches([file])
    assert [(start, last) for _, start, last, _ in windows(them)] == [(0.0, False), (0.75, True)]
    assert "1.75 of 4.00 s can be read" in them[-1]["failed"][0][1]
