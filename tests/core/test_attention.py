"""Conformance: every mechanism of the table x every property that the contract promises."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.attention import FullAttention
from core.cache import Past
from core.masks import padding_mask
from tests.core.mechanisms import DEVICE, assert_close, cases, dense_softmax, every_mechanism, honoured_masks

pytestmark = pytest.mark.usefixtures("small_chunks")


@every_mechanism
@given(data=st.data())
def test_equals_the_oracle_with_every_combination_of_masks(mechanism, data):
    drawn = data.draw(cases(mechanism))
    for used in honoured_masks(mechanism):
        case = replace(drawn, used=used)
        output = mechanism.make()(case.q, case.k, case.v, **case.masks())
        assert output.dtype == case.q.dtype
        expected = mechanism.oracle(case.q.double(), case.k.double(), case.v.double(), case.blocked())
        assert_close(output, expected, f"masks {sorted(used)}")


@every_mechanism
@given(data=st.data())
def test_gradients_are_those_of_the_oracle(mechanism, data):
    drawn = data.draw(cases(mechanism, torch.float32))
    for used in honoured_masks(mechanism):
        case = replace(drawn, used=used)
        leaves, exact = case.leaves(), [x.double().detach().requires_grad_() for x in case.leaves()]
        gradients = case.gradients(mechanism.make()(*leaves, **case.masks()), leaves)
        expected = case.gradients(mechanism.oracle(*exact, case.blocked()), exact)
        for name, gradient, exact_gradient in zip("qkv", gradients, expected, strict=True):
            assert gradient.isfinite().all()
            assert_close(gradient, exact_gradient.float(), f"gradient of {name} with masks {sorted(used)}")


@every_mechanism
@given(data=st.data(), garbage=st.sampled_from([7.0, 1e30, math.inf, -math.inf, math.nan]))
def test_padding_holds_nothing(mechanism, data, garbage):
    drawn = data.draw(cases(mechanism))
    for used in honoured_masks(mechanism):
        case = replace(drawn, used=used | {"key_padding_mask"})
        padded = case.key_padding_mask[:, None, :, None]
        spoilt = replace(case, k=case.k.masked_fill(padded, garbage), v=case.v.masked_fill(padded, garbage))
        results = []
        for one in (case, spoilt):
            leaves = one.leaves()
            output = mechanism.make()(*leaves, **one.masks())
            results.append((output, *case.gradients(output, leaves)))
        for name, clean, dirty in zip(["output", "dq", "dk", "dv"], *results, strict=True):
            assert dirty.isfinite().all(), name
            assert_close(dirty, clean, name)
        for gradient in results[1][2:]:
            assert (gradient.masked_select(padded) == 0).all()


@every_mechanism
@given(data=st.data())
def test_a_query_without_keys_gives_zeros(mechanism, data):
    drawn = data.draw(cases(mechanism))
    for used in honoured_masks(mechanism):
        padding = drawn.key_padding_mask.clone()
        padding[0] = True
        case = replace(drawn, key_padding_mask=padding, used=used | {"key_padding_mask"})
        leaves = case.leaves()
        output = mechanism.make()(*leaves, **case.masks())
        assert (output[0] == 0).all()
        assert (output.masked_select(case.blocked().all(-1, keepdim=True)) == 0).all()
        for gradient in case.gradients(output, leaves):
            assert gradient.isfinite().all()
            assert (gradient[0] == 0).all()


@every_mechanism
@given(data=st.data())
def test_no_gradient_from_the_future(mechanism, data):
    if "is_causal" in mechanism.refuses:
        return
    case = data.draw(cases(mechanism, torch.float32))
    query_len, key_len = case.q.shape[2], case.k.shape[2]
    query = data.draw(st.integers(0, query_len - 1))
    now = query + key_len - query_len  # the last query stands at the last key
    leaves = case.leaves()
    output = mechanism.make()(*leaves, is_causal=True)
    dq, dk, dv = torch.autograd.grad(output[:, :, query].sum(), leaves)
    assert (dk[:, :, now + 1 :] == 0).all()
    assert (dv[:, :, now + 1 :] == 0).all()
    assert (dv[:, :, now] != 0).all()  # its own position it does see
    assert (dq[:, :, :query] == 0).all()
    assert (dq[:, :, query + 1 :] == 0).all()


@every_mechanism
@given(data=st.data())
def test_causal_steps_equal_the_whole(mechanism, data):
    """A query at a time over growing keys, as a cache would ask, is the same as all at once."""
    if mechanism.refuses & {"is_causal", "cross"}:
        return
    case = data.draw(cases(mechanism, torch.float32))
    length, attention = case.k.shape[2], mechanism.make()
    q = case.k.flip(2)
    whole = attention(q, case.k, case.v, is_causal=True)
    for step in range(length):
        seen = slice(0, step + 1)
        one = attention(q[:, :, step : step + 1], case.k[:, :, seen], case.v[:, :, seen], is_causal=True)
        assert_close(one[:, :, 0], whole[:, :, step], f"step {step}")


@every_mechanism
@given(data=st.data())
def test_training_equals_evaluation_without_dropout(mechanism, data):
    case = data.draw(cases(mechanism))
    attention = mechanism.make()
    for used in honoured_masks(mechanism):
        masks = replace(case, used=used).masks()
        trained = attention.train()(case.q, case.k, case.v, **masks)
        assert torch.equal(trained, attention.eval()(case.q, case.k, case.v, **masks))


@every_mechanism
def test_dropout_acts_in_training_only(mechanism):
    if mechanism.with_dropout is None:
        return
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 8, 4, device=DEVICE).expand(-1, 2000, -1, -1, -1).unbind(0)
    attention, exact = mechanism.with_dropout(), mechanism.make()(q, k, v)
    assert_close(attention.eval()(q, k, v), exact, "evaluation")
    trained = attention.train()(q, k, v)
    assert (trained - exact).abs().max() > 0.1
    torch.testing.assert_close(trained.mean(0), exact[0], atol=0.15, rtol=0)  # unbiased


@every_mechanism
@given(data=st.data())
def test_decoding_with_a_cache_equals_the_whole(mechanism, data):
    """Prompts of unequal length, then tokens singly and several at a time, some rows being padding."""
    if "is_causal" in mechanism.refuses:
        return
    case, attention = data.draw(cases(mechanism, torch.float32)), mechanism.make()
    batch, length = len(case.k), case.k.shape[2]
    q, cache, past = case.k.flip(2), attention.make_cache(), Past()
    expected = attention(q, case.k, case.v, is_causal=True)
    done = torch.zeros(batch, dtype=torch.long)
    for _ in range(4):
        counts = torch.tensor([data.draw(st.integers(0 if past.longest else 1, 3)) for _ in range(batch)])
        counts = torch.minimum(counts, length - done)
        width = int(counts.max())
        if width == 0:
            break
        padding = padding_mask(counts).to(DEVICE)
        places = (done[:, None] + torch.arange(width)).clamp(max=length - 1).to(DEVICE)
        rows = torch.arange(batch, device=DEVICE)[:, None]
        new = [x[rows, :, places].transpose(1, 2) for x in (q, case.k, case.v)]
        spoilt = [x.masked_fill(padding[:, None, :, None], math.nan) for x in new[1:]]
        mask = padding if padding.any() else None
        mixed = attention.decode(new[0], *spoilt, cache, past, key_padding_mask=mask)
        past, done = past.advance(width, mask), done + counts
        for row, place in (~padding).nonzero().tolist():
            assert_close(mixed[row, :, place], expected[row, :, places[row, place]], f"row {row}, place {place}")


@every_mechanism
@given(data=st.data())
def test_wide_enough_it_is_full_attention(mechanism, data):
    if mechanism.wide is None:
        return
    drawn = data.draw(cases(mechanism, torch.float32))
    for used in honoured_masks(mechanism):
        case = replace(drawn, used=used)
        output = mechanism.wide(case.k.shape[2])(case.q, case.k, case.v, **case.masks())
        assert_close(output, dense_softmax(case.q, case.k, case.v, case.blocked()), f"masks {sorted(used)}")


@every_mechanism
def test_refusals_raise(mechanism):
    for construct, message in mechanism.refused_constructions:
        with pytest.raises(ValueError, match=message):
            construct()
    q, k = torch.randn(1, 1, 3, 4, device=DEVICE), torch.randn(1, 1, 2, 4, device=DEVICE)
    with pytest.raises(ValueError, match=r"causal|key_len"):  # the first query would have nothing to see
        mechanism.make()(q, k, k, is_causal=True)
    calls = {
        "attn_mask": lambda: mechanism.make()(q, q, q, attn_mask=torch.eye(3, dtype=torch.bool, device=DEVICE)),
        "is_causal": lambda: mechanism.make()(q, q, q, is_causal=True),
        "cross": lambda: mechanism.make()(q, k, k),
    }
    for name, call in calls.items():
        if name in mechanism.refuses:
            with pytest.raises(ValueError, match=r"attn_mask|is_causal|query_len|key_len"):
                call()
        else:
            assert call().shape == q.shape


def test_full_attention_by_hand():
    """Scores ln 1 and ln 3 give the weights 1/4 and 3/4."""
    q = torch.tensor([[[[math.log(3.0)]]]])
    k = torch.tensor([[[[0.0], [1.0]]]])
    v = torch.tensor([[[[4.0], [8.0]]]])
    torch.testing.assert_close(FullAttention()(q, k, v), torch.tensor([[[[7.0]]]]))
    blocked = torch.tensor([[False, True]])
    torch.testing.assert_close(FullAttention()(q, k, v, attn_mask=blocked), torch.tensor([[[[4.0]]]]))
    torch.testing.assert_close(FullAttention()(q, k, v, key_padding_mask=~blocked), torch.tensor([[[[8.0]]]]))
