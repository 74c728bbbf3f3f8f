"""Small sets of recordings on disk."""

import json
from pathlib import Path

import numpy as np
import soundfile
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

RATE = 8000


def tone(
    seconds: float, *, rate: int = RATE, hertz: float = 440.0, channels: int = 1, level: float = 0.5
) -> np.ndarray:
    """A sine, (samples,) or (samples, channels), each channel of another phase."""
    time = np.arange(round(seconds * rate)) / rate
    wave = np.stack([level * np.sin(2 * np.pi * hertz * time + 0.3 * channel) for channel in range(channels)], axis=1)
    return wave[:, 0] if channels == 1 else wave


def noise(seconds: float, *, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Noise whose frequencies lie below a tenth of the rate, in [-0.9, 0.9]."""
    wave = np.convolve(np.random.default_rng(seed).standard_normal(round(seconds * rate)), np.hanning(21), mode="same")
    return 0.9 * wave / np.abs(wave).max()


def write(path: Path, wave: np.ndarray, rate: int = RATE, **kind: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, **kind)
    return path


def write_manifest(root: Path, parts: dict[str, list[tuple[float, str]]]) -> Path:
    """Writes each part's utterances of (seconds, text) as noise, and `<part>.jsonl` that lists them."""
    root.mkdir(parents=True, exist_ok=True)
    for number, (part, utterances) in enumerate(parts.items()):
        lines = []
        for index, (seconds, text) in enumerate(utterances):
            audio = f"{part}/{index}.wav"
            write(root / audio, noise(seconds, seed=100 * number + index) if seconds > 0.01 else np.zeros(0))
            lines.append(json.dumps({"audio": audio, "text": text}))
        (root / f"{part}.jsonl").write_text("\n".join(lines))
    return root


def write_tokenizer(path: Path, size: int = 300) -> Tokenizer:
    """Writes a `tokenizer.json` as Whisper's: pieces of bytes, and special tokens behind them."""
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=alphabet, special_tokens=[])
    library.train_from_iterator([" one two three naïve 日本 one two"] * 3, trainer)
    library.add_special_tokens(["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"])
    library.save(str(path))
    return library
