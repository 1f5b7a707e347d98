"""A teacher labels what it was not asked before and nothing else, in parts that survive a kill."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from t2t.data.labels import HUMAN
from t2t.lake import open_lake
from t2t.lake.tables import read_table
from t2t.teachers.register import Registrar
from t2t.teachers.store import label_commits, registered
from tests.helpers.teachers import Counting, ask, confidences, content, enter, human, keys, many, pairs

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("shard", [None, 2])
def test_only_what_is_missing_is_asked_for(lake, work, dataset, shard):
    ask(lake, work, dataset, Counting(shard), many("a", "b"), "red")
    first, before = lake.resolve("main"), content(lake)
    later = Counting(shard)
    for _ in range(2):
        ask(lake, work, dataset, later, many("a", "c", "b"), "red", "blue")
    assert later.calls == [(["c"], ["red", "blue"]), (["a", "b"], ["blue"])]
    assert pairs(lake) == [("a", "red"), ("b", "red"), ("c", "red"), ("c", "blue"), ("a", "blue"), ("b", "blue")]
    known = registered(lake, "tiny", "vendor")
    assert (known.rows, known.topics) == (6, ("red", "blue"))
    assert read_table(lake, "main", "tiny/teachers/vendor/asked.parquet")["sample_id"].to_pylist() == ["a", "b", "c"]
    assert len(set(keys(lake))) == 2
    assert label_commits(lake, "main", "tiny", ["vendor", "nobody"]) == {"vendor": lake.resolve("main"), "nobody": ""}
    # A round that read the first commit still reads what it read.
    assert content(lake, first) == before
    assert [path.name for path in work.iterdir()] == ["lake.git"]


def test_less_than_before_asks_nothing(lake, work, dataset):
    ask(lake, work, dataset, Counting(), many("a", "b"), "red", "blue")
    head = lake.resolve("main")
    less = Counting()
    ask(lake, work, dataset, less, many("b"), "blue")
    ask(lake, work, dataset, less, many(), "blue")
    assert less.calls == []
    assert lake.resolve("main") == head


@pytest.mark.parametrize("shard", [None, 2])
def test_a_teacher_without_anything_to_label_is_registered_once(lake, work, dataset, shard):
    for _ in range(2):
        ask(lake, work, dataset, Counting(shard), many(), "red")
    assert registered(lake, "tiny", "vendor").rows == 0
    assert len(keys(lake)) == 1


def test_what_an_older_version_registered_is_not_labeled_twice(lake, work, dataset):
    ask(lake, work, dataset, Counting(), many("a"), "red", "blue")
    known = json.loads(content(lake)["tiny/teachers/vendor/entry.json"])
    del known["topics"]
    old = open_lake("git", work / "old")
    files = {path: data for path, data in content(lake).items() if path.endswith("labels.parquet")}
    files["tiny/teachers/vendor/entry.json"] = json.dumps(known).encode()
    old.commit("main", files, f"teacher:tiny:vendor:{known['fingerprint']}", "m", {})
    later = Counting()
    for _ in range(2):
        ask(old, work, dataset, later, many("a", "b"), "red", "blue")
    assert later.calls == [(["b"], ["red", "blue"])]
    assert len(pairs(old)) == len(set(pairs(old))) == 4


def test_new_samples_without_annotations_are_no_news_of_the_ground_truth(lake, work, dataset):
    enter(lake, work, dataset, human(dataset))
    head = lake.resolve("main")
    Registrar(lake, dataset, work).register(human(dataset), many("a", "b", "c", "new"), dataset.topics)
    assert lake.resolve("main") == head
    # A sample that could not be read at first has its annotations from when it can.
    part = open_lake("git", work / "part")
    Registrar(part, dataset, work).register(human(dataset), many("a"), dataset.topics)
    assert confidences(part, "main", HUMAN) == {"a": 1}
    Registrar(part, dataset, work).register(human(dataset), many("a", "c"), dataset.topics)
    assert confidences(part, "main", HUMAN) == {"a": 1, "c": 0}


@pytest.mark.parametrize("dies_at", [0, 1, 2])
def test_labeling_goes_on_after_its_last_part(lake, work, dataset, dies_at, caplog):
    samples = many("a", "b", "c", "d", "e")
    calm = open_lake("git", work / "calm")
    whole = Counting(2)
    ask(calm, work, dataset, whole, samples, "red", "blue")
    assert [names for names, _ in whole.calls] == [["a", "b"], ["c", "d"], ["e"]]

    with pytest.raises(KeyboardInterrupt):
        ask(lake, work, dataset, Counting(2, dies_at), samples, "red", "blue")
    assert registered(lake, "tiny", "vendor") is None
    assert len(list(work.glob("labeling/*/part-*.parquet"))) == dies_at
    again = Counting(2)
    caplog.clear()
    with caplog.at_level(logging.INFO, "t2t"):
        ask(lake, work, dataset, again, samples, "red", "blue")
    assert again.calls == whole.calls[dies_at:]
    assert content(lake) == content(calm)
    assert not (work / "labeling").exists()
    # One line for the whole, which knows what was done before.
    assert [line.split(",")[0] for line in caplog.messages if line.startswith("Labeling")] == ["Labeling: 5/5 videos"]


def test_a_part_with_a_flipped_bit_is_labeled_again(lake, work, dataset, caplog):
    samples = many("a", "b", "c", "d", "e")
    calm = open_lake("git", work / "calm")
    ask(calm, work, dataset, Counting(2), samples, "red", "blue")
    with pytest.raises(KeyboardInterrupt):
        ask(lake, work, dataset, Counting(2, 2), samples, "red", "blue")
    part = next(work.glob("labeling/*/part-00001.parquet"))
    whole = part.read_bytes()
    part.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    again = Counting(2)
    ask(lake, work, dataset, again, samples, "red", "blue")
    assert [names for names, _ in again.calls] == [["c", "d"], ["e"]]
    assert f"{part} is damaged" in caplog.text
    assert content(lake) == content(calm)


def test_parts_of_other_labels_are_not_taken_for_these(lake, work, dataset):
    samples = many("a", "b", "c", "d")
    with pytest.raises(KeyboardInterrupt):
        ask(lake, work, dataset, Counting(2, 1), samples, "red")
    others = ((Counting(2, extra="2"), samples), (Counting(1), samples), (Counting(2), many("a", "d")))
    for number, (other, wanted) in enumerate(others):
        place = work / f"other-{number}"
        shutil.copytree(work / "labeling", place / "labeling")
        ask(open_lake("git", place), place, dataset, other, wanted, "red")
        assert sum(len(names) for names, _ in other.calls) == len(wanted)


@pytest.mark.parametrize("shard", [None, 2])
@pytest.mark.parametrize(("further", "calls"), [((), []), (("d",), [(["d"], ["red"])])])
def test_two_processes_neither_repeat_nor_lose_labels(lake, work, dataset, further, calls, shard):
    begun, waits = threading.Event(), threading.Event()

    class Slow(Counting):
        def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
            begun.set()
            assert waits.wait(30)
            yield from super().label(samples, topics)

    class Watch(logging.Handler):
        def emit(self, line: logging.LogRecord) -> None:
            if "waiting for it" in line.getMessage():
                waits.set()

    log, handler = logging.getLogger("t2t"), Watch()
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)
    second = Counting(shard)
    asks = many("b", "c", *further)
    try:
        with ThreadPoolExecutor() as pool:
            first = pool.submit(ask, lake, work, dataset, Slow(shard), many("a", "b", "c"), "red")
            assert begun.wait(30)
            other = pool.submit(ask, open_lake("git", work), work, dataset, second, asks, "red")
            first.result(30), other.result(30)
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    assert second.calls == calls
    assert len(keys(lake)) == 1 + len(calls)
    assert pairs(lake) == [(name, "red") for name in ("a", "b", "c", *further)]
    assert not (work / "labeling").exists()


def test_parts_that_a_kill_left_behind_a_commit_are_removed(lake, work, dataset):
    with pytest.raises(KeyboardInterrupt):
        ask(lake, work, dataset, Counting(2, 1), many("a", "b", "c"), "red")
    (left,) = work.glob("labeling/*")
    kept = work / "kept"
    shutil.copytree(left, kept)
    ask(lake, work, dataset, Counting(2), many("a", "b", "c"), "red")
    shutil.copytree(kept, left)
    idle = Counting(2)
    ask(lake, work, dataset, idle, many("a", "b", "c"), "red")
    assert idle.calls == []
    assert not (work / "labeling").exists()
