"""Leave-one-out: what is trained with whom, measured on what, and kept by what."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from t2t.commands.page import contribution, trainings
from t2t.commands.page.contribution import LeaveOneOut
from t2t.commands.page.material import Material
from t2t.core.errors import T2TError
from tests.helpers.page import state_of


def test_a_second_report_trains_nothing(copied, monkeypatch):
    place = copied()
    first = LeaveOneOut(Material(place, "tiny"), steps=3).measure()
    assert list(first["rows"]["name"].sort_values()) == ["colour-expert", "vendor"]
    for row in first["rows"].to_dict("records"):
        assert row["value"] == pytest.approx(first["everyone"] - row["without"])
        assert row["low"] <= row["value"] <= row["high"]
    assert (first["steps"], first["full_steps"]) == (3, 6)
    monkeypatch.setattr(contribution, "train", lambda *arguments: pytest.fail("trained again"))
    second = LeaveOneOut(Material(place, "tiny"), steps=3).measure()
    assert second["rows"].equals(first["rows"])
    # Another budget is another measurement.
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        LeaveOneOut(Material(place, "tiny"), steps=4).measure()


def test_it_is_measured_on_validation_without_the_students_and_touches_no_lake(copied, monkeypatch):
    place, seen = copied(), []
    material = Material(place, "tiny")
    before = state_of(material.lake)
    train = contribution.train

    def noted(student, matrix, *arguments):
        seen.append(list(matrix.teachers))
        return train(student, matrix, *arguments)

    monkeypatch.setattr(contribution, "train", noted)
    found = LeaveOneOut(material, steps=2)
    found.measure()
    everyone = ["human", "vendor", "colour-expert"]
    assert seen == [everyone, ["human", "colour-expert"], ["human", "vendor"], everyone]
    files = sorted(found.folder.iterdir())
    assert len(files) == 4
    for file in files:
        assert set(pq.read_table(file)["sample_id"].to_pylist()) <= set(material.ids("validation"))
    assert state_of(material.lake) == before


def test_side_by_side_comes_to_what_one_after_the_other_does(copied, monkeypatch, caplog):
    """Two processes train what one would, bit for bit, and every step of theirs is shown."""
    one = LeaveOneOut(Material(copied(), "tiny"), steps=3)
    monkeypatch.setattr(contribution, "room", lambda rows, trainings, device: 2)
    with caplog.at_level("INFO", "t2t"):
        side_by_side = one.measure()
    told = [record.getMessage() for record in caplog.records]
    assert any(
        line.startswith("Leave-one-out: 4 short trainings of 3 steps, 2 at a time, take about ") for line in told
    )
    assert any(line.startswith("Leave-one-out: 12/12 steps") for line in told)
    apart = {file.name: pq.read_table(file) for file in one.folder.glob("*.parquet")}
    assert len(apart) == 4
    assert [path.name for path in one.folder.iterdir() if path.name.startswith(".")] == []
    for file in list(one.folder.iterdir()):
        file.unlink()
    monkeypatch.setattr(contribution, "room", lambda rows, trainings, device: 1)
    alone = one.measure()
    assert {file.name: pq.read_table(file) for file in one.folder.iterdir()} == apart
    assert alone["rows"].equals(side_by_side["rows"])


def test_a_process_that_breaks_is_named_and_leaves_nobody_behind(copied, monkeypatch):
    one = LeaveOneOut(Material(copied(), "tiny"), steps=3)
    monkeypatch.setattr(contribution, "room", lambda rows, trainings, device: 2)
    _ = one.readable
    damaged = one.material.workspace.work / "embeddings"
    damaged.rename(damaged.with_name("gone"))
    (one.material.workspace.work / "embeddings").touch()
    with pytest.raises(
        T2TError, match=r"(all teachers|without vendor): its process ended with status 1: .*Write the report again"
    ):
        one.measure()
    assert [child for child in children() if "t2t.commands.page.trainer" in child] == []


@pytest.mark.unit
def test_there_is_room_for_what_cores_and_memory_are_free_for(monkeypatch):
    monkeypatch.setattr(trainings.os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(trainings.os, "getloadavg", lambda: (2.2, 0.0, 0.0))
    assert trainings.room(1000, 4, "cpu") in range(1, 5)
    monkeypatch.setattr(trainings, "PROCESS_BYTES", 1000)
    assert [trainings.room(0, count, "cpu") for count in (1, 4, 20)] == [1, 4, 6]
    assert trainings.room(0, 20, "cuda") == 1
    assert trainings.room(10**12, 20, "cpu") == 1  # its rows alone are larger than memory
    monkeypatch.setattr(trainings.os, "getloadavg", lambda: (30.0, 0.0, 0.0))
    assert trainings.room(0, 20, "cpu") == 1


def children() -> list[str]:
    """The command lines of this process's children."""
    lines = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                lines.append(stat.with_name("cmdline").read_text())
    return lines


def test_a_key_names_the_content_and_the_recipe(finished):
    one = LeaveOneOut(Material(finished, "tiny"))
    both = ["human", "vendor", "colour-expert"]
    keys = [one.key(both, 0), one.key(both, 1), one.key(both[:2], 0), LeaveOneOut(one.material, 5).key(both, 0)]
    assert len(set(keys)) == 4
    assert LeaveOneOut(Material(finished, "tiny")).key(both, 0) == keys[0]
    one.material.frozen["student"]["dim"] = 7
    assert one.key(both, 0) != keys[0]


def test_a_damaged_file_is_named(copied):
    one = LeaveOneOut(Material(copied(), "tiny"))
    one.folder.mkdir(parents=True, exist_ok=True)
    (one.folder / f"{one.key(['human', *one.outside], 0)}.parquet").write_bytes(b"half a file")
    with pytest.raises(T2TError, match=r"\.parquet: cannot be read .* Delete it: it is made again"):
        one.measure()
