"""The Vision Transformer: patches of a picture as the tokens of a core `Encoder` (Dosovitskiy et al. 2021)."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from core import Dropout, Encoder, LearnedPositionalEncoding2d, Linear


class PatchEmbedding(nn.Module):
    """Cuts a picture into square patches and projects each to a token: E of Dosovitskiy et al. 2021, equation 1.

    A side that is not a multiple of `patch_size` is padded with zeros (the mean colour) at the right and the bottom.

    Args:
        patch_size: Side of a patch, in pixels.
        num_channels: Channels of the picture.
        embed_dim: Width of a token.
    """

    def __init__(self, patch_size: int, num_channels: int, embed_dim: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Conv2d(num_channels, embed_dim, kernel_size=patch_size, stride=patch_size)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches that cover a picture of `height` x `width` pixels."""
        return -(-height // self.patch_size), -(-width // self.patch_size)

    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch embed_dim rows columns"]:
        """Gives a token a patch, in the grid's rows and columns."""
        height, width = image.shape[-2:]
        right, bottom = -width % self.patch_size, -height % self.patch_size
        if right or bottom:
            image = F.pad(image, (0, right, 0, bottom))
        return self.projection(image)


class PatchDropout(nn.Module):
    """Keeps a random part of the patches of each picture in training (FLIP; Li et al. 2023).

    Args:
        p: Part of the patches that is dropped.

    Raises:
        ValueError: If `p` is not in [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"patch_dropout={p} is not a share in [0, 1)")
        self.p = p

    def forward(self, patches: Float[Tensor, "batch cells embed_dim"]) -> Float[Tensor, "batch kept embed_dim"]:
        """Keeps as many patches of each picture, at least one."""
        if not self.training or self.p == 0:
            return patches
        batch, cells, width = patches.shape
        kept = max(1, round(cells * (1 - self.p)))
        chosen = torch.rand(batch, cells, device=patches.device).argsort(1)[:, :kept]
        return patches.gather(1, chosen.unsqueeze(-1).expand(-1, -1, width))


class ViT(nn.Module):
    """Classifies a picture from its patches (Dosovitskiy et al. 2021).

    The tokens are a class token (absent with mean pooling), register tokens (Darcet et al. 2024) and the patches with
    their learned positions. A picture of any size can be classified: positions are resampled to its grid.

    Args:
        encoder: The core's encoder; its width is the model's.
        image_size: Height and width that the positions are learned for, in pixels.
        num_channels: Channels of a picture.
        num_classes: Number of classes.
        patch_size: Side of a patch, in pixels.
        pool: What the head sees: the class token, or the mean over the patches.
        num_register_tokens: Learned tokens without a place in the picture, for the encoder's own use.
        patch_dropout: Part of the patches dropped in training.
        dropout: Probability of dropping an element of the embedded tokens in training.
        pretrained: Weights to start from: a name of timm's ViT family, or a file (`.safetensors`, `.pth`, `.bin`, or
            a checkpoint of ours); another number of classes, size of picture or number of channels is adapted.

    Raises:
        ValueError: If a size or number is out of range, or the pretrained weights cannot be read or do not fit.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        image_size: tuple[int, int],
        num_channels: int,
        num_classes: int,
        patch_size: int = 16,
        pool: Literal["class", "mean"] = "class",
        num_register_tokens: int = 0,
        patch_dropout: float = 0.0,
        dropout: float = 0.0,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        for name, value in [("patch_size", patch_size), ("num_channels", num_channels), ("num_classes", num_classes)]:
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        if num_register_tokens < 0:
            raise ValueError(f"num_register_tokens={num_register_tokens} must not be negative")
        if min(image_size) < 1:
            raise ValueError(f"image_size={image_size} must be positive")
        embed_dim = encoder.embed_dim
        self.pool = pool
        self.patch_embedding = PatchEmbedding(patch_size, num_channels, embed_dim)
        self.position = LearnedPositionalEncoding2d(self.patch_embedding.grid(*image_size), embed_dim)
        num_prefix = num_register_tokens + (pool == "class")
        self.prefix_tokens = nn.Parameter(torch.empty(num_prefix, embed_dim)) if num_prefix else None
        self.patch_dropout = PatchDropout(patch_dropout)
        self.dropout = Dropout(dropout)
        self.encoder = encoder
        self.head = Linear(embed_dim, num_classes)
        self._initialise()
        if pretrained is not None:
            from tasks.vit.pretrained import load_pretrained

            load_pretrained(self, pretrained)

    def _initialise(self) -> None:
        """Xavier's uniform distribution in the encoder, as in the paper's own code (timm's `jax`), zeros for biases.

        A deviation of 0.02, which DeiT and timm take at every width, is too little for narrow networks to learn fast.
        """
        for module in self.encoder.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        if self.prefix_tokens is not None:
            nn.init.trunc_normal_(self.prefix_tokens, std=0.02)

    @property
    def num_prefix(self) -> int:
        """Tokens that stand before the patches: the class token and the registers."""
        return 0 if self.prefix_tokens is None else len(self.prefix_tokens)

    def forward(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch num_classes"]:
        """Gives the logits of each class."""
        return self.head(self.features(image))

    def features(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch embed_dim"]:
        """Gives what the head sees: the encoded class token, or the mean of the encoded patches."""
        x = self.dropout(self.embed(image))
        if self.pool == "class":
            return self.encoder(x, num_outputs=1)[:, 0]
        return self.encoder(x)[:, self.num_prefix :].mean(1)

    def embed(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch length embed_dim"]:
        """Embeds: the class token and the registers first, then the patches row by row, with their positions."""
        patches = self.patch_embedding(image)
        grid = (patches.shape[2], patches.shape[3])
        x = self.patch_dropout(patches.flatten(2).transpose(1, 2) + self.position(grid))
        if self.prefix_tokens is None:
            return x
        return torch.cat([self.prefix_tokens.expand(x.shape[0], -1, -1), x], dim=1)
