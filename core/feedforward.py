"""The position-wise feed-forward network (Vaswani et al. 2017, section 3.3)."""

from collections.abc import Callable

from torch import nn

from core.dropout import Dropout
from core.linear import Linear
from core.types import Tokens


class FeedForward(nn.Module):
    """Two linear maps with an activation between, at each token alone (Vaswani et al. 2017, equation 2).

    `FFN(x) = act(x W_1 + b_1) W_2 + b_2`; W_1 is `linear1`, W_2 is `linear2`. The paper's activation is ReLU; GELU
    (Hendrycks and Gimpel 2016), the default here, is that of BERT, GPT and ViT.

    Args:
        embed_dim: Width of a token.
        ffn_dim: Width between the two maps.
        dropout: Probability with which an activation is dropped in training.
        activation: Makes the activation.

    Raises:
        ValueError: If `ffn_dim` is less than 1.
    """

    def __init__(
        self,
        embed_dim: int,
        ffn_dim: int,
        *,
        dropout: float = 0.0,
        activation: Callable[[], nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        if ffn_dim < 1:
            raise ValueError(f"ffn_dim={ffn_dim} must be at least 1")
        self.linear1 = Linear(embed_dim, ffn_dim)
        self.activation = activation()
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(ffn_dim, embed_dim)

    def forward(self, x: Tokens) -> Tokens:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))
