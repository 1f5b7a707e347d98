"""A tokenizer from elsewhere: nothing of it is run, and a few bytes of it cannot take the memory or the process."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from t2t.core.errors import T2TError
from t2t.core.sums import SUMS
from t2t.students.checkpoint import load, save
from t2t.students.text import TopicTokens
from tests.helpers.students import tiny_student
from tests.helpers.worlds import ROOT

REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 16}
REGEX = {"Regex": "(a+)+$"}
SPLIT = {"type": "Split", "pattern": REGEX, "behavior": "Isolated", "invert": False}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tiny_student(), tmp_path / "student")
    (tmp_path / "student" / SUMS).unlink()  # whoever changes a file would write these anew
    return tmp_path / "student"


def edit(folder: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "tokenizer" / name
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def table(tree: int, rest: bytes) -> dict[str, str]:
    charsmap = base64.b64encode(tree.to_bytes(4, "little") + rest).decode()
    return {"type": "Precompiled", "precompiled_charsmap": charsmap}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"normalizer": {"type": "Sequence", "normalizers": [REPLACE] * 2}}, "makes texts 256 times as long"),
        ({"normalizer": {**REPLACE, "pattern": {"Regex": "."}, "content": "b" * 65}}, "makes texts 65 times as long"),
        ({"normalizer": {"type": "Prepend", "prepend": "b" * 64}}, "makes texts 65 times as long"),
        ({"normalizer": table(2**32 - 4, b"\0" * 12)}, "table of normal forms is damaged"),
        ({"normalizer": table(0, b"")}, None),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "?"}}, "table of normal forms is damaged"),
        ({"normalizer": table(4, b"\0" * 4 + b"a" * 65 + b"\0")}, "makes texts 65 times as long"),
        ({"padding": {"strategy": {"Fixed": 2_000_000_000}}}, "pads texts to 2,000,000,000 tokens"),
        ({"model": {"type": "BPE", "vocab": 3}}, ""),
        ({"normalizer": 3}, ""),
    ],
    ids=str,
)
def test_a_file_that_asks_for_the_memory_is_refused(folder: Path, change: Any, says: str | None) -> None:
    edit(folder, "tokenizer.json", lambda content: content.update(change))
    if says is None:
        load(folder)
        return
    with pytest.raises(T2TError, match="the tokenizer cannot be read: ") as error:
        load(folder)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, "{", "\0"])
def test_what_is_no_tokenizer_is_refused(folder: Path, content: str) -> None:
    (folder / "tokenizer" / "tokenizer.json").write_text(content)
    with pytest.raises(T2TError, match="the tokenizer cannot be read: "):
        load(folder)


@pytest.mark.parametrize("change", [{"pre_tokenizer": SPLIT}, {"normalizer": {**REPLACE, "pattern": REGEX}}], ids=str)
def test_a_pattern_without_an_end_is_given_up(folder: Path, change: Any) -> None:
    edit(folder, "tokenizer.json", lambda content: content.update(change))
    student = load(folder)
    with pytest.raises(T2TError, match="The tokenizer cannot read these topics"):
        TopicTokens(student.tokenizer, ["a" * 900 + "!"])


def test_tokens_that_the_student_does_not_know_are_told(folder: Path) -> None:
    def shift(content: dict[str, Any]) -> None:
        content["model"]["vocab"] = {word: number + 10**6 for word, number in content["model"]["vocab"].items()}

    edit(folder, "tokenizer.json", shift)
    with pytest.raises(T2TError, match=r"The tokenizer gives the token 1,000,\d+, and the text tower knows"):
        load(folder).encode_topics(["red star"])


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}},
        {"tokenizer_class": "RagTokenizer"},
        {"tokenizer_class": "BertJapaneseTokenizer"},
        {"pad_token": None, "eos_token": None},
        {"padding_side": "up"},
    ],
    ids=str,
)
def test_other_classes_are_refused_and_no_code_of_the_folder_is_run(folder: Path, change: Any) -> None:
    ran = folder / "ran"
    (folder / "tokenizer" / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Evil: pass\n")
    edit(folder, "tokenizer_config.json", lambda content: content.update(change))
    with pytest.raises(T2TError, match="the tokenizer cannot be read: "):
        load(folder)
    assert not ran.exists()


def test_what_ended_the_process_is_refused_with_less_memory_than_it_asked_for(folder: Path) -> None:
    edit(folder, "tokenizer.json", lambda content: content.update({"normalizer": table(2**32 - 4, b"\0" * 12)}))
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
from t2t.core.errors import T2TError
from t2t.students.tokenizers import read_tokenizer
try:
    read_tokenizer({str(folder / "tokenizer")!r})
except T2TError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "table of normal forms is damaged" in done.stdout
