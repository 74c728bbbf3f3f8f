"""The one contract that every way of decoding keeps."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from tasks.asr.model import ASR, Encoded


class Hypothesis(NamedTuple):
    """A text that was recognised.

    Attributes:
        tokens: Its pieces, without blanks, start and end.
        score: Logarithm of its probability, as the way of decoding has it.
    """

    tokens: list[int]
    score: float


class Decoding(ABC):
    """Finds the text of each utterance; one without frames has an empty one.

    An utterance's text does not depend on the others of its batch.
    """

    needs_ctc = False
    """Whether it reads the CTC head."""
    needs_decoder = False
    """Whether it asks the decoder."""

    def check(self, model: ASR) -> None:
        """Refuses a model that lacks what is needed.

        Raises:
            ValueError: If there is no CTC head, or no decoder, and this asks for one.
        """
        lacking = "CTC head" if self.needs_ctc and model.ctc_head is None else None
        lacking = "decoder" if self.needs_decoder and model.decoder is None else lacking
        if lacking:
            raise ValueError(
                f"decoding={type(self).__name__} needs a {lacking}, which attention_weight={model.attention_weight} "
                "leaves out: 0 is CTC alone, 1 the decoder alone"
            )

    @abstractmethod
    def __call__(self, model: ASR, encoded: Encoded) -> list[Hypothesis]:
        """Gives the best text of each utterance. No gradients: call it under `torch.inference_mode()`.

        Args:
            model: The recogniser.
            encoded: What its encoder gave.
        """


def check_positive(**numbers: int) -> None:
    """Raises `ValueError`, which names it, if a number is less than 1."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name}={number} must be at least 1")
