"""The pages of docs/teachers/ for programs and services: their programs and entries run, and keep to the protocol."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from t2t.teachers import build, parse_entry
from t2t.teachers.protocol.kit import Kit, Result
from t2t.teachers.protocol.messages import Answer, Question, read_handshake
from t2t.teachers.protocol.program import Program
from t2t.teachers.protocol.service import Service
from tests.helpers import programs
from tests.helpers.programs import context, labels, samples
from tests.helpers.services import Reply, describe, half, say, serving
from tests.helpers.worlds import ROOT

pytestmark = pytest.mark.unit

PAGES = ROOT / "docs" / "teachers"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (PAGES / page).read_text(encoding="utf-8"), re.DOTALL)


def files(folder: Any, *names: str) -> list[dict[str, Any]]:
    rows = []
    for number, name in enumerate(names):
        (folder / name).write_bytes(name.encode() * (1000 * (number + 1)))
        rows.append({"sample_id": name, "path": str(folder / name), "modality": "video"})
    return rows


def failed(results: list[Result]) -> list[str]:
    return [f"{result.case}: {result.detail}" for result in results if result.outcome == "failed"]


@programs.needs_landlock
def test_the_shells_teacher_labels_and_keeps_to_the_protocol(tmp_path):
    script, entry = blocks("command.md", "sh")[0], yaml.safe_load(blocks("command.md", "yaml")[0])
    (tmp_path / "teacher.sh").write_text(script)
    made: Any = build(parse_entry(entry, "page"), context(tmp_path))
    (tmp_path / "a.mp4").write_bytes(b"x" * 100_000)
    table = samples("a").set_column(1, "path", [[str(tmp_path / "a.mp4")]])
    assert set(labels(made, table).values()) == {0.5}
    program = Program(["sh", str(tmp_path / "teacher.sh")], confine=True)
    results = list(Kit(program, files(tmp_path, "one", "two", "three"), str(tmp_path / "missing")).run())
    program.close()
    assert failed(results) == []
    assert [result.outcome for result in results] == ["passed"] * 14


def test_the_entries_of_a_service_label(tmp_path):
    plain, backend = (yaml.safe_load(text) for text in blocks("http.md", "yaml"))

    def up(*_: Any) -> Reply:
        return say({"status": "UP"})

    def setup(*_: Any) -> Reply:
        return say({"model_version": "1"})

    def predict(asked: dict[str, Any], _: Any) -> Reply:
        return say({"results": [{"result": [], "score": 1.0} for _ in asked["tasks"]]})

    with serving(describe=describe, label=half, health=up, setup=setup, predict=predict) as (url, _):
        for entry, value in ((plain, 0.5), (backend, 0.0)):
            made: Any = build(parse_entry({**entry, "url": url}, "page"), context(tmp_path))
            assert set(labels(made).values()) == {value}


def test_the_pages_messages_are_the_protocols():
    hello, request, row, done, error = blocks("protocol.md", "json")
    assert read_handshake(hello.encode()).name == "my-teacher"
    asked = json.loads(request)
    question = Question(asked["id"], asked["samples"], asked["topics"])
    assert question.line().decode() == request
    answer = Answer(question, 1000)
    assert not answer.take(row.encode())
    assert answer.take(done.encode())
    assert answer.table("x").to_pylist()[0]["topic"] == "a dog"
    with pytest.raises(Exception, match="it says: no memory left on the GPU"):
        Answer(question, 1000).take(error.encode())


FAULTS = {
    "random": ("import random\nanswer(random.random())", "the same question twice has the same answer"),
    "company": ("answer(1 / len(pairs))", "a sample alone has the labels that it has in company"),
    "topics": ("answer(1 / len(asked['topics']))", "a topic alone has the labels that it has in company"),
    "missing": ("open(asked['samples'][0]['path'])\nanswer()", "a file that is missing: no row, or an error in words"),
    "ascii": ("pairs = [(s, t.encode('ascii', 'replace').decode()) for s, t in pairs]\nanswer()",
              "ids and topics with quotes, other scripts and emoji"),
    "strict": ("assert set(asked) == {'id', 'samples', 'topics'}\nanswer()",
               "keys that nobody knows yet are passed over"),
    "rows": ("say(done=asked['id'], rows=1)", "one sample, one topic"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_the_kit_finds_what_is_wrong(tmp_path, name):
    body, case = FAULTS[name]
    program = Program(["python3", "-S", str(programs.python(tmp_path, body))])
    results = list(Kit(program, files(tmp_path, "one", "two"), str(tmp_path / "missing")).run())
    program.close()
    assert case in [result.case for result in results if result.outcome == "failed"]
    assert results[0].outcome == "passed"


def test_the_kit_finds_one_that_does_not_end_or_never_begins(tmp_path, monkeypatch):
    monkeypatch.setattr("t2t.teachers.protocol.program.GRACE", 0.1)
    path = programs.python(tmp_path)
    path.write_text(path.read_text() + "time.sleep(1000)\n")
    program = Program(["python3", "-S", str(path)])
    results = list(Kit(program, files(tmp_path, "one"), str(tmp_path / "missing")).run())
    assert [result.outcome for result in results] == ["passed"] * 13 + ["failed"]
    path.write_text("print('hello')")
    results = list(Kit(Program(["python3", "-S", str(path)]), files(tmp_path, "one"), "missing").run())
    assert [result.outcome for result in results] == ["failed"]


def test_the_kit_tries_a_service(tmp_path):
    with serving(describe=describe, label=half) as (url, _):
        results = list(Kit(Service(url, 5, 5), files(tmp_path, "one", "two"), str(tmp_path / "missing")).run())
    # The service in this process reads a request without looking at it: what is no JSON breaks its connection.
    assert [result.case for result in results if result.outcome != "passed"] == [
        "a request that is no JSON: an error in words, or an end",
        "at the end of its input it ends by itself, status 0, in 5 seconds",
    ]
