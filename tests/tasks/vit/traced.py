"""A task's whole network, exported with free batch and picture size: what other runtimes compute is the same.

Run by `tests/test_traced.py` in a process of its own.
"""

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from core import Encoder
from tasks.vit.model import ViT
from tests.core.helpers import ATTENTIONS, OF_EACH_KIND, with_each

pytestmark = pytest.mark.usefixtures("small_chunks")
PATCH = 4
OTHER_SIZES = [
    (2, 4, 5),
    (5, 11, 3),
    (3, 6, 6),
]  # batch, rows and columns of patches; the positions are learned for 6 x 6


def vit(attention, pool: str) -> nn.Module:
    torch.manual_seed(0)
    return ViT(
        Encoder(16, 2, 2, attention=attention),
        image_size=(24, 24),
        num_channels=1,
        num_classes=5,
        patch_size=PATCH,
        pool=pool,
    ).eval()


def pictures(batch: int, rows: int, columns: int) -> Tensor:
    return torch.randn(batch, 1, PATCH * rows, PATCH * columns)


def free() -> tuple[dict]:
    batch, rows, columns = (torch.export.Dim(name, min=2, max=64) for name in ("batch", "rows", "columns"))
    return ({0: batch, 2: PATCH * rows, 3: PATCH * columns},)


@with_each(ATTENTIONS, by_default=OF_EACH_KIND[:2])
def test_exported_it_gives_the_same_at_other_sizes(attention):
    network = vit(attention, "class")
    exported = torch.export.export(
        network, (pictures(3, 7, 8),), dynamic_shapes=free(), prefer_deferred_runtime_asserts_over_guards=True
    ).module()
    for size in OTHER_SIZES:
        image = pictures(*size)
        assert (exported(image) - network(image)).abs().max() <= 1e-4


@pytest.mark.slow
@with_each(ATTENTIONS)
@pytest.mark.parametrize("pool", ["class", "mean"])
def test_as_onnx_it_gives_the_same_at_other_sizes(attention, pool, tmp_path: Path):
    runtime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    network, path = vit(attention, pool), tmp_path / "vit.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (pictures(3, 7, 8),), str(path), dynamo=True, dynamic_shapes=free(), verbose=False)
    session = runtime.InferenceSession(str(path))
    for size in OTHER_SIZES:
        image = pictures(*size)
        (logits,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        assert (torch.from_numpy(logits) - network(image)).abs().max() <= 1e-4
