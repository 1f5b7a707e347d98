"""Kind `openai` against a server in this process that bills, refuses, hangs and lies as a script says."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from t2t.data.remote import open_remote
from t2t.data.remote.addresses import RemoteConfig
from t2t.teachers.api import pace
from t2t.teachers.api.reading import Reading
from tests.helpers.clips import random_clip
from tests.helpers.documented import refused
from tests.helpers.elsewhere import elsewhere
from tests.helpers.openai_server import KEY, confidence_of, fake_server, text_of
from tests.helpers.openai_teacher import NEEDS_PACKAGE, PRICE, TOPICS, labels, table, teacher

pytestmark = [NEEDS_PACKAGE, pytest.mark.usefixtures("quick")]


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    for i in range(3):
        random_clip(root / f"{i}.mp4", seed=i, count=4, side=32)
    (root / "empty.mp4").write_bytes(b"")
    return root


def test_p_yes_of_texts_is_what_the_model_gives_and_is_asked_once(tmp_path, clips):
    samples = table(clips)
    with fake_server() as fake:
        found = labels(teacher(tmp_path, samples, fake.url), samples)
        # The last sample has no title: nothing is asked of it.
        assert set(found) == {(f"s{i}", topic) for i in range(3) for topic in TOPICS}
        for body in fake.requests:
            assert (body["max_tokens"], body["temperature"], body["top_logprobs"]) == (1, 0, 20)
        texts = {text_of(body) for body in fake.requests}
        assert len(texts) == len(fake.requests) == 9
        for (sample, topic), value in found.items():
            (text,) = [t for t in texts if t.startswith(f"title: title of {sample[1]}\n") and t.endswith(f": {topic}")]
            assert value == pytest.approx(confidence_of(text), abs=1e-6)
        again = teacher(tmp_path, samples, fake.url)
        assert labels(again, samples) == found
        assert labels(teacher(tmp_path, samples, fake.url, id="asked", concurrency=1), samples) == found
        assert len(fake.requests) == 9
        assert "0 requests sent, 9 answers were kept from before." in again.remarks
        assert "1 samples have no text in these columns, and no row." in again.remarks
        # One sample alone, and one topic alone, get the same: another work folder has nothing kept.
        alone = labels(teacher(tmp_path / "other", samples, fake.url), samples.slice(1, 1), TOPICS[1:2])
        assert alone == {("s1", TOPICS[1]): found["s1", TOPICS[1]]}


def test_pictures_go_as_jpeg_before_the_text_and_copies_of_a_clip_are_asked_once(tmp_path, clips):
    samples = pa.table(
        {"sample_id": ["a", "b", "copy", "bad"], "path": [str(clips / f"{n}.mp4") for n in ("0", "1", "0", "empty")]}
    )
    with fake_server() as fake:
        asked = teacher(tmp_path, samples, fake.url, frames=2, size=32, columns=[], detail="low")
        found = labels(asked, samples)
        assert {sample for sample, _ in found} == {"a", "b", "copy"}
        assert len(fake.requests) == 2 * len(TOPICS)
        for topic in TOPICS:
            assert found["a", topic] == found["copy", topic]
        first, second, text = fake.requests[0]["messages"][0]["content"]
        assert first["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")
        assert first["image_url"]["detail"] == "low"
        assert (second["type"], text["type"]) == ("image_url", "text")
        assert "1 files could not be decoded, and have no row." in asked.remarks
        # Other frames are another question; the same ones in another run are not even decoded.
        labels(teacher(tmp_path, samples, fake.url, frames=2, size=32, columns=[], detail="low"), samples.slice(0, 3))
        assert len(fake.requests) == 2 * len(TOPICS)


def test_pictures_of_other_machines_are_asked_about_and_what_is_gone_is_no_reason_to_end(tmp_path, clips):
    pytest.importorskip("aiohttp", reason="the extra `remote` is not installed")
    with elsewhere() as there, fake_server() as fake:
        there.files["/0.mp4"] = (clips / "0.mp4").read_bytes()
        open_remote([("http", f"127.0.0.1:{there.port}")], RemoteConfig(private=("127.0.0.1",)), tmp_path / "remote")
        paths = [str(clips / "0.mp4"), there.url("/0.mp4"), there.url("/gone.mp4"), str(clips / "gone.mp4")]
        samples = pa.table({"sample_id": ["here", "there", "gone there", "gone here"], "path": paths})
        asked = teacher(tmp_path, samples, fake.url, frames=2, size=32, columns=[])
        # A plan fetches nothing.
        assert asked.cost(samples, TOPICS).requests == len(samples) * len(TOPICS)
        assert not there.asked
        found = labels(asked, samples)
        assert {sample for sample, _ in found} == {"here", "there"}
        # The same content is the same question, wherever it lies.
        assert len(fake.requests) == len(TOPICS)
        assert all(found["here", topic] == found["there", topic] for topic in TOPICS)
        assert "2 files could not be decoded, and have no row." in asked.remarks


@pytest.mark.parametrize(
    ("changes", "requests", "levels"),
    [
        ({"score": "hard"}, 9, {0.0, 1.0}),
        ({"score": "number"}, 9, {n / 100 for n in range(101)}),
        ({"score": "sampled", "draws": 4}, 36, {0, 0.25, 0.5, 0.75, 1.0}),
        ({"score": "number", "topics_per_request": 2}, 6, {n / 100 for n in range(101)}),
        ({"score": "hard", "topics_per_request": 3}, 3, {0.0, 1.0}),
        ({"score": "sampled", "draws": 2, "topics_per_request": 3}, 6, {0.0, 0.5, 1.0}),
    ],
)
def test_other_scores(tmp_path, clips, changes, requests, levels):
    samples = table(clips)
    with fake_server() as fake:
        found = labels(teacher(tmp_path, samples, fake.url, **changes), samples)
        assert len(found) == 9
        assert len(fake.requests) == requests
        assert {float(np.float32(level)) for level in levels} >= set(found.values())


def test_what_fails_for_a_while_is_asked_again(tmp_path, clips):
    samples = table(clips)
    faults = {0: "429:0.3", 1: "500", 2: "cut", 3: "drop", 5: "503", 6: "hang", 7: "409"}
    with fake_server(lambda n, body: faults.get(n, ""), hang=3) as fake:
        asked = teacher(tmp_path, samples, fake.url, timeout=1, price=PRICE, budget=1000)
        assert len(labels(asked, samples)) == 9
        assert len(fake.requests) == 9 + len(faults)
        # Lost: 500, 503, the cut ones and the one that hung may have cost something; 409 and 429 did not.
        assert asked.tally.counts.lost == 5
        assert fake.bill(**{"price_in": 1000, "price_out": 4000}) <= asked.kept.spent() / 1e12


def test_waits_as_long_as_the_server_asks():
    assert pace.asked_wait({"retry-after": "7"}) == 7
    assert pace.asked_wait({"retry-after-ms": "250", "retry-after": "7"}) == 0.25
    assert pace.asked_wait({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert pace.asked_wait({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m1.5s"}) == 61.5
    assert pace.asked_wait({"x-ratelimit-remaining-tokens": "9", "x-ratelimit-reset-tokens": "1m"}) is None
    assert pace.asked_wait({"retry-after": "soon"}) is None
    assert all(0 <= pace.backoff(attempt) <= pace.LONGEST for attempt in range(99))


def test_slots_are_halved_at_once_and_grow_slowly_and_rates_hold():
    slots = pace.Pace(16)
    for _ in range(200):
        assert slots.enter(1, lambda: False)
        slots.leave(True)
    assert slots.slots == 16
    slots.too_many(0)
    slots.too_many(0)
    assert slots.slots == 8
    slow = pace.Pace(8, requests=600, tokens=60_000)
    start = time.monotonic()
    for _ in range(5):
        assert slow.enter(300, lambda: False)  # 0.3 s each by tokens
        slow.leave(True)
    # (A second may be caught up with.)
    assert slow._next - start >= 5 * 0.3 - 1


@pytest.mark.parametrize("fault", ["content filter", "refused"])
def test_a_refusal_is_a_missing_row_that_is_counted_and_not_asked_again(tmp_path, clips, fault):
    samples = table(clips)
    with fake_server(lambda n, body: fault if text_of(body).endswith("snow") else "") as fake:
        asked = teacher(tmp_path, samples, fake.url)
        found = labels(asked, samples)
        assert {topic for _, topic in found} == set(TOPICS[:2])
        assert "The model refused to answer 3 questions, which have no row." in asked.remarks
        assert labels(teacher(tmp_path, samples, fake.url), samples) == found
        assert len(fake.requests) == 9


def test_a_missing_yes_is_bounded_and_counted(tmp_path, clips):
    samples = table(clips)
    with fake_server(lambda n, body: "no yes") as fake:
        asked = teacher(tmp_path, samples, fake.url)
        found = labels(asked, samples)
        # 0.02 of the probability are listed nowhere: yes has between nothing and all of it.
        assert set(found.values()) == {float(np.float32(0.02 / 0.92 / 2))}
        assert any(remark.startswith("9 of 9 answers (100.0%) do not list both") for remark in asked.remarks)


def test_answers_that_cannot_be_read_are_tried_three_times_and_kept(tmp_path, clips, monkeypatch):
    samples = table(clips, 2)
    with fake_server(lambda n, body: "bad answer") as fake:
        asked = teacher(tmp_path, samples, fake.url)
        assert labels(asked, samples) == {}
        assert len(fake.requests) == 9
        assert "3 answers could not be read, or only in part." in asked.remarks
        # A mended reader finds them without asking.
        kinds = "t2t.teachers.kinds.openai.read"
        monkeypatch.setattr(kinds, lambda body, *_: Reading((0.25,)))
        assert len(labels(teacher(tmp_path, samples, fake.url), samples)) == 3
        assert len(fake.requests) == 9


def test_a_model_that_says_something_else_is_refused(tmp_path, clips):
    samples = table(clips, 5)
    with fake_server(lambda n, body: "off topic") as fake:
        assert "yes and no together" in refused(lambda: labels(teacher(tmp_path, samples, fake.url), samples))
    with fake_server(lambda n, body: "no logprobs") as fake:
        refused(lambda: labels(teacher(tmp_path / "b", samples, fake.url), samples))
        # Once the server gives them it is asked again.
        fake.script = lambda n, body: ""
        assert len(labels(teacher(tmp_path / "b", samples, fake.url), samples)) == 12


@pytest.mark.parametrize("status", ["401", "404", "500", "429:7200", "400"])
def test_a_server_that_does_not_answer_is_told_without_the_key(tmp_path, clips, status, caplog):
    samples = table(clips)
    caplog.set_level(logging.DEBUG)
    with fake_server(lambda n, body: status) as fake:
        message = refused(lambda: labels(teacher(tmp_path, samples, fake.url, retries=1), samples))
    assert "***" in message
    assert KEY not in message
    assert KEY not in caplog.text
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()
    assert fake.headers[0]["authorization"] == f"Bearer {KEY}"


def test_nobody_at_the_address(tmp_path, clips):
    samples = table(clips)
    asked = teacher(tmp_path, samples, "http://127.0.0.1:9/v1", retries=1, price=PRICE, budget=1)
    assert "ConnectError" in refused(lambda: labels(asked, samples))
    assert asked.kept.spent() == 0


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"api_key_env": "sk-secret-1"}, "variable"),
        ({"base_url": "ftp://x"}, "address"),
        ({"base_url": "http://user:hidden@x/v1"}, "user"),
        ({"topics_per_request": 2}, "another score"),
        ({"prompt": "is it there?"}, "once"),
        ({"columns": []}, "nothing to ask about"),
        ({"extra_body": {"messages": []}}, "extra_body"),
        ({"budget": 3}, "price"),
        ({"frames": 2, "price": PRICE}, "image_tokens"),
        ({"answers": {"yes": ["Ja"], "no": ["ja"]}}, "stands for yes and for no"),
        ({"columns": ["titel"]}, "Did you mean 'title'"),
    ],
)
def test_bad_entries_are_refused_without_what_may_be_secret(tmp_path, clips, changes, word):
    samples = table(clips)
    message = refused(lambda: teacher(tmp_path, samples, "http://x/v1", **changes))
    assert word in message
    assert "secret" not in message
    assert "hidden" not in message


def test_without_a_key_a_budget_or_the_package_nothing_is_sent(tmp_path, clips, monkeypatch):
    samples = table(clips)
    with fake_server() as fake:
        refused(lambda: labels(teacher(tmp_path, samples, fake.url, price=PRICE), samples))
        monkeypatch.setenv("T2T_BUDGET", "ten")
        refused(lambda: labels(teacher(tmp_path, samples, fake.url), samples))
        monkeypatch.delenv("T2T_BUDGET")
        monkeypatch.setenv("OPENAI_API_KEY", "")
        refused(lambda: labels(teacher(tmp_path, samples, fake.url), samples))
        monkeypatch.setenv("OPENAI_API_KEY", "clé")
        refused(lambda: labels(teacher(tmp_path, samples, fake.url), samples))
        assert fake.requests == []
        # A server of one's own needs none.
        assert len(labels(teacher(tmp_path, samples, fake.url, api_key_env=None), samples)) == 9
    assert not (tmp_path / "lake").exists()


def test_the_fingerprint_is_of_what_is_asked_and_not_of_where_or_for_how_much(tmp_path, clips):
    samples = table(clips)
    base = teacher(tmp_path, samples, "http://a/v1").fingerprint()
    same = {"api_key_env": "OTHER", "price": PRICE, "budget": 3, "concurrency": 1, "retries": 9, "timeout": 9}
    assert teacher(tmp_path, samples, "http://b/v1", **same).fingerprint() == base
    for change in ({"model": "x"}, {"prompt": "Is {topic}?"}, {"score": "hard"}, {"columns": ["title", "path"]}):
        assert teacher(tmp_path, samples, "http://a/v1", **change).fingerprint() != base


def test_without_the_package_it_says_what_to_install(tmp_path, clips, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    refused(lambda: labels(teacher(tmp_path, table(clips), "http://127.0.0.1:9/v1"), table(clips)))


def test_a_key_in_an_entry_is_refused(tmp_path, clips):
    message = refused(lambda: teacher(tmp_path, table(clips), "http://x/v1", extra_body={"user": f"Bearer {KEY}"}))
    assert KEY not in message
