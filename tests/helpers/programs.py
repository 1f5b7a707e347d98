"""Programs that speak `t2t-teacher/1`, and teachers of kind `command` made of them."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest

from t2t.teachers import TeacherContext, build, parse_entry
from t2t.teachers.kinds import command

# Whether this kernel can forbid writes (Landlock), which `confine` asks for.
LANDLOCK = sys.platform == "linux" and ctypes.CDLL(None).syscall(444, None, 0, 1) >= 1
needs_landlock = pytest.mark.skipif(not LANDLOCK, reason="this kernel cannot forbid writes (Landlock)")

TOPICS = ("red circle", 'a "quoted" topic, naïve')
HELLO = '{"protocol": "t2t-teacher/1", "name": "tiny", "version": "1"}'

NODE = r"""
const lines = require('readline').createInterface({ input: process.stdin });
const say = (what) => process.stdout.write(JSON.stringify(what) + '\n');
say({ protocol: 't2t-teacher/1', name: 'node', version: '1' });
lines.on('line', (line) => {
  let asked;
  try { asked = JSON.parse(line); } catch (error) { process.stderr.write(`${error}\n`); process.exit(1); }
  let rows = 0;
  for (const sample of asked.samples) {
    for (const topic of asked.topics) {
      say({ sample_id: sample.sample_id, topic, confidence: (sample.sample_id.length % 10) / 10 });
      rows += 1;
    }
  }
  say({ done: asked.id, rows });
});
"""

# What a Python program does with a request `asked` is put in its place.
PYTHON = """
import json, os, sys, time
def say(**what):
    print(json.dumps(what), flush=True)
print({hello!r}, flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    pairs = [(sample["sample_id"], topic) for sample in asked["samples"] for topic in asked["topics"]]
    def answer(confidence=0.5):
        for sample, topic in pairs:
            say(sample_id=sample, topic=topic, confidence=confidence)
        say(done=asked["id"], rows=len(pairs))
{body}
"""


def python(folder: Path, body: str = "answer()", hello: str = HELLO, name: str = "teacher.py") -> Path:
    """A program whose answer to a request is `body`."""
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    return write(folder, PYTHON.format(hello=hello, body=indented), name)


def write(folder: Path, text: str, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def context(root: Path, topics: tuple[str, ...] = TOPICS) -> TeacherContext:
    return TeacherContext(cast("Any", SimpleNamespace(root=root, topics=topics, name="tiny")), root)


def teacher(root: Path, program: str | Path = "teacher.py", **changes: Any) -> command.Teacher:
    """Of a Python program in `root`, unless `command` says otherwise; a request is not tried again after seconds."""
    content = {
        "id": "mine",
        "kind": "command",
        "command": [sys.executable, "-S", str(program)],
        "files": [str(program)],
        "timeout": 20,
        "confine": LANDLOCK,
        **changes,
    }
    made = cast("command.Teacher", build(parse_entry(content, "entry"), context(root)))
    made.asker.pause = 0.01
    return made


def samples(*ids: str) -> pa.Table:
    names = ids or ("a", "b", "c")
    return pa.table(
        {"sample_id": names, "path": [f"/data/{name}.mp4" for name in names], "modality": ["video"] * len(names)}
    )


def labels(made: Any, table: pa.Table | None = None, topics: tuple[str, ...] = TOPICS) -> dict[tuple[str, str], float]:
    tables = list(made.label(samples() if table is None else table, topics))
    whole = pa.concat_tables(tables)
    assert set(whole["teacher_id"].to_pylist()) == {made.entry.id}
    pairs = zip(whole["sample_id"].to_pylist(), whole["topic"].to_pylist(), strict=True)
    return dict(zip(pairs, whole["confidence"].to_pylist(), strict=True))
