"""The encoder against torch's own, and what its parts promise."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from core import Encoder, EncoderLayer, FeedForward, FullAttention, LayerScale, Residual
from core.attention import Attention
from core.masks import padding_mask
from core.residual import StochasticDepth
from tests.core.helpers import attention_pairs, copy_over, normal, randomise

EMBED_DIM, NUM_HEADS, FFN_DIM = 16, 4, 24


def copy_layer(ours: EncoderLayer, theirs: nn.TransformerEncoderLayer) -> None:
    copy_over(attention_pairs(ours.attention, theirs.self_attn))
    for mine, its in [
        (ours.feedforward.linear1, theirs.linear1),
        (ours.feedforward.linear2, theirs.linear2),
        (ours.attention_residual.norm, theirs.norm1),
        (ours.feedforward_residual.norm, theirs.norm2),
    ]:
        mine.load_state_dict(its.state_dict())


def pair(norm_first: bool, activation: str) -> tuple[Encoder, nn.TransformerEncoder]:
    """Our encoder and torch's with the same random weights."""
    layer = nn.TransformerEncoderLayer(
        EMBED_DIM, NUM_HEADS, FFN_DIM, dropout=0.0, activation=activation, batch_first=True, norm_first=norm_first
    )
    theirs = nn.TransformerEncoder(
        layer, 3, norm=nn.LayerNorm(EMBED_DIM) if norm_first else None, enable_nested_tensor=False
    )
    randomise(theirs)
    activations = {"relu": nn.ReLU, "gelu": nn.GELU}
    ours = Encoder(EMBED_DIM, NUM_HEADS, 3, FFN_DIM, activation=activations[activation], norm_first=norm_first)
    for mine, its in zip(ours.layers, theirs.layers, strict=True):
        assert isinstance(mine, EncoderLayer)
        assert isinstance(its, nn.TransformerEncoderLayer)
        copy_layer(mine, its)
    if norm_first:
        assert isinstance(theirs.norm, nn.LayerNorm)
        ours.norm.load_state_dict(theirs.norm.state_dict())
    return ours, theirs  # both in training mode, without dropout: torch's evaluation takes another path


@pytest.mark.parametrize("masks", ["none", "padding", "causal", "both"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])
def test_encoder_is_that_of_torch(norm_first, activation, masks):
    ours, theirs = pair(norm_first, activation)
    x = normal(3, 7, EMBED_DIM)
    padding = padding_mask(torch.tensor([7, 4, 1])) if masks in ("padding", "both") else None
    causal = torch.ones(7, 7, dtype=torch.bool).triu(1) if masks in ("causal", "both") else None
    expected = theirs(x, mask=causal, src_key_padding_mask=padding)
    given_mask = ours(x, key_padding_mask=padding, attn_mask=causal)
    by_flag = ours(x, key_padding_mask=padding, is_causal=causal is not None)
    real = torch.ones(3, 7, dtype=torch.bool) if padding is None else ~padding
    torch.testing.assert_close(given_mask[real], expected[real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(by_flag[real], expected[real], atol=1e-5, rtol=1e-5)


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=3),
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
    st.sampled_from([5.0, 1e4, float("inf"), float("nan")]),
)
def test_padding_changes_no_token_of_the_encoder(lengths, extra, norm_first, is_causal, garbage):
    torch.manual_seed(0)
    encoder = Encoder(8, 2, 2, norm_first=norm_first)
    padding = padding_mask(torch.tensor(lengths), max(lengths) + extra)
    x, pos = normal(len(lengths), padding.shape[1], 8), normal(1, padding.shape[1], 8, seed=2)
    spoilt = x.masked_fill(padding.unsqueeze(-1), garbage)
    outputs = [encoder(one, pos=pos, key_padding_mask=padding, is_causal=is_causal) for one in (x, spoilt)]
    torch.testing.assert_close(outputs[1][~padding], outputs[0][~padding])
    for row, length in enumerate(lengths):  # and each sequence is what it is alone
        alone = encoder(x[row : row + 1, :length], pos=pos[:, :length], is_causal=is_causal)
        torch.testing.assert_close(outputs[0][row, :length], alone[0], atol=1e-5, rtol=1e-5)


def test_padding_changes_no_gradient():
    torch.manual_seed(0)
    encoder, padding = Encoder(8, 2, 2), padding_mask(torch.tensor([5, 2]))
    x, gradients = normal(2, 5, 8), []
    for garbage in (0.0, 50.0):
        encoder.zero_grad()
        output = encoder(x.masked_fill(padding.unsqueeze(-1), garbage), key_padding_mask=padding)
        output[~padding].square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in encoder.parameters() if parameter.grad is not None])
    for clean, dirty in zip(*gradients, strict=True):
        torch.testing.assert_close(dirty, clean)


def test_a_sequence_of_padding_only_stays_finite():
    encoder, padding = Encoder(8, 2, 2), torch.tensor([[False, False], [True, True]])
    output = encoder(normal(2, 2, 8), key_padding_mask=padding)
    output.sum().backward()
    assert output.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_pos_reaches_every_layer_but_no_value():
    """With a position that blinds queries and keys, every layer takes the mean of its values."""
    encoder = Encoder(8, 2, 2)
    x = normal(1, 4, 8)
    plain = encoder(x)
    blinded = copy.deepcopy(encoder)
    with torch.no_grad():
        for layer in blinded.layers:
            assert isinstance(layer, EncoderLayer)
            layer.attention.in_proj.weight[:16] = 0  # no query and no key: all weights are alike
    mean = blinded(x)
    torch.testing.assert_close(blinded(x, pos=normal(1, 4, 8, seed=5)), mean)  # values have no position
    assert (encoder(x, pos=normal(1, 4, 8, seed=5)) - plain).abs().max() > 1e-3
    first_only = copy.deepcopy(encoder)
    with torch.no_grad():
        first_only.layers[0].attention.in_proj.weight[:16] = 0
    assert (first_only(x, pos=normal(1, 4, 8, seed=5)) - first_only(x)).abs().max() > 1e-3  # the second sees it too


def test_feedforward_by_hand():
    """max(0, 1 * 2 + 1) * 3 - 1 = 8, and max(0, -1 * 2 + 1) * 3 - 1 = -1."""
    network = FeedForward(1, 1, activation=nn.ReLU)
    network.load_state_dict(
        {
            "linear1.weight": torch.tensor([[2.0]]),
            "linear1.bias": torch.tensor([1.0]),
            "linear2.weight": torch.tensor([[3.0]]),
            "linear2.bias": torch.tensor([-1.0]),
        }
    )
    torch.testing.assert_close(network(torch.tensor([[[1.0], [-1.0]]])), torch.tensor([[[8.0], [-1.0]]]))


def test_residual_by_hand():
    """LayerNorm([1, 3]) is [-1, 1]; the sublayer multiplies by 10."""
    x, norm = torch.tensor([[[1.0, 3.0]]]), partial(nn.LayerNorm, eps=0.0)
    torch.testing.assert_close(Residual(2, norm=norm)(x, lambda y: 10 * y), torch.tensor([[[-9.0, 13.0]]]))
    post = Residual(2, norm=norm, norm_first=False)(x, lambda y: 10 * y)
    torch.testing.assert_close(post, torch.tensor([[[-1.0, 1.0]]]))
    scaled = Residual(2, norm=norm, layer_scale=0.5)(x, lambda y: 10 * y)
    torch.testing.assert_close(scaled, torch.tensor([[[-4.0, 8.0]]]))


def test_dropout_acts_on_the_branch_alone():
    torch.manual_seed(0)
    residual = Residual(4, dropout=0.5)
    x = normal(64, 8, 4)
    branch = residual(x, lambda y: torch.ones_like(y)) - x
    assert set(branch.round(decimals=4).unique().tolist()) == {0.0, 2.0}
    torch.testing.assert_close(residual.eval()(x, lambda y: torch.ones_like(y)), x + 1)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_stochastic_depth_drops_whole_samples_and_keeps_the_expectation(p):
    torch.manual_seed(0)
    depth, x = StochasticDepth(p), torch.ones(4000, 3, 2)
    dropped = depth(x)
    samples = dropped.flatten(1)
    assert (samples == samples[:, :1]).all()  # a sample goes as a whole
    assert samples[:, 0].unique().tolist() == pytest.approx([0, 1 / (1 - p)])
    assert samples[:, 0].mean().item() == pytest.approx(1, abs=0.06)
    assert (samples[:, 0] == 0).float().mean().item() == pytest.approx(p, abs=0.03)
    assert depth.eval()(x) is x


@pytest.mark.parametrize(("num_layers", "expected"), [(1, [0.0]), (2, [0.0, 0.3]), (4, [0.0, 0.1, 0.2, 0.3])])
def test_drop_path_grows_linearly(num_layers, expected):
    encoder = Encoder(8, 2, num_layers, drop_path=0.3)
    for residual in ("attention_residual", "feedforward_residual"):
        assert [getattr(layer, residual).drop_path.p for layer in encoder.layers] == pytest.approx(expected)


def test_layer_scale():
    scale = LayerScale(3, 1e-5)
    torch.testing.assert_close(scale(torch.ones(1, 2, 3)), torch.full((1, 2, 3), 1e-5))
    with torch.no_grad():
        scale.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    assert scale(torch.ones(1, 1, 3)).tolist() == [[[1.0, 2.0, 3.0]]]
    x = normal(1, 4, 8)
    nearly_nothing = Encoder(8, 2, 3, layer_scale=0.0)
    torch.testing.assert_close(nearly_nothing(x), F.layer_norm(x, (8,)))  # every branch is scaled away
    assert len([name for name, _ in nearly_nothing.named_parameters() if "layer_scale" in name]) == 6


class Gated(Attention):
    """A user's own mechanism, with a parameter: a gate on the mean of the values."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.ones(()))

    def forward(self, q, k, v, *, key_padding_mask=None, attn_mask=None, is_causal=False):
        if key_padding_mask is not None or attn_mask is not None or is_causal:
            raise ValueError("Gated honours no mask")
        return self.gate * v.mean(2, keepdim=True).expand_as(q)


def test_each_layer_has_its_own_attention():
    encoder = Encoder(8, 2, 3, attention=Gated)
    gates = [parameter for name, parameter in encoder.named_parameters() if name.endswith("gate")]
    assert len({id(gate) for gate in gates}) == 3
    with pytest.raises(ValueError, match="no mask"):  # a mask is handed to the mechanism, not swallowed
        encoder(normal(1, 2, 8), is_causal=True)
    assert len({id(layer.attention.attention) for layer in Encoder(8, 2, 3, attention=FullAttention).layers}) == 3


@pytest.mark.parametrize("attention", [FullAttention, Gated])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("layer_scale", [None, 1e-2])
def test_gradients_reach_every_parameter(attention, norm_first, layer_scale):
    torch.manual_seed(0)
    encoder = Encoder(8, 2, 2, attention=attention, norm_first=norm_first, layer_scale=layer_scale)
    (encoder(normal(2, 5, 8)) * normal(2, 5, 8, seed=3)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if not (attention is Gated and "in_proj" in name):  # Gated does not look at queries and keys
            assert parameter.grad.abs().max() > 0, name


def test_widths():
    assert Encoder(8, 2, 1).layers[0].feedforward.linear1.out_features == 32
    assert Encoder(8, 2, 1, 10).layers[0].feedforward.linear1.out_features == 10
    assert isinstance(Encoder(8, 2, 1, norm=nn.RMSNorm).norm, nn.RMSNorm)
    assert isinstance(Encoder(8, 2, 1, norm_first=False).norm, nn.Identity)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_layers": 0}, "num_layers=0"),
        ({"num_heads": 3}, "embed_dim=8 .*num_heads=3"),
        ({"ffn_dim": 0}, "ffn_dim=0"),
        ({"drop_path": 1.0}, "drop_path=1.0"),
        ({"drop_path": -0.1}, "drop_path=-0.1"),
        ({"drop_path": 1.5, "num_layers": 1}, "drop_path=1.5"),
        ({"dropout": 1.5}, "dropout .*1.5"),
    ],
)
def test_errors_name_argument_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        Encoder(**{"embed_dim": 8, "num_heads": 2, "num_layers": 3} | arguments)


def test_stochastic_depth_refuses():
    with pytest.raises(ValueError, match=r"p=1\.0"):
        StochasticDepth(1.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    encoder, padding = Encoder(8, 2, 2, layer_scale=0.1).to(dtype), padding_mask(torch.tensor([4, 2]))
    output = encoder(normal(2, 4, 8).to(dtype), key_padding_mask=padding)
    assert output.dtype == dtype
    assert output.isfinite().all()
