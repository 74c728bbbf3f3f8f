"""The ViT with timm's weights is timm's ViT; what does not fit is refused in one line."""

import logging
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from core import Attention, Encoder, FullAttention
from tasks.vit.model import ViT

TINY = {"embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 7, "img_size": 32, "patch_size": 8}
Settings = dict[str, Any]


def reference(name: str = "vit_tiny_patch16_224", **arguments) -> Any:
    """Timm's model with random values in every parameter, in those that start as zeros or ones too."""
    model = timm.create_model(name, **arguments).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_scale = "gamma" in name or ("norm" in name and name.endswith("weight"))
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1 + float(is_scale))
    return model


def tiny(**arguments) -> Any:
    return reference(**(TINY | arguments))


def ours(model: Any, pretrained: str | None, *, encoder: Settings | None = None, **arguments) -> ViT:
    """Our ViT in the size of timm's; the arguments change it."""
    block = model.blocks[0]
    encoder_arguments: Settings = {
        "embed_dim": model.embed_dim,
        "num_heads": block.attn.num_heads,
        "num_layers": len(model.blocks),
        "ffn_dim": block.mlp.fc1.out_features,
        "layer_scale": None if isinstance(block.ls1, nn.Identity) else 1e-5,
        "norm": partial(nn.LayerNorm, eps=1e-6),
    }
    vit_arguments: Settings = {
        "image_size": model.patch_embed.img_size,
        "num_channels": model.patch_embed.proj.in_channels,
        "num_classes": model.num_classes,
        "patch_size": model.patch_embed.patch_size[0],
        "num_register_tokens": model.num_prefix_tokens - int(model.global_pool == "token"),
        "pool": "class" if model.global_pool == "token" else "mean",
        "pretrained": pretrained,
    }
    return ViT(Encoder(**(encoder_arguments | (encoder or {}))), **(vit_arguments | arguments)).eval()


def saved(model: Any, path, **changes: Tensor) -> str:
    save_file({name: weight.contiguous() for name, weight in (model.state_dict() | changes).items()}, path)
    return str(path)


def image(height: int, width: int, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(1))


def assert_same_logits(mine: ViT, theirs: Any, picture: Tensor, tolerance: float = 1e-4) -> None:
    with torch.no_grad():
        expected, actual = theirs(picture), mine(picture)
    assert (expected[0] - expected[1]).std() > 100 * tolerance  # or the pictures would not matter
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


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
    state = {name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): w for name, w in saved_state(theirs)}
    torch.save({"model": state}, tmp_path / "deit3.pth")
    assert_same_logits(ours(theirs, str(tmp_path / "deit3.pth")), theirs, image(32, 32))


def saved_state(model: nn.Module) -> list[tuple[str, Tensor]]:
    return list(model.state_dict().items())


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"act_layer": "quick_gelu"}, "activation"), ({"block_fn": timm.models.vision_transformer.ResPostBlock}, "block")],
)
def test_models_of_another_kind_are_refused_by_name(monkeypatch, arguments, message):
    model, other = tiny(), tiny(**arguments)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: other)
    with pytest.raises(ValueError, match=f"pretrained='vit_tiny_patch16_224' .*{message}"):
        ours(model, "vit_tiny_patch16_224")


def test_a_failed_download_is_one_clear_line(monkeypatch):
    model = tiny()

    def create_model(name, pretrained):
        raise OSError("no route to the hub\nand more")

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(ValueError, match=r"vit_tiny_patch16_224.*download failed.*no route.*local file") as caught:
        ours(model, "vit_tiny_patch16_224")
    assert "\n" not in str(caught.value)


def test_what_is_no_checkpoint_is_one_clear_line(tmp_path):
    model = tiny()
    (tmp_path / "text.pth").write_text("not a checkpoint\nat all")
    (tmp_path / "text.safetensors").write_text("not a checkpoint\nat all")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    torch.save({"model": model.state_dict(), "args": SimpleNamespace(lr=1)}, tmp_path / "objects.pth")
    (tmp_path / "jax.npz").write_bytes(b"")
    expected = {
        "text.pth": "cannot be read",
        "text.safetensors": "cannot be read",
        "list.pth": "not a ViT's checkpoint",
        "other.pth": "not a ViT's checkpoint",
        "objects.pth": "cannot be read as plain weights",
        "jax.npz": r"\.npz is not supported",
        "absent.pth": "no such file",
    }
    for name, message in expected.items():
        with pytest.raises(ValueError, match=message) as caught:
            ours(model, str(tmp_path / name))
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="'no_such_model' is neither a file nor a name"):
        ours(model, "no_such_model")


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


REFUSED_SETTINGS = [
    ({"encoder": {"embed_dim": 48}}, "encoder.embed_dim=48, but the checkpoint has 24"),
    ({"encoder": {"num_layers": 3}}, "encoder.num_layers=3, but the checkpoint has 2"),
    ({"encoder": {"num_layers": 1}}, "encoder.num_layers=1, but the checkpoint has 2"),
    ({"encoder": {"ffn_dim": 48}}, "encoder.ffn_dim=48, but the checkpoint has 96"),
    ({"encoder": {"norm_first": False}}, "encoder.norm_first=False, but the checkpoint has True"),
    ({"encoder": {"layer_scale": 1e-5}}, "encoder.layer_scale=a number, but the checkpoint has None"),
    ({"encoder": {"bias": False}}, "encoder.bias=False, but the checkpoint has True"),
    ({"encoder": {"norm": nn.RMSNorm}}, r"without a place here: .*norm\.bias"),
    ({"patch_size": 4}, "patch_size=4, but the checkpoint has 8"),
    ({"num_register_tokens": 2}, "num_register_tokens=2, but the checkpoint has 0"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED_SETTINGS)
def test_refusals_name_the_argument_and_both_values(tmp_path, arguments, message):
    theirs = tiny()
    path = saved(theirs, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=message) as caught:
        ours(theirs, path, **arguments)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_line_names_all_that_is_wrong(tmp_path):
    theirs = tiny(init_values=1e-5)
    path = saved(theirs, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"patch|layer_scale") as caught:
        ours(theirs, path, encoder={"layer_scale": None, "ffn_dim": 8}, patch_size=4)
    for part in ("encoder.layer_scale=None, but the checkpoint has a number", "encoder.ffn_dim=8", "patch_size=4"):
        assert part in str(caught.value)


def test_too_few_registers_are_refused(tmp_path):
    theirs = tiny(reg_tokens=3)
    path = saved(theirs, tmp_path / "weights.safetensors")
    assert_same_logits(ours(theirs, path), theirs, image(32, 32))
    with pytest.raises(ValueError, match="num_register_tokens=0, but the checkpoint has 3"):
        ours(theirs, path, num_register_tokens=0)
    without_class = tiny(class_token=False, global_pool="avg", fc_norm=False)
    path = saved(without_class, tmp_path / "mean.safetensors")
    assert_same_logits(ours(without_class, path), without_class, image(32, 32))
    with pytest.raises(ValueError, match=r"pool=class, but the checkpoint has no class token"):
        ours(without_class, path, pool="class")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"qk_norm": True}, r"blocks\.0\.attn\.k_norm\.bias"),
        ({"global_pool": "avg"}, r"fc_norm\.bias"),
        ({"global_pool": "map"}, r"attn_pool\."),
        ({"pre_norm": True}, r"norm_pre\.bias"),
        ({"scale_mlp_norm": True}, r"blocks\.0\.mlp\.norm\.bias"),
        ({"pos_embed": "none"}, "no pos_embed"),
        ({"final_norm": False}, r"no norm\.weight"),
        ({"mlp_layer": timm.layers.SwiGLUPacked}, "SwiGLU"),
        ({"mlp_layer": timm.layers.SwiGLU}, r"blocks\.0\.mlp\.fc1_g\.bias"),
    ],
)
def test_what_has_no_place_is_refused_by_name(tmp_path, arguments, message):
    path = saved(tiny(**arguments), tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=message) as caught:
        ours(tiny(), path)
    assert "\n" not in str(caught.value)


def test_weights_that_are_missing_are_refused(tmp_path):
    theirs = tiny()
    state = dict(theirs.state_dict())
    del state["blocks.1.mlp.fc2.weight"]
    save_file(state, tmp_path / "holes.safetensors")
    with pytest.raises(ValueError, match=r"lacks: .*encoder\.layers\.1\.feedforward\.linear2\.weight"):
        ours(theirs, str(tmp_path / "holes.safetensors"))
    path = saved(theirs, tmp_path / "shape.safetensors", **{"norm.weight": torch.ones(23)})
    with pytest.raises(ValueError, match=r"another shape for: encoder\.norm\.weight \(\(23,\), needed is \(24,\)\)"):
        ours(theirs, path)
