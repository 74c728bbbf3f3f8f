"""What `python -m tasks.benchmark attention` shall measure; imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path

from tasks.errors import UsageError

OURS = ("full", "sparse", "linear", "longformer")
PEERS = ("sdpa", "band", "transformers_longformer")
ATTENTIONS = (*OURS, *PEERS)
CAUSAL = {"both": (False, True), "no": (False,), "yes": (True,)}
DEVICES = ("cpu", "cuda")
DTYPES = ("float32", "bfloat16")
GIBIBYTE = 2**30


@dataclass(frozen=True)
class Shape:
    """One layer on one sequence.

    Attributes:
        length: Tokens of the sequence.
        causal: Whether a token sees only its past and itself.
        width: Width of a token.
        heads: Heads of the layer.
        window: Width of Longformer's window: half of it lies on each side of a token.
        global_tokens: Longformer's tokens that see all and are seen by all, the first of the sequence.
    """

    length: int
    causal: bool
    width: int
    heads: int
    window: int
    global_tokens: int

    def __str__(self) -> str:
        return f"length {self.length} {direction(self.causal)}"


@dataclass(frozen=True)
class Plan:
    """The command's options.

    Attributes:
        lengths: Lengths of the sequences.
        attentions: Names of the contenders.
        causal: `both`, `yes` or `no`.
        processes: Fresh processes for each length, causal and not.
        rounds: Rounds in each process.
        seconds: Time of each contender in a round, at least.
        threads: Threads of torch.
        width: Width of a token.
        heads: Heads of the layer.
        window: Width of Longformer's window.
        global_tokens: Longformer's global tokens.
        time_limit: Seconds that one call may take.
        output: Where run folders stand.
        device: `cpu` or `cuda`.
        dtype: Of tokens and weights: `float32` or `bfloat16`.
        memory_limit: GiB that a contender may need; None = 80% of what is available at the start.
    """

    lengths: tuple[int, ...]
    attentions: tuple[str, ...]
    causal: str
    processes: int
    rounds: int
    seconds: float
    threads: int
    width: int
    heads: int
    window: int
    global_tokens: int
    time_limit: float
    output: Path
    device: str = "cpu"
    dtype: str = "float32"
    memory_limit: float | None = None

    def __post_init__(self) -> None:
        """Refuses what no layer can be made of.

        Raises:
            UsageError: If the sizes do not fit each other.
        """
        if self.width % self.heads:
            raise UsageError(f"--width {self.width} is not a multiple of --heads {self.heads}")
        if self.window % 2:
            raise UsageError(f"--window {self.window} is odd: half of it lies on each side of a token")
        if self.causal == "yes" and set(self.attentions) == {"transformers_longformer"}:
            raise UsageError("--attentions transformers_longformer has no causal form; leave --causal yes out")

    def shape(self, length: int, causal: bool) -> Shape:
        """The layer and its sequence at a length."""
        return Shape(length, causal, self.width, self.heads, self.window, self.global_tokens)


def direction(causal: bool) -> str:
    """What the report calls it."""
    return "causal" if causal else "bidirectional"
