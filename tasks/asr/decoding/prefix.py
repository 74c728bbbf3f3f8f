"""What CTC says of beginnings of a text, one token after the other (Watanabe et al. 2017, section II-C)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

NEVER = -torch.inf


class PrefixScores:
    """`ln p_ctc(g, ... | X)`, the probability of all texts that begin with g, of the hypotheses g of a beam.

    Of each hypothesis are kept, for each frame, the probabilities of all paths up to there that give exactly g: those
    that end in its last token, and those that end in a blank. A new token's are found from them in one pass over the
    frames, for all utterances, hypotheses and candidates at once.

    Args:
        log_probs: Of the CTC head; the last output is the blank.
        lengths: Frames of each utterance, at least one.
        beam_size: Hypotheses of each utterance, all of them empty.
    """

    def __init__(
        self,
        log_probs: Float[Tensor, "batch frames outputs"],
        lengths: Int[Tensor, " batch"],
        beam_size: int,
    ) -> None:
        # Behind an utterance's end only a sure blank comes, which carries what it ended with to the last frame.
        behind = torch.arange(log_probs.shape[1], device=lengths.device) >= lengths[:, None]
        self.tokens = log_probs[..., :-1].masked_fill(behind[..., None], NEVER)
        self.blanks = log_probs[..., -1].masked_fill(behind, 0.0)
        in_blank = self.blanks.cumsum(1)[:, None].expand(-1, beam_size, -1)
        self.in_blank: Tensor = in_blank
        self.in_token: Tensor = torch.full_like(in_blank, NEVER)
        self.last: Tensor = torch.full(in_blank.shape[:2], -1, device=lengths.device)

    def ended(self) -> Float[Tensor, "batch beam"]:
        """`ln p_ctc(g | X)`: the text is g, and nothing follows."""
        return torch.logaddexp(self.in_token[..., -1], self.in_blank[..., -1])

    def extended(self, candidates: Int[Tensor, "batch beam candidates"]) -> Float[Tensor, "batch beam candidates"]:
        """`ln p_ctc(g c, ... | X)` of each candidate c for the next token."""
        self._candidates = candidates
        batch, beam, count = candidates.shape
        frames = self.blanks.shape[1]
        places = candidates.flatten(1)[:, None].expand(-1, frames, -1)
        emitted = self.tokens.gather(2, places).unflatten(2, (beam, count)).unbind(1)
        blanks = self.blanks[:, :, None, None].unbind(1)
        # A token follows itself only with a blank between.
        either = torch.logaddexp(self.in_token, self.in_blank)
        repeated = (candidates == self.last[..., None])[..., None]
        before = torch.where(repeated, self.in_blank[:, :, None], either[:, :, None])
        first = torch.where(self.last == -1, 0.0, NEVER)[..., None, None].expand(-1, -1, count, 1)
        before = torch.cat([first, before[..., :-1]], dim=3).unbind(3)
        in_token, in_blank = [], []
        token = blank = torch.full((batch, beam, count), NEVER, device=candidates.device, dtype=self.blanks.dtype)
        starts = []
        for frame in range(frames):
            starts.append(before[frame] + emitted[frame])
            token, blank = (
                torch.logaddexp(token + emitted[frame], starts[frame]),
                torch.logaddexp(token, blank) + blanks[frame],
            )
            in_token.append(token)
            in_blank.append(blank)
        self._grown = torch.stack(in_token, 3), torch.stack(in_blank, 3)
        return torch.stack(starts, 3).logsumexp(3)

    def select(
        self,
        utterances: Int[Tensor, " kept"],
        parents: Int[Tensor, "kept beam"],
        chosen: Int[Tensor, "kept beam"],
    ) -> None:
        """Goes on with some utterances and new hypotheses.

        Args:
            utterances: Those that are kept.
            parents: Which hypothesis of its utterance each new one comes from.
            chosen: Which of the candidates that were `extended` it adds; one beyond them, the end, goes on nowhere.
        """
        chosen = chosen.clamp(max=self._candidates.shape[2] - 1)
        where = utterances[:, None], parents, chosen
        self.in_token, self.in_blank = (grown[where] for grown in self._grown)
        self.last = self._candidates[where]
        self.tokens, self.blanks = self.tokens[utterances], self.blanks[utterances]
