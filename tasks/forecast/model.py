"""Forecasting: a series' tokens through a core `Encoder`, and a linear head or a core `Decoder` (Nie et al. 2023)."""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from core import Decoder, Dropout, Encoder, Linear
from tasks.forecast.decoding import GenerativeDecoder
from tasks.forecast.heads import Forecast, Head, PointHead
from tasks.forecast.pretrained import load_pretrained
from tasks.forecast.revin import Past, PastMask, RevIN
from tasks.forecast.tokens import Covariates, PatchTokens, SequenceMask, SequenceTokens, SeriesShape, Tokenization


class Forecaster(nn.Module):
    """Forecasts the next steps of each channel from the last ones.

    By default PatchTST: patches of each channel by itself, normalised by their own history, encoded, and read by one
    linear map. With `ChannelTokens` it is iTransformer; with `StepTokens` and a decoder, the plain Transformer.
    Standardised values come in and go out. A missing value changes nothing, whatever stands in its place.

    Args:
        encoder: The core's encoder; its width is the model's.
        context_length: Steps that a forecast is made from.
        prediction_length: Steps that are forecast.
        num_channels: Channels of the series.
        num_covariates: Covariates of each step, known in the future as well.
        decoder: The core's decoder; a linear map reads the encoder's tokens if not given.
        start_length: Known steps that the decoder begins with; half of the history if not given.
        tokens: Makes the tokens from the sizes of the series and the width of a token.
        normalization: Makes the normalisation of each history from the number of channels.
        head: What the forecast says of each value, and its loss.
        dropout: Probability of dropping an encoded feature before the linear map, in training.
        direct: Whether a linear map from each channel's normalised history to its future is added, shared by the
            channels (as in LTSF-Linear; Zeng et al. 2023): with little data it is hard to beat, and the encoder then
            learns what it lacks.
        pretrained: Weights to start from: a file of transformers' `PatchTSTForPrediction`, or a checkpoint of ours.

    Raises:
        ValueError: If a length is less than 1, `start_length` is not within the history, or the parts do not fit.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        context_length: int,
        prediction_length: int,
        num_channels: int,
        num_covariates: int = 0,
        decoder: Decoder | None = None,
        start_length: int | None = None,
        tokens: Callable[[SeriesShape, int], Tokenization] = PatchTokens,
        normalization: Callable[[int], RevIN] = RevIN,
        head: Head | None = None,
        dropout: float = 0.0,
        direct: bool = False,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        shape = SeriesShape(context_length, prediction_length, num_channels, num_covariates)
        for name, value in shape._asdict().items():
            if value < (name != "num_covariates"):
                raise ValueError(f"{name}={value} must be at least {int(name != 'num_covariates')}")
        self.shape = shape
        self.normalization = normalization(num_channels)
        self.tokens = tokens(shape, encoder.embed_dim)
        self.encoder = encoder
        self.head = PointHead() if head is None else head
        self.dropout = Dropout(dropout)
        self.direct = Linear(context_length, prediction_length, bias=False) if direct else None
        if self.direct is not None:
            nn.init.zeros_(self.direct.weight)
        if decoder is None:
            if start_length is not None:
                raise ValueError(f"start_length={start_length} is for a decoder, and there is none")
            width = prediction_length * self.tokens.channels_each * self.head.num_outputs
            self.decoder, self.projection = None, Linear(self.tokens.num_features, width)
        else:
            self.decoder, self.projection = self._generative(decoder, start_length), None
        if pretrained is not None:
            load_pretrained(self, pretrained)

    def _generative(self, decoder: Decoder, start_length: int | None) -> GenerativeDecoder:
        if self.tokens.token_steps is None:
            raise ValueError(f"tokens={type(self.tokens).__name__} are no steps of time, which the decoder attends to")
        if decoder.embed_dim != self.encoder.embed_dim:
            raise ValueError(
                f"decoder.embed_dim={decoder.embed_dim} differs from encoder.embed_dim={self.encoder.embed_dim}"
            )
        start = self.shape.context_length // 2 if start_length is None else start_length
        if not 0 <= start <= self.shape.context_length:
            raise ValueError(f"start_length={start} is not between 0 and context_length={self.shape.context_length}")
        return GenerativeDecoder(
            decoder,
            prediction_length=self.shape.prediction_length,
            channels_each=self.tokens.channels_each,
            num_covariates=self.shape.num_covariates,
            num_outputs=self.head.num_outputs,
            start_length=start,
        )

    def forward(self, past: Past, past_mask: PastMask | None = None, covariates: Covariates | None = None) -> Forecast:
        """Forecasts, in the units of `past`.

        Args:
            past: The history.
            past_mask: True = missing, ignored; nothing is if not given.
            covariates: Of the history's steps and the future's; needed if and only if there are any.

        Raises:
            ValueError: If the history is of another length or number of channels, or covariates are missing or not
                asked for.
        """
        self._check(past, covariates)
        x, loc, scale = self.normalization(past, past_mask)
        tokens, padding = self.tokens(x, past_mask, covariates)
        encoded = self.encoder(tokens, key_padding_mask=padding)
        outputs = self._decode(x, encoded, padding, covariates)
        horizon, each = self.shape.prediction_length, self.tokens.channels_each
        outputs = outputs.view(past.shape[0], self.shape.num_channels // each, horizon, each, self.head.num_outputs)
        outputs = outputs.transpose(1, 2).flatten(2, 3)
        if self.direct is not None:
            level = self.direct(x.transpose(1, 2)).transpose(1, 2)[..., None]
            outputs = outputs + F.pad(level, (self.head.level, self.head.num_outputs - 1 - self.head.level))
        return self.head(outputs, loc, scale)

    def _decode(
        self, x: Past, encoded: SequenceTokens, padding: SequenceMask | None, covariates: Covariates | None
    ) -> Float[Tensor, "forecasts outputs"]:
        if self.decoder is not None:
            each = self.tokens.channels_each
            series = x.transpose(1, 2).unflatten(1, (-1, each)).flatten(0, 1).transpose(1, 2)
            return self.decoder(series, encoded, padding, covariates).flatten(1)
        assert self.projection is not None
        if padding is not None:
            encoded = encoded.masked_fill(padding[..., None], 0.0)
        return self.projection(self.dropout(self.tokens.gather(encoded)))

    def _check(self, past: Past, covariates: Covariates | None) -> None:
        shape = self.shape
        if past.shape[1:] != (shape.context_length, shape.num_channels):
            raise ValueError(
                f"past is of {past.shape[1]} steps and {past.shape[2]} channels, not of "
                f"context_length={shape.context_length} and num_channels={shape.num_channels}"
            )
        wanted = (shape.context_length + shape.prediction_length, shape.num_covariates)
        given = (wanted[0], 0) if covariates is None else tuple(covariates.shape[1:])
        if given != wanted:
            raise ValueError(
                f"covariates are of {given[0]} steps and {given[1]} each, not of {wanted[0]} steps and "
                f"num_covariates={shape.num_covariates}"
            )


class Tensors(nn.Module):
    """A forecaster that gives tensors alone, and has no missing values: so that a graph can hold it.

    Args:
        model: The forecaster.
    """

    def __init__(self, model: Forecaster) -> None:
        super().__init__()
        self.model = model

    def forward(self, past: Past, covariates: Covariates | None = None) -> tuple[Tensor, ...]:
        """Gives the point forecast, and after it the quantiles where there are any."""
        forecast = self.model(past, None, covariates)
        return (forecast.point,) if forecast.quantiles is None else (forecast.point, forecast.quantiles)
