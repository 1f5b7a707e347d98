"""Files of other machines: fetched once, kept by content, checked, bounded, and never from where they must not come."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from t2t.data.remote.addresses import RemoteConfig, fault, identity, refused_address, shown
from t2t.data.remote.cache import Cache, Unreachable
from t2t.data.remote.fetching import Source
from tests.helpers.elsewhere import Elsewhere, elsewhere

pytest.importorskip("aiohttp", reason="the extra `remote` is not installed")
HERE = ("127.0.0.1",)


@pytest.fixture
def there() -> Iterator[Elsewhere]:
    with elsewhere() as server:
        server.files["/a.mp4"] = b"first" * 1000
        yield server


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2t.data.remote.fetching.FIRST_WAIT", 0.001)


def cache(folder: Path, **config: Any) -> Cache:
    return Cache(folder / "remote", RemoteConfig(**{"private": HERE, **config}))


def reason(cached: Cache, uri: str) -> str:
    with pytest.raises(Unreachable) as caught:
        cached.sha256(uri)
    return str(caught.value)


def test_a_file_is_fetched_once_and_found_by_its_content(tmp_path: Path, there: Elsewhere):
    first = cache(tmp_path)
    uri = there.url("/a.mp4")
    there.files["/copy.mp4"] = there.files["/a.mp4"]
    assert first.known(uri) is None
    digest = first.sha256(uri)
    assert first.known(uri) == digest
    path = first.local(uri)
    assert path.read_bytes() == there.files["/a.mp4"]
    assert path.name == f"{digest}.mp4"
    assert first.sha256(there.url("/copy.mp4")) == digest
    assert there.count("GET") == 2
    assert len(list((tmp_path / "remote" / "files").rglob("*.mp4"))) == 1
    # Another process asks nobody.
    asked = len(there.asked)
    assert cache(tmp_path).local(uri) == path
    assert cache(tmp_path).sha256(uri) == digest
    assert len(there.asked) == asked


def test_a_file_that_changed_is_noticed_when_it_is_checked(tmp_path: Path, there: Elsewhere):
    uri = there.url("/a.mp4")
    digest = cache(tmp_path).sha256(uri)
    assert cache(tmp_path, recheck_hours=0).sha256(uri) == digest
    assert there.count("GET") == 1  # asked by HEAD alone
    there.files["/a.mp4"] = b"other" * 1000
    assert cache(tmp_path).sha256(uri) == digest  # not to be checked yet
    changed = cache(tmp_path, recheck_hours=0)
    assert changed.sha256(uri) != digest
    assert changed.local(uri).read_bytes() == b"other" * 1000


def test_a_machine_that_does_not_answer_leaves_files_as_they_were(
    tmp_path: Path, there: Elsewhere, caplog: pytest.LogCaptureFixture
):
    uri = there.url("/a.mp4")
    digest = cache(tmp_path).sha256(uri)
    there.faults["/a.mp4"] = [503] * 99
    late = cache(tmp_path, recheck_hours=0, attempts=2)
    with caplog.at_level(logging.WARNING):
        assert late.sha256(uri) == digest
        asked = len(there.asked)
        assert late.sha256(uri) == digest
    assert len(there.asked) == asked
    assert caplog.text.count("they are taken as they were") == 1
    # One that says that the file is gone is believed.
    there.faults.clear()
    del there.files["/a.mp4"]
    assert "404" in reason(cache(tmp_path, recheck_hours=0), uri)


def test_other_content_than_was_hashed_is_not_decoded_under_the_old_hash(tmp_path: Path, there: Elsewhere):
    cached, uri = cache(tmp_path), there.url("/a.mp4")
    cached.sha256(uri)
    cached.local(uri).unlink()
    assert cached.local(uri).is_file()  # removed to make room: fetched again
    cached.local(uri).unlink()
    there.files["/a.mp4"] = b"other"
    with pytest.raises(Unreachable, match="it changed since it was looked at"):
        cached.local(uri)


def test_what_fails_for_now_is_tried_again_and_what_stays_is_not(tmp_path: Path, there: Elsewhere):
    there.faults["/a.mp4"] = [503, 503, 429, 500]  # each attempt asks by HEAD, then by GET
    assert cache(tmp_path).sha256(there.url("/a.mp4"))
    asked = len(there.asked)
    assert reason(cache(tmp_path), there.url("/none.mp4")) == "its server says 404"
    assert len(there.asked) - asked == 2
    there.faults["/a.mp4"] = [503] * 99
    assert reason(cache(tmp_path / "new", attempts=3), there.url("/a.mp4")) == "its server says 503"


@pytest.mark.parametrize("hidden", [False, True])
def test_a_file_that_is_too_large_is_not_kept(tmp_path: Path, there: Elsewhere, hidden: bool):
    there.files["/large.mp4"] = bytes(3 << 20)
    there.hidden = {"/large.mp4"} if hidden else set()
    assert "more than 2 MB (remote.megabytes" in reason(cache(tmp_path, megabytes=2), there.url("/large.mp4"))
    assert [path for path in (tmp_path / "remote").rglob("*") if path.is_file()] == []


def test_a_slow_server_is_given_up(tmp_path: Path, there: Elsewhere):
    there.slow["/a.mp4"] = 5
    start = time.monotonic()
    assert reason(cache(tmp_path, seconds=0.3, attempts=1), there.url("/a.mp4"))
    assert time.monotonic() - start < 4


def test_an_empty_file_and_a_cut_one_are_refused(tmp_path: Path, there: Elsewhere):
    there.files["/empty.mp4"] = b""
    assert reason(cache(tmp_path), there.url("/empty.mp4")) == "it is empty"


def test_a_redirect_to_another_place_is_refused(tmp_path: Path, there: Elsewhere):
    with elsewhere() as other:
        other.files["/secret"] = b"secret"
        there.moved = {"/out.mp4": other.url("/secret"), "/in.mp4": "/a.mp4", "/down.mp4": "file:///etc/passwd"}
        cached = cache(tmp_path)
        assert "redirected to another place" in reason(cached, there.url("/out.mp4"))
        assert other.asked == []
        assert reason(cached, there.url("/down.mp4"))
        assert cached.sha256(there.url("/in.mp4")) == cached.sha256(there.url("/a.mp4"))


def test_a_name_that_leads_to_a_private_address_is_refused(tmp_path: Path, there: Elsewhere):
    """As a name is resolved, and not before: what it leads to may change."""
    uri = there.url("/a.mp4", host="localhost")
    assert "private address" in reason(cache(tmp_path, private=()), uri)
    assert there.asked == []
    assert cache(tmp_path, private=("localhost",)).sha256(uri)


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("192.168.0.1", True),
        ("169.254.169.254", True),
        ("100.64.0.1", True),
        ("0.0.0.0", True),
        ("::1", True),
        ("fe80::1%eth0", True),
        ("fd00:ec2::254", True),
        ("::ffff:169.254.169.254", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("224.0.0.1", True),
        ("8.8.8.8", False),
        ("2606:4700:4700::1111", False),
        ("videos.example.org", False),
    ],
)
def test_addresses_that_are_nobody_elses_business_are_refused(address: str, refused: bool):
    assert refused_address("host", address, ()) == refused
    assert not refused_address("host", address, ("host",))


def test_what_signs_an_address_is_neither_shown_nor_noted(tmp_path: Path, there: Elsewhere):
    uri = there.url("/a.mp4?X-Amz-Signature=SECRET&X-Amz-Date=today")
    assert "SECRET" not in shown(uri)
    assert shown("https://anna:SECRET@host/a.mp4") == "https://host/a.mp4"
    assert shown("clips/a.mp4") == "clips/a.mp4"
    assert shown("https://host/a.mp4?version=2") == "https://host/a.mp4?version=2"
    assert identity(uri) == identity(there.url("/a.mp4?X-Amz-Signature=OTHER&X-Amz-Date=tomorrow"))
    cache(tmp_path).sha256(uri)
    assert "SECRET" not in (tmp_path / "remote" / "index.jsonl").read_text()
    assert "SECRET" not in reason(cache(tmp_path), there.url("/none.mp4?sig=SECRET"))


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("https://anna:secret@host/a.mp4", "has a user's name in it"),
        ("https:///a.mp4", "names no file"),
        ("https://host/", "names no file"),
        ("http://host/a.mp4", "is not encrypted"),
        ("https://169.254.169.254/a.mp4", "is of a private address"),
        ("https://[::1]/a.mp4", "is of a private address"),
    ],
)
def test_addresses_that_are_none_are_refused_before_anybody_is_asked(uri: str, says: str):
    assert says in str(fault(uri, RemoteConfig()))
    assert fault("https://host/a.mp4", RemoteConfig()) is None


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path, there: Elsewhere):
    cached = cache(tmp_path, cache_gigabytes=3e-3)  # 3 MB
    for number in range(6):
        there.files[f"/{number}.mp4"] = bytes([number]) * (1 << 20)
        path = cached.local(there.url(f"/{number}.mp4"))
        os.utime(path, (time.time() - 10_000 + number,) * 2)
    kept = list((tmp_path / "remote" / "files").rglob("*.mp4"))
    assert sum(path.stat().st_size for path in kept) <= 3.1e6
    assert path in kept
    assert cached.local(there.url("/0.mp4")).read_bytes()[:1] == b"\0"


def test_files_that_somebody_may_be_about_to_read_stay(tmp_path: Path, there: Elsewhere):
    cached = cache(tmp_path, cache_gigabytes=1e-6)
    there.files["/b.mp4"] = b"second" * 1000
    paths = [cached.local(there.url(name)) for name in ("/a.mp4", "/b.mp4")]
    assert all(path.is_file() for path in paths)


def test_an_index_that_is_torn_is_asked_again_and_one_that_grows_is_written_anew(
    tmp_path: Path, there: Elsewhere, monkeypatch: pytest.MonkeyPatch
):
    uri = there.url("/a.mp4")
    digest = cache(tmp_path).sha256(uri)
    index = tmp_path / "remote" / "index.jsonl"
    index.write_text(index.read_text() + '{"key": "torn', encoding="utf-8")
    assert cache(tmp_path).sha256(uri) == digest
    monkeypatch.setattr("t2t.data.remote.cache.MANY_LINES", 5)
    line = json.dumps(json.loads(index.read_text().splitlines()[1]))
    index.write_text(f"{line}\n" * 50)
    assert cache(tmp_path).sha256(uri) == digest
    assert len(index.read_text().splitlines()) == 1


def test_what_a_killed_process_left_is_removed(tmp_path: Path):
    (tmp_path / "remote").mkdir()
    left = tmp_path / "remote" / f".{'a' * 32}.999999999.tmp"
    left.write_bytes(b"half")
    cache(tmp_path)
    assert not left.exists()


def test_a_source_says_what_a_file_was_when_it_was_fetched(tmp_path: Path, there: Elsewhere):
    source = Source("http", RemoteConfig(private=HERE))
    size, tag = source.get(there.url("/a.mp4"), tmp_path / "a")
    assert (size, tag) == source.state(there.url("/a.mp4"))
    assert size == 5000
    assert tag
