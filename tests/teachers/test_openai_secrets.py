"""The key of a teacher of kind `openai` is nowhere but in the requests' header, whatever repeats it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from t2t.teachers.api.kept import Kept
from tests.helpers.documented import refused
from tests.helpers.openai_server import KEY, answer_to, fake_server, text_of
from tests.helpers.openai_teacher import NEEDS_PACKAGE, labels, table, teacher
from tests.helpers.worlds import CAMPAIGN, ROOT

pytestmark = [NEEDS_PACKAGE, pytest.mark.usefixtures("quick")]


def telling(fake: Any) -> None:
    """Has a server repeat the key in all that it says."""

    def line(body: dict[str, Any]) -> Any:
        answer, wrote = answer_to(body, "")
        answer |= {"model": f"model {KEY}", "id": KEY}
        answer["choices"][0]["message"]["content"] += f" {KEY}"
        fake.requests.append(body)
        return (200, answer, (1, wrote)) if "snow" not in text_of(body) else (500, {"error": {"message": KEY}}, (0, 0))

    fake.desk.answer = line


def holding(folder: Path) -> list[str]:
    """The files that hold the key; SQLite's compressed answers and Git's objects are looked into."""
    found = []
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        raw = file.read_bytes()
        if file.name == "answers.sqlite":
            kept = Kept(file.parent.parent)
            raw += b"".join(zlib.decompress(body) for (body,) in kept.rows("SELECT body FROM answers"))
            kept.close()
        if "objects" in file.parts and file.suffix not in (".pack", ".idx"):
            raw += zlib.decompressobj().decompress(raw)
        if file.suffix == ".pack":
            git = ["git", "--git-dir", str(file.parents[2]), "cat-file", "--batch", "--batch-all-objects"]
            raw += subprocess.run(git, capture_output=True, check=True).stdout
        if KEY.encode() in raw:
            found.append(str(file))
    return found


def test_answers_and_files_that_repeat_the_key_are_kept_without_it(tmp_path, caplog):
    caplog.set_level("DEBUG")
    samples = table(tmp_path, 9)
    with fake_server() as fake:
        telling(fake)
        asked = teacher(tmp_path, samples, fake.url, batch={"least": 1, "poll": 0.05}, score="hard")
        assert len(labels(asked, samples)) == 24  # what failed thrice was asked one by one
        assert KEY not in " ".join(asked.remarks)
        assert asked.tally.models >= {"model ***"}
    assert holding(tmp_path) == []
    assert KEY not in caplog.text
    # (The test would see it.)
    asked.kept.keep("asked", "k", KEY.encode())
    asked.kept.close()
    assert len(holding(tmp_path)) == 1


def test_a_short_key_is_a_word_and_is_left_in_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "Yes")
    samples = table(tmp_path)
    with fake_server() as fake:
        assert len(labels(teacher(tmp_path, samples, fake.url, score="hard"), samples)) == 9


def test_a_refused_file_s_reason_and_a_redirect_are_told_without_the_key(tmp_path):
    samples = table(tmp_path, 9)
    with fake_server() as fake:
        handle = fake.desk.handle

        def tell(*arguments: Any) -> Any:
            status, content = handle(*arguments)
            if isinstance(content, dict) and content.get("errors"):
                content["errors"]["data"][0]["message"] = f"no, {KEY}"
            return status, content

        fake.desk.handle = tell  # type: ignore[method-assign]
        fake.desk.ending = "failed:bad"
        asked = teacher(tmp_path, samples, fake.url, batch={"least": 1, "poll": 0.05})
        assert "no, ***" in refused(lambda: labels(asked, samples))


@pytest.mark.services
def test_a_whole_run_and_its_plan_say_the_key_nowhere(world, tmp_path):
    """Verbose, with MLflow and Prefect: at first the server fails with the key in its message, then it answers."""
    shutil.copytree(world / "registry", tmp_path / "registry")
    content = yaml.safe_load(CAMPAIGN) | {"name": "paid", "teachers": ["seer"], "rounds": {"max": 1}}
    (tmp_path / "registry" / "campaigns" / "paid.yaml").write_text(yaml.safe_dump(content))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "T2T_DATA": str(world / "data"), "OPENAI_API_KEY": KEY}
    environment |= {"OPENAI_LOG": "debug"}

    def t2t(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "t2t", "--verbose", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    with fake_server(lambda n, body: "401") as fake:
        entry = f"id: seer\nkind: openai\nmodel: fake\nbase_url: {fake.url}\nframes: 1\nsize: 32\nscore: number\n"
        entry += "topics_per_request: 10\nretries: 0\n"
        (tmp_path / "registry" / "teachers" / "seer.yaml").write_text(entry)
        status, said = t2t("run", "paid")
        assert (status, "does not let us in (401: no, ***)" in said) == (1, True), said
        assert "Traceback" in said
        assert KEY not in said
        fake.script = lambda n, body: ""
        status, said = t2t("plan", "paid", "--json", "--no-probe")
        assert (status, KEY in said) == (0, False), said
        status, said = t2t("run", "paid")
        assert (status, KEY in said) == (0, False), said
        status, said = t2t("teachers", "check", "seer")
        assert (status, KEY in said) == (0, False), said
        assert json.loads(json.dumps(fake.headers[0]))["authorization"] == f"Bearer {KEY}"
    assert (tmp_path / "work" / "answers" / "answers.sqlite").is_file()
    assert holding(tmp_path) == []
