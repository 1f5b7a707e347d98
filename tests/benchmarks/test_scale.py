"""The world that a campaign at scale is run on, and what is made of its numbers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.scale import _memory, _stages
from benchmarks.scale_page import Ran, Stage, markdown, rows_of, slope
from benchmarks.scale_world import Size, make
from t2t.campaign.entries import open_dataset, read_campaign, teacher_entry

pytestmark = pytest.mark.unit


def test_the_world_is_one_that_can_be_read_and_has_the_rows_it_says(tmp_path: Path) -> None:
    size = Size(samples=3_000, topics=400, teachers=3, rows=9_000)
    place = make(size, tmp_path, {})
    dataset = open_dataset(place, "scale")
    assert (len(dataset.samples), len(dataset.topics)) == (3_000, 400)
    assert len(set(dataset.split("unlabeled")["sample_id"].to_pylist())) == 3_000 - 60 - 40 - 40
    assert read_campaign(place, "scale", None, []).teachers == ("t000", "t001", "t002")
    for name in ("t000", "t002"):
        assert teacher_entry(place, name, dataset.root).kind == "labels"
        table = pq.read_table(dataset.root / f"{name}.parquet")
        assert len(table) == 3_000
        assert len({*zip(table["sample_id"].to_pylist(), table["topic"].to_pylist(), strict=True)}) == 3_000


def test_teachers_know_something_and_share_both_answers_with_people(tmp_path: Path) -> None:
    place = make(Size(samples=3_000, topics=400, teachers=1, rows=30_000), tmp_path, {})
    dataset = open_dataset(place, "scale")
    table = pq.read_table(dataset.root / "t000.parquet").to_pandas()
    shared = dataset.human.to_pandas().merge(table, on=["sample_id", "topic"], suffixes=("", "_said"))
    yes, no = (shared["confidence_said"][shared["confidence"] == answer] for answer in (1, 0))
    assert min(len(yes), len(no)) > 100
    assert yes.mean() > no.mean() + 0.1


def ran(samples: int, seconds: float) -> Ran:
    stages = {
        "making the data": Stage(seconds=1),
        "training": Stage(seconds=seconds, cpu=seconds, peak=1 << 30),
        "gate": Stage(seconds=0.1, cpu=0.1, peak=1 << 20),
    }
    rounds = [{"pr_auc": 0.5, "low": 0.4, "high": 0.6, "rows": samples * 100.0}]
    disk = {"lake": samples * 10}
    return Ran(samples=samples, topics=1, teachers=1, rows=1, stages=stages, disk=disk, rounds=rounds, load=[0.0, 0.0])


def test_slopes_are_said_where_there_is_something_to_say() -> None:
    assert slope(1.0, 10.0, 10) == pytest.approx(1)
    assert slope(2.0, 2.0, 10) == pytest.approx(0)
    assert slope(0.1, 10.0, 10) is None
    table = {row[0]: row for row in rows_of([ran(100, 1.0), ran(1_000, 100.0)])}
    assert table["training"] == ["training", "1.0", "1.0", "1.00", "100.0", "100.0", "1.00", "2.00", "2.00"]
    assert table["gate"][-2:] == ["", ""]
    assert table["all but the data"][1] == "1.1"
    assert "| lake | 1 | 10 | 1.00 |" in markdown([ran(100_000, 1.0), ran(1_000_000, 100.0)])


def test_a_stage_has_its_own_time_without_those_that_it_calls(tmp_path: Path) -> None:
    events = [
        [0.0, 0.0, "rows", "round 0"],
        [1.0, 0.5, "lake", "round 0"],
        [4.0, 2.5, "rows", "round 0"],
        [5.0, 3.0, "end", ""],
    ]
    (tmp_path / "events").write_text("".join(json.dumps(event) + "\n" for event in events))
    found = _stages(tmp_path / "events", [(0.5, 10, 5), (2.0, 30, 20), (4.5, 20, 5)])
    assert (found["rows"].seconds, found["rows"].cpu, found["rows"].peak) == (2.0, 1.0, 20)
    assert (found["lake"].seconds, found["lake"].cpu, found["lake"].anonymous) == (3.0, 2.0, 20)
    assert found["rows"].by_round == {"round 0": 2.0}


def test_memory_is_that_of_the_process() -> None:
    held = np.ones(1 << 22)
    resident, anonymous = _memory(os.getpid())
    assert resident >= anonymous >= held.nbytes
