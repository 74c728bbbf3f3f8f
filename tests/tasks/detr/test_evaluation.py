import json
import math
import random
from datetime import timedelta

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import distributed, multiprocessing

from tasks.detr.evaluation import FIGURES, CocoEvaluation, format_figures, measured

NAMES = ["cat", "dog", "never there", "bird"]
CATEGORY_IDS = [7, 3, 90, 12]
NOTHING = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.long)}
PATIENCE = timedelta(seconds=60)
NO_TRUTH = {**NOTHING, "area": torch.zeros(0), "crowd": torch.zeros(0, dtype=torch.bool)}


def quarter(rng, low, high):
    return rng.randrange(round(4 * low), round(4 * high)) / 4


def random_data(seed, num_images=12, most=12):
    """COCO's two JSONs: truth with crowds, areas of their own, empty images and a class that is never there."""
    rng = random.Random(seed)
    annotations, results = [], []
    image_ids = rng.sample(range(1000), num_images)
    for image_id in image_ids:
        for _ in range(rng.choice([0, 1, most])):
            box = [quarter(rng, 0, 300), quarter(rng, 0, 300), quarter(rng, 0, 150), quarter(rng, 0, 150)]
            category = rng.choice([7, 3, 12])
            area = rng.choice([box[2] * box[3], 0.5 * box[2] * box[3], 0.0, 1024.0, 9216.0])
            annotations.append({"image_id": image_id, "category_id": category, "bbox": box, "area": area})
            annotations[-1] |= {"id": len(annotations), "iscrowd": int(rng.random() < 0.2)}
            for _ in range(rng.choice([0, 1, 3])):
                near = [side + rng.choice([0, 0, quarter(rng, -20, 20)]) for side in box[:2]]
                near += [max(0, side + rng.choice([0, 0, quarter(rng, -20, 20)])) for side in box[2:]]
                found = category if rng.random() < 0.8 else rng.choice(CATEGORY_IDS)
                score = rng.choice([0.5, rng.randrange(64) / 64])
                results.append({"image_id": image_id, "category_id": found, "bbox": near, "score": score})
        for _ in range(rng.choice([0, 0, 130]) if most > 1 else 0):
            box = [quarter(rng, 0, 300), quarter(rng, 0, 300), quarter(rng, 0, 150), quarter(rng, 0, 150)]
            results.append({"image_id": image_id, "category_id": 7, "bbox": box, "score": rng.randrange(1024) / 1024})
    images = [{"id": image_id, "width": 450, "height": 450} for image_id in image_ids]
    categories = [{"id": number, "name": name} for number, name in zip(CATEGORY_IDS, NAMES, strict=True)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def pycocotools(truth, results, tmp_path):
    """What pycocotools says of the same two files: the twelve figures, and precision by class."""
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    coco = COCO(str(tmp_path / "truth.json"))
    if results:
        found = coco.loadRes(str(tmp_path / "results.json"))
    else:  # loadRes cannot
        found = COCO()
        found.dataset = {**truth, "annotations": []}
        found.createIndex()
    evaluation = COCOeval(coco, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def tensors(entries):
    boxes = torch.tensor([entry["bbox"] for entry in entries]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = torch.tensor([CATEGORY_IDS.index(entry["category_id"]) for entry in entries], dtype=torch.long)
    return {"boxes": boxes, "labels": labels}


def ours(truth, results, batch_size=5):
    evaluation = CocoEvaluation(NAMES)
    feed(evaluation, truth, results, batch_size)
    return evaluation


def feed(evaluation, truth, results, batch_size=5, image_ids=None):
    ids = [image["id"] for image in truth["images"]] if image_ids is None else image_ids
    for first in range(0, len(ids), batch_size):
        batch = ids[first : first + batch_size]
        there = [[entry for entry in truth["annotations"] if entry["image_id"] == number] for number in batch]
        found = [[entry for entry in results if entry["image_id"] == number] for number in batch]
        evaluation.update(
            batch,
            [{**tensors(each), "scores": torch.tensor([entry["score"] for entry in each])} for each in found],
            [
                {
                    **tensors(each),
                    "area": torch.tensor([float(entry["area"]) for entry in each]),
                    "crowd": torch.tensor([bool(entry["iscrowd"]) for entry in each], dtype=torch.bool),
                }
                for each in there
            ],
        )


def as_good_as(stats):
    """The same to float64's last digits: pycocotools adds 2e-16 to the divisor of a precision, faster-coco-eval not."""
    return pytest.approx(stats.tolist(), abs=1e-14, rel=0)


def plain(figures):
    """COCO's way to say that there was nothing to measure."""
    return [-1 if figures[name] is None else figures[name] for name in FIGURES]


@pytest.mark.parametrize("seed", range(12))
def test_all_figures_are_those_of_pycocotools(seed, tmp_path):
    truth, results = random_data(seed)
    reference = pycocotools(truth, results, tmp_path)
    figures = ours(truth, results).compute()
    assert plain(figures) == as_good_as(reference.stats)
    assert min(figures["ap_small"], figures["ap_large"]) > 0.01, "else there is nothing to compare"
    for name, number in zip(NAMES, CATEGORY_IDS, strict=True):
        precision = reference.eval["precision"][:, :, sorted(CATEGORY_IDS).index(number), 0, 2]
        for figure, values in {"ap": precision, "ap50": precision[0]}.items():
            expected = pytest.approx(values.mean(), abs=1e-14) if (values > -1).all() else None
            assert figures[f"{figure}/{name}"] == expected


def test_random_data_has_every_case():
    data = [random_data(seed) for seed in range(12)]
    entries = [entry for truth, _ in data for entry in truth["annotations"]]
    assert any(entry["iscrowd"] for entry in entries)
    assert any(not entry["iscrowd"] and entry["area"] != entry["bbox"][2] * entry["bbox"][3] for entry in entries)
    assert any(
        image["id"] not in {entry["image_id"] for entry in truth["annotations"]}
        for truth, _ in data
        for image in truth["images"]
    )
    crowded = [
        sum((entry["image_id"], entry["category_id"]) == (image["id"], 7) for entry in results)
        for truth, results in data
        for image in truth["images"]
    ]
    assert max(crowded) > 100


@pytest.mark.parametrize("missing", ["detections", "truth", "small"])
def test_missing_parts_are_those_of_pycocotools(missing, tmp_path):
    truth, results = random_data(3)
    if missing == "detections":
        results = []
    if missing == "truth":
        truth["annotations"] = []
    if missing == "small":
        truth["annotations"] = [{**entry, "area": 2000.0} for entry in truth["annotations"]]
    reference = pycocotools(truth, results, tmp_path).stats
    assert plain(ours(truth, results).compute()) == as_good_as(reference)


def test_perfect_detections():
    box = torch.tensor([[10.0, 20.0, 110.0, 220.0]])
    evaluation = CocoEvaluation(NAMES)
    there = {"boxes": box, "labels": torch.tensor([1]), "area": torch.tensor([500.0]), "crowd": torch.tensor([False])}
    evaluation.update([4], [{"boxes": box, "scores": torch.tensor([0.3]), "labels": torch.tensor([1])}], [there])
    figures = evaluation.compute()
    assert figures["ap"] == figures["ap/dog"] == figures["ap_small"] == figures["ar1"] == 1
    assert figures["ap_large"] is None
    assert figures["ap/cat"] is None
    assert set(figures) == set(evaluation.names)


def test_nothing_at_all_can_be_measured():
    evaluation = CocoEvaluation(NAMES)
    assert set(evaluation.compute().values()) == {None}
    evaluation.update([1, 2], [NOTHING] * 2, [NO_TRUTH] * 2)
    assert set(evaluation.compute().values()) == {None}
    assert measured(evaluation.compute()) == {}


def test_reset_forgets_and_an_image_that_comes_twice_counts_once():
    truth, results = random_data(1)
    evaluation = ours(truth, results)
    figures = evaluation.compute()
    feed(evaluation, truth, results)
    assert evaluation.compute() == figures
    evaluation.reset()
    assert evaluation.compute()["ap"] is None


def test_nothing_is_printed(capfd):
    truth, results = random_data(1)
    ours(truth, results).compute()
    assert capfd.readouterr() == ("", "")


def test_later_changes_of_a_batch_do_not_matter():
    detections = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "scores": torch.ones(1), "labels": torch.tensor([0])}
    there = {**detections, "area": torch.tensor([81.0]), "crowd": torch.tensor([False])}
    evaluation = CocoEvaluation(NAMES)
    evaluation.update([1], [detections], [{key: value.clone() for key, value in there.items()}])
    detections["boxes"].zero_()
    assert evaluation.compute()["ap"] == 1


def test_half_precision_and_gradients_are_taken():
    boxes = torch.tensor([[0.0, 0, 8, 8]], requires_grad=True)
    detections = {"boxes": boxes.bfloat16(), "scores": torch.ones(1).half(), "labels": torch.tensor([0])}
    there = {
        **NO_TRUTH,
        "boxes": boxes,
        "labels": torch.tensor([0]),
        "area": torch.tensor([64]),
        "crowd": torch.zeros(1),
    }
    evaluation = CocoEvaluation(NAMES)
    evaluation.update([1], [detections], [there])
    assert evaluation.compute()["ap"] == 1


def test_detections_that_are_not_finite_are_refused():
    """Pycocotools would take a box of NaN for a match of anything."""
    bad = {"boxes": torch.full((1, 4), math.nan), "scores": torch.ones(1), "labels": torch.tensor([0])}
    with pytest.raises(ValueError, match=r"image 5: .* not finite"):
        CocoEvaluation(NAMES).update([5], [bad], [NO_TRUTH])


def test_format():
    assert format_figures({"ap": 0.12345, "ap_small": None}) == "ap        0.123\nap_small  n/a\n"
    assert format_figures({}) == ""
    assert measured({"ap": 0.0, "ap_small": None}) == {"ap": 0.0}


def measure_part(rank, port, folder, seed):
    store = distributed.TCPStore("127.0.0.1", port, timeout=PATIENCE)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=PATIENCE)
    truth, results = random_data(seed)
    ids = [image["id"] for image in truth["images"]]
    evaluation = CocoEvaluation(NAMES)
    # Each process has one image of the other's too, as samplers make parts of equal size.
    feed(evaluation, truth, results, image_ids=[*ids[rank::2], ids[1 - rank]])
    (folder / f"{rank}.json").write_text(json.dumps(evaluation.compute()))
    distributed.destroy_process_group()


def test_two_processes_measure_what_one_does(tmp_path):
    meeting = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    multiprocessing.start_processes(measure_part, (meeting.port, tmp_path, 2), nprocs=2, start_method="fork")
    truth, results = random_data(2)
    expected = ours(truth, results).compute()
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == expected
