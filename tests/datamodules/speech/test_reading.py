import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.speech.reading import AudioReader, count_samples, read_audio
from tests.datamodules.speech.sets import noise, tone, write

KINDS = [
    ("wav", {"subtype": "PCM_U8"}, 1e-2),
    ("wav", {"subtype": "PCM_16"}, 1e-4),
    ("wav", {"subtype": "PCM_24"}, 1e-6),
    ("wav", {"subtype": "PCM_32"}, 1e-6),
    ("wav", {"subtype": "FLOAT"}, 1e-6),
    ("wav", {"subtype": "DOUBLE"}, 1e-6),
    ("flac", {"subtype": "PCM_16"}, 1e-4),
    ("flac", {"subtype": "PCM_24"}, 1e-6),
    ("ogg", {}, 0.15),
    ("mp3", {}, 0.15),
]


@pytest.mark.parametrize(("suffix", "kind", "tolerance"), KINDS)
def test_every_kind_and_depth(tmp_path, suffix, kind, tolerance):
    wave = noise(1.0, rate=16000)
    file = write(tmp_path / f"a.{suffix}", wave, 16000, **kind)
    audio = read_audio(file, 16000)
    assert audio.dtype == torch.float32
    assert len(audio) == count_samples(file, 16000) == 16000
    assert np.abs(audio.numpy() - wave)[800:-800].max() < tolerance


def test_opus_has_its_own_rate(tmp_path):
    file = write(tmp_path / "a.opus", tone(1.0, rate=48000), 48000, format="OGG", subtype="OPUS")
    audio = read_audio(file, 16000)
    torch.testing.assert_close(
        audio[1000:-1000], torch.tensor(tone(1.0, rate=16000)).float()[1000:-1000], atol=0.05, rtol=0
    )


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 44101, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_number_of_channels(tmp_path, rate, channels):
    file = write(tmp_path / "a.wav", tone(0.5, rate=rate, channels=channels), rate, subtype="PCM_24")
    audio = read_audio(file, 16000)
    assert len(audio) == 8000
    expected = tone(0.5, rate=16000, channels=channels).reshape(8000, channels).mean(1)
    assert np.abs(audio.numpy() - expected)[200:-200].max() < 2e-3


def test_resampling_is_torchaudios(tmp_path):
    wave = noise(0.7, rate=22050)
    file = write(tmp_path / "a.wav", wave, 22050, subtype="FLOAT")
    expected = torchaudio.functional.resample(torch.tensor(wave).float(), 22050, 16000).clamp(-1, 1)
    torch.testing.assert_close(read_audio(file, 16000), expected, atol=5e-5, rtol=0)


@pytest.mark.parametrize(
    ("suffix", "rate"), [("wav", 16000), ("wav", 22050), ("flac", 44100), ("ogg", 48000), ("mp3", 44100)]
)
def test_windows_are_parts_of_the_whole(tmp_path, suffix, rate):
    file = write(tmp_path / f"a.{suffix}", noise(2.0, rate=rate), rate)
    whole = read_audio(file, 16000)
    with AudioReader(file, 16000) as reader:
        for start, stop in (
            (0, 100),
            (50, 9000),
            (8000, 8500),
            (8100, 8200),
            (7777, 20001),
            (20000, 31999),
            (12345, 12346),
            (31990, 40000),
            (0, 32000),
        ):
            torch.testing.assert_close(reader.read(start, stop), whole[start:stop], atol=1e-6, rtol=0)
        assert len(reader.read(32000, 33000)) == 0


def test_windows_join_exactly(tmp_path):
    file = write(tmp_path / "a.wav", noise(2.0, rate=44100), 44100)
    with AudioReader(file, 16000) as reader:
        one, other = reader.read(1000, 20000), reader.read(15000, 30000)
    assert torch.equal(one[14000:], other[:5000])


@pytest.mark.parametrize("length", [0, 1, 2, 50])
@pytest.mark.parametrize("rate", [8000, 16000, 96000])
def test_very_short_audio(tmp_path, length, rate):
    file = write(tmp_path / "a.wav", np.full(length, 0.5), rate)
    audio = read_audio(file, 16000)
    assert len(audio) == -(-length * 16000 // rate)
    assert audio.isfinite().all()


def test_silence_and_clipping(tmp_path):
    assert not read_audio(write(tmp_path / "a.wav", np.zeros(4000), 8000), 16000).any()
    clipped = write(tmp_path / "b.wav", np.sign(tone(0.5)), 8000)
    assert read_audio(clipped, 16000).abs().max() == 1, "the filter overshoots"
    loud = write(tmp_path / "c.wav", tone(0.5, level=2.0), subtype="FLOAT")
    assert read_audio(loud, 8000).abs().max() == 1


def test_samples_that_are_no_numbers(tmp_path):
    for name, value, message in (("a", np.nan, "NaN"), ("b", np.inf, "NaN"), ("c", 32767.0, r"up to 3\.277e\+04, but")):
        wave = tone(0.5)
        wave[3000] = value
        file = write(tmp_path / f"{name}.wav", wave, subtype="FLOAT")
        with pytest.raises(ValueError, match=rf"{name}\.wav: has samples .*{message}") as caught:
            read_audio(file, 16000)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["flac", "mp3"])
def test_what_is_left_of_a_truncated_file(tmp_path, suffix):
    file = write(tmp_path / f"a.{suffix}", noise(10.0, rate=16000), 16000)
    whole = read_audio(file, 16000)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    with pytest.raises(ValueError, match=rf"a\.{suffix}: is truncated or damaged: [456]\.\d\d of 10\.00 s can be read"):
        read_audio(file, 16000)
    with AudioReader(file, 16000) as reader:
        part = reader.read(1000, 160000)
    assert 60000 < len(part) < 110000
    torch.testing.assert_close(part[:50000], whole[1000:51000], atol=1e-6, rtol=0)


@pytest.mark.parametrize("suffix", ["wav", "ogg"])
def test_a_truncated_file_without_a_length_is_what_it_has(tmp_path, suffix):
    file = write(tmp_path / f"a.{suffix}", noise(4.0, rate=16000), 16000)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    assert 10000 < len(read_audio(file, 16000)) < 50000


def test_what_is_no_audio(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.mp3").write_text("hello " * 100)
    write(tmp_path / "slow.wav", np.zeros(10), 100)
    for name, message in (
        ("folder.wav", "is a folder, not audio"),
        ("empty.wav", "is empty"),
        ("text.mp3", r"is not readable audio \(WAV, FLAC, OGG or MP3\)"),
        ("slow.wav", "has 100 samples a second, but 1,000 to 768,000 can be read"),
    ):
        with pytest.raises(ValueError, match=f"{name}: {message}$"):
            read_audio(tmp_path / name, 16000)
    with pytest.raises(FileNotFoundError, match=r"none\.wav: no such file"):
        read_audio(tmp_path / "none.wav", 16000)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["wav", "flac", "ogg", "mp3"]), st.data())
def test_any_damage_is_read_or_one_line(tmp_path, suffix, data):
    file = write(tmp_path / f"good.{suffix}", noise(0.3, seed=1))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, min(len(content) - 1, 200)))] = data.draw(st.integers(0, 255))
    bad = tmp_path / f"bad.{suffix}"
    bad.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        audio, message = read_audio(bad, 16000), str(bad)
    except ValueError as error:
        audio, message = torch.zeros(1), str(error)
    assert message.startswith(str(bad))
    assert "\n" not in message
    assert audio.isfinite().all()
    assert not len(audio) or audio.abs().max() <= 1
