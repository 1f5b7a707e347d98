"""The command line: help, the README's commands, errors for people, and how fast it answers."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from t2t.cli import app
from t2t.core.errors import T2TError
from tests.helpers.cli import invoke
from tests.helpers.worlds import ROOT

COMMANDS = ["", "run", "rounds", "predict", "compare", "demo", "ui", "data", "data check", "teachers", "teachers check"]
COMMANDS += ["tag", "search", "export", "decide", "teachers add", "lake", "lake log", "lake diff", "report", "plan"]
COMMANDS += ["data import", "data export"]


def commands_of(page: Path, tool: str = "t2t") -> list[str]:
    """Lines of a page's shell blocks that call a tool, without comments."""
    blocks = re.findall(r"```(?:ba)?sh\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line.strip().split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.split()[:1] == [tool]]


# Pages whose commands are understood, and those of them that have some.
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "teachers").glob("*.md")), ROOT / "docs" / "plugin" / "README.md"]
LINES = [pytest.param(line, id=f"{page.name}: {line}") for page in PAGES for line in dict.fromkeys(commands_of(page))]
assert {page.name for page in PAGES if commands_of(page)} >= {"README.md", "command.md", "openai.md"}


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_explains_itself(words):
    result = CliRunner().invoke(app, [*words.split(), "--help"], terminal_width=200)
    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert len(result.output) > 300


@pytest.mark.parametrize("line", LINES)
def test_the_pages_commands_are_understood(line, tmp_path, monkeypatch):
    """Names, arguments and options fit; nothing is run."""
    monkeypatch.chdir(tmp_path)
    for word in shlex.split(line):
        if word.endswith(".mp4"):
            Path(word).parent.mkdir(parents=True)
            Path(word).touch()
    command: Any = typer.main.get_command(app)
    context = command.make_context("t2t", shlex.split(line)[1:])
    # A group keeps the name of the command apart from what comes after it.
    while hasattr(context.command, "resolve_command") and (rest := [*context._protected_args, *context.args]):
        name, inner, left = context.command.resolve_command(context, rest)
        context = inner.make_context(name, left, parent=context)
    words = [word for word in shlex.split(line)[:3] if word in context.info_name]
    # `t2t study NAME` is the group's own way to say `t2t study run NAME`.
    assert context.info_name == (words or ["run"])[-1]


@pytest.mark.parametrize("line", commands_of(ROOT / "README.md", "make"))
def test_the_readmes_make_targets_exist(line):
    assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_readmes_yaml_is_valid(tmp_path):
    from t2t.core.config import parse
    from t2t.data.dataset import DatasetConfig
    from t2t.teachers import parse_entry

    blocks = [yaml.safe_load(b) for b in re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)]
    blocks += [
        yaml.safe_load(b) for b in re.findall(r"   ```yaml\n(.*?)   ```", (ROOT / "README.md").read_text(), re.S)
    ]
    assert [parse_entry(block, "README") for block in blocks if block and "kind" in block]
    assert [parse(DatasetConfig, block, "README") for block in blocks if block and "root" in block]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "dmeo"], "no such campaign. Did you mean 'demo'?"),
        (["run", "demo", "--set", "training.stepps=5"], "unknown key 'training.stepps'. Did you mean 'steps'?"),
        (["run", "demo", "--set", "rounds.max=none"], "rounds.max"),
        (["run", "demo", "--set", "rounds"], "key=value"),
        (["rounds", "demo"], "has not run in"),
        (["compare", "demo", "0", "1"], "t2t run demo"),
        (["compare", "demo", "0", "0"], "Round 0 is named twice"),
        (["data", "check", "jhmbd"], "Did you mean 'jhmdb'?"),
        (["teachers", "add", "human", "--kind", "labels", "--path", "x.csv"], "reserved"),
        (["teachers", "add", "new", "--kind", "label", "--path", "x.csv"], "labels"),
        (["teachers", "add", "new", "--kind", "labels", "--pth", "x.csv"], "Did you mean 'path'?"),
        (["teachers", "add", "vendor", "--kind", "labels", "--path", "x.csv"], "choose a new id"),
    ],
)
def test_mistakes_get_one_clear_message_before_anything_is_written(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted((ROOT / "registry" / "teachers").iterdir())
    result = invoke("--registry", ROOT / "registry", "--work", tmp_path / "work", *words)
    assert isinstance(result.exception, T2TError)
    assert message in str(result.exception)
    assert not (tmp_path / "work").exists()
    assert sorted((ROOT / "registry" / "teachers").iterdir()) == before


def test_an_error_is_one_line_without_a_traceback(tmp_path):
    line = [sys.executable, "-m", "t2t", "--work", str(tmp_path), "rounds", "demo"]
    result = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == f"Error: Campaign 'demo' has not run in {tmp_path}. Start it: t2t run demo\n"


def test_a_teacher_is_added_from_flags(tmp_path):
    registry = tmp_path / "registry"
    (registry / "teachers").mkdir(parents=True)
    line = ["--registry", str(registry), "teachers", "add", "vendor-b", "--kind", "labels", "--path", "${data}/b.csv"]
    result = CliRunner().invoke(app, [*line, "--description", "Ünïcode: yes"])
    assert result.exit_code == 0, result.output
    content = yaml.safe_load((registry / "teachers" / "vendor-b.yaml").read_text())
    assert content == {"id": "vendor-b", "kind": "labels", "description": "Ünïcode: yes", "path": "${data}/b.csv"}


def test_data_check_reads_the_videos_and_names_what_is_broken(world, tmp_path):
    root = tmp_path / "data" / "demo"
    shutil.copytree(world / "data" / "demo", root)
    (root / "clips" / "0003.mp4").write_bytes(b"")
    words = ["--registry", world / "registry", "--data-root", tmp_path / "data", "data", "check", "demo"]
    one = invoke(*words)
    assert one.exception is None  # one is never too many
    assert "clip-0003" in one.output
    assert "0003.mp4" in one.output
    (root / "clips" / "0004.mp4").write_bytes(b"not a video")
    two = invoke(*words)
    assert "2 of 56 samples are unreadable (3.6%), more than max_unreadable (1.0%)" in str(two.exception)


def test_teachers_check_says_which_are_sound(world, tmp_path):
    registry = tmp_path / "registry"
    shutil.copytree(world / "registry", registry)
    (registry / "teachers" / "gone.yaml").write_text("id: gone\nkind: labels\npath: ${data}/gone.csv\n")
    words = ["--registry", registry, "--data-root", world / "data", "--work", tmp_path / "work", "teachers", "check"]
    sound = invoke(*words, "vendor", "colour-expert", "--dataset", "demo")
    assert sound.exit_code == 0, sound.output
    assert sound.output.count("sound") == 2
    gone = invoke(*words, "gone", "--dataset", "demo")
    assert gone.exit_code == 1
    # The table folds long paths wherever the terminal is too narrow for them.
    assert "nosuchfile" in "".join(gone.output.replace("│", "").split())


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        # What `t2t --help` needs.
        (
            "t2t, t2t.cli",
            "pydantic yaml numpy pandas pyarrow torch transformers timm mlflow prefect sklearn matplotlib av",
        ),
        # What the commands that only look at the lake need.
        (
            "t2t.commands.teachers, t2t.commands.lineage, t2t.commands.lake",
            "torch transformers timm mlflow prefect sklearn matplotlib av",
        ),
    ],
)
def test_importing_is_light(modules, heavy):
    code = f"import {modules}, sys, json; print(json.dumps([m for m in sys.modules if '.' not in m]))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not set(heavy.split()) & set(json.loads(result.stdout))
