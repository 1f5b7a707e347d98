"""lakeFS as only lakeFS is: staging areas, leftovers, outages, keys. The contract is in test_contract.py."""

from __future__ import annotations

import logging
import os
import threading
import time

import pyarrow as pa
import pytest

from t2t.core.errors import T2TError
from t2t.data.labels import write_parquet
from t2t.lake import UnknownLake, open_lake
from t2t.lake.tables import read_table
from tests.helpers.lakefs import ENDPOINT, KEY, NEEDED, SECRET

pytestmark = NEEDED


@pytest.fixture
def lake(lakefs_server, tmp_path):
    return open_lake(lakefs_server.uri, tmp_path)


def branches(lake) -> list[str]:
    """All branches, those that only live for a commit too."""
    return lake._repository.branches()


def staged(lake, branch: str) -> list[str]:
    return [change.path for change in lake._repository._repository.branch(branch).uncommitted()]


def test_a_commit_leaves_neither_branches_nor_staged_files(lake):
    lake.branch("work")
    lake.commit("main", {"a": b"1"}, "k1", "One", {})
    lake.commit("work", {"b": b"1"}, "k2", "Two", {})
    lake.merge("work", "main", "m", "Merge", {})
    lake.commit("main", {"a": b"other"}, "k1", "Again", {})
    assert branches(lake) == ["main", "work"]
    assert staged(lake, "main") == staged(lake, "work") == []


def test_the_targets_log_has_one_commit_for_each_commit(lake):
    before = lake.resolve("main")
    first = lake.commit("main", {"a": b"1"}, "k1", "One", {"n": "1"})
    commits = list(lake.log("main"))
    assert [commit.id for commit in commits] == [first, before]
    assert commits[0].parents == (before,)
    assert commits[0].metadata == {"n": "1"}


def test_what_a_killed_writer_left_is_removed_by_the_next_attempt(lake, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*arguments: object, **options: object) -> None:
        raise Killed

    for step in ("commit", "merge", "delete_branch"):
        with monkeypatch.context() as patch:
            patch.setattr(lake._repository, step, die)
            with pytest.raises(Killed):
                lake.commit("main", {f"{step}/a": b"1", f"{step}/b": b"2"}, step, step, {})
        assert len(branches(lake)) == 2
        landed = lake.commit("main", {f"{step}/a": b"1", f"{step}/b": b"2"}, step, step, {})
        assert lake.find("main", step).id == landed
        assert branches(lake) == ["main"]
    assert [commit.key for commit in lake.log("main")] == ["delete_branch", "merge", "commit", ""]


@pytest.mark.parametrize("content", [b"same", b"other", b"as the next file"])
def test_of_two_writers_of_one_key_the_second_finds_the_firsts_commit(
    lake, lakefs_server, tmp_path, content, monkeypatch
):
    """Whatever they write: also where it is the same, and where lakeFS itself would overlook the conflict."""
    lake.commit("main", {"d/10": b"0", "d/2": b"as the next file"}, "k0", "Before", {})
    other = open_lake(lakefs_server.uri, tmp_path)
    merge, landed = lake._repository.merge, []

    def late(*arguments, **options):
        if not landed:
            landed.append(other.commit("main", {"d/11": b"same"}, "k", "First", {}))
        return merge(*arguments, **options)

    monkeypatch.setattr(lake._repository, "merge", late)
    assert lake.commit("main", {"d/11": content}, "k", "Second", {}) == landed[0] == lake.resolve("main")
    assert lake.read("main", "d/11").read() == b"same"
    assert branches(lake) == ["main"]


def test_a_commit_that_conflicts_with_another_key_is_made_anew_on_the_new_head(
    lake, lakefs_server, tmp_path, monkeypatch
):
    lake.commit("main", {"a": b"0"}, "k0", "Before", {})
    other = open_lake(lakefs_server.uri, tmp_path)
    merge, landed = lake._repository.merge, []

    def late(*arguments, **options):
        if not landed:
            landed.append(other.commit("main", {"a": b"theirs"}, "theirs", "First", {}))
        return merge(*arguments, **options)

    monkeypatch.setattr(lake._repository, "merge", late)
    lake.commit("main", {"a": b"ours"}, "ours", "Second", {})
    assert [commit.key for commit in lake.log("main")] == ["ours", "theirs", "k0", ""]
    assert lake.read("main", "a").read() == b"ours"
    assert branches(lake) == ["main"]


def test_what_somebody_else_left_uncommitted_is_neither_read_nor_committed(lake):
    lake.commit("main", {"a": b"1"}, "k", "One", {})
    with lake._repository._repository.branch("main").object("dirt").writer("wb") as file:
        file.write(b"by hand")
    assert [entry.path for entry in lake.list("main")] == ["a"]
    with pytest.raises(T2TError, match=r"'main' .* did not commit.*lakectl diff lakefs://"):
        lake.commit("main", {"b": b"1"}, "k2", "Two", {})
    assert lake.find("main", "k2") is None


def test_a_tags_slash_becomes_an_equals_sign_on_the_server_only(lake):
    commit = lake.commit("main", {"a": b"1"}, "k", "One", {})
    lake.tag("demo/round-0", commit)
    assert lake._repository.tags() == ["demo=round-0"]
    with pytest.raises(T2TError, match=r"Did you mean 'demo/round-0'"):
        lake.resolve("demo/round-1")


@pytest.mark.parametrize("ref", ["main~0", "main@", "demo=round-0"])
def test_lakefs_own_expressions_are_no_names(lake, ref):
    lake.tag("demo/round-0", "main")
    with pytest.raises(T2TError, match="has no branch, tag or commit"):
        lake.resolve(ref)


def test_a_big_table_is_read_piece_by_piece(lake, tmp_path, monkeypatch):
    from t2t.lake.lakefs import repository as lakefs_repository

    table = pa.table({"n": range(200_000), "text": [f"{i:x}" * 3 for i in range(200_000)]})
    write_parquet(table, tmp_path / "t.parquet")
    commit = lake.commit("main", {"t.parquet": tmp_path / "t.parquet"}, "k", "T", {})
    size = (tmp_path / "t.parquet").stat().st_size
    fetch, fetched = lakefs_repository._fetch, []

    def counted(server, stored, start, count):
        data = fetch(server, stored, start, count)
        fetched.append(len(data))
        return data

    monkeypatch.setattr(lakefs_repository, "SMALL", 1000)
    monkeypatch.setattr(lakefs_repository, "BUFFER", 1 << 16)
    monkeypatch.setattr(lakefs_repository, "_fetch", counted)
    assert read_table(lake, commit, "t.parquet", columns=["n"]).equals(table.select(["n"]))
    assert sum(fetched) < size * 0.9
    assert read_table(lake, commit, "t.parquet").equals(table)
    fetched.clear()
    with lake.read(commit, "t.parquet") as file:
        assert file.read() == (tmp_path / "t.parquet").read_bytes()
        assert (file.read(), file.seek(-3, 2), file.read()) == (
            b"",
            size - 3,
            (tmp_path / "t.parquet").read_bytes()[-3:],
        )
    assert len(fetched) <= 4


def test_an_old_log_is_asked_for_once(lake, lakefs_server, tmp_path, monkeypatch):
    for i in range(6):
        lake.commit("main", {"a": b"%d" % i}, f"k{i}", "One of many", {})
    log, asked = lake._repository.log, []

    def counted(start: str, amount: int, after: str = ""):
        asked.append(amount)
        return log(start, amount, after)

    monkeypatch.setattr(lake._repository, "log", counted)
    assert lake.find("main", "k0") is not None
    assert lake.find("main", "nothing") is None
    assert asked == []
    open_lake(lakefs_server.uri, tmp_path).commit("main", {"b": b"1"}, "new", "By another process", {})
    assert lake.find("main", "new") is not None
    assert len(asked) == 1


# -- opening ---------------------------------------------------------------------------------------------------------


def test_a_lake_that_is_only_looked_at_is_not_made(lakefs_server, tmp_path):
    with pytest.raises(UnknownLake, match="has no repository"):
        open_lake(lakefs_server.uri, tmp_path, create=False)
    open_lake(lakefs_server.uri, tmp_path)
    assert open_lake(lakefs_server.uri + "/", tmp_path, create=False).list("main") == []


def test_a_new_repository_lies_where_the_environment_says(lakefs_server, tmp_path, monkeypatch):
    monkeypatch.setenv("T2T_LAKEFS_STORAGE", "local://elsewhere")
    lake = open_lake(lakefs_server.uri, tmp_path)
    name = lakefs_server.uri.removeprefix("lakefs://")
    assert lake._repository._repository.properties.storage_namespace == f"local://elsewhere/{name}"


def test_storage_that_cannot_be_used_is_named(lakefs_server, tmp_path, monkeypatch):
    monkeypatch.setenv("T2T_LAKEFS_STORAGE", "s3://not-here/lake/")
    with pytest.raises(T2TError, match=r"cannot make repository '.*' at s3://not-here/lake/t2t-test-"):
        open_lake(lakefs_server.uri, tmp_path)


def test_wrong_keys_are_refused_at_once_and_not_shown(lakefs_server, tmp_path, monkeypatch):
    monkeypatch.setenv(SECRET, "a-secret-of-somebody")
    with pytest.raises(T2TError, match=r"does not accept the keys\. Set LAKECTL_SERVER_ENDPOINT_URL") as caught:
        open_lake(lakefs_server.uri, tmp_path)
    assert "a-secret-of-somebody" not in str(caught.value)


def test_keys_can_come_from_lakectls_own_file(lakefs_server, tmp_path, monkeypatch):
    path = tmp_path / "lakectl.yaml"
    path.write_text(
        f"server: {{endpoint_url: '{os.environ[ENDPOINT]}'}}\n"
        f"credentials: {{access_key_id: {os.environ[KEY]}, secret_access_key: {os.environ[SECRET]}}}\n"
    )
    for name in (ENDPOINT, KEY, SECRET):
        monkeypatch.delenv(name)
    monkeypatch.setenv("LAKECTL_CONFIG_FILE", str(path))
    assert open_lake(lakefs_server.uri, tmp_path).list("main") == []


# -- outages ---------------------------------------------------------------------------------------------------------


def test_a_server_that_is_away_for_seconds_is_waited_for(lakefs_process, tmp_path, caplog):
    """It goes away in the middle of the commits, twice: once asked to, once killed."""
    lake = open_lake("lakefs://outage", tmp_path, wait=120)
    done: list[str] = []
    failed: list[BaseException] = []
    stop = threading.Event()

    def write() -> None:
        try:
            while not stop.is_set():
                key = f"k{len(done)}"
                lake.commit("main", {f"{key}/a": key.encode(), f"{key}/b": b"x" * 100_000}, key, key, {"n": key})
                done.append(key)
        except BaseException as error:
            failed.append(error)

    def wait_for(condition) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert not failed
            assert time.monotonic() < deadline
            time.sleep(0.02)

    writer = threading.Thread(target=write)
    with caplog.at_level(logging.WARNING, logger="t2t"):
        writer.start()
        for kill in (False, True):
            before = len(done)
            wait_for(lambda before=before: len(done) > before + 2)
            if kill:
                lakefs_process.process.kill()
            lakefs_process.stop()
            caplog.clear()
            wait_for(lambda: "Trying again" in caplog.text)
            before = len(done)
            lakefs_process.start()
            wait_for(lambda before=before: len(done) > before + 1)
            assert caplog.text.count("Trying again") == 1
            assert "answers again" in caplog.text
        stop.set()
        writer.join(60)
    assert not failed
    assert [commit.key for commit in lake.log("main")] == [*reversed(done), ""]
    assert len(lake.list("main")) == 2 * len(done)
    assert branches(lake) == ["main"]


def test_a_server_that_stays_away_ends_the_waiting_with_what_to_do(lakefs_process, tmp_path):
    lake = open_lake("lakefs://gone", tmp_path, wait=0.5)
    lake.commit("main", {"a": b"1"}, "k", "One", {})
    lakefs_process.stop()
    with pytest.raises(T2TError, match=r"has not done its work for 0\.?5? seconds.*run the same command again"):
        lake.commit("main", {"b": b"1"}, "k2", "Two", {})
