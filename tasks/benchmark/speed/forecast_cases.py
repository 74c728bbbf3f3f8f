"""What is measured of forecasting: PatchTST's train step and inference, beside transformers' and one by hand."""

from functools import partial

import torch

from tasks.benchmark.measure import Batch, Case, Product
from tasks.benchmark.speed.core_cases import attention_products
from tasks.benchmark.speed.forecast import Predictor, Sizes
from tasks.benchmark.speed.forecast_peers import PlainPatchTST, PublishedPatchTST


def patchtst_products(windows: int, sizes: Sizes, patches: int) -> tuple[Product, ...]:
    """The matrix products of a PatchTST.

    Args:
        windows: Windows of the batch.
        sizes: The model's sizes.
        patches: Patches of each channel.
    """
    width, layers, sequences = sizes.width, sizes.layers, windows * sizes.channels
    rows = sequences * patches
    return (
        Product(rows, sizes.patch_length, width, input_grad=False),
        Product(rows, width, 3 * width, repeat=layers),
        *attention_products(sequences, patches, patches, width, sizes.heads, layers),
        Product(rows, width, width, repeat=layers),
        Product(rows, width, sizes.ffn_dim, repeat=layers),
        Product(rows, sizes.ffn_dim, width, repeat=layers),
        Product(sequences, patches * width, sizes.prediction_length),
    )


def _windows(count: int, sizes: Sizes) -> Batch:
    """Windows of random walks, of which nothing is missing."""
    generator = torch.Generator().manual_seed(0)
    steps = sizes.context_length + sizes.prediction_length
    series = torch.randn(count, steps, sizes.channels, generator=generator).cumsum(1)
    past, future = (part.contiguous() for part in series.split((sizes.context_length, sizes.prediction_length), 1))
    past_mask, future_mask = (torch.zeros_like(part, dtype=torch.bool) for part in (past, future))
    return (past, past_mask, future, future_mask), None


def patchtst_case(name: str, peer: str, *, windows: int, dropout: float, listed: bool, **numbers: int) -> Case:
    """PatchTST beside transformers', or beside the original code by hand."""
    sizes = Sizes(**numbers, dropout=dropout)
    by_hand = peer == "by hand"
    difference = (
        "the peer carries attention scores from layer to layer and drops what attention gives twice, as published"
        if by_hand
        else f"the peer has no padding, and so {sizes.patches - 1} patches"
    )
    return Case(
        name=name,
        title=f"PatchTST, {sizes.context_length} to {sizes.prediction_length} steps, {sizes.channels} channels, "
        f"{sizes.patches} patches of {sizes.patch_length} with stride {sizes.stride}, width {sizes.width}, "
        f"{sizes.layers} layers, {sizes.heads} heads, ffn {sizes.ffn_dim}, dropout {dropout}, batch {windows}; "
        + difference,
        peer_name=peer,
        ours=partial(Predictor, sizes),
        peer=partial(PlainPatchTST if by_hand else PublishedPatchTST, sizes),
        batch=partial(_windows, windows, sizes),
        products=patchtst_products(windows, sizes, sizes.patches),
        listed=listed,
        loss=None,
        peer_products=None if by_hand else patchtst_products(windows, sizes, sizes.patches - 1),
    )


_ETTH1 = {"windows": 128, "context_length": 336, "prediction_length": 96, "channels": 7, "dropout": 0.3, "listed": True}
_ETTH1 |= {"patch_length": 16, "stride": 8, "width": 16, "heads": 4, "layers": 3, "ffn_dim": 128}
_TINY = {"windows": 3, "context_length": 28, "prediction_length": 5, "channels": 2, "dropout": 0.0, "listed": False}
_TINY |= {"patch_length": 8, "stride": 4, "width": 8, "heads": 2, "layers": 2, "ffn_dim": 12}  # for the tests

FORECAST_CASES: tuple[Case, ...] = (
    patchtst_case("etth1", "transformers", **_ETTH1),
    patchtst_case("etth1_by_hand", "by hand", **_ETTH1),
    patchtst_case("test_patchtst", "transformers", **_TINY),
    patchtst_case("test_by_hand", "by hand", **_TINY),
)
