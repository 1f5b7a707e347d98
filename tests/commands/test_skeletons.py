"""`t2t teachers new` and `t2t teachers test-kit`: what is written works, and its own test says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
import yaml
from typer.testing import CliRunner

from t2t.cli import app
from t2t.commands.skeletons import NAMES, new_teacher
from t2t.commands.teacher_kit import program, run_kit, service
from t2t.core.errors import T2TError
from t2t.teachers import build, parse_entry
from t2t.teachers.contract import CLAIMS
from tests.helpers.documented import refused
from tests.helpers.programs import context, labels, needs_landlock, python, samples
from tests.helpers.services import describe, half, serving


@needs_landlock
@pytest.mark.parametrize("template", NAMES)
def test_its_own_test_passes(tmp_path, template):
    folder = new_teacher(f"my-{template}", template, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    # A plug-in is taken through the contract of all kinds, a program or a service through the protocol's cases.
    assert f"{len(CLAIMS) if template == 'python' else 1} passed" in done.stdout


@needs_landlock
def test_the_programs_entry_labels(tmp_path):
    folder = new_teacher("mine", "command", tmp_path / 'a "folder"')
    entry = yaml.safe_load((folder / "mine.yaml").read_text())
    (tmp_path / "a.mp4").write_bytes(b"a red circle")
    table = samples("a").set_column(1, "path", [[str(tmp_path / "a.mp4")]])
    found = labels(build(parse_entry(entry, "entry"), context(tmp_path)), table, ("red circle", "xyz"))
    assert found == {("a", "red circle"): 1.0, ("a", "xyz"): 0.0}


def test_a_bad_name_template_or_place_is_refused(tmp_path):
    (tmp_path / "there").mkdir()
    for name, template, words in (
        ("human", "command", "no name for a new teacher"),
        ("../x", "command", "no name for a new teacher"),
        ("mine", "comand", "Did you mean 'command'"),
        ("there", "http", "exists"),
    ):
        message = refused(lambda name=name, template=template: new_teacher(name, template, tmp_path))
        assert words in message
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@needs_landlock
def test_the_kit_prints_what_failed(tmp_path, capsys):
    path = python(tmp_path, "print('about to fail\x1b[2J [red]', file=sys.stderr)\nanswer(2)")
    assert not run_kit(program(["python3", "-S", str(path)], [], 10, True))
    out = capsys.readouterr().out
    assert "failed" in out
    assert "about to fail" in out
    assert "[red]" in out
    assert "\x1b" not in out
    python(tmp_path, "try: open(asked['samples'][0]['path'])\nexcept OSError: pairs = []\nanswer()")
    assert run_kit(program(["python3", "-S", str(path)], [], 10, True), [path])


@needs_landlock
def test_the_command_hands_a_programs_own_options_on(tmp_path):
    body = "try: open(asked['samples'][0]['path'])\nexcept OSError: pairs = []\n"
    path = python(tmp_path, body + "answer(0.5 if sys.argv[1:] == ['--x', 'y'] else 2)")
    good = CliRunner().invoke(app, ["teachers", "test-kit", "--timeout", "20", "python3", "-S", str(path), "--x", "y"])
    assert (good.exit_code, "14 cases passed, 0 failed" in good.output) == (0, True), good.output
    bad = CliRunner().invoke(app, ["teachers", "test-kit", "python3", "-S", str(path)])
    assert bad.exit_code == 1
    assert CliRunner().invoke(app, ["teachers", "test-kit"]).exit_code == 2


def test_the_kit_asks_services_as_an_entry_would(tmp_path):
    with serving(describe=describe, label=half) as (url, asked):
        run_kit(service(url, "t2t", "", 10, False))
        assert asked.count("/describe") >= 2
    for use, words in (
        (lambda: service("http://example.org", "t2t", "", 10, False), "insecure"),
        (lambda: service("http://localhost", "t2t", "T2T_NO_SUCH_KEY", 10, False), "T2T_NO_SUCH_KEY is not set"),
        (lambda: program(["no-such-program"], [], 10, True), "no such program"),
        (lambda: program(["sh"], ["T2T_NO_SUCH_KEY"], 10, True), "T2T_NO_SUCH_KEY is not set"),
        (lambda: run_kit(service("http://localhost", "t2t", "", 10, False), [Path("missing.mp4")]), "no such file"),
    ):
        with pytest.raises(T2TError, match=words):
            cast("object", use())
