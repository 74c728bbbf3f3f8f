"""The glossary: the shapes that pass between the parts of the core, and the polarity of masks, said once.

Dimensions:
    batch       sequences computed together
    length      tokens of a sequence; `query_len` and `key_len` where the two differ
    embed_dim   width of a token between the parts (d_model in Vaswani et al. 2017)
    heads       attention heads (h)
    head_dim    width of a token inside a head (d_k = d_v = embed_dim / heads)

Masks are boolean and **True means "left out"**, as in `torch.nn.MultiheadAttention`:
    key_padding_mask   (batch, key_len)      True = this key is padding: nobody attends to it
    attn_mask          (query_len, key_len)  True = this query may not see this key
    is_causal          query i sees the keys up to its own position, the last query standing at the last key
`torch.nn.functional.scaled_dot_product_attention` has the opposite polarity; it is inverted in one place only,
`core.attention.full`.
"""

from jaxtyping import Bool, Float
from torch import Tensor

Tokens = Float[Tensor, "batch length embed_dim"]
Queries = Float[Tensor, "batch query_len embed_dim"]
Keys = Float[Tensor, "batch key_len embed_dim"]

HeadQueries = Float[Tensor, "batch heads query_len head_dim"]
HeadKeys = Float[Tensor, "batch heads key_len head_dim"]

KeyPaddingMask = Bool[Tensor, "batch key_len"]
AttentionMask = Bool[Tensor, "query_len key_len"]
