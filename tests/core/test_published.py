"""BERT, GPT-2 and Marian out of the core's parts are those of transformers: numbers, and words that they choose."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
)

from core.cache import DecoderCache
from core.masks import padding_mask
from tests.core.helpers import assert_same, randomise
from tests.core.published import GPT2, Bert, Marian, bert_weights, gpt2_weights, marian_order, marian_weights

VOCABULARY, PAD = 31, 30
NO_END = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": PAD}
LENGTHS = torch.tensor([7, 3, 1, 5])
PADDING = padding_mask(LENGTHS)

whole_and_padded = pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])


def token_ids(length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, PAD, (4, length), generator=torch.Generator().manual_seed(seed))


def randomised(theirs: PreTrainedModel) -> PreTrainedModel:
    randomise(theirs, std=0.9)  # wide enough for the words to depend on the prompt and on the source
    return theirs.eval()


def bert() -> tuple[Bert, PreTrainedModel]:
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=24,
        max_position_embeddings=12,
        layer_norm_eps=0.1,  # else a forgotten one would be lost in the tolerance
    )
    theirs = randomised(BertModel(config, add_pooling_layer=False))
    ours = Bert(config).eval()
    ours.load_state_dict(bert_weights(theirs))
    return ours, theirs


def gpt2() -> tuple[GPT2, PreTrainedModel]:
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=16, n_layer=3, n_head=4, n_positions=32, layer_norm_epsilon=0.1, **NO_END
    )
    theirs = randomised(GPT2LMHeadModel(config))
    ours = GPT2(config).eval()
    ours.load_state_dict(gpt2_weights(theirs.transformer))
    return ours, theirs


def marian(scale_embedding: bool = True) -> tuple[Marian, PreTrainedModel]:
    config = MarianConfig(
        vocab_size=VOCABULARY,
        d_model=16,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=40,
        max_position_embeddings=32,
        activation_function="swish",
        scale_embedding=scale_embedding,
        decoder_start_token_id=PAD,
        forced_eos_token_id=None,
        **NO_END,
    )
    theirs = randomised(MarianMTModel(config))
    theirs.final_logits_bias.normal_(generator=torch.Generator().manual_seed(3))
    ours = Marian(config).eval()
    ours.load_state_dict(marian_weights(theirs))
    return ours, theirs


@whole_and_padded
@torch.no_grad()
def test_bert(padded):
    ours, theirs = bert()
    ids, segments = token_ids(7), token_ids(7, seed=1) % 2
    padding = PADDING if padded else torch.zeros_like(PADDING)
    expected = theirs(ids, token_type_ids=segments, attention_mask=(~padding).long()).last_hidden_state
    assert_same(ours(ids, segments, padding if padded else None)[~padding], expected[~padding], 1e-4)


@whole_and_padded
@torch.no_grad()
def test_gpt2(padded):
    ours, theirs = gpt2()
    ids, padding = token_ids(7), PADDING if padded else torch.zeros_like(PADDING)
    expected = theirs(ids, attention_mask=(~padding).long()).logits
    assert_same(ours(ids, padding if padded else None)[~padding], expected[~padding], 1e-4)


@whole_and_padded
@pytest.mark.parametrize("scale_embedding", [False, True])
@torch.no_grad()
def test_marian(scale_embedding, padded):
    ours, theirs = marian(scale_embedding)
    source, target = token_ids(7), token_ids(6, seed=1)
    padding = PADDING if padded else torch.zeros_like(PADDING)
    target_padding = padding_mask(torch.tensor([2, 6, 4, 1])) if padded else torch.zeros(4, 6).bool()
    expected = theirs(
        source,
        attention_mask=(~padding).long(),
        decoder_input_ids=target,
        decoder_attention_mask=(~target_padding).long(),
    )
    memory = ours.encode(source, padding if padded else None)
    logits = ours(target, memory, padding if padded else None, target_padding if padded else None)
    assert_same(memory[~padding], expected.encoder_last_hidden_state[~padding][:, marian_order(16)], 1e-4)
    assert_same(logits[~target_padding], expected.logits[~target_padding], 1e-4)


Step = Callable[[Tensor, Tensor | None, DecoderCache], Tensor]


@torch.inference_mode()
def greedy(step: Step, cache: DecoderCache, ids: Tensor, padding: Tensor | None, end: int | None, num: int) -> Tensor:
    """Takes the likeliest token that was not yet said, `num` times; a sequence that has ended goes on as padding."""
    last = ids.shape[1] - 1 if padding is None else (~padding).sum(1) - 1
    logits = step(ids, padding, cache)[torch.arange(len(ids)), last]
    said, ended, chosen = F.one_hot(ids, VOCABULARY).amax(1).bool(), torch.zeros(len(ids), dtype=torch.bool), []
    said[:, PAD] = True
    while True:
        chosen.append(logits.masked_fill(said, -torch.inf).argmax(-1).masked_fill(ended, PAD))
        said, ended = said | F.one_hot(chosen[-1], VOCABULARY).bool(), ended | (chosen[-1] == end)
        if len(chosen) == num or ended.all():
            return torch.stack(chosen, 1)
        logits = step(chosen[-1][:, None], ended[:, None] if ended.any() else None, cache)[:, 0]


def generate(theirs: nn.Module, ids: Tensor, attention_mask: Tensor, end: int | None, num: int) -> Tensor:
    """The same by transformers; models of random weights would say one word for ever, so that none is said twice."""
    config = GenerationConfig(
        max_new_tokens=num,
        do_sample=False,
        no_repeat_ngram_size=1,
        suppress_tokens=[PAD],
        **NO_END | {"eos_token_id": end},
    )
    return theirs.generate(ids, attention_mask=attention_mask, generation_config=config)


def ends(tokens: Tensor) -> list[int | None]:
    """None, and the tokens that end some sequences early and others late."""
    return [None, int(tokens[0, 3]), int(tokens[1, 7])]


def test_gpt2_says_the_same():
    """With each one's cache; transformers pads prompts on the left, ours stand at the left and are padded behind."""
    ours, theirs = gpt2()
    ids = token_ids(7).masked_fill(PADDING, PAD)
    left = torch.stack([row.roll(int(gap)) for row, gap in zip(ids, PADDING.sum(1), strict=True)])
    free = generate(theirs, left, (left != PAD).long(), None, 15)[:, 7:]
    assert len(free.unique(dim=0)) == 4
    for end in ends(free):
        expected = generate(theirs, left, (left != PAD).long(), end, 15)[:, 7:]
        assert torch.equal(greedy(ours, ours.decoder.make_cache(), ids, PADDING, end, 15), expected)
    for row, length in enumerate(LENGTHS):  # alone, where nothing is padded
        alone = greedy(ours, ours.decoder.make_cache(), ids[row : row + 1, :length], None, None, 15)
        assert torch.equal(alone[0], free[row])


def test_marian_translates_the_same():
    ours, theirs = marian()
    source = token_ids(7).masked_fill(PADDING, PAD)
    with torch.inference_mode():
        memory = ours.encode(source, PADDING)

    def step(ids: Tensor, padding: Tensor | None, cache: DecoderCache) -> Tensor:
        return ours(ids, memory, PADDING, padding, cache)

    free = generate(theirs, source, (~PADDING).long(), None, 15)[:, 1:]
    assert len(free.unique(dim=0)) == 4
    for end in ends(free):
        expected = generate(theirs, source, (~PADDING).long(), end, 15)[:, 1:]
        start = torch.full((4, 1), PAD)
        assert torch.equal(greedy(step, ours.decoder.make_cache(), start, None, end, 15), expected)
