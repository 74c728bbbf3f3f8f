"""Texts from CTC alone: the best path, and the best text over all its paths."""

import math
from collections import defaultdict

import numpy as np
from jaxtyping import Float

from tasks.asr.decoding.base import Decoding, Hypothesis, check_positive
from tasks.asr.model import ASR, Encoded

NEVER = -math.inf


class CTCGreedy(Decoding):
    """The most probable path: the best output of each frame, repeats merged, blanks dropped (Graves et al. 2006)."""

    needs_ctc = True

    def __call__(self, model: ASR, encoded: Encoded) -> list[Hypothesis]:
        best, labels = model.ctc_log_probs(encoded).max(-1)
        found = []
        for score, path, frames in zip(best, labels.tolist(), encoded.lengths.tolist(), strict=True):
            before = [model.vocab_size, *path[: max(frames - 1, 0)]]
            tokens = [
                label
                for label, last in zip(path[:frames], before, strict=False)
                if label not in (last, model.vocab_size)
            ]
            found.append(Hypothesis(tokens, float(score[:frames].sum())))
        return found


class CTCBeam(Decoding):
    """The most probable text, summed over its paths, by prefix beam search (Graves 2012; Hannun et al. 2014).

    Exact where the beam is as wide as there are prefixes and `min_probability` is 0.

    Args:
        beam_size: Prefixes that are kept from frame to frame.
        min_probability: Probability in a frame below which a token is not tried there.

    Raises:
        ValueError: If `beam_size` is less than 1, or `min_probability` is not in [0, 1).
    """

    needs_ctc = True

    def __init__(self, beam_size: int = 16, *, min_probability: float = 1e-4) -> None:
        check_positive(beam_size=beam_size)
        if not 0 <= min_probability < 1:
            raise ValueError(f"min_probability={min_probability} is not in [0, 1)")
        self.beam_size = beam_size
        self.least = math.log(min_probability) if min_probability else NEVER

    def __call__(self, model: ASR, encoded: Encoded) -> list[Hypothesis]:
        log_probs = model.ctc_log_probs(encoded).double().cpu().numpy()
        lengths = encoded.lengths.tolist()
        return [self.search(each[:frames]) for each, frames in zip(log_probs, lengths, strict=True)]

    def search(self, log_probs: Float[np.ndarray, "frames outputs"]) -> Hypothesis:
        """The best text of one utterance; the last output is the blank.

        Of each prefix two probabilities are known, in logarithms: that of all paths so far that end in a blank, and of
        those that end in its last token.
        """
        beam: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, NEVER)}
        for frame in log_probs:
            blank = float(frame[-1])
            tried = [(int(token), float(frame[token])) for token in np.flatnonzero(frame[:-1] >= self.least)]
            grown: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [NEVER, NEVER])
            for prefix, (in_blank, in_token) in beam.items():
                whole, last = add(in_blank, in_token), prefix[-1] if prefix else None
                same = grown[prefix]
                same[0] = add(same[0], whole + blank)
                if last is not None:
                    same[1] = add(same[1], in_token + float(frame[last]))
                for token, score in tried:
                    # A token follows itself only with a blank between: without one it is the same token, held on.
                    longer = grown[(*prefix, token)]
                    longer[1] = add(longer[1], (in_blank if token == last else whole) + score)
            ranked = sorted(grown.items(), key=lambda item: -add(*item[1]))[: self.beam_size]
            beam = {prefix: (scores[0], scores[1]) for prefix, scores in ranked}
        prefix, scores = max(beam.items(), key=lambda item: add(*item[1]))
        return Hypothesis(list(prefix), add(*scores))


def add(one: float, other: float) -> float:
    """`ln(e^one + e^other)`.

    >>> add(NEVER, 0.0)
    0.0
    """
    if one < other:
        one, other = other, one
    return one if other == NEVER else one + math.log1p(math.exp(other - one))
