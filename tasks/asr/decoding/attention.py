"""Texts from the decoder, token by token: greedy, by beam search, and by beam search together with CTC."""

from tasks.asr.decoding.base import Decoding, Hypothesis, check_positive
from tasks.asr.decoding.search import SearchSettings, beam_search
from tasks.asr.model import ASR, Encoded


class AttentionGreedy(Decoding):
    """The decoder's best token, one after the other, until its end.

    Args:
        max_ratio: The most tokens for each frame of the encoder.
        max_repeats: How often in a row the same block of tokens may come; what would repeat it once more is not taken.

    Raises:
        ValueError: If `max_ratio` is not positive, or `max_repeats` is less than 1.
    """

    needs_decoder = True

    def __init__(self, *, max_ratio: float = 1.0, max_repeats: int = 8) -> None:
        self.settings = _settings(1, 0.0, 0.0, max_ratio, max_repeats)

    def __call__(self, model: ASR, encoded: Encoded) -> list[Hypothesis]:
        return beam_search(model, encoded, self.settings)


class AttentionBeam(Decoding):
    """The text that the decoder finds most probable, by beam search.

    Args:
        beam_size: Hypotheses that are kept from token to token.
        length_penalty: The logarithm of a text's probability is divided by the number of its tokens and its end, to
            this power: 0 favours short texts.
        max_ratio: The most tokens for each frame of the encoder.
        max_repeats: How often in a row the same block of tokens may come; what would repeat it once more is not taken.

    Raises:
        ValueError: If `beam_size` or `max_repeats` is less than 1, `max_ratio` is not positive, or `length_penalty` is
            negative.
    """

    needs_decoder = True

    def __init__(
        self, beam_size: int = 8, *, length_penalty: float = 1.0, max_ratio: float = 1.0, max_repeats: int = 8
    ) -> None:
        self.settings = _settings(beam_size, 0.0, length_penalty, max_ratio, max_repeats)

    def __call__(self, model: ASR, encoded: Encoded) -> list[Hypothesis]:
        return beam_search(model, encoded, self.settings)


class JointBeam(Decoding):
    """The text that CTC and the decoder find most probable together, by beam search (Watanabe et al. 2017).

    `ctc_weight * ln p_ctc + (1 - ctc_weight) * ln p_decoder`, for a text's beginning CTC's probability of all texts
    that begin so: it keeps the decoder from leaving out, repeating and going on behind the end.

    Args:
        beam_size: Hypotheses that are kept from token to token.
        ctc_weight: Weight of CTC.
        max_ratio: The most tokens for each frame of the encoder.
        max_repeats: How often in a row the same block of tokens may come; what would repeat it once more is not taken.

    Raises:
        ValueError: If `beam_size` or `max_repeats` is less than 1, `max_ratio` is not positive, or `ctc_weight` is not
            in (0, 1].
    """

    needs_ctc = needs_decoder = True

    def __init__(
        self, beam_size: int = 8, *, ctc_weight: float = 0.5, max_ratio: float = 1.0, max_repeats: int = 8
    ) -> None:
        if not 0 < ctc_weight <= 1:
            raise ValueError(f"ctc_weight={ctc_weight} is not in (0, 1]: without CTC there is AttentionBeam")
        self.settings = _settings(beam_size, ctc_weight, 0.0, max_ratio, max_repeats)

    def __call__(self, model: ASR, encoded: Encoded) -> list[Hypothesis]:
        return beam_search(model, encoded, self.settings)


def _settings(
    beam_size: int, ctc_weight: float, length_penalty: float, max_ratio: float, max_repeats: int
) -> SearchSettings:
    check_positive(beam_size=beam_size, max_repeats=max_repeats)
    if max_ratio <= 0:
        raise ValueError(f"max_ratio={max_ratio} must be positive")
    if length_penalty < 0:
        raise ValueError(f"length_penalty={length_penalty} must not be negative")
    return SearchSettings(beam_size, ctc_weight, length_penalty, max_ratio, max_repeats)
