"""The DETR network: padding changes nothing, every kind is trained as a whole, what does not fit is refused."""

import pytest
import torch

from core import Decoder, Encoder
from tasks.detr.backbone import ConvStem, TimmBackbone
from tasks.detr.classification import FocalClassification
from tasks.detr.denoising import Denoising
from tasks.detr.losses import SetLoss
from tasks.detr.matcher import HungarianMatcher
from tasks.detr.model import DETR
from tasks.detr.targets import gather_targets
from tests.core.helpers import ATTENTIONS, with_each
from tests.tasks.detr.helpers import KINDS, QUERIES, WIDTH, detr, objects, padded, training_loss

SIZES = [(29, 17), (12, 40), (33, 8)]
every_kind = pytest.mark.parametrize("kind", KINDS)


@with_each(ATTENTIONS)
@pytest.mark.parametrize("kind", ["plain", "dab", "proposals"])
def test_a_picture_alone_is_what_it_is_in_a_batch(kind, attention):
    model = detr(kind, attention=attention).eval()
    image, padding = padded(*SIZES)
    logits, boxes = model(image, padding)
    for number, (height, width) in enumerate(SIZES):
        alone = model(image[number : number + 1, :, :height, :width])
        torch.testing.assert_close(logits[number], alone[0][0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(boxes[number], alone[1][0], rtol=1e-5, atol=1e-5)


def test_what_lies_in_padding_changes_nothing():
    model = detr("dab").eval()
    image, padding = padded(*SIZES)
    garbage = image.masked_fill(padding[:, None], torch.nan)
    torch.testing.assert_close(model(garbage, padding), model(image, padding))


def test_a_mask_without_padding_is_no_mask():
    model = detr("dab").eval()
    image, padding = padded((16, 16), (16, 16))
    torch.testing.assert_close(model(image, padding), model(image), rtol=0, atol=0)


def test_with_a_timm_backbone_pictures_are_equal_from_its_features_on():
    """Its convolutions see the padding; what comes after does not."""
    model = detr("plain").eval()
    model.backbone = TimmBackbone("test_resnet", stage=2)
    model.projection = torch.nn.Conv2d(model.backbone.num_features, WIDTH, 1)
    image, padding = padded((64, 48), (32, 64))
    features, cells = model.backbone(image, padding)
    assert cells is not None
    assert cells.shape == (2, *features.shape[2:])
    rows, columns = (~cells[1]).any(1).sum(), (~cells[1]).any(0).sum()

    class Given(torch.nn.Module):
        def forward(self, image, padding_mask):
            return (features, cells) if len(image) == 2 else (features[1:, :, :rows, :columns], None)

    model.backbone = Given()
    torch.testing.assert_close(model(image, padding)[1][1], model(image[1:])[1][0], rtol=1e-5, atol=1e-5)


def test_the_backbone_of_timm_is_frozen_in_its_norms():
    backbone = TimmBackbone("test_resnet").train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    backbone(torch.randn(2, 3, 32, 32), None)
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert not [name for name, _ in backbone.named_parameters() if ".bn" in name]


@every_kind
@pytest.mark.parametrize("counts", [(2, 0, 3), (0, 0, 0)], ids=["objects", "none"])
@pytest.mark.parametrize("norm_first", [True, False])
def test_gradients_reach_every_parameter(kind, counts, norm_first):
    """Also where no picture has an object, as distributed training asks."""
    model = detr(kind, norm_first=norm_first)
    image, padding = padded(*SIZES)
    loss = training_loss(model, image, padding, gather_targets(*objects(*counts)))
    loss.backward()
    assert torch.isfinite(loss)
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


def test_each_layer_refines_the_anchors_of_the_one_before():
    model = detr("dab").eval()
    with torch.no_grad():
        for parameter in model.box_head[-1].parameters():
            parameter.zero_()
        model.box_head[-1].bias.copy_(torch.tensor([0.3, -0.2, 0.1, 0.0]))
    found = model.find(*padded((16, 16))).found
    steps = found.boxes.logit() - model.queries.anchors
    torch.testing.assert_close(steps[0, 0], torch.tensor([0.3, -0.2, 0.1, 0.0]).expand(QUERIES, 4), rtol=0, atol=1e-4)
    torch.testing.assert_close(steps[1], 2 * steps[0], rtol=0, atol=1e-4)


def test_proposed_queries_stand_at_the_likeliest_cells_and_know_what_those_know():
    model = detr("proposals").eval()
    cells = model.encode(padded((32, 48))[0], None)
    start = model.queries.start(cells, model._read)
    assert start.proposed is not None
    logits, boxes = start.proposed
    best = logits[0].amax(-1).argsort(descending=True)[:QUERIES]
    torch.testing.assert_close(start.anchors[0], boxes[0, best])
    known = model.queries.propose(cells.memory)[0, best]
    torch.testing.assert_close(start.content[0], model.queries.content + known)


def test_a_stem_halves_and_rounds_up():
    stem = ConvStem([4, 8, 8])
    image, padding = padded((13, 9), (5, 21))
    features, cells = stem(image, padding)
    assert features.shape == (2, 8, 2, 3)
    assert (~cells).any(2).sum(1).tolist() == [2, 1]
    assert (~cells).any(1).sum(1).tolist() == [2, 3]
    assert features.masked_select(cells[:, None]).abs().max() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvStem([]), r"widths=\[\]"),
        (lambda: ConvStem([4], [1, 2]), r"depths=\[1, 2\]"),
        (lambda: TimmBackbone("resnet_of_nobody"), "resnet_of_nobody"),
        (lambda: Denoising(8, 2, num_groups=0), "num_groups=0"),
        (lambda: Denoising(8, 2, box_noise=1.0), "box_noise=1.0"),
        (lambda: FocalClassification(alpha=0.0), "alpha=0.0"),
        (lambda: HungarianMatcher(0.0, 0.0, 0.0), "nor all 0"),
        (lambda: SetLoss(-1.0), "none may be negative"),
        (lambda: _of(decoder=Decoder(8, 2, 1)), "width 8"),
        (lambda: _of(decoder=Decoder(16, 2, 1, cross_attention=None)), "encoder-decoder attention"),
        (lambda: _of(num_classes=0), "num_classes=0"),
        (lambda: _of(denoising=Denoising), "AnchorQueries"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def _of(**arguments) -> DETR:
    parts = {"decoder": Decoder(16, 2, 1), "num_classes": 2} | arguments
    return DETR(ConvStem([4]), Encoder(16, 2, 1), **parts)
