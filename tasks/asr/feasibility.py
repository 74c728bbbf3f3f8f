"""Whether CTC can say a text in the frames that there are, and what becomes of utterances where it cannot."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from tasks.errors import TaskError
from tasks.processes import gathered


def needed_frames(tokens: Int[Tensor, "batch most"], token_lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """The frames that CTC needs: one a token, and one for the blank between two equal neighbours.

    >>> needed_frames(torch.tensor([[1, 1, 2], [1, 1, 1]]), torch.tensor([3, 1])).tolist()
    [4, 1]
    """
    places = torch.arange(tokens.shape[1], device=tokens.device)[1:]
    repeats = (tokens[:, 1:] == tokens[:, :-1]) & (places < token_lengths[:, None])
    return token_lengths + repeats.sum(1)


class Infeasible:
    """Counts and lists the utterances of one pass over a set whose text is too long for their frames.

    Args:
        limit: The largest share of a set that may be so.

    Raises:
        ValueError: If `limit` is not in [0, 1].
    """

    def __init__(self, limit: float = 0.01) -> None:
        if not 0 <= limit <= 1:
            raise ValueError(f"max_infeasible={limit} is not in [0, 1]")
        self.limit = limit
        self.count, self.names = 0, dict[str, str]()
        self.told: set[str] = set()

    def update(
        self,
        kept: Bool[Tensor, " batch"],
        names: Sequence[str],
        frames: Int[Tensor, " batch"],
        needed: Int[Tensor, " batch"],
    ) -> None:
        """Takes a batch in, and says once of each utterance that is skipped why."""
        self.count += len(names)
        for number in (~kept).nonzero()[:, 0].tolist():
            name = str(names[number])
            self.names[name] = f"{name} ({int(frames[number])} frames, its text needs {int(needed[number])})"
            if name not in self.told:
                self.told.add(name)
                rank_zero_warn(f"{self.names[name]}: its text is too long for its audio, so it is skipped")

    def check(self, part: str) -> None:
        """Ends the pass.

        Args:
            part: What the set is called.

        Raises:
            TaskError: If a larger share of the set than `limit` was skipped, in all processes together.
        """
        count, names = self._gathered()
        self.reset()
        if len(names) > self.limit * count:
            listed = "; ".join(list(names.values())[:5]) + ("; ..." if len(names) > 5 else "")
            raise TaskError(
                f"{len(names)} of {count} utterances of the {part} part have a text too long for their audio, more "
                f"than training.max_infeasible={self.limit} allows: {listed}; mend these, or use fewer, larger text "
                "pieces or less subsampling"
            )

    def reset(self) -> None:
        """Ends the pass without a word."""
        self.count, self.names = 0, {}

    def _gathered(self) -> tuple[int, dict[str, str]]:
        parts = gathered((self.count, self.names))
        return sum(count for count, _ in parts), {name: text for _, names in parts for name, text in names.items()}
