"""The set loss and the denoising queries."""

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss
from transformers import DetrConfig
from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss

from tasks.detr.classification import FocalClassification, SoftmaxClassification
from tasks.detr.denoising import Denoising
from tasks.detr.losses import SetLoss, total
from tasks.detr.matcher import HungarianMatcher
from tasks.detr.targets import gather_targets
from tests.tasks.detr.helpers import CLASSES, QUERIES, WIDTH, detr, objects, padded
from tests.tasks.detr.test_matcher import found


@pytest.mark.parametrize("counts", [(4, 0, 6), (0, 0, 0)])
def test_transformers_has_the_same_total(counts):
    """Class, box and generalised IoU of all layers, weighed as published."""
    guesses, (boxes, labels) = found(3, 3, 9), objects(*counts)
    config = DetrConfig(num_labels=CLASSES, decoder_layers=3, auxiliary_loss=True, use_timm_backbone=False)
    theirs, _, _ = ForObjectDetectionLoss(
        guesses.logits[-1],
        [{"class_labels": label, "boxes": box} for box, label in zip(boxes, labels, strict=True)],
        torch.device("cpu"),
        guesses.boxes[-1],
        config,
        guesses.logits,
        guesses.boxes,
    )
    targets, classification = gather_targets(boxes, labels), SoftmaxClassification(config.eos_coefficient)
    matches = HungarianMatcher()(guesses, targets, classification)
    ours = total(SetLoss().of_matches(guesses, targets, matches, classification))
    torch.testing.assert_close(ours, theirs)


def test_focal_loss_is_torchvisions():
    logits = torch.randn(2, 3, 5, CLASSES)
    labels = torch.randint(CLASSES + 1, (2, 3, 5))
    one_hot = torch.nn.functional.one_hot(labels, CLASSES + 1)[..., :-1].float()
    theirs = sigmoid_focal_loss(logits, one_hot, alpha=0.3, gamma=1.5).flatten(1).sum(1) / 4
    torch.testing.assert_close(FocalClassification(0.3, 1.5).loss(logits, labels, 4).value, theirs)


def test_a_skipped_picture_counts_in_no_loss():
    boxes, labels = objects(2, 3)
    boxes[1][0, 0] = torch.nan
    for classification in (SoftmaxClassification(), FocalClassification()):
        guesses = found(2, 2, 5, classification.num_logits(CLASSES))
        both, one = gather_targets(boxes, labels), gather_targets(boxes[:1], labels[:1])
        first = type(guesses)(*(x[:, :1] for x in guesses))
        matcher = HungarianMatcher()
        losses = SetLoss().of_matches(guesses, both, matcher(guesses, both, classification), classification)
        expected = SetLoss().of_matches(first, one, matcher(first, one, classification), classification)
        torch.testing.assert_close(losses, expected)


def noised_of(*counts: int, **arguments):
    torch.manual_seed(0)
    denoising = Denoising(WIDTH, CLASSES, num_groups=2, **arguments)
    return denoising, denoising(gather_targets(*objects(*counts)))


def test_noise_stays_within_its_bounds():
    _, noised = noised_of(40, 7, label_noise=0.0, box_noise=0.4)
    boxes, true = noised.anchors.sigmoid(), noised.boxes
    moved = ((boxes - true)[..., :2].abs() / true[..., 2:])[~noised.padding]
    grown = (boxes / true - 1)[..., 2:][~noised.padding]
    assert 0.15 < moved.max() <= 0.2 + 1e-4
    assert 0.3 < grown.abs().max() <= 0.4 + 1e-4


def test_labels_flip_as_often_as_they_should():
    denoising, noised = noised_of(500, label_noise=0.6)
    given = torch.cdist(noised.content, denoising.label.weight[None]).argmin(-1)
    share = (given != noised.labels).float().mean()
    assert 0.3 < share < 0.5  # 0.6 of them become any label, of which a third is the same


def test_without_noise_the_objects_are_given_themselves():
    _, noised = noised_of(3, 2, label_noise=0.0, box_noise=0.0)
    torch.testing.assert_close(noised.anchors.sigmoid()[~noised.padding], noised.boxes[~noised.padding])
    assert (~noised.padding).sum(1).tolist() == [6, 4]


def test_a_group_sees_no_other_group_and_queries_see_none():
    """By gradients: of each query's answer, to what each was given."""
    model = detr("dn").eval()
    image, padding = padded((16, 24), (24, 16))
    targets = gather_targets(*objects(2, 1))
    assert model.denoising is not None
    noised = model.denoising(targets)
    content = noised.content.detach().requires_grad_()
    found_, restored, *_ = model.find(image, padding, noised._replace(content=content))
    said = found_.logits.sum() + found_.boxes.sum()
    (gradient,) = torch.autograd.grad(said, content, retain_graph=True, allow_unused=True)
    assert gradient is None or gradient.abs().max() == 0
    assert restored is not None
    size = noised.group_size
    (gradient,) = torch.autograd.grad(restored.logits[:, 0, :size].sum(), content, retain_graph=True)
    assert (gradient[0].abs().sum(-1) > 0).tolist() == [True] * size + [False] * (len(gradient[0]) - size)
    assert gradient[1].abs().max() == 0
    (gradient,) = torch.autograd.grad(restored.logits[:, 1, 0].sum(), content)
    seen = gradient[1].abs().sum(-1) > 0
    assert seen[0]
    assert not seen[1:size].any()  # that slot is padding


def test_denoising_changes_nothing_that_is_found():
    model = detr("dn").eval()
    image, padding = padded((16, 24), (24, 16))
    assert model.denoising is not None
    found_, restored, *_ = model.find(image, padding, model.denoising(gather_targets(*objects(2, 3))))
    torch.testing.assert_close(found_, model.find(image, padding).found)
    assert restored is not None
    assert restored.boxes.shape[2] == 3 * model.denoising.num_groups
    assert found_.boxes.shape[2] == QUERIES
