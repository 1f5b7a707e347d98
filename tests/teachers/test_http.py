"""Kind `http`: services in this process, good and bad, and a Label Studio ML backend's API."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from t2t.core.errors import T2TError
from t2t.teachers import parse_entry
from tests.helpers.documented import refused
from tests.helpers.programs import HELLO, TOPICS, labels, samples
from tests.helpers.services import Reply, describe, half, say, serving, teacher

pytestmark = pytest.mark.unit

SECRET = "Bearer s3cr3t-of-the-vendor"


def test_a_service_labels(tmp_path):
    with serving(describe=describe, label=half) as (url, asked):
        made = teacher(tmp_path, url + "/", batch_samples=2)
        assert labels(made) == {(sample, topic): 0.5 for sample in "abc" for topic in TOPICS}
        assert asked == ["/describe", "/label", "/label"]


def test_the_fingerprint_is_who_it_is_and_not_where(tmp_path):
    def other(*_: object) -> Reply:
        return 200, {}, HELLO.replace('"1"', '"2"').encode()

    with serving(describe=describe) as (one, _), serving(describe=describe) as (two, _):
        first = teacher(tmp_path, one).fingerprint()
        assert teacher(tmp_path, two, timeout=3, batch_samples=1).fingerprint() == first
    with serving(describe=other) as (three, _):
        assert teacher(tmp_path, three).fingerprint() != first


def replies(*ways: Any) -> Any:
    """One after the other, the last one for ever."""
    left = list(ways)

    def reply(asked: dict[str, Any], headers: dict[str, str]) -> Reply:
        way = left.pop(0) if len(left) > 1 else left[0]
        return way(asked, headers) if callable(way) else way

    return reply


def test_what_passes_is_asked_again(tmp_path):
    ways = (say(status=503), say(status=429, Retry_After="0"), (200, {}, b'{"sample_id": "a"'[:0]), half)
    with serving(describe=describe, label=replies(*ways)) as (url, asked):
        assert len(labels(teacher(tmp_path, url))) == 6
        # Whoever failed is asked who it is before it is asked again.
        assert asked.count("/label") == 4


def test_retry_after_is_kept(tmp_path):
    with serving(describe=describe, label=replies(say(status=429, Retry_After="1"), half)) as (url, _):
        start = time.monotonic()
        labels(teacher(tmp_path, url))
        assert 1 <= time.monotonic() - start < 5


def nan(asked: dict[str, Any], _: dict[str, str]) -> Reply:
    return 200, {}, b'{"sample_id": "a", "topic": "red circle", "confidence": NaN}\n'


def more(asked: dict[str, Any], headers: dict[str, str]) -> Reply:
    return 200, {}, half(asked, headers)[2] + b'{"done": 1, "rows": 0}\n'


def large(*_: object) -> Reply:
    return 200, {}, b" " * (2 << 20)


FAULTS = {
    "NaN": (nan, "NaN is no number of JSON"),
    "more": (more, "more after `done`"),
    "too large": (large, "an answer of more than 1,048,576 bytes"),
    "no end": (say(), "ends without `done`"),
    "client's fault": (say({"detail": "no key"}, status=400), "status 400.*no key"),
    "no right": (say(status=401), "status 401.*authorization"),
    "always busy": (say(status=500), "status 500.*Tried 4 times"),
    "another host": (say(status=302, Location="http://example.org/label"), "sends on to http://example.org/label"),
    "cut short": ((200, {"Content-Length": "999", "Connection": "close"}, b"{}\n"), "label"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_answer_is_refused(tmp_path, name):
    way, words = FAULTS[name]
    with serving(describe=describe, label=replies(way)) as (url, _):
        message = refused(lambda: labels(teacher(tmp_path, url, answer_megabytes=1, timeout=1)))
    assert message.startswith("Teacher 'mine': ")
    assert re.search(words, message)


def test_no_redirect_is_followed(tmp_path):
    with serving(describe=describe, label=half) as (other, asked):
        with serving(describe=describe, label=replies(say(status=307, Location=f"{other}/label"))) as (url, _):
            refused(lambda: labels(teacher(tmp_path, url)))
        assert asked == []


def test_a_service_that_hangs_is_left(tmp_path):
    def hang(*_: object) -> Reply:
        time.sleep(1)
        return 200, {}, b""

    with serving(describe=describe, label=hang) as (url, _):
        message = refused(lambda: labels(teacher(tmp_path, url, timeout=0.1)))
    assert "took longer than 0.1 seconds" in message


def test_one_that_sends_drop_by_drop_is_left(tmp_path):
    """Each drop comes in time; the answer as a whole does not."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client, suppress(OSError):
                        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                        for _ in range(1000):
                            client.sendall(b" ")
                            time.sleep(0.02)

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        start = time.monotonic()
        made = teacher(tmp_path, f"http://127.0.0.1:{server.getsockname()[1]}", start_timeout=0.2)
        message = refused(made.fingerprint)
        assert "took longer than 0.2 seconds" in message
        assert time.monotonic() - start < 5
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_nobody_there_is_said_with_the_url(tmp_path):
    with serving() as (url, _):
        pass
    message = refused(teacher(tmp_path, url).fingerprint)
    assert f"GET {url}/describe" in message


def test_a_request_that_is_too_large_is_refused(tmp_path):
    with serving(describe=describe, label=half) as (url, _):
        made = teacher(tmp_path, url, request_megabytes=1)
        message = refused(lambda: labels(made, samples("a"), tuple(f"{n} {'x' * 1000}" for n in range(2000))))
    assert "more than request_megabytes (1) allows" in message


def test_the_authorization_comes_from_the_environment_and_is_shown_to_nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("VENDOR_KEY", SECRET)
    seen: list[str] = []

    def refuse(_: dict[str, Any], headers: dict[str, str]) -> Reply:
        seen.append(headers["Authorization"])
        return say({"detail": f"unknown key {headers['Authorization']}"}, status=403)

    with serving(describe=describe, label=refuse) as (url, _):
        made = teacher(tmp_path, url, authorization="VENDOR_KEY")
        message = refused(lambda: labels(made))
    assert seen == [SECRET]
    assert SECRET not in message
    assert "unknown key ***" in message
    monkeypatch.delenv("VENDOR_KEY")
    assert "variable VENDOR_KEY is not set" in refused(lambda: teacher(tmp_path, url, authorization="VENDOR_KEY"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "http://example.org:8000"}, "insecure: true"),
        ({"url": "http://10.0.0.7"}, "insecure: true"),
        ({"url": "ftp://example.org"}, "begins with http"),
        ({"url": "https://anna:pw@example.org"}, "no name or password in the URL"),
        ({"url": "https://example.org/x?key=1"}, r"no \? or #"),
        ({"url": "https://example.org:99999"}, "url"),
        ({"url": "https://exa mple.org"}, "url"),
        ({"url": "https://example.org", "hard": 1}, "hard.*label-studio"),
        ({"url": "https://example.org", "authorization": "Bearer x"}, "authorization"),
    ],
)
def test_an_entry_that_cannot_be_meant_is_refused(changes, words):
    with pytest.raises(T2TError, match=words):
        parse_entry({"id": "mine", "kind": "http", **changes}, "entry")


@pytest.mark.parametrize("url", ["http://localhost:1", "http://127.0.0.2", "http://[::1]:80", "https://example.org"])
def test_this_machine_and_encryption_need_no_leave(url):
    parse_entry({"id": "mine", "kind": "http", "url": url}, "entry")
    parse_entry({"id": "mine", "kind": "http", "url": "http://example.org", "insecure": True}, "entry")


# -- Label Studio ----------------------------------------------------------------------------------------------------


def up(*_: object) -> Reply:
    return say({"status": "UP", "model_class": "Tiny"})


def setup(asked: dict[str, Any], _: dict[str, str]) -> Reply:
    assert '<Choice value="red circle"/>' in asked["schema"]
    assert "naïve" in asked["schema"]
    return say({"model_version": "v7"})


def choices(*named: str, **more: Any) -> dict[str, Any]:
    return {"from_name": "topic", "to_name": "sample", "type": "choices", "value": {"choices": list(named)}, **more}


def predictions(*results: Any, **more: Any) -> Any:
    def predict(asked: dict[str, Any], _: dict[str, str]) -> Reply:
        assert [task["data"]["video"] for task in asked["tasks"]] == ["/data/a.mp4", "/data/b.mp4"]
        return say({"results": list(results), **more})

    return predict


def label_studio(root: Any, predict: Any, **changes: Any) -> dict[tuple[str, str], float]:
    with serving(health=up, setup=setup, predict=predict) as (url, _):
        return labels(teacher(root, url, dialect="label-studio", **changes), samples("a", "b"))


def test_a_label_studio_backend_labels(tmp_path):
    one = {"result": [choices("red circle", score=0.8)], "score": 0.1, "model_version": "v7"}
    # Its prediction's score is every choice's that has none of its own; boxes say nothing of the whole clip.
    two = {"result": [{"type": "rectanglelabels", "value": {}}, choices(*TOPICS)], "score": 0.3}
    predict = predictions(one, two, model_version="v7")
    found = label_studio(tmp_path, predict)
    assert found == {
        ("a", TOPICS[0]): pytest.approx(0.8),
        ("b", TOPICS[0]): pytest.approx(0.3),
        ("b", TOPICS[1]): pytest.approx(0.3),
    }
    zero = label_studio(tmp_path, predict, unnamed="zero")
    assert zero == {**found, ("a", TOPICS[1]): 0.0}


def test_a_sample_without_a_prediction_has_no_label(tmp_path):
    one = {"result": [choices("red circle", score=0.8)]}
    assert label_studio(tmp_path, predictions(one, None), unnamed="zero").keys() == {("a", t) for t in TOPICS}


def test_a_yes_without_a_score_is_what_the_entry_says(tmp_path):
    one = {"result": [choices("red circle")]}
    assert "no score" in refused(lambda: label_studio(tmp_path, predictions(one, None)))
    assert label_studio(tmp_path, predictions(one, None), hard=0.9) == {("a", "red circle"): pytest.approx(0.9)}


LABEL_STUDIO_FAULTS = {
    "another version": ([{"result": [], "model_version": "v8"}, None], "Write `model_version: v8` into the entry"),
    "too few": ([None], "1 results for 2 tasks"),
    "no prediction": ([{"score": 1}, None], "is no prediction with a `result`"),
    "no topic": ([{"result": [choices("blue", score=1)]}, None], "'blue' is no topic"),
    "percent": ([{"result": [choices("red circle", score=80)]}, None], "confidence 80 is no number from 0 to 1"),
    "no text": ([{"result": [{"type": "choices", "value": {"choices": [["a"]]}}]}, None], "is no text"),
    "twice": ([{"result": [choices("red circle", score=1), choices("red circle", score=0)]}, None], "more than once"),
}


@pytest.mark.parametrize("name", LABEL_STUDIO_FAULTS)
def test_a_bad_prediction_is_refused(tmp_path, name):
    results, words = LABEL_STUDIO_FAULTS[name]
    message = refused(lambda: label_studio(tmp_path, predictions(*results)))
    assert words in message


def test_the_model_behind_a_backend_may_have_a_version_of_its_own(tmp_path):
    """As real backends do: /setup and the answer as a whole say one, each prediction another."""
    one = {"result": [choices("red circle", score=0.5)], "model_version": "model-3"}
    predict = predictions(one, one, model_version="v7")
    assert len(label_studio(tmp_path, predict, model_version="model-3")) == 2
    message = refused(lambda: label_studio(tmp_path, predict, model_version="model-2"))
    assert "'model-3' now and was 'model-2'" in message
    whole = predictions(one, one, model_version="v8")
    message = refused(lambda: label_studio(tmp_path, whole, model_version="model-3"))
    assert "'v8' now and was 'v7' in /setup" in message


def test_its_version_is_in_the_fingerprint(tmp_path):
    def newer(*_: object) -> Reply:
        return say({"model_version": "v8"})

    found = set()
    for way in (setup, newer):
        with serving(health=up, setup=way) as (url, _):
            found.add(teacher(tmp_path, url, dialect="label-studio").fingerprint())
    assert len(found) == 2
    odd = say({"status": "UP", "model_class": "x" * 999 + "\ud800"})
    with serving(health=lambda *_: odd, setup=lambda *_: say({"model_version": ["y" * 999]})) as (url, _):
        assert len(teacher(tmp_path, url, dialect="label-studio").fingerprint()) == 64
    with serving(health=lambda *_: say({"status": "DOWN"}), setup=setup) as (url, _):
        assert "status is UP" in refused(teacher(tmp_path, url, dialect="label-studio").fingerprint)
