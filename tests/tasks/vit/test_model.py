"""The ViT network: tokens, pools, sizes and what acts in training only."""

import math

import pytest
import torch
from torch import Tensor, nn

from core import Attention, Encoder
from tasks.vit.model import PatchDropout, PatchEmbedding, ViT


def vit(**arguments) -> ViT:
    torch.manual_seed(0)
    defaults = {"image_size": (28, 28), "num_channels": 1, "num_classes": 5, "patch_size": 7}
    encoder = arguments.pop("encoder", None) or Encoder(16, 2, 2)
    return ViT(encoder, **(defaults | arguments))


def image(height: int, width: int, channels: int = 1) -> Tensor:
    return torch.randn(3, channels, height, width, generator=torch.Generator().manual_seed(1))


def test_embedding_by_hand():
    """A patch's token is the sum of its pixels; a side that is no multiple is padded with zeros."""
    embedding = PatchEmbedding(2, 1, 1)
    nn.init.ones_(embedding.projection.weight)
    nn.init.constant_(embedding.projection.bias or torch.empty(0), 0.0)
    picture = torch.arange(1.0, 10.0).view(1, 1, 3, 3)
    assert embedding(picture).tolist() == [[[[1 + 2 + 4 + 5, 3 + 6], [7 + 8, 9]]]]
    assert embedding.grid(3, 3) == (2, 2)
    assert embedding.grid(4, 5) == (2, 3)


@pytest.mark.parametrize("pool", ["class", "mean"])
@pytest.mark.parametrize("registers", [0, 3])
def test_tokens_and_pool(pool, registers):
    model = vit(pool=pool, num_register_tokens=registers).eval()
    picture = image(28, 28)
    tokens, num_prefix = model.embed(picture), registers + (pool == "class")
    assert tokens.shape == (3, num_prefix + 16, 16)
    patches = model.patch_embedding(picture).flatten(2).transpose(1, 2) + model.position.weight
    torch.testing.assert_close(tokens[:, num_prefix:], patches)
    if model.prefix_tokens is not None:
        torch.testing.assert_close(tokens[:, :num_prefix], model.prefix_tokens.expand(3, -1, -1))
    encoded = model.encoder(tokens)
    pooled = encoded[:, 0] if pool == "class" else encoded[:, num_prefix:].mean(1)
    torch.testing.assert_close(model.features(picture), pooled)
    torch.testing.assert_close(model(picture), model.head(pooled))
    assert model(picture).shape == (3, 5)


def test_patches_lie_row_by_row():
    """Only the token at row 1, column 2 of four columns changes with the pixels there."""
    model, picture = vit().eval(), image(28, 28)
    changed = picture.clone()
    changed[:, :, 7:14, 14:21] += 1
    different = (model.embed(changed) != model.embed(picture)).any(-1)
    assert different[0].nonzero().flatten().tolist() == [1 + 1 * 4 + 2]


@pytest.mark.parametrize("arguments", [{}, {"pool": "mean"}, {"num_register_tokens": 2}])
def test_gradients_reach_every_parameter(arguments):
    model = vit(**arguments)
    nn.functional.cross_entropy(model(image(28, 28)), torch.tensor([0, 1, 2])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(("p", "kept"), [(0.25, 12), (0.5, 8), (0.99, 1)])
def test_patch_dropout_keeps_the_right_number_in_training_only(p, kept):
    torch.manual_seed(0)
    dropout, patches = PatchDropout(p), torch.arange(16.0).view(1, 16, 1).repeat(3, 1, 2).requires_grad_()
    remaining = dropout(patches)
    assert remaining.shape == (3, kept, 2)
    for row in remaining[..., 0]:
        assert len(row.unique()) == kept  # no patch twice
    remaining.sum().backward()
    assert patches.grad is not None
    assert (patches.grad == 1).sum(1).tolist() == [[kept, kept]] * 3
    assert dropout.eval()(patches) is patches


def test_patch_dropout_differs_by_picture_and_spares_the_prefix():
    model, picture = vit(patch_dropout=0.5, num_register_tokens=2), image(28, 28)
    tokens = model.embed(picture)
    assert tokens.shape == (3, 3 + 8, 16)
    assert model.prefix_tokens is not None
    torch.testing.assert_close(tokens[:, :3], model.prefix_tokens.expand(3, -1, -1))
    same = image(28, 28)[:1].expand(3, -1, -1, -1)
    first, second, _ = model.embed(same)
    assert not torch.equal(first, second)
    assert model.eval().embed(picture).shape == (3, 3 + 16, 16)
    model.train()(picture).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_dropout_of_tokens_in_training_only():
    model, picture = vit(dropout=0.5), image(28, 28)
    assert not torch.equal(model(picture), model(picture))
    assert torch.equal(model.eval()(picture), model(picture))
    plain = vit()
    assert torch.equal(plain(picture), plain.eval()(picture))


def test_sizes_that_are_no_multiple_of_the_patch_are_padded_with_zeros():
    model, picture = vit(image_size=(30, 25)).eval(), image(30, 25)
    assert model.position.grid_size == (5, 4)
    padded = torch.zeros(3, 1, 35, 28)
    padded[:, :, :30, :25] = picture
    assert torch.equal(model(picture), model(padded))


def test_other_sizes_are_resampled_and_the_own_is_left_alone():
    model = vit()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model(image(28, 28)).square().sum().backward()
    optimiser.step()
    model.eval()
    assert model.position((4, 4)) is model.position.weight
    with torch.no_grad():
        assert model(image(40, 56)).shape == (3, 5)  # 6 x 8 patches
        model.position.weight.fill_(0.5)  # constant positions stay constant at any size
        torch.testing.assert_close(model.position((6, 8)), torch.full((48, 16), 0.5))
    model.train()
    model(image(40, 56)).sum().backward()
    assert model.position.weight.grad is not None


class MeanAttention(Attention):
    """A user's own mechanism: every query takes the mean of all values."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, q, k, v, *, key_padding_mask=None, attn_mask=None, is_causal=False):
        if key_padding_mask is not None or attn_mask is not None or is_causal:
            raise ValueError("MeanAttention honours no mask")
        return self.scale * v.mean(2, keepdim=True).expand_as(q)


def test_attention_is_swapped_by_the_encoder_alone():
    model = vit(encoder=Encoder(16, 2, 2, attention=MeanAttention))
    model(image(28, 28)).sum().backward()
    scales = [parameter for name, parameter in model.named_parameters() if name.endswith(".attention.scale")]
    assert len(scales) == 2
    assert all(scale.grad is not None and scale.grad != 0 for scale in scales)


def test_initialisation():
    """That of timm's `jax` scheme, which is the paper's code, but for the head, which is zero there."""
    model = vit()
    for name, parameter in model.state_dict().items():
        if name.startswith("encoder") and "norm" not in name:
            if name.endswith("bias"):
                assert (parameter == 0).all(), name
                continue
            bound = math.sqrt(6 / sum(parameter.shape))  # Glorot and Bengio 2010, equation 16
            assert 0.95 * bound < parameter.abs().max() <= bound, name
            assert parameter.std() == pytest.approx(bound / math.sqrt(3), rel=0.1), name
    assert 0.015 < model.head.weight.std() < 0.025
    assert model.prefix_tokens is not None
    assert model.prefix_tokens.abs().max() < 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patch_size": 0}, "patch_size=0"),
        ({"num_channels": 0}, "num_channels=0"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"image_size": (0, 28)}, r"image_size=\(0, 28\)"),
        ({"patch_dropout": 1.0}, "patch_dropout=1.0"),
        ({"num_register_tokens": -1}, "num_register_tokens=-1"),
        ({"dropout": 2.0}, r"dropout .*2\.0"),
    ],
)
def test_errors_name_argument_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        vit(**arguments)
