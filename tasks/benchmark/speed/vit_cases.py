"""What is measured of image classification: a ViT's train step and inference, beside timm's."""

from functools import partial

import torch
from torch import nn

from core import Encoder
from tasks.benchmark.measure import Batch, Case, Product
from tasks.benchmark.speed.core_cases import attention_products
from tasks.vit.model import ViT


def _ours_vit(image_size: int, patch_size: int, width: int, layers: int, heads: int, classes: int) -> nn.Module:
    return ViT(
        Encoder(width, heads, layers),
        image_size=(image_size, image_size),
        num_channels=3,
        num_classes=classes,
        patch_size=patch_size,
    )


def _timm_vit(image_size: int, patch_size: int, width: int, layers: int, heads: int, classes: int) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=image_size,
        patch_size=patch_size,
        embed_dim=width,
        depth=layers,
        num_heads=heads,
        num_classes=classes,
    )


def _pictures(batch: int, image_size: int, classes: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch, 3, image_size, image_size, generator=generator)
    return (image,), torch.randint(classes, (batch,), generator=generator)


def vit_products(
    batch: int, image_size: int, patch_size: int, width: int, layers: int, heads: int, classes: int, outputs: int | None
) -> tuple[Product, ...]:
    """The matrix products of a ViT with a class token.

    Args:
        batch: Pictures.
        image_size: Side of a picture, in pixels.
        patch_size: Side of a patch, in pixels.
        width: Width of a token.
        layers: Number of layers.
        heads: Heads of each layer.
        classes: Number of classes.
        outputs: Tokens that pass the last layer's feed-forward network; None = all.
    """
    cells = (image_size // patch_size) ** 2
    tokens = cells + 1
    last = batch * (tokens if outputs is None else outputs)
    return (
        Product(batch * cells, 3 * patch_size**2, width, input_grad=False),
        Product(batch * tokens, width, 3 * width, repeat=layers),
        *attention_products(batch, tokens, tokens, width, heads, layers),
        Product(batch * tokens, width, width, repeat=layers),
        Product(batch * tokens, width, 4 * width, repeat=layers - 1),
        Product(batch * tokens, 4 * width, width, repeat=layers - 1),
        Product(last, width, 4 * width),
        Product(last, 4 * width, width),
        Product(batch, width, classes),
    )


def vit_case(
    name: str,
    *,
    batch: int,
    image_size: int,
    patch_size: int,
    width: int,
    layers: int,
    heads: int,
    classes: int,
    listed: bool = True,
) -> Case:
    """A ViT beside timm's."""
    sizes = (image_size, patch_size, width, layers, heads, classes)
    return Case(
        name=name,
        title=f"ViT {image_size}x{image_size}, patch {patch_size}, width {width}, {layers} layers, {heads} heads, "
        f"batch {batch}",
        peer_name="timm",
        ours=partial(_ours_vit, *sizes),
        peer=partial(_timm_vit, *sizes),
        batch=partial(_pictures, batch, image_size, classes),
        products=vit_products(batch, *sizes, outputs=None),
        ours_products=vit_products(batch, *sizes, outputs=1),
        listed=listed,
    )


VIT_CASES: tuple[Case, ...] = (
    vit_case("tiny224", batch=8, image_size=224, patch_size=16, width=192, layers=12, heads=3, classes=1000),
    vit_case("small32", batch=64, image_size=32, patch_size=4, width=192, layers=9, heads=3, classes=10),
    vit_case(
        "test", batch=2, image_size=16, patch_size=4, width=32, layers=2, heads=2, classes=10, listed=False
    ),  # for the tests: too small to say anything about speed
)
