"""Shape types are checked while the tests run, and only then; one thread, since the tensors of tests are small."""

import os

import torch
from jaxtyping import install_import_hook

if os.environ.get("ONECORE_TEST_SHAPES") != "off":  # off for what torch traces: see tests/core/test_traced.py
    install_import_hook(["core", "tasks.vit.model", "tasks.detr.boxes"], "beartype.beartype")
torch.set_num_threads(1)
