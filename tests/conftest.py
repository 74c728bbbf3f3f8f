"""Shape types are checked while the tests run, and only then; one thread, since the tensors of tests are small."""

import torch
from jaxtyping import install_import_hook

install_import_hook(["core", "tasks.vit.model"], "beartype.beartype")
torch.set_num_threads(1)
