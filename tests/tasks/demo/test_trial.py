from pathlib import Path

import pytest

from tasks.demo import trial
from tasks.demo.runs import Run
from tasks.demo.trial import Trial, safe_name


@pytest.mark.parametrize(
    "name",
    ["a.png", "../../a.png", "<b>.png", "-rf.png", ".hidden", "a b\n.png", "ü.wav", "x" * 300 + ".csv", "..", ""],
)
def test_a_name_is_made_harmless(name: str):
    made = safe_name(name)
    assert made
    assert len(made) <= 60
    assert not made.startswith(("-", "."))
    assert not set(made) & set("/<>\n ")


def test_what_nobody_has_thought_of_is_one_line_too(tmp_path: Path, monkeypatch, caplog):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(trial, "_apply", fail)
    (tmp_path / "a.png").touch()
    (tmp_path / "work").mkdir()
    run = Run("vit", tmp_path / "best.ckpt")
    said = Trial(tmp_path / "work", tmp_path)(run, tmp_path / "a.png", looked=False)
    assert said == "a.png could not be answered: first second"
    assert "a.png could not be answered" in caplog.text


def test_only_the_last_answers_are_kept(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(trial, "_apply", lambda *_, **__: "said")
    (tmp_path / "a.png").touch()
    (tmp_path / "work").mkdir()
    applied = Trial(tmp_path / "work", tmp_path)
    for _ in range(trial._KEPT + 3):
        assert applied(Run("vit", tmp_path / "best.ckpt"), tmp_path / "a.png", looked=False) == "said"
    assert len(list((tmp_path / "work").iterdir())) == trial._KEPT


def test_a_file_that_was_not_dropped_is_never_read(tmp_path: Path, monkeypatch):
    monkeypatch.delattr(trial, "_apply")
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "secret.png").touch()
    (uploads / "link.png").symlink_to(tmp_path / "secret.png")
    applied = Trial(tmp_path / "work", uploads)
    for path in (tmp_path / "secret.png", uploads / ".." / "secret.png", uploads / "link.png"):
        assert applied(Run("vit", tmp_path / "best.ckpt"), path, looked=False).endswith("was not dropped on this page")
