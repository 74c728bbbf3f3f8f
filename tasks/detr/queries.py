"""What a decoder's queries start from and where they stand: learned vectors (DETR), anchor boxes (DAB-DETR), or the
encoder's own proposals (two-stage Deformable DETR).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from core.linear import Linear
from core.position import sines_and_cosines

Anchors = Float[Tensor, "#batch queries 4"]
"""Boxes `cx, cy, w, h`, as logits of their normalised values."""


class Cells(NamedTuple):
    """What the encoder gives.

    Attributes:
        memory: The encoded cells of the grid, row by row.
        pos: Their positions.
        padding: True = padding; None = none is.
        places: The centre of each cell, normalised `cx, cy` of its picture's real part.
        grid: Rows and columns.
    """

    memory: Float[Tensor, "batch cells embed_dim"]
    pos: Float[Tensor, "#batch cells embed_dim"]
    padding: Bool[Tensor, "batch cells"] | None
    places: Float[Tensor, "#batch cells 2"]
    grid: tuple[int, int]


Read = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""The heads: from queries and their anchors the classes' logits, and boxes as logits."""


class Start(NamedTuple):
    """What the queries know before the first layer.

    Attributes:
        content: What each query knows.
        anchors: Where it stands; None = it has no anchor box.
        proposed: Logits and boxes (as logits) of all cells, which want a loss of their own; None = there are none.
    """

    content: Float[Tensor, "#batch queries embed_dim"]
    anchors: Anchors | None
    proposed: tuple[Float[Tensor, "batch cells logits"], Float[Tensor, "batch cells 4"]] | None = None


class Queries(nn.Module, ABC):
    """The object queries of a decoder of a given width.

    Args:
        embed_dim: Width of a query.
        num_queries: Number of queries: the most boxes found in a picture.

    Raises:
        ValueError: If `num_queries` is less than 1.
    """

    has_anchors: ClassVar[bool]

    def __init__(self, embed_dim: int, *, num_queries: int) -> None:
        super().__init__()
        if num_queries < 1:
            raise ValueError(f"num_queries={num_queries} must be at least 1")
        self.num_queries = num_queries

    @abstractmethod
    def start(self, cells: Cells, read: Read) -> Start:
        """What each query knows before the first layer, and where it stands."""

    @abstractmethod
    def position(self, anchors: Anchors | None) -> Float[Tensor, "#batch queries embed_dim"]:
        """The `query_pos` of a layer."""


class LearnedQueries(Queries):
    """A learned `query_pos` for each query, the same in every layer, and nothing else (Carion et al. 2020).

    Args:
        embed_dim: Width of a query.
        num_queries: Number of queries: the most boxes found in a picture.
    """

    has_anchors = False

    def __init__(self, embed_dim: int, *, num_queries: int = 100) -> None:
        super().__init__(embed_dim, num_queries=num_queries)
        self.weight = nn.Parameter(torch.randn(num_queries, embed_dim))

    def start(self, cells: Cells, read: Read) -> Start:
        return Start(torch.zeros_like(self.weight)[None], None)

    def position(self, anchors: Anchors | None) -> Tensor:
        return self.weight[None]


class BoxQueries(Queries):
    """Queries that know something learned and stand at boxes, refined layer by layer (DAB-DETR; Liu et al. 2022).

    A query's position is a small network of the sines and cosines of its anchor's centre and size; each layer's box
    is an offset to the anchor and the next layer's anchor.

    Args:
        embed_dim: Width of a query, a multiple of 4.
        num_queries: Number of queries: the most boxes found in a picture.
        base: Ratio of the longest wavelength of a coordinate to the shortest.

    Raises:
        ValueError: If `embed_dim` is not a multiple of 4.
    """

    has_anchors = True

    def __init__(self, embed_dim: int, *, num_queries: int = 100, base: float = 20.0) -> None:
        super().__init__(embed_dim, num_queries=num_queries)
        if embed_dim % 4:
            raise ValueError(f"embed_dim={embed_dim} is not a multiple of 4: a part for each number of an anchor box")
        self.base = base
        self.coordinate_dim = embed_dim // 2
        self.content = nn.Parameter(torch.randn(num_queries, embed_dim) * 0.02)
        self.project = nn.Sequential(Linear(2 * embed_dim, embed_dim), nn.ReLU(), Linear(embed_dim, embed_dim))

    def position(self, anchors: Anchors | None) -> Tensor:
        assert anchors is not None
        angles = anchors.sigmoid() * (2 * torch.pi)
        return self.project(sines_and_cosines(angles, self.coordinate_dim, self.base).flatten(-2))


class AnchorQueries(BoxQueries):
    """Queries whose first anchor boxes are learned (DAB-DETR; Liu et al. 2022).

    Args:
        embed_dim: Width of a query, a multiple of 4.
        num_queries: Number of queries: the most boxes found in a picture.
        base: Ratio of the longest wavelength of a coordinate to the shortest.
    """

    def __init__(self, embed_dim: int, *, num_queries: int = 100, base: float = 20.0) -> None:
        super().__init__(embed_dim, num_queries=num_queries, base=base)
        self.anchors = nn.Parameter(_spread_out(num_queries))

    def start(self, cells: Cells, read: Read) -> Start:
        return Start(self.content[None], self.anchors[None])


class ProposalQueries(BoxQueries):
    """Anchor boxes that the encoder proposes for each picture (two-stage Deformable DETR; Zhu et al. 2021).

    Every cell of the encoder's grid is read as a query that stands at the cell; the likeliest are the first anchors.
    What a query knows is what its cell knows, besides something learned. (In DINO, Zhang et al. 2023, it is the learned
    part alone: here that took twice the epochs, see docs/LOG.md.)

    Args:
        embed_dim: Width of a query, a multiple of 4.
        num_queries: Number of queries: the most boxes found in a picture.
        base: Ratio of the longest wavelength of a coordinate to the shortest.
        size: Side of the box at a cell, as a share of the picture's, before it is refined.

    Raises:
        ValueError: If `size` is not in (0, 1).
    """

    def __init__(self, embed_dim: int, *, num_queries: int = 100, base: float = 20.0, size: float = 0.2) -> None:
        super().__init__(embed_dim, num_queries=num_queries, base=base)
        if not 0 < size < 1:
            raise ValueError(f"size={size} is not a share in (0, 1)")
        self.size = size
        self.propose = nn.Sequential(Linear(embed_dim, embed_dim), nn.LayerNorm(embed_dim))

    def start(self, cells: Cells, read: Read) -> Start:
        centres = cells.places.clamp(0.01, 0.99)
        anchors = torch.cat([centres, torch.full_like(centres, self.size)], -1).logit()
        known = self.propose(cells.memory)
        logits, boxes = read(known, anchors.expand(known.shape[0], -1, -1))
        scores = logits.detach().amax(-1)
        real = torch.full_like(scores[:, :1], scores.shape[1])
        if cells.padding is not None:
            scores, real = scores.masked_fill(cells.padding, -torch.inf), (~cells.padding).sum(1, keepdim=True)
        best = scores.sort(dim=1, descending=True, stable=True).indices
        # A picture of fewer cells than queries gives each cell to several.
        best = best.gather(1, torch.arange(self.num_queries, device=best.device) % real.long().clamp(min=1))
        known, chosen = (x.gather(1, best[..., None].expand(-1, -1, x.shape[2])) for x in (known, boxes.detach()))
        return Start(self.content + known, chosen, (logits, boxes))


def _spread_out(num_queries: int) -> Float[Tensor, "queries 4"]:
    """Anchors of a fifth of the picture's side, their centres spread evenly over it (logits)."""
    sobol = torch.quasirandom.SobolEngine(2, scramble=True, seed=0)
    centres = sobol.draw(num_queries).clamp(0.02, 0.98)
    return torch.cat([centres, torch.full((num_queries, 2), 0.2)], dim=1).logit()
