"""Exports of small runs as ONNX: what other runtimes compute is the same, with any number of samples.

Run by `tests/test_traced.py` in a process of its own. The command itself compares, and fails where they differ.
"""

import pytest

from tasks.catalogue import TASKS


@pytest.mark.slow  # the README's command, of vit, is run by default: tests/tasks/test_documents.py
@pytest.mark.parametrize("task", TASKS)
def test_as_onnx_it_computes_the_same(task, request, call, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    run = request.getfixturevalue("trained" if task == "vit" else f"{task}_trained")
    ended = call(task, "export", "--ckpt_path", run / "checkpoints" / "best.ckpt", "--output", tmp_path, "--onnx=true")
    assert ended.code == 0, ended.err
    assert (tmp_path / "model.onnx").stat().st_size > 1000
    assert "`model.onnx`" in (tmp_path / "README.md").read_text()
