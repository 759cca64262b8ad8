"""The README's code is run, and its commands are taken by the command line."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from snrl.run import _parse
from snrl.runs.config import resolve
from snrl.runs.hyperparameters import options

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [
    line.split("#")[0].strip()
    for language, code in BLOCKS
    if language == "bash"
    for line in code.splitlines()
]


def test_there_is_something_to_test():
    assert len(PYTHON) >= 3
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_block_runs(code, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    if "studies/my-study" in code:
        shutil.copytree(request.getfixturevalue("study"), "studies/my-study")
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("command", COMMANDS)
def test_command_exists(command):
    words = shlex.split(command)
    if words[:3] == ["python", "-m", "snrl.run"] and "--help" not in words:
        parsed = _parse(words[3:])
        given = {name: parsed[name] for name in options(parsed["algo"]) if name in parsed}
        resolve(parsed["algo"], given)
    elif words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    elif words[0] == "python" and words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file()
    else:
        assert words[:2] in (["pip", "install"], ["python", "-m"])


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_link_leads_somewhere(path):
    name, _, anchor = path.partition("#")
    assert (ROOT / name).exists()
    if anchor:
        headings = re.findall(r"^#+ (.+)$", (ROOT / name).read_text(), re.MULTILINE)
        assert anchor in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings]


@pytest.mark.parametrize("path", re.findall(r"`(experiments/[\w/]+\.py)`", README))
def test_script_is_in_the_repository(path):
    assert (ROOT / path).exists()
