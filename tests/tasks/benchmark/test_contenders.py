"""What `tasks.benchmark attention` measures is what it says: the same function, every gradient, a floor that holds."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from core import MultiHeadAttention
from core.attention import LongformerAttention, SparseAttention
from tasks.benchmark.attention.contenders import CONTENDERS
from tasks.benchmark.attention.floors import FLOORS, TILE, attention_products, longformer_pairs, sparse_pairs, stride_of
from tasks.benchmark.attention.layers import step_of_layer
from tasks.benchmark.attention.peers import BareSDPA, PublishedLongformer, band_mask, band_sdpa
from tasks.benchmark.attention.plan import ATTENTIONS, Shape
from tasks.benchmark.measure import floor_of

SHAPES = [
    Shape(length, causal, 16, 2, window, tokens)
    for length in (1, 2, 7, 16, 50)
    for causal in (False, True)
    for window in (2, 8)
    for tokens in (0, 1, 5)
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pairs_are_counted_exactly(shape: Shape):
    sees = band_mask(shape.length, shape.causal, window=shape.window, global_tokens=shape.global_tokens)
    assert longformer_pairs(shape) == sees.sum()
    sparse = SparseAttention(stride=stride_of(shape.length))
    seen_by = torch.eye(shape.length).expand(1, 1, -1, -1)  # values that say which key they belong to
    alike = torch.zeros_like(seen_by)
    assert sparse_pairs(shape) == (sparse(alike, alike, seen_by, is_causal=shape.causal) > 0).sum()


def test_the_floor_by_hand():
    shape = Shape(4, False, 8, 2, window=2, global_tokens=1)
    projections = 2 * 4 * 8 * 24 + 2 * 4 * 8 * 8
    pair = 2 * 2 * 2 * 4  # two heads, a score and a value, each 4 multiplications and additions
    expected = {
        "full": projections + 16 * pair,
        "sparse": projections + 14 * pair,  # stride 2: all but the distance 3
        "longformer": projections + (4 + 3 + 4 + 3) * pair,
        "linear": projections + 2 * 2 * 2 * 4 * 4 * 4,  # two products of 4 x 4 x 4 in each of two heads
    }
    flops = {name: sum(product.flops("inference") for product in products(shape)) for name, products in FLOORS.items()}
    assert flops == expected


@pytest.mark.parametrize("pairs", [1, TILE - 1, TILE**2 + 3 * TILE + 7])
def test_tiles_hold_all_pairs(pairs: int):
    products = attention_products(pairs, Shape(4, False, 8, 2, 2, 1))
    with FlopCounterMode(display=False) as counter:
        floor_of("train", products)()
    assert counter.get_total_flops() == 3 * 32 * pairs


def copied(ours: MultiHeadAttention, peer: BareSDPA) -> None:
    peer.in_proj.load_state_dict(ours.in_proj.state_dict())
    peer.out_proj.load_state_dict(ours.out_proj.state_dict())


@pytest.mark.parametrize("is_causal", [False, True])
def test_bare_sdpa_is_full_attention(is_causal: bool):
    ours, peer = MultiHeadAttention(16, 2), BareSDPA(16, 2)
    copied(ours, peer)
    x = torch.randn(1, 23, 16)
    torch.testing.assert_close(peer(x, is_causal=is_causal), ours(x, is_causal=is_causal))


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("tokens", [0, 3])
def test_the_dense_band_is_our_longformer(tokens: int, is_causal: bool):
    ours = MultiHeadAttention(16, 2, lambda: LongformerAttention(window_size=8, num_global_tokens=tokens))
    peer = band_sdpa(16, 2, 8, tokens)
    copied(ours, peer)
    x = torch.randn(1, 50, 16)
    torch.testing.assert_close(peer(x, is_causal=is_causal), ours(x, is_causal=is_causal))


@pytest.mark.parametrize("length", [16, 21])
def test_the_published_longformer_is_the_dense_band(length: int):
    """Without global tokens, for which it has projections of its own."""
    pytest.importorskip("transformers")
    peer, band = PublishedLongformer(16, 2, 8, 0), band_sdpa(16, 2, 8, 0)
    names = ("query", "key", "value")
    with torch.no_grad():
        band.in_proj.weight.copy_(torch.cat([getattr(peer.attention, name).weight for name in names]))
        band.in_proj.bias.copy_(torch.cat([getattr(peer.attention, name).bias for name in names]))
    band.out_proj.load_state_dict(peer.out_proj.state_dict())
    x = torch.randn(1, length, 16)
    torch.testing.assert_close(peer(x), band(x))


def test_the_published_longformer_has_global_tokens():
    pytest.importorskip("transformers")
    peer = PublishedLongformer(16, 2, 8, 2)
    x = torch.randn(1, 50, 16)
    other = x.clone()
    other[:, 1] += 1
    moved = (peer(x) - peer(other)).abs().amax(-1)[0] > 1e-6
    assert moved.all()  # every token sees the second
    other = x.clone()
    other[:, 40] += 1
    assert (peer(x) - peer(other)).abs().amax(-1)[0][:2].min() > 1e-6  # and the first two see every token
    with pytest.raises(ValueError, match="causal"):
        peer(x, is_causal=True)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_step_computes_every_gradient(name: str):
    if name == "transformers_longformer":
        pytest.importorskip("transformers")
    kept = []
    contender = CONTENDERS[name]

    def make(shape: Shape):
        kept.append(contender.make(shape))
        return kept[0]

    step = step_of_layer(type(contender)(make, contender.floor, contender.growth), Shape(16, False, 16, 2, 8, 1))
    step()
    first = [parameter.grad.clone() for parameter in kept[0].parameters()]
    step()
    for parameter, before in zip(kept[0].parameters(), first, strict=True):
        torch.testing.assert_close(parameter.grad, before)  # cleared in between, not added up
