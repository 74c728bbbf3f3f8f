"""What a forecast says of each value - a point, quantiles, a distribution - and the loss that it is fitted by."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from scipy.special import stdtrit
from torch import Tensor, nn
from torch.distributions import StudentT

from tasks.forecast.revin import Statistic
from tasks.means import Mean

Future = Float[Tensor, "batch horizon channels"]
FutureMask = Bool[Tensor, "batch horizon channels"]
Outputs = Float[Tensor, "batch horizon channels outputs"]
Quantiles = Float[Tensor, "batch horizon channels levels"]

DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class Forecast(ABC):
    """What was forecast for each step and channel.

    Attributes:
        point: The value forecast.
        levels: The levels of its quantiles, ascending; none for a point forecast.
    """

    point: Future
    levels: tuple[float, ...] = ()

    @property
    def quantiles(self) -> Quantiles | None:
        """The value below which the future is foretold to lie with the probability of each level."""
        return None

    @abstractmethod
    def loss(self, future: Future) -> Future:
        """The loss of each step and channel."""


class Head(ABC, nn.Module):
    """Makes a forecast from a network's outputs."""

    num_outputs: int
    """Numbers that the network gives for each step and channel."""
    level: int = 0
    """Which of them is the level of the forecast: what is added to it shifts the whole forecast."""
    levels: tuple[float, ...] = ()
    """Levels of the quantiles that are forecast."""

    @abstractmethod
    def forward(self, outputs: Outputs, loc: Statistic, scale: Statistic) -> Forecast:
        """Makes the forecast of what has been normalised as `(value - loc) / scale`."""


class PointForecast(Forecast):
    """A value and no more.

    Args:
        point: The value.
        error: Gives the loss of each element.
    """

    def __init__(self, point: Future, error: nn.Module) -> None:
        self.point = point
        self.error = error

    def loss(self, future: Future) -> Future:
        return self.error(self.point, future)


class PointHead(Head):
    """One value a step: the mean by `torch.nn.MSELoss`, the median by `torch.nn.L1Loss`.

    Args:
        loss: Makes the loss, by `reduction="none"`.
    """

    num_outputs = 1

    def __init__(self, loss: Callable[..., nn.Module] = nn.MSELoss) -> None:
        super().__init__()
        self.error = loss(reduction="none")

    def forward(self, outputs: Outputs, loc: Statistic, scale: Statistic) -> PointForecast:
        return PointForecast(outputs[..., 0] * scale + loc, self.error)


class QuantileForecast(Forecast):
    """Quantiles; the point is the one whose level is the nearest to 0.5.

    Args:
        quantiles: Of each level.
        levels: Ascending.
    """

    def __init__(self, quantiles: Quantiles, levels: tuple[float, ...]) -> None:
        self._quantiles = quantiles
        self.levels = levels
        self.point = quantiles[..., middle_of(levels)]

    @property
    def quantiles(self) -> Quantiles:
        return self._quantiles

    def loss(self, future: Future) -> Future:
        return pinball_loss(self._quantiles, future, self.levels).mean(-1)


class QuantileHead(Head):
    """Quantiles that cannot cross: the middle one, and from there outwards softplus steps, which are positive.

    Fitted by the pinball loss, averaged over the levels (Koenker and Bassett 1978).

    Args:
        levels: Ascending, each in (0, 1).

    Raises:
        ValueError: If they are none, or not ascending, or not in (0, 1).
    """

    def __init__(self, levels: Sequence[float] = DECILES) -> None:
        super().__init__()
        self.levels = check_levels(levels)
        self.num_outputs = len(self.levels)
        self.level = middle_of(self.levels)

    def forward(self, outputs: Outputs, loc: Statistic, scale: Statistic) -> QuantileForecast:
        middle = outputs[..., self.level : self.level + 1]
        below = middle - F.softplus(outputs[..., : self.level]).flip(-1).cumsum(-1).flip(-1)
        above = middle + F.softplus(outputs[..., self.level + 1 :]).cumsum(-1)
        quantiles = torch.cat([below, middle, above], dim=-1)
        return QuantileForecast(quantiles * scale[..., None] + loc[..., None], self.levels)


class StudentTForecast(Forecast):
    """A Student t distribution; the point is its centre.

    Args:
        df: Degrees of freedom, more than 2.
        loc: Centre.
        scale: Spread; 0 where the history is constant.
        levels: Those of `quantiles`.
    """

    def __init__(self, df: Future, loc: Future, scale: Future, levels: tuple[float, ...]) -> None:
        self.point = loc
        self.df = df
        self.scale = scale
        self.levels = levels

    @property
    def quantiles(self) -> Quantiles:
        df = self.df.detach().double().cpu().numpy()[..., None]
        standard = torch.from_numpy(np.asarray(stdtrit(df, np.array(self.levels)))).to(self.point)
        return self.point[..., None] + self.scale[..., None] * standard

    def loss(self, future: Future) -> Future:
        return -StudentT(self.df, self.point, self.scale.clamp(min=1e-4)).log_prob(future)


class StudentTHead(Head):
    """A Student t distribution a step, whose tails are fatter than a normal one's; fitted by its likelihood.

    Degrees of freedom are `2 + softplus`, so that there is a variance; the scale is a softplus.

    Args:
        levels: Levels of the quantiles to report, ascending, each in (0, 1).

    Raises:
        ValueError: If they are none, or not ascending, or not in (0, 1).
    """

    num_outputs = 3
    level = 1

    def __init__(self, levels: Sequence[float] = DECILES) -> None:
        super().__init__()
        self.levels = check_levels(levels)

    def forward(self, outputs: Outputs, loc: Statistic, scale: Statistic) -> StudentTForecast:
        df, centre, spread = outputs.unbind(-1)
        return StudentTForecast(
            2 + F.softplus(df), centre * scale + loc, (F.softplus(spread) + 1e-4) * scale, self.levels
        )


def pinball_loss(quantiles: Quantiles, future: Future, levels: Sequence[float]) -> Quantiles:
    """`max(q (y - f), (q - 1) (y - f))` of each level q, f being its quantile and y the value that came.

    >>> pinball_loss(torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1), [0.1, 0.9]).flatten().tolist()
    [0.10000000149011612, 0.8999999761581421]
    """
    error = future[..., None] - quantiles
    level = torch.tensor(list(levels), dtype=error.dtype, device=error.device)
    return torch.maximum(level * error, (level - 1) * error)


def mean_loss(forecast: Forecast, future: Future, mask: FutureMask) -> Mean:
    """The mean of the losses where the future is known; 0, with a gradient of 0, where nothing of it is.

    Args:
        forecast: What was forecast.
        future: What came.
        mask: True = missing, ignored.
    """
    # Filled before as well: a NaN's loss has a NaN for a gradient, and 0 times it is no 0.
    loss = forecast.loss(future.masked_fill(mask, 0.0)).masked_fill(mask, 0.0)
    return Mean.of(loss.sum(), (~mask).sum())


def check_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """Gives the levels if they are ascending and in (0, 1), and refuses them otherwise."""
    ascending = all(low < high for low, high in pairwise(levels))
    if not levels or not ascending or not 0 < levels[0] <= levels[-1] < 1:
        raise ValueError(f"levels={list(levels)} must be ascending and between 0 and 1")
    return tuple(levels)


def middle_of(levels: Sequence[float]) -> int:
    """The number of the level that is the nearest to 0.5."""
    return min(range(len(levels)), key=lambda number: abs(levels[number] - 0.5))
