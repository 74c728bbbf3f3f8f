"""The house keeps its plan: who may import whom, no attention outside the core, names that can be found."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for room in ("core", "tasks", "datamodules") for path in (ROOT / room).rglob("*.py"))
MEETING_PLACES = ["tasks/cli.py", "tasks/found.py"]
"""Where tasks and data meet: the command line, so that the data modules' short names are known, and what lists both."""

KNOW_ALL = ("benchmark", "demo")
"""Rooms of `tasks` that may know all tasks and all data."""

READS_TIMM = ["tasks/vit/published.py", "tasks/detr/backbone.py"]
"""Reads what timm has published, in its own layouts; takes a backbone without a head. Builds no Transformer of it."""

RUNS_SDPA = ["tasks/benchmark/attention/peers.py", "tasks/benchmark/speed/language_peers.py"]
"""Holds torch's bare SDPA beside the core's attention, to see what the core costs. No network is built of it."""

HOLDS_A_PEER = ["tasks/benchmark/speed/detection_peers.py"]
"""DETR out of torch's own attention, to see what ours costs beside it. No task is built of it."""

SEED_TERMS = {
    "core/attention/base.py": ["Attention"],
    "core/attention/full.py": ["FullAttention"],
    "core/attention/sparse.py": ["SparseAttention", "FixedSparseAttention"],
    "core/attention/linear.py": ["LinearAttention"],
    "core/attention/longformer.py": ["LongformerAttention"],
    "core/multihead.py": ["MultiHeadAttention"],
    "core/feedforward.py": ["FeedForward"],
    "core/residual.py": ["Residual", "LayerScale", "StochasticDepth"],
    "core/encoder.py": ["EncoderLayer", "Encoder"],
    "core/decoder.py": ["DecoderLayer", "Decoder"],
    "core/cache.py": ["KeyValueCache"],
    "core/packing.py": ["Packing"],
    "core/dropout.py": ["Dropout"],
    "core/norm.py": ["BatchNorm"],
    "core/position.py": [
        "SinusoidalPositionalEncoding",
        "SinusoidalPositionalEncoding2d",
        "LearnedPositionalEncoding",
        "LearnedPositionalEncoding2d",
        "RotaryPositionalEncoding",
    ],
    "tasks/forecast/model.py": ["Forecaster"],
    "tasks/forecast/module.py": ["ForecastModule"],
    "tasks/forecast/heads.py": ["PointHead", "QuantileHead", "StudentTHead"],
    "tasks/forecast/tokens.py": ["PatchTokens", "ChannelTokens", "StepTokens"],
    "tasks/forecast/revin.py": ["RevIN"],
    "tasks/forecast/decoding.py": ["GenerativeDecoder"],
    "tasks/vit/model.py": ["ViT", "PatchEmbedding"],
    "tasks/vit/module.py": ["ViTModule"],
    "core/linear.py": ["Linear"],
    "tasks/detr/model.py": ["DETR"],
    "tasks/detr/module.py": ["DETRModule"],
    "tasks/detr/matcher.py": ["HungarianMatcher"],
    "tasks/detr/losses.py": ["SetLoss"],
    "tasks/detr/denoising.py": ["Denoising"],
    "tasks/detr/evaluation.py": ["CocoEvaluation"],
    "tasks/detr/queries.py": ["LearnedQueries", "AnchorQueries", "ProposalQueries"],
    "tasks/asr/model.py": ["ASR"],
    "tasks/asr/module.py": ["ASRModule"],
    "tasks/asr/features.py": ["LogMel", "SpecAugment"],
    "tasks/asr/subsampling.py": ["ConvSubsampling"],
    "tasks/asr/tokens.py": ["TokenEmbedding"],
    "tasks/asr/whisper.py": ["WhisperLogMel"],
    "tasks/asr/decoding/base.py": ["Decoding"],
    "tasks/asr/decoding/ctc.py": ["CTCGreedy", "CTCBeam"],
    "tasks/asr/decoding/attention.py": ["AttentionGreedy", "AttentionBeam", "JointBeam"],
    "tasks/asr/evaluation.py": ["TranscriptEvaluation"],
    "tasks/forecast/evaluation.py": ["ForecastEvaluation"],
    "datamodules/mnist.py": ["MNIST"],
    "datamodules/cifar.py": ["CIFAR10", "CIFAR100"],
    "datamodules/folder.py": ["ImageFolder"],
    "datamodules/detection/base.py": ["DetectionDataModule"],
    "datamodules/detection/coco.py": ["Coco"],
    "datamodules/detection/voc.py": ["VOC"],
    "datamodules/detection/scenes.py": ["DigitScenes"],
    "datamodules/speech/base.py": ["SpeechDataModule"],
    "datamodules/speech/librispeech.py": ["LibriSpeech"],
    "datamodules/speech/ljspeech.py": ["LJSpeech"],
    "datamodules/speech/manifest.py": ["SpeechManifest"],
    "datamodules/speech/digits.py": ["FreeSpokenDigits"],
    "datamodules/series/series.py": ["SeriesSet"],
    "datamodules/series/layout.py": ["TableLayout"],
    "datamodules/series/base.py": ["ForecastDataModule"],
    "datamodules/series/windows.py": ["Windows", "Origins", "SeasonalNaive"],
    "datamodules/series/scaling.py": ["Scaler"],
    "datamodules/series/ett.py": ["ETT"],
    "datamodules/series/file.py": ["SeriesFile"],
    "datamodules/series/demand.py": ["ElectricityDemand"],
    "datamodules/series/co2.py": ["MaunaLoaCO2"],
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def used_names(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} | {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name)
    }


def room(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_import_directions(path):
    name, imported = name_of(path), set(imports(path))
    rooms = {room(module) for module in imported}
    if name.startswith("core/"):
        assert not rooms & {"tasks", "datamodules", "pytorch_lightning", "torchvision", "timm", "transformers"}
    if name.startswith("datamodules/"):
        assert not rooms & {"core", "tasks", "timm", "transformers"}
    if name.startswith("tasks/") and name not in MEETING_PLACES and name.split("/")[1] not in KNOW_ALL:
        assert "datamodules" not in rooms
    if name.endswith("/model.py"):
        assert "pytorch_lightning" not in rooms


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.parent.name == "tasks"], ids=name_of)
def test_tasks_do_not_know_each_other(path):
    own = path.parent.name
    others = {folder.name for folder in (ROOT / "tasks").iterdir() if (folder / "module.py").exists()} - {own}
    if own not in KNOW_ALL:
        assert not {module.split(".")[1] for module in imports(path) if module.startswith("tasks.")} & others


@pytest.mark.parametrize("path", [path for path in FILES if not name_of(path).startswith("core/")], ids=name_of)
def test_no_attention_outside_the_core(path):
    names = used_names(path)
    assert name_of(path) in RUNS_SDPA or "scaled_dot_product_attention" not in names
    assert name_of(path) in HOLDS_A_PEER or "MultiheadAttention" not in names
    assert not {name for name in names if name.startswith("Transformer")}
    if not name_of(path).startswith("tasks/benchmark/") and name_of(path) not in READS_TIMM:
        assert not {module for module in imports(path) if module.startswith(("timm", "transformers"))}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_print(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__main__.py"], ids=name_of)
def test_no_class_in_a_module_that_is_run(path):
    """It would be saved as `__main__.X`, and its checkpoint could not be loaded."""
    assert not [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]


@pytest.mark.parametrize("path", SEED_TERMS)
def test_every_seed_term_is_where_its_name_says(path):
    for term in SEED_TERMS[path]:
        owners = [name_of(file) for file in FILES if re.search(rf"^class {term}\b", file.read_text(), re.MULTILINE)]
        assert owners == [path]
