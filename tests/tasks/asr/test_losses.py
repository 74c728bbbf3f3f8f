"""The losses: CTC against the sum over all paths, cross-entropy against torch's mean."""

from itertools import groupby, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.asr.feasibility import Infeasible, needed_frames
from tasks.asr.losses import ctc_loss, shift, token_loss
from tasks.errors import TaskError


def of_all_paths(probs, tokens):
    """p(tokens): the sum over all paths of frames that collapse to them; the last output is the blank."""
    blank, total = probs.shape[1] - 1, torch.zeros(())
    for path in product(range(probs.shape[1]), repeat=len(probs)):
        if [label for label, _ in groupby(path) if label != blank] == list(tokens):
            total = total + probs[range(len(path)), path].prod()
    return total


@pytest.mark.parametrize("texts", [[(0, 1), (1, 1)], [(0,), ()], [(0, 1, 0), (1,)]])
def test_ctc_is_the_sum_over_all_paths_and_so_is_its_gradient(texts):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(texts), 5, 3, generator=generator, requires_grad=True)
    frames = torch.tensor([5, 3])
    lengths = torch.tensor([len(text) for text in texts])
    tokens = torch.tensor([[*text, *[0] * (3 - len(text))] for text in texts])
    kept = frames >= needed_frames(tokens, lengths)
    assert kept.all()
    loss = ctc_loss(logits.log_softmax(-1), frames, tokens, lengths, kept).value
    probs = logits.softmax(-1)
    each = [-of_all_paths(probs[i, : frames[i]], text).log() for i, text in enumerate(texts)]
    expected = sum(each) / lengths.clamp(min=1).sum()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, logits, retain_graph=True)[0], torch.autograd.grad(expected, logits)[0]
    )


def test_what_is_skipped_changes_neither_loss_nor_gradient():
    logits = torch.randn(3, 4, 3, requires_grad=True)
    frames, lengths = torch.tensor([4, 3, 2]), torch.tensor([2, 2, 2])
    tokens = torch.tensor([[0, 1], [1, 1], [1, 1]])
    kept = frames >= needed_frames(tokens, lengths)
    assert kept.tolist() == [True, True, False]
    log_probs = logits.log_softmax(-1)
    loss = ctc_loss(log_probs, frames, tokens, lengths, kept).value
    alone = ctc_loss(log_probs[:2], frames[:2], tokens[:2], lengths[:2], kept[:2]).value
    torch.testing.assert_close(loss, alone)
    gradient = torch.autograd.grad(loss, logits)[0]
    assert gradient.isfinite().all()
    assert not gradient[2].any()
    assert ctc_loss(logits.log_softmax(-1), frames, tokens, lengths, torch.ones(3).bool()).value.isinf()


def test_a_batch_of_nothing_to_learn_has_a_loss_of_zero_with_gradients():
    logits = torch.randn(2, 4, 3, requires_grad=True)
    nothing, lengths = torch.zeros(2).bool(), torch.tensor([2, 1])
    tokens = torch.zeros(2, 2).long()
    _, labels = shift(tokens, lengths, [2], 2)
    loss = ctc_loss(logits.log_softmax(-1), torch.tensor([4, 4]), tokens, lengths, nothing).value
    loss = loss + token_loss(logits[:, :3], labels, nothing).value
    assert loss == 0
    assert not torch.autograd.grad(loss, logits)[0].any()


def test_utterances_of_no_frames_or_no_text_have_a_finite_loss():
    logits = torch.randn(3, 4, 3, requires_grad=True)
    frames, lengths = torch.tensor([4, 0, 2]), torch.tensor([1, 0, 0])
    tokens = torch.zeros(3, 1).long()
    loss = ctc_loss(logits.log_softmax(-1), frames, tokens, lengths, frames >= needed_frames(tokens, lengths)).value
    assert loss.isfinite()
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()
    empty = ctc_loss(torch.zeros(2, 0, 3), torch.zeros(2).long(), torch.zeros(2, 0).long(), torch.zeros(2).long(),
                     torch.ones(2).bool())  # fmt: skip
    assert empty.value == 0
    assert needed_frames(torch.zeros(2, 0).long(), torch.zeros(2).long()).tolist() == [0, 0]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_decoders_loss_is_torchs_mean_over_what_counts(smoothing):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, generator=generator)
    _, labels = shift(torch.tensor([[1, 2, 3], [1, 0, 0], [2, 2, 0]]), torch.tensor([3, 1, 2]), [4], 4)
    assert labels.tolist() == [[1, 2, 3, 4], [1, 4, -100, -100], [2, 2, 4, -100]]
    loss = token_loss(logits, labels, torch.tensor([True, True, False]), smoothing).value
    expected = torch.nn.functional.cross_entropy(
        torch.cat([logits[0], logits[1, :2]]), torch.tensor([1, 2, 3, 4, 1, 4]), label_smoothing=smoothing
    )
    torch.testing.assert_close(loss, expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 1), max_size=4), st.integers(0, 5))
def test_feasible_is_what_has_a_path(text, frames):
    tokens = torch.tensor([[*text, 0, 0]])
    probs = torch.full((frames, 3), 1 / 3)
    needed = int(needed_frames(tokens, torch.tensor([len(text)])))
    assert (frames >= needed) == (of_all_paths(probs, text) > 0)


def test_infeasible_ones_are_counted_listed_and_limited():
    counter = Infeasible(limit=0.25)
    tokens, lengths = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 0]]), torch.tensor([2, 2, 1, 1])
    frames = torch.tensor([2, 2, 1, 1])
    needed = needed_frames(tokens, lengths)
    with pytest.warns(UserWarning, match=r"one\.wav \(2 frames, its text needs 3\)"):
        counter.update(frames >= needed, ["one.wav", "two.wav", "3", "4"], frames, needed)
    counter.check("training")
    counter.update(torch.tensor([False, False]), ["one.wav", "two.wav"], frames[:2], needed[:2])
    with pytest.raises(TaskError, match=r"2 of 2 utterances of the training part .* two\.wav .*text pieces") as error:
        counter.check("training")
    assert "\n" not in str(error.value)
    counter.check("training")
    with pytest.raises(ValueError, match="max_infeasible=2"):
        Infeasible(2.0)
