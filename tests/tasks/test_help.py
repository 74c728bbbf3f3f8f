"""The shipped help is what the real parser accepts, and appears at once."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.build import TaskParser, add_model_arguments
from tasks.catalogue import TASKS, import_object
from tasks.help import COMMANDS, _group, help_texts
from tasks.launch import help_text


@pytest.mark.parametrize("task", TASKS)
def test_shipped_help_is_up_to_date(task):
    """Run `python -m tasks.help` after a change of an argument or its docstring."""
    for name, text in help_texts(task).items():
        assert help_text(task, name) == text


@pytest.mark.parametrize("task", TASKS)
def test_help_names_what_the_parser_accepts(task):
    parser = TaskParser()
    add_model_arguments(parser, TASKS[task].module_class)
    accepted = {option for option in parser._option_string_actions if re.match(r"--(model|training)\.\w+$", option)}
    shown = set(re.findall(r"^  (--(?:model|training)\.\w+) ", help_text(task, "test"), re.MULTILINE))
    assert shown == accepted


@pytest.mark.parametrize("command", COMMANDS)
def test_every_argument_is_described(command):
    for option, text in re.findall(r"^  (--\S+).*\n {8}(.*)", help_text("vit", command), re.MULTILINE):
        assert text, option


def test_help_does_not_import_torch():
    code = "import sys; from tasks.vit.__main__ import main; main(['fit', '--help']); sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False, capture_output=True).returncode == 0


def test_arguments_that_hold_arguments_are_described():
    lines = "\n".join(
        _group("data", import_object("datamodules.LJSpeech"), {"normalization": {"case": "upper"}}, set())
    )
    assert re.search(r"--data\.normalization\.case LOWER\|UPPER\|KEPT\n +Whether letters .* Default:\s+upper\.", lines)
    assert "--data.normalization " not in lines
