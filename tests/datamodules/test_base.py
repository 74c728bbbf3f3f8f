import ast
import sys
from pathlib import Path

import pytest

import datamodules
from datamodules import CIFAR10, MNIST, ImageFolder


def test_root_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("ONECORE_DATA", str(tmp_path))
    assert CIFAR10().root == tmp_path
    assert CIFAR10(root="/elsewhere").root == Path("/elsewhere")
    assert CIFAR10(root="~/pictures").root == Path("~/pictures").expanduser()


def test_root_is_data_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv("ONECORE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert ImageFolder().root == tmp_path / "data"
    assert not (tmp_path / "data").exists()


def test_the_seed_comes_from_the_environment(monkeypatch):
    def order(seed=None):
        return [index for index, _ in MNIST(seed=seed).train_dataloader().sampler][:10]

    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    zero = order()
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    assert order() == order(5) != zero
    assert order(0) == zero


@pytest.mark.parametrize(("name", "value"), [("batch_size", 0), ("num_workers", -1)])
def test_sizes_are_checked(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        MNIST(**{name: value})


def test_data_modules_know_neither_core_nor_tasks_nor_heavy_packages():
    allowed = {"torch", "torchvision", "pytorch_lightning", "lightning_utilities", "numpy", "PIL", "datamodules"}
    allowed |= {"jaxtyping", "torchaudio", "soundfile", "scipy", "tokenizers", "espeakng_loader"}  # speech
    allowed |= {"pandas", "pyarrow"}  # series
    for file in Path(datamodules.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                package = name.split(".")[0]
                assert package in allowed or package in sys.stdlib_module_names, f"{file.name} imports {name}"
