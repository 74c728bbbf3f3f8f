"""transformers' PatchTST, random weights copied over by a file: the same forecasts; what does not fit is refused."""

import pytest
import torch

from tests.tasks.forecast.patchtst import CHANNELS, CONTEXT, ours, published


@pytest.mark.parametrize("norm", ["batchnorm", "layernorm"])
@pytest.mark.parametrize("pre_norm", [True, False])
def test_forecasts_are_transformers(tmp_path, norm, pre_norm):
    theirs, file = published(tmp_path, norm=norm, pre_norm=pre_norm)
    mine = ours(file, norm=norm, pre_norm=pre_norm)
    torch.manual_seed(0)
    past = 3 * torch.randn(5, CONTEXT, CHANNELS).cumsum(1) + 10
    with torch.no_grad():
        forecast, expected = mine(past).point, theirs(past_values=past).prediction_outputs
    torch.testing.assert_close(forecast, expected, rtol=1e-4, atol=1e-4)
    assert forecast.std() > 1


def test_a_model_trained_in_training_mode_has_their_gradients(tmp_path):
    """BatchNorm's statistics are the batch's own then."""
    theirs, file = published(tmp_path, ff_dropout=0.0, path_dropout=0.0, positional_dropout=0.0, attention_dropout=0.0)
    mine = ours(file).train()
    torch.manual_seed(0)
    past, future = torch.randn(6, CONTEXT, CHANNELS), torch.randn(6, 12, CHANNELS)
    mine(past).loss(future).mean().backward()
    theirs.train()(past_values=past, future_values=future).loss.backward()
    expected = theirs.head.projection.weight.grad
    torch.testing.assert_close(mine.projection.weight.grad, expected, rtol=1e-3, atol=1e-6)
    expected = theirs.model.encoder.embedder.input_embedding.weight.grad
    torch.testing.assert_close(mine.tokens.embedding.weight.grad, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "layernorm"}, "encoder.norm=LayerNorm, but the checkpoint has BatchNorm"),
        ({"num_layers": 3}, "encoder.num_layers=3, but the checkpoint has 2"),
        ({"ffn_dim": 32}, "encoder.ffn_dim=32, but the checkpoint has 24"),
        ({"final_norm": True}, "encoder.final_norm=True, but the checkpoint has False"),
    ],
)
def test_what_differs_is_named(tmp_path, changes, message):
    _, file = published(tmp_path)
    with pytest.raises(ValueError, match=message):
        ours(file, **changes)


@pytest.mark.parametrize(
    "changes",
    [{"use_cls_token": True}, {"share_projection": False}, {"pooling_type": "mean"}, {"channel_attention": True}],
)
def test_forms_without_a_place_here_are_refused(tmp_path, changes):
    _, file = published(tmp_path, **changes)
    with pytest.raises(ValueError, match="pretrained="):
        ours(file)


def test_our_own_weights_load(tmp_path):
    mine = ours(None)
    torch.save({"network." + name: weight for name, weight in mine.state_dict().items()}, tmp_path / "own.pt")
    torch.testing.assert_close(ours(tmp_path / "own.pt").state_dict(), mine.state_dict())
