"""What recognition is trained on: CTC (Graves et al. 2006), and the decoder's next token."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tasks.means import Mean

NOTHING = -100
"""Marks, among labels, a place where there is nothing to predict."""


def ctc_loss(
    log_probs: Float[Tensor, "batch frames outputs"],
    frame_lengths: Int[Tensor, " batch"],
    tokens: Int[Tensor, "batch most"],
    token_lengths: Int[Tensor, " batch"],
    kept: Bool[Tensor, " batch"],
) -> Mean:
    """`-ln p(tokens | frames)`, summed over all ways to place tokens and blanks; the last output is the blank.

    Divided by the number of tokens of the utterances that are kept, an utterance without any counting as one token.
    Infinite, so that it is noticed, if one is kept that has too few frames.

    Args:
        log_probs: Logarithms of probabilities.
        frame_lengths: Frames of each utterance.
        tokens: The text.
        token_lengths: Tokens of each utterance.
        kept: Which utterances count: those with the frames that CTC needs (`tasks.asr.feasibility.needed_frames`).
    """
    if not bool(kept.all()):
        log_probs, tokens = log_probs[kept], tokens[kept]
        frame_lengths, token_lengths = frame_lengths[kept], token_lengths[kept]
    if not log_probs.shape[0] or not log_probs.shape[1]:
        return Mean.of(log_probs.sum() * 0.0, 0)
    each = F.ctc_loss(
        log_probs.transpose(0, 1),
        tokens,
        frame_lengths,
        token_lengths,
        blank=log_probs.shape[2] - 1,
        reduction="none",
    )
    return Mean.of(each.sum(), token_lengths.clamp(min=1).sum())


def shift(
    tokens: Int[Tensor, "batch most"], token_lengths: Int[Tensor, " batch"], prompt: Sequence[int], end: int
) -> tuple[Int[Tensor, "batch longer"], Int[Tensor, "batch longer"]]:
    """What the decoder is given and what it should say: the text behind the prompt, and the text before its end.

    Args:
        tokens: The text.
        token_lengths: Tokens of each utterance.
        prompt: What every text starts with.
        end: The token that ends a text.

    >>> [x.tolist() for x in shift(torch.tensor([[1, 2], [3, 0]]), torch.tensor([2, 1]), [7, 8], 9)]
    [[[7, 8, 1, 2], [7, 8, 3, 9]], [[-100, 1, 2, 9], [-100, 3, 9, -100]]]
    """
    places = torch.arange(tokens.shape[1] + 1, device=tokens.device)
    longer = F.pad(tokens, (0, 1)).where(places < token_lengths[:, None], end)
    given = torch.cat([longer.new_tensor(prompt).expand(len(longer), -1), longer[:, :-1]], dim=1)
    labels = longer.where(places <= token_lengths[:, None], NOTHING)
    return given, F.pad(labels, (len(prompt) - 1, 0), value=NOTHING)


def token_loss(
    logits: Float[Tensor, "batch length outputs"],
    labels: Int[Tensor, "batch length"],
    kept: Bool[Tensor, " batch"],
    smoothing: float = 0.0,
) -> Mean:
    """Cross-entropy with label smoothing (Szegedy et al. 2016, section 7), the mean over the labels that count.

    Args:
        logits: What the decoder says.
        labels: What it should say; `NOTHING` where there is nothing to predict.
        kept: Which utterances count.
        smoothing: Share of the label that is spread over all outputs.
    """
    labels = labels.masked_fill(~kept[:, None], NOTHING)
    summed = F.cross_entropy(
        logits.float().flatten(0, 1),
        labels.flatten(),
        ignore_index=NOTHING,
        label_smoothing=smoothing,
        reduction="sum",
    )
    return Mean.of(summed, (labels != NOTHING).sum())
