"""The ViT with timm's weights is timm's ViT; other sizes, classes and channels are adapted as timm does."""

import logging

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from core import Attention, FullAttention
from tests.tasks.vit.published import Settings, assert_same_logits, image, ours, reference, saved, tiny

PUBLISHED = [  # all as published but for the depth: one at its own shows that the error does not grow
    ("vit_tiny_patch16_224", {}, (224, 160)),
    ("deit3_small_patch16_224", {"depth": 3}, (160, 224)),
    ("vit_small_patch14_dinov2", {"depth": 3, "img_size": 224, "num_classes": 10}, (196, 252)),
    ("vit_small_patch14_reg4_dinov2", {"depth": 3, "img_size": 224, "num_classes": 10}, (252, 196)),
    ("vit_medium_patch16_gap_240", {"depth": 1, "img_size": 224, "num_classes": 10}, (160, 224)),
]


@pytest.mark.parametrize(("name", "arguments", "other_size"), PUBLISHED, ids=[name for name, _, _ in PUBLISHED])
def test_published_models_are_timms(tmp_path, name, arguments, other_size):
    theirs = reference(name, dynamic_img_size=True, **arguments)
    mine = ours(theirs, saved(theirs, tmp_path / "weights.safetensors"))
    assert_same_logits(mine, theirs, image(224, 224))
    assert_same_logits(mine, theirs, image(*other_size))


def test_dinov2_at_its_own_size_is_resampled_when_loaded(tmp_path):
    """Learned at 518 pixels, used at 224: resampled once when loaded, as timm does."""
    theirs = reference("vit_small_patch14_reg4_dinov2", num_classes=10, depth=1)
    path = saved(theirs, tmp_path / "weights.safetensors")
    at_224 = timm.create_model("vit_small_patch14_reg4_dinov2", num_classes=10, depth=1, img_size=224).eval()
    at_224.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(theirs.state_dict(), at_224))
    assert_same_logits(ours(theirs, path, image_size=(224, 224)), at_224, image(224, 224))


def test_distilled_gives_the_class_heads_logits(tmp_path, caplog):
    """Timm averages two heads on two tokens, ours has one: all but the distillation head is equal."""
    theirs = reference("deit_tiny_distilled_patch16_224", depth=3, num_classes=7)
    caplog.set_level(logging.INFO)
    mine = ours(theirs, saved(theirs, tmp_path / "weights.safetensors"))
    assert "distillation token was left out" in caplog.text
    picture = image(224, 224)
    assert_same_logits(mine, lambda x: theirs.head(theirs.forward_features(x)[:, 0]), picture)
    torch.testing.assert_close(
        mine.encoder(mine.embed(picture)), theirs.forward_features(picture), atol=1e-4, rtol=1e-4
    )


def test_files_of_torch(tmp_path):
    theirs = tiny()
    state = theirs.state_dict()
    contents = {
        "plain.pth": state,
        "nested.pt": {"model": state, "epoch": 3},
        "twice.bin": {"state_dict": {"model": state}},
        "parallel.pth": {"state_dict": {f"module.{name}": weight for name, weight in state.items()}},
    }
    for name, content in contents.items():
        torch.save(content, tmp_path / name)
        assert_same_logits(ours(theirs, str(tmp_path / name)), theirs, image(32, 32))


def test_our_own_checkpoints(tmp_path, caplog):
    """As Lightning saves them: the task's module holds the ViT as `model`; here on a grid that is no square."""
    first = ours(tiny(), None, image_size=(16, 32), num_register_tokens=2)
    state = {f"model.{name}": weight for name, weight in first.state_dict().items()}
    content = {"state_dict": state | {"loss.weight": torch.ones(7)}, "hyper_parameters": {"lr": 0.1}, "epoch": 2}
    torch.save(content, tmp_path / "last.ckpt")
    arguments: Settings = {"image_size": (16, 32), "num_register_tokens": 2}
    caplog.set_level(logging.INFO)
    second = ours(tiny(), str(tmp_path / "last.ckpt"), **arguments)
    assert "1 weights that do not begin with 'model.'" in caplog.text
    assert_same_logits(second, first, image(16, 32), 1e-6)
    with pytest.raises(ValueError, match=r"8 positions.*\(4, 4\); set image_size"):  # 2 x 4 nobody can guess
        ours(tiny(), str(tmp_path / "last.ckpt"), num_register_tokens=2)
    averages = {f"average.{name}": weight * 0 for name, weight in state.items()}
    torch.save({"state_dict": averages | state}, tmp_path / "averaged.ckpt")
    assert_same_logits(ours(tiny(), str(tmp_path / "averaged.ckpt"), **arguments), first, image(16, 32), 1e-6)
    teacher = {name.replace("average", "teacher"): weight for name, weight in averages.items()}
    torch.save(teacher | averages, tmp_path / "two.ckpt")
    with pytest.raises(ValueError, match=r"several models: teacher\.model\., average\.model\."):
        ours(tiny(), str(tmp_path / "two.ckpt"), **arguments)
    save_file(first.state_dict(), tmp_path / "plain.safetensors")
    assert_same_logits(ours(tiny(), str(tmp_path / "plain.safetensors"), **arguments), first, image(16, 32), 1e-6)


def test_dinov2_as_published(tmp_path):
    """Facebook's names: a mask token, and register tokens between the class token and patches without positions."""
    theirs = reference("vit_small_patch14_reg4_dinov2", depth=2, img_size=56, num_classes=7)
    state = dict(theirs.state_dict())
    class_position = torch.linspace(-1, 1, 384).view(1, 1, -1)
    state["register_tokens"] = state.pop("reg_token")
    state["cls_token"] = state["cls_token"] - class_position
    state["pos_embed"] = torch.cat([class_position, state["pos_embed"]], dim=1)
    torch.save(state | {"mask_token": torch.zeros(1, 384)}, tmp_path / "dinov2.pth")
    assert_same_logits(ours(theirs, str(tmp_path / "dinov2.pth")), theirs, image(56, 56))


def test_deit3_as_published(tmp_path):
    """LayerScale is named `gamma_1` in the checkpoints of DeiT III."""
    theirs = tiny(init_values=1e-5)
    state = {
        name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): w
        for name, w in theirs.state_dict().items()
    }
    torch.save({"model": state}, tmp_path / "deit3.pth")
    assert_same_logits(ours(theirs, str(tmp_path / "deit3.pth")), theirs, image(32, 32))


def test_by_name(monkeypatch, caplog):
    theirs, asked = tiny(), []

    def create_model(name: str, pretrained: bool = False):
        asked.append((name, pretrained))
        return theirs

    monkeypatch.setattr(timm, "create_model", create_model)
    caplog.set_level(logging.INFO)
    assert_same_logits(ours(theirs, "vit_tiny_patch16_224"), theirs, image(32, 32))
    assert asked == [("vit_tiny_patch16_224", True)]
    assert "eps" not in caplog.text
    with pytest.raises(ValueError, match=r"encoder.num_heads=4, but the checkpoint has 3"):
        ours(theirs, "vit_tiny_patch16_224", encoder={"num_heads": 4})
    ours(theirs, "vit_tiny_patch16_224", encoder={"norm": nn.LayerNorm})
    assert "eps=1e-06, encoder.norm has eps=1e-05" in caplog.text


def test_by_name_of_a_grid_that_is_no_square(monkeypatch):
    theirs = tiny(img_size=(16, 64), dynamic_img_size=True)  # 2 x 8 patches: as many as 4 x 4
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: theirs)
    assert_same_logits(ours(theirs, "vit_tiny_patch16_224"), theirs, image(16, 64))
    mine = ours(theirs, "vit_tiny_patch16_224", image_size=(32, 32))
    expected = timm.layers.pos_embed.resample_abs_pos_embed(theirs.pos_embed, [4, 4], [2, 8])[0, 1:]
    torch.testing.assert_close(mine.position.weight, expected)


def test_another_number_of_classes_keeps_the_head_fresh(tmp_path, caplog):
    theirs = tiny()
    path = saved(theirs, tmp_path / "weights.safetensors")
    caplog.set_level(logging.INFO)
    mine = ours(theirs, path, num_classes=5)
    assert "has 7 classes, num_classes=5" in caplog.text
    assert "fresh stay head.bias, head.weight" in caplog.text
    assert mine.head.weight.abs().max() <= 0.1  # as initialised: two units in 0.04
    assert (mine.head.bias == 0).all()
    picture = image(32, 32)
    torch.testing.assert_close(mine.features(picture), theirs.forward_features(picture)[:, 0], atol=1e-4, rtol=1e-4)
    headless = tiny(num_classes=0)
    assert "head.weight" not in headless.state_dict()
    mine = ours(headless, saved(headless, tmp_path / "headless.safetensors"), num_classes=5)
    torch.testing.assert_close(mine.features(picture), headless(picture), atol=1e-4, rtol=1e-4)


def test_another_size_resamples_the_positions(tmp_path):
    theirs = tiny(dynamic_img_size=True)
    mine = ours(theirs, saved(theirs, tmp_path / "weights.safetensors"), image_size=(48, 24))
    assert mine.position.weight.shape == (6 * 3, 24)
    assert_same_logits(mine, theirs, image(48, 24))


def test_a_files_grid_that_is_no_square_must_be_the_models(tmp_path):
    theirs = tiny(img_size=(16, 40))
    path = saved(theirs, tmp_path / "weights.safetensors")
    assert_same_logits(ours(theirs, path), theirs, image(16, 40))
    with pytest.raises(ValueError, match="11 positions: neither a square's nor those of the model's grid"):
        ours(theirs, path, image_size=(32, 32))


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_other_channels_are_adapted_as_timm_does(tmp_path, channels):
    theirs = tiny()
    mine = ours(theirs, saved(theirs, tmp_path / "weights.safetensors"), num_channels=channels)
    expected = timm.models._manipulate.adapt_input_conv(channels, theirs.patch_embed.proj.weight)
    torch.testing.assert_close(mine.patch_embedding.projection.weight, expected)
    grey = image(32, 32, 1)
    if channels % 3 == 1 and channels < 4:  # a grey picture looks as it did in colour
        torch.testing.assert_close(mine(grey), theirs(grey.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("arguments", [{"qkv_bias": False}, {"qkv_bias": False, "proj_bias": False}])
def test_a_missing_bias_is_one_of_zero(tmp_path, arguments):
    theirs = tiny(**arguments)
    assert_same_logits(ours(theirs, saved(theirs, tmp_path / "weights.safetensors")), theirs, image(32, 32))


def test_half_precision_is_loaded_into_full(tmp_path):
    theirs = tiny().half()
    mine = ours(theirs, saved(theirs, tmp_path / "weights.safetensors"), image_size=(40, 40))
    assert mine.position.weight.dtype == mine.head.weight.dtype == torch.float32
    assert_same_logits(ours(theirs, str(tmp_path / "weights.safetensors")), theirs.float(), image(32, 32))


def test_the_class_token_becomes_a_register_of_mean_pooling(tmp_path, caplog):
    theirs = tiny()
    path = saved(theirs, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="num_register_tokens=0, but the checkpoint has 1, its class token among them"):
        ours(theirs, path, pool="mean")
    caplog.set_level(logging.INFO)
    mine, picture = ours(theirs, path, pool="mean", num_register_tokens=1), image(32, 32)
    expected = theirs.forward_features(picture)[:, 1:].mean(1)
    torch.testing.assert_close(mine.features(picture), expected, atol=1e-4, rtol=1e-4)
    assert "the head stays fresh" in caplog.text


class Weighted(Attention):
    """Another mechanism, with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.full = FullAttention()
        self.scale = nn.Parameter(torch.full((), 0.5))

    def forward(self, q, k, v, *, key_padding_mask=None, attn_mask=None, is_causal=False):
        mixed = self.full(q, k, v, key_padding_mask=key_padding_mask, attn_mask=attn_mask, is_causal=is_causal)
        return self.scale * mixed


def test_another_attention_takes_the_weights_it_can(tmp_path, caplog):
    theirs = tiny()
    path = saved(theirs, tmp_path / "weights.safetensors")
    caplog.set_level(logging.INFO)
    mine = ours(theirs, path, encoder={"attention": Weighted})
    assert "fresh stay encoder.layers.0.attention.attention.scale" in caplog.text
    with torch.no_grad():
        for name, parameter in mine.named_parameters():
            if name.endswith("scale"):
                parameter.fill_(1)
    assert_same_logits(mine, theirs, image(32, 32))
    torch.save({f"model.{name}": weight for name, weight in mine.state_dict().items()}, tmp_path / "ours.ckpt")
    with pytest.raises(ValueError, match=r"without a place here: encoder.layers.0.attention.attention.scale"):
        ours(theirs, str(tmp_path / "ours.ckpt"))
