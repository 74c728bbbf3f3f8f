"""Beam search over the decoder's next tokens, alone or together with CTC (Watanabe et al. 2017, section II-C)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tasks.asr.decoding.base import Hypothesis
from tasks.asr.decoding.prefix import PrefixScores
from tasks.asr.model import ASR, Encoded

NEVER = -torch.inf
LONGEST_BLOCK = 32
"""Tokens of the longest block whose repetition is noticed."""


@dataclass(frozen=True)
class SearchSettings:
    """How a beam search ranks and ends.

    Attributes:
        beam_size: Hypotheses that are kept from token to token.
        ctc_weight: Weight of CTC's prefix scores, that of the decoder being the rest.
        length_penalty: Ended hypotheses are ranked by score divided by (tokens + 1) to this power.
        max_ratio: The most tokens for each frame of the encoder.
        max_repeats: How often in a row the same block of tokens may come.
    """

    beam_size: int
    ctc_weight: float
    length_penalty: float
    max_ratio: float
    max_repeats: int


class Beam(NamedTuple):
    """The hypotheses that go on, of the utterances that are not done.

    Attributes:
        numbers: Which utterances of the batch they are of.
        tokens: The prompt, and the tokens so far.
        decoder: Scores by the decoder; minus infinity where there is no hypothesis.
        total: Scores by which they are ranked.
    """

    numbers: list[int]
    tokens: Int[Tensor, "utterances beam length"]
    decoder: Float[Tensor, "utterances beam"]
    total: Float[Tensor, "utterances beam"]


class Choice(NamedTuple):
    """The next tokens that are worth a look.

    Attributes:
        tokens: Of each hypothesis, the last being its end.
        decoder: Scores by the decoder, with the token.
        total: Scores by which they are ranked.
    """

    tokens: Int[Tensor, "utterances beam candidates"]
    decoder: Float[Tensor, "utterances beam candidates"]
    total: Float[Tensor, "utterances beam candidates"]


def beam_search(model: ASR, encoded: Encoded, settings: SearchSettings) -> list[Hypothesis]:
    """The best text of each utterance.

    All utterances go on together; one that is done leaves. It is done when as many hypotheses have ended as the beam is
    wide, or none that goes on can still become better than the best that has ended.
    """
    assert model.tokens is not None
    limits = (settings.max_ratio * encoded.lengths).ceil().long().clamp(0, model.tokens.max_length).tolist()
    ended: list[list[Hypothesis]] = [[] if limit else [Hypothesis([], 0.0)] for limit in limits]
    numbers = [number for number, limit in enumerate(limits) if limit]
    if numbers:
        _Search(model, encoded, settings, limits, ended).run(numbers)
    return [max(found, key=lambda hypothesis: hypothesis.score) for found in ended]


class _Search:
    def __init__(
        self, model: ASR, encoded: Encoded, settings: SearchSettings, limits: list[int], ended: list[list[Hypothesis]]
    ) -> None:
        self.model, self.encoded, self.settings = model, encoded, settings
        self.limits, self.ended = limits, ended
        assert model.tokens is not None
        self.end, self.prompt = model.tokens.end, model.tokens.prompt

    def run(self, numbers: list[int]) -> None:
        assert self.model.decoder is not None
        width, device = self.settings.beam_size, self.encoded.memory.device
        self.encoded = self.encoded.select(torch.tensor(numbers, device=device))
        weight = self.settings.ctc_weight
        log_probs = self.model.ctc_log_probs(self.encoded) if weight else None
        self.prefixes = None if log_probs is None else PrefixScores(log_probs, self.encoded.lengths, width)
        self.encoded = self.encoded.select(torch.arange(len(numbers), device=device).repeat_interleave(width))
        self.cache = self.model.decoder.make_cache()
        scores = torch.full((len(numbers), width), NEVER, device=device)
        scores[:, 0] = 0.0
        starts = torch.tensor(self.prompt, device=device).expand(len(numbers), width, -1)
        beam = Beam(numbers, starts, scores, scores)
        while beam.numbers:
            beam = self._step(beam)

    def _step(self, beam: Beam) -> Beam:
        choice = self._choose(beam)
        width, (_, _, count) = self.settings.beam_size, choice.tokens.shape
        best, places = choice.total.flatten(1).topk(min(2 * width, width * count))
        parents, chosen = places // count, places % count
        ends = (chosen == count - 1) | (best == NEVER)
        self._collect(beam, best[:, :width], parents[:, :width], ends[:, :width])
        order = ends.long().sort(dim=1, stable=True).indices[:, :width]  # those that go on first, the best first
        if order.shape[1] < width:
            order = torch.nn.functional.pad(order, (0, width - order.shape[1]))
        gone = ends.gather(1, order) | (torch.arange(width, device=order.device) >= (~ends).sum(1, keepdim=True))
        parents, chosen = parents.gather(1, order), chosen.gather(1, order)
        total = best.gather(1, order).masked_fill(gone, NEVER)
        kept = [row for row, number in enumerate(beam.numbers) if not self._is_done(number, float(total[row, 0]))]
        rows = torch.tensor(kept, dtype=torch.long, device=order.device)
        parents, chosen = parents[rows], chosen[rows]
        where = rows[:, None], parents, chosen
        self._select(rows, parents, chosen)
        return Beam(
            [beam.numbers[row] for row in kept],
            torch.cat([beam.tokens[rows[:, None], parents], choice.tokens[where][..., None]], dim=2),
            choice.decoder[where].masked_fill(gone[rows], NEVER),
            total[rows],
        )

    def _choose(self, beam: Beam) -> Choice:
        """Scores the decoder's best next tokens, and the end, of each hypothesis."""
        end, length = self.end, beam.tokens.shape[2] - len(self.prompt)
        new = beam.tokens[..., -1:] if length else beam.tokens
        logits = self.model.token_logits(new.flatten(0, 1), self.encoded, self.cache)
        # Special tokens other than the end are no part of a text.
        log_probs = logits[:, -1, : end + 1].float().log_softmax(-1).unflatten(0, beam.total.shape)
        blocked = repeating(beam.tokens[..., len(self.prompt) :], self.settings.max_repeats, end)
        full = torch.tensor([length >= self.limits[number] for number in beam.numbers], device=logits.device)
        log_probs[..., :end] = log_probs[..., :end].masked_fill(blocked | full[:, None, None], NEVER)
        top, tokens = log_probs[..., :end].topk(min(end, 2 * self.settings.beam_size))
        scores = torch.cat([top, log_probs[..., end:]], dim=2) + beam.decoder[..., None]
        tokens = torch.cat([tokens, torch.full_like(tokens[..., :1], end)], dim=2)
        if self.prefixes is None:
            return Choice(tokens, scores, scores)
        heard = torch.cat([self.prefixes.extended(tokens[..., :-1]), self.prefixes.ended()[..., None]], dim=2)
        weight = self.settings.ctc_weight
        total = weight * heard + (1 - weight) * scores if weight < 1 else heard.where(scores > NEVER, NEVER)
        return Choice(tokens, scores, total)

    def _collect(
        self,
        beam: Beam,
        best: Float[Tensor, "utterances beam"],
        parents: Int[Tensor, "utterances beam"],
        ends: Bool[Tensor, "utterances beam"],
    ) -> None:
        """Takes the hypotheses that end among the best."""
        scale = (beam.tokens.shape[2] - len(self.prompt) + 1) ** self.settings.length_penalty
        for row, place in (ends & (best > NEVER)).nonzero().tolist():
            tokens = beam.tokens[row, parents[row, place], len(self.prompt) :].tolist()
            self.ended[beam.numbers[row]].append(Hypothesis(tokens, float(best[row, place]) / scale))

    def _is_done(self, number: int, best: float) -> bool:
        ended = self.ended[number]
        if best == NEVER:
            if not ended:  # neither the decoder nor CTC finds any text possible
                ended.append(Hypothesis([], NEVER))
            return True
        # Scores only sink, so no hypothesis becomes better than this one divided by the most that it can be.
        bound = best / (self.limits[number] + 1) ** self.settings.length_penalty
        return bool(ended) and (len(ended) >= self.settings.beam_size or max(each.score for each in ended) >= bound)

    def _select(
        self, rows: Int[Tensor, " kept"], parents: Int[Tensor, "kept beam"], chosen: Int[Tensor, "kept beam"]
    ) -> None:
        if self.prefixes is not None:
            self.prefixes.select(rows, parents, chosen)
        width = self.settings.beam_size
        sequences = (rows[:, None] * width + parents).flatten()
        stay = len(sequences) == len(self.encoded.memory)
        self.cache.select(sequences, same_memory=stay)  # a hypothesis comes from one of the same utterance
        if not stay:
            self.encoded = self.encoded.select(sequences)


def repeating(
    tokens: Int[Tensor, "utterances beam length"], max_repeats: int, vocab_size: int
) -> Bool[Tensor, "utterances beam vocab_size"]:
    """Marks the tokens with which a block of tokens would come more often in a row than it may.

    >>> repeating(torch.tensor([[[0, 1, 0, 1, 0]]]), 2, 3).int().tolist()
    [[[0, 1, 0]]]
    """
    blocked = torch.zeros(*tokens.shape[:2], vocab_size, dtype=torch.bool)
    length = tokens.shape[2]
    for period in range(1, min(LONGEST_BLOCK, (length + 1) // (max_repeats + 1)) + 1):
        tail = tokens[..., length + 1 - (max_repeats + 1) * period :]
        again = (tail[..., period:] == tail[..., :-period]).all(2).cpu()
        following = tokens[..., length - period].cpu()
        blocked[(*again.nonzero(as_tuple=True), following[again])] = True
    return blocked.to(tokens.device)
