"""`t2t teachers add` for every kind: its help lists them, what is missing is said, and what it writes is an entry."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from t2t.cli import app
from t2t.commands.groups import TEACHER_KINDS
from t2t.core.errors import T2TError
from t2t.teachers import KINDS, parse_entry
from tests.helpers.cli import invoke

# Of each kind the keys that have to be there, and a key or two besides, as they are typed.
FLAGS: dict[str, list[str]] = {
    "altered": ["--of", "{id: vendor, kind: labels, path: x.csv}", "--noise", "0.4"],
    "annotations": [],
    "command": ["--command", "[python3, teacher.py]", "--files", "[teacher.py]", "--confine", "false"],
    "http": ["--url", "http://127.0.0.1:9191", "--part-samples", "64"],
    "labels": ["--path", "${data}/teachers/x.csv"],
    "openai": ["--model", "some-model", "--price", "{input: 0.15, output: 0.6}", "--image-tokens=800", "--budget", "5"],
    "student": [
        "--campaign", "demo", "--round", "0", "--checkpoint", "campaigns/demo/round-000/student", "--seed", "1",
        "--weights-sha256", "0" * 64, "--tagging", "{top_k: 3}", "--parents", "[{id: vendor, fingerprint: abc}]",
    ],
    "timm": ["--model", "resnet10t", "--weights", "w.safetensors", "--num-classes", "5", "--classes", "classes.txt"],
    "vlm": ["--model", "checkpoints/smolvlm", "--yes-words", '["ja", "yes"]'],
    "zero-shot": ["--model", "google/siglip-base-patch16-224", "--templates", '["a photo of {}."]'],
}  # fmt: skip


def add(registry: Path, kind: str, *flags: str, teacher: str = "") -> Any:
    name = teacher or ("human" if kind == "annotations" else "x")
    return invoke("--registry", registry, "teachers", "add", name, "--kind", kind, *flags)


def test_the_help_lists_every_kind() -> None:
    assert tuple(sorted(KINDS)) == TEACHER_KINDS == tuple(FLAGS)
    shown = CliRunner().invoke(app, ["teachers", "add", "--help"], terminal_width=300).output
    assert ", ".join(TEACHER_KINDS) in " ".join(shown.replace("│", "").split())


@pytest.mark.parametrize("kind", FLAGS)
def test_a_kind_is_added(tmp_path: Path, kind: str) -> None:
    result = add(tmp_path, kind, *FLAGS[kind])
    assert result.exception is None, result.output
    (file,) = (tmp_path / "teachers").iterdir()
    content = yaml.safe_load(file.read_text())
    entry = parse_entry(content, "entry")
    assert entry.kind == kind
    # What was typed is what is there: a list as a list, a number as a number.
    typed = {flag[2:].partition("=")[0].replace("-", "_") for flag in FLAGS[kind] if flag.startswith("--")}
    assert set(content) == {"id", "kind", *typed}
    # Above each key stands what it is for.
    assert file.read_text().count("# ") > len(typed)


@pytest.mark.parametrize("kind", FLAGS)
def test_what_is_missing_is_said(tmp_path: Path, kind: str) -> None:
    fields = import_module(KINDS[kind]).Entry.model_fields
    needed = [name for name, field in fields.items() if field.is_required() and name != "id"]
    if not needed:
        return
    result = add(tmp_path, kind)
    assert isinstance(result.exception, T2TError)
    for name in needed:
        assert f"key {name!r} is missing." in str(result.exception)
    assert not (tmp_path / "teachers").exists()


@pytest.mark.parametrize("kind", FLAGS)
def test_a_key_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    result = add(tmp_path, kind, *FLAGS[kind], "--no-such-key", "1")
    assert isinstance(result.exception, T2TError)
    assert "unknown key 'no_such_key'" in str(result.exception)
