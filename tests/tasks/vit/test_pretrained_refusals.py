"""What is no checkpoint, or does not fit the ViT, is refused in one line that names it."""

from types import SimpleNamespace

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from tests.tasks.vit.published import assert_same_logits, image, ours, saved, tiny


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
