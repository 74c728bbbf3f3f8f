"""What is traced - compiled, exported, flex_attention - equals what is computed eagerly.

Run by `tests/test_traced.py` in a process of its own, since torch cannot trace through the checks of shapes.
"""

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch._inductor.compile_fx import compile_fx

from core import Decoder, Encoder, RotaryPositionalEncoding, SinusoidalPositionalEncoding
from core.attention.flex import attend_by_flex
from core.attention.pattern import PatternAttention
from core.masks import padding_mask
from tests.core.helpers import ATTENTIONS, CROSS, OF_EACH_KIND, with_each
from tests.core.mechanisms import DEVICE, Case, assert_close, every_mechanism, honoured_masks

pytestmark = pytest.mark.usefixtures("small_chunks")


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()


@pytest.mark.slow  # the next test, which is not, compiles every mechanism too, forward
@every_mechanism
def test_compiled_equals_eager(mechanism):
    """Without a graph break, and for any length in one graph; gradients too."""
    attention = mechanism.make()
    compiled = torch.compile(attention, fullgraph=True, dynamic=True, backend="aot_eager")
    generator = torch.Generator().manual_seed(0)
    every = honoured_masks(mechanism)
    for used in (every[0], every[-1]):  # none, and all together
        for length in (17, 30):
            q, k, v = (torch.randn(2, 2, length, 4, generator=generator).to(DEVICE) for _ in range(3))
            padding = padding_mask(torch.tensor([length, 5]), length).to(DEVICE)
            case = Case(q, k, v, padding, torch.eye(length, dtype=torch.bool, device=DEVICE), used)
            leaves, same = case.leaves(), case.leaves()
            output, expected = compiled(*leaves, **case.masks()), attention(*same, **case.masks())
            assert_close(output, expected, f"masks {sorted(used)}")
            gradients = zip(case.gradients(output, leaves), case.gradients(expected, same), strict=True)
            for gradient, expected_gradient in gradients:
                assert_close(gradient, expected_gradient, f"gradient with masks {sorted(used)}")


@with_each(ATTENTIONS, by_default=OF_EACH_KIND[:2])
@pytest.mark.parametrize("make", [Encoder, pytest.param(Decoder, marks=pytest.mark.slow)], ids=["encoder", "decoder"])
def test_an_epoch_of_unequal_lengths_compiles_at_most_three_times(make, attention):
    """Once, and twice again: for a free length, and for the other way of a mechanism with two. No graph break."""
    network = make(8, 2, 1, attention=attention, **({} if make is Encoder else {"cross_attention": None})).eval()
    counter = CompileCounter()
    compiled = torch.compile(network, fullgraph=True, backend=counter)
    for length in (40, 12, 44, 28, 13, 36, 9):
        x, padding = torch.randn(3, length, 8), padding_mask(torch.tensor([length, length // 2, 3]), length)
        same = network(x, key_padding_mask=padding)
        assert_close(compiled(x, key_padding_mask=padding)[~padding], same[~padding], f"length {length}")
    assert counter.frame_count <= 3


@pytest.mark.slow
@with_each(ATTENTIONS)
def test_the_default_compiler_serves_unequal_lengths_in_training(attention):
    """What it generates may depend on strides too, which the other backends of these tests do not look at."""
    graphs = 0

    def count_and_compile(graph, inputs):
        nonlocal graphs
        graphs += 1
        return compile_fx(graph, inputs)

    network = Decoder(8, 2, 1, attention=attention, cross_attention=None)
    compiled = torch.compile(network, fullgraph=True, backend=count_and_compile)
    for length in (40, 12, 44, 28, 13, 36, 9):
        x = torch.randn(3, length, 8, requires_grad=True)
        output, expected = compiled(x), network(x)
        assert_close(output, expected, f"length {length}")
        gradients = [torch.autograd.grad((y * y).sum(), x)[0] for y in (output, expected)]
        assert_close(*gradients, f"gradient at length {length}")
    assert graphs <= 3


class Translator(nn.Module):
    """Encoder and decoder as a task has them, of padded sequences."""

    def __init__(self, attention) -> None:
        super().__init__()
        cross = attention if attention in CROSS else CROSS[0]
        self.position = SinusoidalPositionalEncoding(8)
        self.encoder = Encoder(8, 2, 1, attention=attention, rotary=RotaryPositionalEncoding)
        self.decoder = Decoder(8, 2, 1, attention=attention, cross_attention=cross)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        x = x + self.position(x.shape[1])
        memory = self.encoder(x, key_padding_mask=padding)
        return self.decoder(x, memory, key_padding_mask=padding, memory_key_padding_mask=padding)


def translator(attention) -> tuple[nn.Module, tuple[Tensor, Tensor], tuple[dict, dict]]:
    """A network, an example, and that batch and length are free."""
    torch.manual_seed(0)
    batch, length = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("length", min=4, max=4096)
    free = {0: batch, 1: length}
    return Translator(attention).eval(), sized(3, 30), (free, free)


def sized(batch: int, length: int) -> tuple[Tensor, Tensor]:
    lengths = torch.randint(1, length + 1, (batch,), generator=torch.Generator().manual_seed(length))
    return torch.randn(batch, length, 8), padding_mask(lengths, length)


OTHER_SIZES = [(2, 7), (5, 101)]


@with_each(ATTENTIONS, by_default=OF_EACH_KIND)
def test_exported_it_gives_the_same_at_other_sizes(attention):
    network, example, free = translator(attention)
    exported = torch.export.export(
        network, example, dynamic_shapes=free, prefer_deferred_runtime_asserts_over_guards=True
    ).module()
    for size in OTHER_SIZES:
        x, padding = sized(*size)
        assert_close(exported(x, padding)[~padding], network(x, padding)[~padding], f"size {size}")


@pytest.mark.slow
@with_each(ATTENTIONS)
def test_as_onnx_it_gives_the_same_at_other_sizes(attention, tmp_path: Path):
    runtime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    network, example, free = translator(attention)
    path = tmp_path / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, example, str(path), dynamo=True, dynamic_shapes=free, verbose=False)
    session = runtime.InferenceSession(str(path))
    names = [value.name for value in session.get_inputs()]
    for size in OTHER_SIZES:
        x, padding = sized(*size)
        (output,) = session.run(None, dict(zip(names, (x.numpy(), padding.numpy()), strict=True)))
        difference = (torch.from_numpy(output) - network(x, padding))[~padding].abs().max()
        assert difference <= 1e-4


@every_mechanism
def test_what_cuda_computes_is_the_same(mechanism):
    """flex_attention, which serves patterns on CUDA, runs forward on any device, if slowly."""
    attention, length = mechanism.make(), 150  # beyond one of its blocks of 128
    if not isinstance(attention, PatternAttention):
        return
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 1, length, 4, generator=generator).to(DEVICE) for _ in range(3))
    padding = padding_mask(torch.tensor([length, 5]), length).to(DEVICE)
    every = honoured_masks(mechanism)
    for used in (every[0], every[-1]):
        case = Case(q, k, v, padding, torch.empty(0), used)
        mask = padding if "key_padding_mask" in used else None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
            flexed = attend_by_flex(q, k, v, attention.blocks_pair, mask, "is_causal" in used)
        assert_close(flexed, mechanism.oracle(q, k, v, case.blocked()), f"masks {sorted(used)}")
