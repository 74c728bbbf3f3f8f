"""The decoder's way to a forecast: all steps in one pass, after a start of known ones."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from core import Decoder, Linear, SinusoidalPositionalEncoding
from tasks.forecast.tokens import Covariates, SequenceMask, SequenceTokens


class GenerativeDecoder(nn.Module):
    """Decodes the horizon's steps together (Informer's generative inference; Zhou et al. 2021, section 3.3).

    The decoder sees the last `start_length` known steps and a zero for each step to forecast, with the covariates of
    all of them, causally; it attends to the encoded history.

    Args:
        decoder: The core's decoder.
        prediction_length: Steps to forecast.
        channels_each: Channels of a sequence.
        num_covariates: Covariates of a step.
        num_outputs: Numbers that are given for each step and channel.
        start_length: Known steps that come before them.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        prediction_length: int,
        channels_each: int,
        num_covariates: int,
        num_outputs: int,
        start_length: int,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.prediction_length = prediction_length
        self.start_length = start_length
        width = decoder.embed_dim
        self.embedding = Linear(channels_each + num_covariates, width)
        self.position = SinusoidalPositionalEncoding(width)  # the steps to forecast differ by nothing else
        self.projection = Linear(width, channels_each * num_outputs)

    def forward(
        self,
        past: Float[Tensor, "sequences context channels_each"],
        memory: SequenceTokens,
        memory_key_padding_mask: SequenceMask | None,
        covariates: Covariates | None,
    ) -> Float[Tensor, "sequences horizon outputs"]:
        """Gives the outputs of each step, those of a channel side by side."""
        first = past.shape[1] - self.start_length
        x = F.pad(past[:, first:], (0, 0, 0, self.prediction_length))
        if covariates is not None:
            known = covariates[:, first:].repeat_interleave(len(x) // len(covariates), 0)
            x = torch.cat([x, known], dim=-1)
        x = self.embedding(x) + self.position(x.shape[1])
        decoded = self.decoder(x, memory, memory_key_padding_mask=memory_key_padding_mask)
        return self.projection(decoded[:, self.start_length :])
