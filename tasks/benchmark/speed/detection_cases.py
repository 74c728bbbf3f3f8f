"""What is measured of detection: DETR's train step and inference, beside transformers' and one by hand."""

from functools import partial

import torch

from tasks.benchmark.measure import Batch, Case, Product
from tasks.benchmark.speed.core_cases import attention_products
from tasks.benchmark.speed.detection import Detector, Sizes
from tasks.benchmark.speed.detection_peers import PlainDETR, PublishedDETR


def resnet18_products(batch: int, image_size: int) -> tuple[Product, ...]:
    """The convolutions of a ResNet-18 as products of unfolded pixels; stem and first stage are frozen.

    Unlike other products these are no floor in the strict sense: a library may convolve faster than it multiplies.
    """

    def convolution(side: int, before: int, kernel: int, after: int, repeat: int = 1, **grads: bool) -> Product:
        return Product(batch * side**2, before * kernel**2, after, repeat=repeat, **grads)

    frozen = {"input_grad": False, "weight_grad": False}
    products = [
        convolution(image_size // 2, 3, 7, 64, **frozen),
        convolution(image_size // 4, 64, 3, 64, repeat=4, **frozen),
    ]
    for stage, width in enumerate((128, 256, 512)):
        side = image_size // (8 * 2**stage)
        products += [
            convolution(side, width // 2, 3, width, input_grad=stage > 0),
            convolution(side, width // 2, 1, width, input_grad=stage > 0),  # beside the residual blocks' first
            convolution(side, width, 3, width, repeat=3),
        ]
    return tuple(products)


def detr_products(batch: int, sizes: Sizes, read_layers: int) -> tuple[Product, ...]:
    """The matrix products of plain DETR.

    Args:
        batch: Pictures.
        sizes: The model's sizes.
        read_layers: How many of the decoder's layers the heads read.
    """
    cells, width, layers = (sizes.image_size // 32) ** 2, sizes.width, sizes.layers
    memory, queries = batch * cells, batch * sizes.queries
    read = queries * read_layers
    return (
        *resnet18_products(batch, sizes.image_size),
        Product(memory, 512, width),
        Product(memory, width, width, repeat=4 * layers),
        *attention_products(batch, cells, cells, width, sizes.heads, layers),
        Product(memory, width, sizes.ffn_dim, repeat=layers),
        Product(memory, sizes.ffn_dim, width, repeat=layers),
        # The decoder: its own query, key, value and output, then query and output at the memory, key and value of it.
        Product(queries, width, width, repeat=6 * layers),
        Product(memory, width, width, repeat=2 * layers),
        *attention_products(batch, sizes.queries, sizes.queries, width, sizes.heads, layers),
        *attention_products(batch, sizes.queries, cells, width, sizes.heads, layers),
        Product(queries, width, sizes.ffn_dim, repeat=layers),
        Product(queries, sizes.ffn_dim, width, repeat=layers),
        Product(read, width, sizes.classes + 1),
        Product(read, width, width, repeat=2),
        Product(read, width, 4),
    )


def _pictures(batch: int, sizes: Sizes, objects: int) -> Batch:
    """Pictures without padding, of about so many objects each."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch, 3, sizes.image_size, sizes.image_size, generator=generator)
    boxes, labels = [], []
    for number in range(batch):
        count = objects + number - batch // 2
        centres, sides = (torch.rand(count, 2, generator=generator) for _ in range(2))
        boxes.append(torch.cat([0.2 + 0.6 * centres, 0.05 + 0.3 * sides], dim=1))
        labels.append(torch.randint(sizes.classes, (count,), generator=generator))
    return (image, boxes, labels), None


def detr_case(name: str, peer: str, *, batch: int, objects: int, listed: bool, **numbers: int) -> Case:
    """Plain DETR beside transformers', or beside facebookresearch/detr by hand."""
    sizes = Sizes(**numbers)
    products = detr_products(batch, sizes, sizes.layers)
    by_hand = peer == "by hand"
    return Case(
        name=name,
        title=f"DETR, ResNet-18, {sizes.image_size}x{sizes.image_size}, width {sizes.width}, {sizes.layers}+"
        f"{sizes.layers} layers, {sizes.heads} heads, {sizes.queries} queries, batch {batch}",
        peer_name=peer,
        ours=partial(Detector, sizes),
        peer=partial(PlainDETR if by_hand else PublishedDETR, sizes),
        batch=partial(_pictures, batch, sizes, objects),
        products=products,
        listed=listed,
        loss=None,
        peer_products=None if by_hand else detr_products(batch, sizes, 1),  # in inference it reads the last layer only
        part=("matching", Detector.matching),
    )


_R18 = {"batch": 4, "objects": 7, "image_size": 320, "classes": 91, "queries": 100, "listed": True}
_R18 |= {"width": 256, "heads": 8, "layers": 6, "ffn_dim": 2048}
_TINY = {"batch": 2, "objects": 3, "image_size": 64, "classes": 5, "queries": 6, "listed": False}
_TINY |= {"width": 16, "heads": 2, "layers": 2, "ffn_dim": 24}  # for the tests: too small to say anything about speed

DETR_CASES: tuple[Case, ...] = (
    detr_case("r18", "transformers", **_R18),
    detr_case("r18_by_hand", "by hand", **_R18),
    detr_case("test_detr", "transformers", **_TINY),
    detr_case("test_by_hand", "by hand", **_TINY),
)
