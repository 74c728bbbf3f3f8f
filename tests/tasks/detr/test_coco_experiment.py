"""`configs/detr/detr_r50_coco.yaml` through the real command line, small: from a file, and on from there."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from tasks.detr.__main__ import main as detr
from tasks.detr.pretrained import COCO_IDS
from tests.tasks.detr.published import CONFIG, SMALL, facebook_names, reference, saved

FLAGS = [
    f"--config={CONFIG}",
    "--model.backbone.init_args.name=resnet18",
    "--training.optimizer.lr=0",
    "--data.num_workers=0",
    "--data.image_size=64",
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.logger=false",
    f"--model.queries.init_args.num_queries={SMALL['num_queries']}",
    *(f"--model.{stack}.init_args.embed_dim={SMALL['width']}" for stack in ("encoder", "decoder")),
    *(f"--model.{stack}.init_args.num_heads={SMALL['num_heads']}" for stack in ("encoder", "decoder")),
    *(f"--model.{stack}.init_args.ffn_dim={SMALL['ffn_dim']}" for stack in ("encoder", "decoder")),
    *(f"--model.{stack}.init_args.num_layers={SMALL['layers'][i]}" for i, stack in enumerate(("encoder", "decoder"))),
]


@pytest.fixture(scope="module")
def coco(tmp_path_factory) -> Path:
    """A data set in COCO's layout with COCO's 80 ids."""
    root, rng = tmp_path_factory.mktemp("coco"), np.random.default_rng(0)
    (root / "annotations").mkdir()
    for part in ("train2017", "val2017"):
        (root / part).mkdir()
        images, annotations = [], []
        for number in range(2):
            height, width = 90 + 10 * number, 160 - 10 * number
            pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / part / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
            box = {"image_id": number, "bbox": [10, 20, 50, 40], "area": 2000, "iscrowd": 0}
            annotations += [box | {"id": 2 * number + each, "category_id": COCO_IDS[-1 - each]} for each in range(2)]
        categories = [{"id": each, "name": f"thing {each}"} for each in COCO_IDS]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(document))
    return root


@pytest.fixture
def run(coco, tmp_path, monkeypatch, capsys):
    """Runs a command; also says what was asked of timm, which downloads nothing here."""
    asked, create_model = [], timm.create_model

    def create(name: str, *, pretrained: bool, **arguments):
        asked.append(pretrained)
        return create_model(name, pretrained=False, **arguments)

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setenv("ONECORE_DATA", str(coco))

    def command(*args: str) -> tuple[Path, list[bool], str]:
        asked.clear()
        code = detr([*args, f"--runs={tmp_path}"])
        out, err = capsys.readouterr()
        assert code == 0, err
        return Path(out.strip().splitlines()[-1].removeprefix("run: ")), list(asked), err

    return command


@pytest.mark.slow
def test_from_a_file_and_on_from_there(run, tmp_path):
    state = facebook_names(reference(**SMALL).state_dict())
    state["class_embed.weight"] = torch.randn(92, SMALL["width"])
    state["class_embed.bias"] = torch.randn(92)
    weights = Path(saved(state, tmp_path / "detr.pth"))
    first, asked, said = run("fit", *FLAGS, f"--model.pretrained={weights}")
    assert asked == [True]  # the shipped experiment's backbone
    assert said.count(f"{weights}: its head is numbered by COCO's ids; the rows of the data's 80 are taken\n") == 1
    checkpoint = first / "checkpoints/last.ckpt"
    kept = torch.load(checkpoint, weights_only=True)
    assert kept["onecore"]["config"]["model"]["category_ids"] == COCO_IDS
    head = kept["state_dict"]["network.class_head.bias"]
    torch.testing.assert_close(head, state["class_embed.bias"][[*COCO_IDS, 91]])
    weights.unlink()
    loss = json.loads((first / "metrics.json").read_text())["test/loss"]
    again, asked, _ = run("test", f"--ckpt_path={checkpoint}")
    assert asked == [False]
    assert json.loads((again / "metrics.json").read_text())["test/loss"] == pytest.approx(loss)
    resumed, asked, _ = run("fit", f"--ckpt_path={checkpoint}", "--trainer.max_epochs=2")
    assert asked == [False]
    assert json.loads((resumed / "metrics.json").read_text())["test/loss"] == pytest.approx(loss)
    second, *_ = run("fit", *FLAGS, f"--model.pretrained={checkpoint}")
    assert json.loads((second / "metrics.json").read_text())["test/loss"] == pytest.approx(loss)
