"""Positional encodings against their formulas written out, and against the implementations that others published."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers.pos_embed import resample_abs_pos_embed

from core.masks import padding_mask
from core.position import (
    LearnedPositionalEncoding,
    LearnedPositionalEncoding2d,
    SinusoidalPositionalEncoding,
    SinusoidalPositionalEncoding2d,
    resample_grid,
)


def written_out(position: float, embed_dim: int, base: float = 10_000.0) -> list[float]:
    """Vaswani et al. 2017, section 3.5, a channel at a time."""
    angles = [position / base ** (2 * (channel // 2) / embed_dim) for channel in range(embed_dim)]
    return [math.cos(a) if channel % 2 else math.sin(a) for channel, a in enumerate(angles)]


@given(st.integers(1, 40), st.integers(0, 5000), st.sampled_from([2, 4, 10, 16]), st.sampled_from([100.0, 10_000.0]))
def test_sinusoidal_is_the_formula(length, offset, embed_dim, base):
    encoding = SinusoidalPositionalEncoding(embed_dim, base=base)(length, offset=offset)
    expected = torch.tensor([written_out(offset + i, embed_dim, base) for i in range(length)])
    torch.testing.assert_close(encoding, expected, atol=2e-3, rtol=0)  # 5000 radians have 5e-4 in float32


def test_sinusoidal_by_hand():
    encoding = SinusoidalPositionalEncoding(4)(2)
    expected = [[0, 1, 0, 1], [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)]]
    torch.testing.assert_close(encoding, torch.tensor(expected))


def test_sinusoidal_in_low_precision_is_the_formula_rounded():
    """A model cast to bfloat16 as a whole must not count its positions in bfloat16, which stops at 256."""
    encoding = SinusoidalPositionalEncoding(8)
    low = SinusoidalPositionalEncoding(8).bfloat16()(1000)
    assert low.dtype == torch.bfloat16
    assert torch.equal(low, encoding(1000).bfloat16())
    mask = torch.zeros(1, 300, 2, dtype=torch.bool)
    low_2d = SinusoidalPositionalEncoding2d(8).bfloat16()(mask)
    assert torch.equal(low_2d, SinusoidalPositionalEncoding2d(8)(mask).bfloat16())


def test_sinusoidal_has_no_weights():
    for encoding in (SinusoidalPositionalEncoding(4), SinusoidalPositionalEncoding2d(4)):
        assert not encoding.state_dict()
        assert not list(encoding.parameters())


@pytest.mark.parametrize("embed_dim", [1, 5])
def test_odd_widths_are_refused(embed_dim):
    with pytest.raises(ValueError, match=f"embed_dim={embed_dim} "):
        SinusoidalPositionalEncoding(embed_dim)


def image_padding(sizes: list[tuple[int, int]]) -> torch.Tensor:
    """True = padding, for images at the upper left of a common canvas."""
    rows, columns = (padding_mask(torch.tensor(side)) for side in zip(*sizes, strict=True))
    return rows[:, :, None] | columns[:, None, :]


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=3))
def test_sinusoidal_2d_is_detr(sizes):
    """DETR's own, transcribed from `models/position_encoding.py`: `y` first, sine and cosine in turn."""
    mask, half = image_padding(sizes), 8
    not_mask = ~mask
    y_embed, x_embed = not_mask.cumsum(1, dtype=torch.float32), not_mask.cumsum(2, dtype=torch.float32)
    y_embed = y_embed / (y_embed[:, -1:, :] + 1e-6) * (2 * math.pi)
    x_embed = x_embed / (x_embed[:, :, -1:] + 1e-6) * (2 * math.pi)
    dim_t = torch.arange(half, dtype=torch.float32)
    dim_t = 10_000 ** (2 * (dim_t // 2) / half)
    pos_x, pos_y = x_embed[:, :, :, None] / dim_t, y_embed[:, :, :, None] / dim_t
    pos_x = torch.stack((pos_x[:, :, :, 0::2].sin(), pos_x[:, :, :, 1::2].cos()), dim=4).flatten(3)
    pos_y = torch.stack((pos_y[:, :, :, 0::2].sin(), pos_y[:, :, :, 1::2].cos()), dim=4).flatten(3)
    encoding = SinusoidalPositionalEncoding2d(2 * half)(mask)
    torch.testing.assert_close(encoding, torch.cat((pos_y, pos_x), dim=3), atol=1e-5, rtol=0)


def test_sinusoidal_2d_is_that_of_transformers():
    detr = pytest.importorskip("transformers.models.detr.modeling_detr")
    reference = getattr(detr, "DetrSinePositionEmbedding", None)
    if reference is None or not hasattr(reference, "build_sine_position_embedding"):
        pytest.skip("this release of transformers has another DetrSinePositionEmbedding")
    mask = image_padding([(5, 7), (3, 4), (1, 1)])
    expected = reference(8, normalize=True)(torch.Size([3, 1, 5, 7]), "cpu", torch.float32, mask=~mask)
    encoding = SinusoidalPositionalEncoding2d(16)(mask)
    torch.testing.assert_close(encoding.permute(0, 3, 1, 2), expected, atol=1e-5, rtol=0)


def test_sinusoidal_2d_by_hand():
    """Two rows and one column, unscaled: rows count 1, 2 and the column 1."""
    encoding = SinusoidalPositionalEncoding2d(4, scale=None)(torch.zeros(1, 2, 1, dtype=torch.bool))
    column = [math.sin(1), math.cos(1)]
    expected = [[math.sin(1), math.cos(1), *column], [math.sin(2), math.cos(2), *column]]
    torch.testing.assert_close(encoding[0, :, 0], torch.tensor(expected))


def test_sinusoidal_2d_ignores_the_canvas():
    encoding = SinusoidalPositionalEncoding2d(8)
    alone = encoding(image_padding([(3, 4)]))
    among = encoding(image_padding([(3, 4), (6, 9)]))
    torch.testing.assert_close(among[0, :3, :4], alone[0])
    assert among.isfinite().all()


def test_sinusoidal_2d_refuses():
    with pytest.raises(ValueError, match="embed_dim=6 "):
        SinusoidalPositionalEncoding2d(6)


def test_learned_gives_the_rows_asked_for():
    encoding = LearnedPositionalEncoding(4, num_positions=5)
    assert torch.equal(encoding(2, offset=3), encoding.weight[3:5])
    encoding(2, offset=3).sum().backward()
    assert encoding.weight.grad is not None
    assert encoding.weight.grad.sum(1).tolist() == [0, 0, 0, 4, 4]


def test_learned_refuses_what_was_never_learned():
    encoding = LearnedPositionalEncoding(4, num_positions=5)
    with pytest.raises(ValueError, match=r"position 5 .* only 0 to 4 .*num_positions=5"):
        encoding(3, offset=3)
    with pytest.raises(ValueError, match="offset=-1"):
        encoding(1, offset=-1)


ENCODINGS = pytest.mark.parametrize(
    "encoding",
    [SinusoidalPositionalEncoding(4), LearnedPositionalEncoding(4, num_positions=12)],
    ids=["sinusoidal", "learned"],
)


@ENCODINGS
@given(st.lists(st.integers(0, 8), min_size=1, max_size=4), st.integers(0, 4))
def test_each_sequence_can_have_an_offset_of_its_own(encoding, offsets, length):
    """As in decoding with a cache, `offset=cache.past.offset`."""
    expected = torch.stack([encoding(length, offset=offset) for offset in offsets])
    assert torch.equal(encoding(length, offset=torch.tensor(offsets)), expected)


def test_learned_refuses_an_offset_among_many():
    """Before an index passes the limit: on a GPU that would be the end of the process."""
    encoding = LearnedPositionalEncoding(4, num_positions=5)
    encoding(2, offset=torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r"position 5 .* only 0 to 4 .*num_positions=5"):
        encoding(2, offset=torch.tensor([0, 4]))
    with pytest.raises(ValueError, match="offset=-2"):
        encoding(1, offset=torch.tensor([3, -2]))


@pytest.mark.parametrize("offset", [5000, torch.tensor([5000, 70_000])], ids=["one", "many"])
def test_sinusoidal_in_low_precision_tells_neighbours_apart_far_out(offset):
    """bfloat16 has no number between 65,536 and 66,048; the positions are counted in float32."""
    low = SinusoidalPositionalEncoding(8).bfloat16()(3, offset=offset)
    assert torch.equal(low, SinusoidalPositionalEncoding(8)(3, offset=offset).bfloat16())
    assert (low.diff(dim=-2)[..., :2].abs().amax(-1) > 0.1).all()


def test_learned_2d_is_identity_on_its_own_grid():
    encoding = LearnedPositionalEncoding2d((2, 3), 4)
    assert encoding((2, 3)) is encoding.weight
    encoding((5, 4)).sum().backward()
    assert encoding.weight.grad is not None
    assert (encoding.weight.grad != 0).all()


SIDES = st.tuples(st.integers(1, 7), st.integers(1, 7))


@given(SIDES, SIDES, st.sampled_from([torch.float32, torch.bfloat16]))
def test_resample_grid_is_timms(old, new, dtype):
    weight = torch.randn(old[0] * old[1], 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    resampled = resample_grid(weight, old, new)
    assert resampled.dtype == dtype
    if old == new:
        assert resampled is weight
    expected = resample_abs_pos_embed(weight[None], list(new), list(old), num_prefix_tokens=0)[0]
    assert torch.equal(resampled, expected)


def test_resample_grid_keeps_rows_and_columns_apart():
    """A ramp along the rows stays one along the rows: no column differs from another."""
    ramp = torch.arange(4.0).repeat_interleave(3).unsqueeze(1)
    resampled = resample_grid(ramp, (4, 3), (8, 5)).view(8, 5)
    torch.testing.assert_close(resampled, resampled[:, :1].expand(8, 5))
    assert (resampled[:, 0].diff() > 0).all()


def test_resample_grid_refuses_a_wrong_count():
    with pytest.raises(ValueError, match="2 x 3 needs 6 encodings, got 5"):
        resample_grid(torch.zeros(5, 4), (2, 3), (4, 4))
