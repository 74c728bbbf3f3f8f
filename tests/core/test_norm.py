"""BatchNorm is torch's over all tokens, and fits into a layer."""

import torch
from torch import nn

from core import BatchNorm, Encoder


def test_it_is_torchs_with_the_channels_last():
    torch.manual_seed(0)
    ours, theirs = BatchNorm(6), nn.BatchNorm1d(6)
    for _ in range(3):
        x = 2 * torch.randn(4, 5, 6) + 1
        torch.testing.assert_close(ours(x), theirs(x.transpose(1, 2)).transpose(1, 2))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x.transpose(1, 2)).transpose(1, 2))


def test_an_encoder_takes_it_and_ends_in_a_norm_or_not():
    kinds = [type(Encoder(8, 2, 1, norm=BatchNorm, **given).norm) for given in ({}, {"final_norm": False})]
    assert kinds == [BatchNorm, nn.Identity]
    assert isinstance(Encoder(8, 2, 1, norm_first=False, final_norm=True).norm, nn.LayerNorm)
    assert isinstance(Encoder(8, 2, 1, norm_first=False).norm, nn.Identity)
    assert Encoder(8, 2, 2, norm=BatchNorm)(torch.randn(3, 4, 8)).shape == (3, 4, 8)
