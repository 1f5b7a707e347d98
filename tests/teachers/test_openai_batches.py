"""Kind `openai` with batch files: money, kills at every step, and batches that end badly."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from t2t.teachers.api import batches
from t2t.teachers.api.kept import Kept
from t2t.teachers.api.money import UNITS
from t2t.teachers.api.underway import Underway
from tests.helpers.documented import refused
from tests.helpers.openai_server import KEY, Fake, fake_server, text_of
from tests.helpers.openai_teacher import NEEDS_PACKAGE, PRICE, TOPICS, labels, table, teacher
from tests.helpers.worlds import CAMPAIGN, ROOT

pytestmark = [NEEDS_PACKAGE, pytest.mark.usefixtures("quick")]
SMALL = {"least": 1, "poll": 0.05}


@pytest.fixture(autouse=True)
def no_lag(monkeypatch):
    monkeypatch.setattr(batches, "LAG", 0.0)


def of(work, samples, fake: Fake, **changes):
    settings = {"price": PRICE, "budget": 900, "batch": SMALL} | changes
    return teacher(work, samples, fake.url, **settings)


def test_files_bring_the_labels_of_single_requests_for_half_the_money(tmp_path):
    samples = table(tmp_path, 9)
    with fake_server() as fake:
        single = of(tmp_path / "single", samples, fake, batch=None)
        expected = labels(single, samples)
        before = fake.bill(1000, 4000)
        fake.requests.clear()
        asked = of(tmp_path / "batch", samples, fake)
        cost = asked.cost(samples, TOPICS)
        assert labels(asked, samples) == expected
        assert (cost.requests, cost.in_files) == (24, True)
        assert cost.note.startswith("24 requests in batch files for about ")
        assert cost.most * 2 == pytest.approx(single_cost(tmp_path, samples, fake))
        assert fake.bill(1000, 4000) - before == pytest.approx(before / 2)
        assert asked.kept.spent() / UNITS == pytest.approx(before / 2)
        assert len(fake.requests) == 24
        assert fake.desk.answered == list(dict.fromkeys(fake.desk.answered))
        # What was sent, and what came, is removed at the server and here once it is kept.
        assert fake.desk.files == {}
        assert list((tmp_path / "batch" / "answers" / "batches" / "asked").iterdir()) == []
        again = of(tmp_path / "batch", samples, fake)
        assert labels(again, samples) == expected
        assert len(fake.desk.batches) == 1
        assert "1 batch files were sent." in asked.remarks


def single_cost(tmp_path, samples, fake):
    return of(tmp_path / "other", samples, fake, batch=None).cost(samples, TOPICS).most


def test_files_are_split_by_requests_and_bytes_and_equal_questions_are_asked_once(tmp_path):
    samples = table(tmp_path, 9)
    samples = samples.set_column(2, "title", [["one"] * 4 + [f"t{i}" for i in range(4)] + [None]])
    with fake_server() as fake:
        asked = of(tmp_path, samples, fake, batch={**SMALL, "requests": 4})
        assert len(labels(asked, samples)) == 24
        assert [len(b["request_counts"]) and b["request_counts"]["total"] for b in fake.desk.batches.values()] == [
            4,
            4,
            4,
            3,
        ]
    long = table(tmp_path, 3).set_column(2, "title", [["x" * 150_000, "y" * 150_000, "z" * 150_000]])
    with fake_server() as fake:
        asked = of(tmp_path, long, fake, batch={**SMALL, "megabytes": 1}, column_chars=200_000, budget=9e5)
        assert len(labels(asked, long)) == 9
        assert [b["request_counts"]["total"] for b in fake.desk.batches.values()] == [6, 3]
        huge = table(tmp_path, 3).set_column(2, "title", [["é" * 200_000] * 3])
        asked = of(tmp_path, huge, fake, batch={**SMALL, "megabytes": 1}, column_chars=200_000, budget=9e5)
        assert "a request has 1,20" in refused(lambda: labels(asked, huge))
        assert len(fake.desk.batches) == 2


def test_few_samples_are_asked_at_once(tmp_path):
    samples = table(tmp_path, 9)
    with fake_server() as fake:
        asked = of(tmp_path, samples, fake, batch={"least": 9, "poll": 0.05})
        assert asked.cost(samples, TOPICS).in_files is False
        assert len(labels(asked, samples)) == 24
        assert fake.desk.batches == {}


@pytest.mark.parametrize("fault", ["missing", "500", "cut answer", "bad answer", "409"])
def test_what_a_batch_leaves_out_is_asked_again_and_counted(tmp_path, fault):
    samples = table(tmp_path, 9)
    with fake_server(lambda n, body: fault if n % 5 == 0 and n < 24 else "") as fake:
        asked = of(tmp_path, samples, fake)
        assert len(labels(asked, samples)) == 24
        assert [b["request_counts"]["total"] for b in fake.desk.batches.values()] == [24, 5]
        assert (asked.tally.counts.missing, asked.tally.counts.sent) == (5 if fault == "missing" else 0, 29)
        assert round(fake.bill(1000, 4000) * UNITS) <= asked.kept.spent()
        if fault in ("409", "bad answer"):
            assert asked.kept.spent() / UNITS == pytest.approx(fake.bill(1000, 4000))


def test_refusals_of_a_batch_are_missing_rows_and_bad_requests_end_the_run(tmp_path):
    samples = table(tmp_path, 9)
    with fake_server(lambda n, body: "refused" if text_of(body).endswith("snow") else "") as fake:
        asked = of(tmp_path, samples, fake)
        assert len(labels(asked, samples)) == 16
        assert "The model refused to answer 8 questions, which have no row." in asked.remarks
        assert len(fake.requests) == 24
    with fake_server(lambda n, body: "422" if n == 3 else "") as fake:
        asked = of(tmp_path / "bad", samples, fake)
        assert "refuses the request (422: no, " in refused(lambda: labels(asked, samples))
        # All others are kept.
        assert len(labels(of(tmp_path / "bad", samples, fake), samples)) == 24
        assert len(fake.requests) == 25


def test_an_expired_batch_is_sent_again_and_a_cancelled_one_ends_the_run(tmp_path):
    samples = table(tmp_path, 9)
    with fake_server() as fake:
        fake.desk.ending = "expired"
        asked = of(tmp_path, samples, fake)
        # Half is answered in each of three rounds; what is left is asked one by one.
        assert len(labels(asked, samples)) == 24
        assert [b["request_counts"]["total"] for b in fake.desk.batches.values()] == [24, 12, 6]
        assert len(fake.answered) == 3
        assert asked.kept.spent() / UNITS == pytest.approx(fake.bill(1000, 4000))
    with fake_server() as fake:
        fake.desk.ending = "cancelled"
        assert "was cancelled" in refused(lambda: labels(of(tmp_path / "b", samples, fake), samples))
        fake.desk.ending = "completed"
        assert len(labels(of(tmp_path / "b", samples, fake), samples)) == 24
        assert [b["request_counts"]["total"] for b in fake.desk.batches.values()] == [24, 12]


def test_a_file_that_the_server_does_not_take_costs_nothing(tmp_path):
    samples = table(tmp_path, 9)
    with fake_server() as fake:
        fake.desk.ending = "failed:invalid_json_line"
        asked = of(tmp_path, samples, fake)
        assert "line 1: not so" in refused(lambda: labels(asked, samples))
        fake.desk.ending = "failed:token_limit_exceeded"
        assert "fewer `requests`" in refused(lambda: labels(of(tmp_path, samples, fake), samples))
        assert asked.kept.spent() == 0 == len(fake.answered)
        fake.desk.handle = lambda *_: (404, {"error": {"message": "no such page"}})  # type: ignore[method-assign]
        assert "takes no batch files" in refused(lambda: labels(of(tmp_path, samples, fake), samples))
        assert asked.kept.spent() == 0


def test_a_file_holds_what_the_budget_has_room_for(tmp_path):
    samples = table(tmp_path, 9)
    with fake_server() as fake:
        most = of(tmp_path, samples, fake).cost(samples, TOPICS).most
        asked = of(tmp_path, samples, fake, budget=most / 8, batch={**SMALL, "least": 2})
        message = refused(lambda: labels(asked, samples))
        assert "of a budget of" in message
        assert 2 <= len(fake.desk.batches) < 8
        assert asked.kept.spent() <= most / 8 * UNITS
        assert asked.kept.spent() / UNITS == pytest.approx(fake.bill(1000, 4000))
        assert len(labels(of(tmp_path, samples, fake), samples)) == 24
        assert len(fake.desk.answered) == len(set(fake.desk.answered)) == 24


def test_a_batch_that_the_server_forgot_is_told_and_can_be_left(tmp_path, caplog):
    samples = table(tmp_path, 9)
    with fake_server() as fake:

        def forget(step: str) -> None:
            if step == "GET batches/id":
                fake.desk.batches.clear()

        fake.desk.hook = forget
        assert "knows no such batch" in refused(lambda: labels(of(tmp_path, samples, fake), samples))
        set_aside = of(tmp_path, samples, fake).kept.spent()
        assert set_aside > 0
        assert len(labels(of(tmp_path, samples, fake, batch=None), samples)) == 24
        assert "1 batches that it sent are under way" in caplog.text
        assert len(fake.answered) == 24


def test_ctrl_c_leaves_a_batch_at_the_server_and_the_next_run_takes_it_in(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    samples = table(tmp_path, 9)
    with fake_server() as fake:
        fake.desk.looks = 10**6

        def stop(step: str) -> None:
            if step == "GET batches/id done" and sum(fake.desk.looked.values()) == 2:
                os.kill(os.getpid(), signal.SIGINT)

        fake.desk.hook = stop
        with pytest.raises(KeyboardInterrupt):
            labels(of(tmp_path, samples, fake), samples)
        assert "its batches go on at the server" in caplog.text
        fake.desk.looks = 0
        assert len(labels(of(tmp_path, samples, fake), samples)) == 24
        assert len(fake.desk.batches) == 1


def test_a_server_that_fails_now_and_then_about_batches_is_asked_again(tmp_path):
    samples = table(tmp_path, 9)
    with fake_server() as fake:
        handle, calls = fake.desk.handle, []

        def sometimes(*arguments):
            calls.append(arguments[:2])
            failed = {1: 503, 3: 429, 5: 500}.get(len(calls))
            return (failed, {"error": {"message": "later"}}) if failed else handle(*arguments)

        fake.desk.handle = sometimes  # type: ignore[method-assign]
        fake.desk.drops = 2
        asked = of(tmp_path, samples, fake)
        assert len(labels(asked, samples)) == 24
        assert len(fake.desk.batches) == 1
        assert len(fake.requests) == 24
        assert asked.kept.spent() / UNITS == pytest.approx(fake.bill(1000, 4000))
        assert fake.desk.drops == 0


def test_batches_that_expire_unanswered_end_though_the_budget_is_short(tmp_path):
    samples = table(tmp_path, 9)
    with fake_server() as fake:
        fake.desk.ending = "expired"
        most = of(tmp_path, samples, fake).cost(samples, TOPICS).most / 24
        refused(lambda: labels(of(tmp_path, samples, fake, budget=most * 1.2), samples))
        assert len(fake.desk.batches) == 3


def test_the_rest_of_what_was_sent_in_files_is_no_too_small_file(tmp_path):
    samples = table(tmp_path, 9)
    with fake_server() as fake:
        fake.desk.looks = 10**6

        def stop(step: str) -> None:
            if step == "POST batches done" and len(fake.desk.batches) == 4:
                fake.desk.hook = lambda step: None
                os.kill(os.getpid(), signal.SIGINT)

        fake.desk.hook = stop
        settings = {"batch": {"least": 6, "poll": 0.05, "requests": 4}}
        with pytest.raises(KeyboardInterrupt):
            labels(of(tmp_path, samples, fake, **settings), samples)
        fake.desk.looks = 0
        assert of(tmp_path, samples, fake, **settings).cost(samples, TOPICS).in_files
        asked = of(tmp_path, samples, fake, **settings)
        assert len(labels(asked, samples)) == 24
        # Two samples and a half were left, which alone would have been asked one by one, for twice the money.
        assert (len(fake.answered), len(fake.desk.answered)) == (0, 24)
        assert asked.kept.spent() / UNITS == pytest.approx(fake.bill(1000, 4000))


CHILD = """
import json, os, sys
from pathlib import Path
from types import SimpleNamespace
import pyarrow as pa
from t2t.teachers import TeacherContext, build, parse_entry
from t2t.teachers.api import batches, pace, underway
pace.FIRST, batches.LAG = 0.01, 0.0
work, url, local = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
names = [f"s{i}" for i in range(20)]
samples = pa.table({"sample_id": names, "path": names, "title": names})
entry = parse_entry({"id": "asked", "kind": "openai", "model": "fake", "base_url": url, "frames": 0,
    "columns": ["title"], "price": {"input": 1000, "output": 4000}, "budget": 900,
    "batch": {"least": 1, "poll": 0.05, "requests": 10}}, "x")
dataset = SimpleNamespace(root=work, topics=(), name="tiny", samples=samples)
if local == "settling":
    add_answer, count = underway.add_answer, []
    def kill(*arguments):
        count.append(add_answer(*arguments))
        len(count) == 7 and os.kill(os.getpid(), 9)
    underway.add_answer = kill
if local == "noted":
    underway.Underway.name = lambda *_: os.kill(os.getpid(), 9)
asked = build(entry, TeacherContext(dataset, work))
rows = [row for table in asked.label(samples, ["a dog", "snow"]) for row in table.to_pylist()]
print(json.dumps([rows, asked.kept.spent()]))
"""


def test_a_kill_at_any_step_of_a_batch_loses_and_doubles_nothing(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    # "late": what was sent arrives, and who sent it is gone.
    steps = [
        "POST files done", "POST batches", "POST batches late", "POST batches done", "noted",
        "GET batches/id", "GET files/content done", "settling", "DELETE files/id",
    ]  # fmt: skip
    with fake_server() as fake:
        child: list[subprocess.Popen[bytes]] = []

        def kill(step: str) -> None:
            if steps and step == steps[0].removesuffix(" late"):
                child[-1].send_signal(signal.SIGKILL)
                child[-1].wait()
                if step == steps[0] and not step.endswith("done"):
                    raise ConnectionAbortedError

        fake.desk.hook = kill

        def start() -> subprocess.Popen[bytes]:
            command = [sys.executable, "-c", CHILD, str(tmp_path), fake.url, steps[0] if steps else ""]
            child.append(subprocess.Popen(command, stdout=subprocess.PIPE, env=environment))
            return child[-1]

        while steps:
            start().communicate(timeout=60)
            assert child[-1].returncode == -signal.SIGKILL, steps[0]
            steps.pop(0)
        rows, spent = json.loads(start().communicate(timeout=60)[0])
        pairs = [(row["sample_id"], row["topic"]) for row in rows]
        assert len(pairs) == len(set(pairs)) == 40
        # Nothing was asked twice, and what is booked is what the server charges: 40 requests.
        assert len(fake.requests) == len(set(fake.desk.answered)) == 40
        assert len(fake.desk.batches) == 4
        assert round(fake.bill(1000, 4000) * UNITS) == spent
        kept = Kept(tmp_path)
        assert Underway(kept).batches("asked") == []
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()


@pytest.mark.services
def test_ctrl_c_while_a_run_waits_says_how_to_go_on(world, tmp_path):
    shutil.copytree(world / "registry", tmp_path / "registry")
    content = yaml.safe_load(CAMPAIGN) | {"name": "paid", "teachers": ["seer"], "rounds": {"max": 1}}
    (tmp_path / "registry" / "campaigns" / "paid.yaml").write_text(yaml.safe_dump(content))
    variables = {"PYTHONPATH": str(ROOT), "T2T_DATA": str(world / "data"), "OPENAI_API_KEY": KEY}
    command = [sys.executable, "-m", "t2t", "run", "paid"]

    def start() -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=tmp_path, env=os.environ | variables, text=True, stdout=pipe, stderr=pipe)

    with fake_server() as fake:
        entry = {"id": "seer", "kind": "openai", "model": "fake", "base_url": fake.url, "frames": 1, "size": 32}
        entry |= {"score": "number", "topics_per_request": 10, "batch": {"least": 3, "poll": 0.5}}
        (tmp_path / "registry" / "teachers" / "seer.yaml").write_text(yaml.safe_dump(entry))
        fake.desk.looks = 10**6
        first = start()
        until = time.monotonic() + 120
        while not fake.desk.looked and time.monotonic() < until:
            time.sleep(0.05)
        first.send_signal(signal.SIGINT)
        said = "".join(first.communicate(timeout=60))
        assert (first.returncode, "Stopped. Go on with: t2t run paid" in said) == (130, True), said
        assert "its batches go on at the server" in said
        fake.desk.looks = 0
        second = start()
        said = "".join(second.communicate(timeout=200))
        assert (second.returncode, "goes on with 1 batches of an earlier run" in said) == (0, True), said
        assert "Waiting for 1 batches of seer: " in said
        assert len(fake.desk.batches) == 1
