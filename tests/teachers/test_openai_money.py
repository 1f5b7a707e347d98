"""Kind `openai` and money: a budget that no server, kill or restart can pass, and answers that are never paid twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from t2t.core.errors import T2TError
from t2t.teachers.api.kept import Kept, NoMoney
from t2t.teachers.api.money import UNITS, Cap, Price, Tokens, written
from tests.helpers.documented import refused
from tests.helpers.openai_server import KEY, fake_server
from tests.helpers.openai_teacher import NEEDS_PACKAGE, PRICE, TOPICS, labels, table, teacher
from tests.helpers.worlds import ROOT

pytestmark = [NEEDS_PACKAGE, pytest.mark.usefixtures("quick")]
FAULTS = [
    "", "429", "500", "cut", "drop", "no yes", "content filter", "refused", "bad answer", "no usage", "zero usage",
    "negative usage", "words as usage", "missing",
]  # fmt: skip


def test_a_spent_budget_ends_the_run_and_a_larger_one_goes_on(tmp_path, monkeypatch):
    samples = table(tmp_path, 9)
    with fake_server() as fake:
        asked = teacher(tmp_path, samples, fake.url, price=PRICE, budget=0.9)
        message = refused(lambda: labels(asked, samples))
        assert "of a budget of 0.9," in message
        first = len(fake.requests)
        assert 0 < first < 24
        # Once all is settled, what is booked is what the server charges.
        assert asked.kept.spent() / UNITS == pytest.approx(fake.bill(1000, 4000))
        assert asked.kept.spent() <= 0.9 * UNITS
        refused(lambda: labels(teacher(tmp_path, samples, fake.url, price=PRICE, budget=0.9), samples))
        assert len(fake.requests) == first
        monkeypatch.setenv("T2T_BUDGET", "50")
        assert len(labels(teacher(tmp_path, samples, fake.url, price=PRICE, budget=0.9), samples)) == 24
        assert len(fake.requests) == 24
        # The variable is about all teachers together.
        monkeypatch.setenv("T2T_BUDGET", "1.5")
        other = teacher(tmp_path, samples, fake.url, price=PRICE, id="other", model="x")
        assert "The teachers of this work folder have spent" in refused(lambda: list(other.label(samples, TOPICS)))


def test_counts_that_cannot_be_true_are_booked_at_the_highest_price(tmp_path):
    samples = table(tmp_path)
    lies = ["no usage", "zero usage", "negative usage", "words as usage"]
    with fake_server(lambda n, body: lies[n % 4]) as fake:
        asked = teacher(tmp_path, samples, fake.url, price=PRICE, budget=50)
        assert len(labels(asked, samples)) == 9
        assert asked.tally.counts.guessed == 9
        assert any("they are booked at their highest price" in remark for remark in asked.remarks)
        assert asked.kept.spent() / UNITS > fake.bill(1000, 4000)


def test_a_count_above_what_is_possible_stops_at_once(tmp_path):
    samples = table(tmp_path, 9)
    with fake_server(lambda n, body: "huge usage") as fake:
        asked = teacher(tmp_path, samples, fake.url, price=PRICE, budget=900_000, concurrency=1)
        refused(lambda: labels(asked, samples))
        assert len(fake.requests) == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.lists(st.sampled_from([*FAULTS, *[""] * len(FAULTS)]), min_size=1, max_size=12),
    budgets=st.lists(st.floats(0, 4), min_size=1, max_size=3),
    concurrency=st.integers(1, 8),
    score=st.sampled_from(["logprobs", "hard", "number"]),
    batch=st.sampled_from([None, {"least": 1, "poll": 0.05, "requests": 4}]),
    ending=st.sampled_from(["completed", "expired", "cancelled", "failed:token_limit_exceeded"]),
)
def test_whatever_the_server_does_money_never_passes_the_cap(
    tmp_path_factory,
    faults,
    budgets,
    concurrency,
    score,
    batch,
    ending,
):
    work = tmp_path_factory.mktemp("work")
    samples = table(work, 5)
    with fake_server(lambda n, body: faults[n % len(faults)]) as fake:
        fake.desk.ending = ending
        for budget in budgets:
            settings = {"budget": budget, "concurrency": concurrency, "score": score, "batch": batch}
            asked = teacher(work, samples, fake.url, price=PRICE, retries=1, **settings)
            before = asked.kept.spent()
            with contextlib.suppress(T2TError):
                labels(asked, samples)
            spent = asked.kept.spent()
            assert spent <= max(before, int(budget * UNITS))
            # What the server charges, by its own books, is never more than what is booked here.
            assert round(fake.bill(1000, 4000) * UNITS) <= spent


def test_reservations_of_many_threads_never_pass_the_cap(tmp_path):
    kept, cap = Kept(tmp_path), Cap(1000, "a")

    def one(number: int) -> int:
        try:
            return kept.reserve("a", str(number), 7, cap).amount
        except NoMoney:
            return 0

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(300))) == 994 == kept.spent("a")


def test_prices_are_whole_units_rounded_up():
    assert Price(input=0.15, output=0.6).of(Tokens(1_000_000, 1_000_000)) == 750_000_000_000
    assert Price(input=1e-7, output=0).of(Tokens(1, 9)) == 1
    assert [written(n) for n in (0, 5 * UNITS, UNITS // 1000, 1)] == ["0.00", "5.00", "0.001", "1.0e-12"]


def test_a_damaged_file_of_answers_is_refused(tmp_path):
    samples = table(tmp_path)
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "answers.sqlite").write_bytes(b"not a database, " * 100)
    with fake_server() as fake:
        refused(lambda: labels(teacher(tmp_path, samples, fake.url, price=PRICE, budget=3), samples))
        assert fake.requests == []


CHILD = """
import sys, json
from pathlib import Path
from types import SimpleNamespace
import pyarrow as pa
from t2t.teachers import TeacherContext, build, parse_entry
from t2t.teachers.api import pace
pace.FIRST = 0.01
work, url, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
names = [f"s{i}" for i in range(count)]
samples = pa.table({"sample_id": names, "path": names, "title": names})
entry = parse_entry({"id": "asked", "kind": "openai", "model": "fake", "base_url": url, "frames": 0,
    "columns": ["title"], "price": {"input": 1000, "output": 4000}, "budget": 900}, "x")
dataset = SimpleNamespace(root=work, topics=(), name="tiny", samples=samples)
asked = build(entry, TeacherContext(dataset, work))
rows = [row for table in asked.label(samples, ["a dog", "snow"]) for row in table.to_pylist()]
print(json.dumps([rows, asked.tally.counts.sent, asked.kept.spent()]))
"""


def test_a_kill_at_any_request_loses_and_doubles_nothing(tmp_path):
    draw = random.Random(0)
    environment = os.environ | {"OPENAI_API_KEY": KEY, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    with fake_server(lambda n, body: time.sleep(0.01) or ("500" if n % 17 == 3 else "")) as fake:

        def start() -> subprocess.Popen[bytes]:
            command = [sys.executable, "-c", CHILD, str(tmp_path), fake.url, "40"]
            return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)

        kills = 0
        while kills < 3:
            process, until = start(), len(fake.requests) + draw.randint(1, 20)
            while process.poll() is None and len(fake.requests) < until:
                time.sleep(0.001)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
        done = start()
        rows, sent, spent = json.loads(done.communicate(timeout=60)[0])
        assert done.returncode == 0
        pairs = [(row["sample_id"], row["topic"]) for row in rows]
        assert len(pairs) == len(set(pairs)) == 80
        # Only what was under way at a kill, eight at most, may be asked twice.
        assert len(fake.answered) - len(set(fake.answered)) <= 8 * kills
        assert sent < 80
        assert round(fake.bill(1000, 4000) * UNITS) <= spent
        counted = Kept(tmp_path)
        assert all(len(counted.answers(key)) == 1 for key in _keys(counted))


def _keys(kept: Kept) -> list[str]:
    with kept.transaction() as connection:
        return [key for (key,) in connection.execute("SELECT key FROM answers")]
