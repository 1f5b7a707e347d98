"""What a campaign is fixed to at its first start: its data, and its configuration."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from t2t.campaign.config import CampaignConfig
from t2t.campaign.freeze import commit_data, freeze_campaign
from t2t.core.errors import T2TError
from t2t.data.dataset import Dataset
from t2t.lake import Lake, open_lake
from t2t.lake.layout import CampaignLayout
from t2t.lake.tables import read_json, read_table
from tests.helpers.teachers import ANNOTATIONS, make

NOTHING = pa.table({name: pa.array([], pa.string()) for name in ("sample_id", "path", "reason")})
LAYOUT = CampaignLayout("tiny", "first")


@pytest.fixture
def work(tmp_path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def lake(work) -> Lake:
    return open_lake("git", work)


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    return make(tmp_path / "data")


# -- data ------------------------------------------------------------------------------------------------------------


def test_data_enters_without_this_machines_paths(lake, work, dataset):
    unreadable = pa.table({"sample_id": ["b"], "path": ["/here/b.mp4"], "reason": ["no video stream"]})
    commit = commit_data(lake, replace(dataset, unseen=frozenset({"blue square"})), unreadable, work)
    assert [entry.path for entry in lake.list(commit, "tiny/data/")] == [
        "tiny/data/human.parquet",
        "tiny/data/quarantine.parquet",
        "tiny/data/samples.parquet",
        "tiny/data/topics.json",
    ]
    assert read_table(lake, commit, "tiny/data/samples.parquet").column_names == [
        "sample_id",
        "modality",
        "group",
        "split",
    ]
    assert read_table(lake, commit, "tiny/data/human.parquet").to_pylist() == dataset.human.to_pylist()
    assert read_table(lake, commit, "tiny/data/quarantine.parquet").to_pylist() == [
        {"sample_id": "b", "reason": "no video stream"}
    ]
    with lake.read(commit, "tiny/data/topics.json") as file:
        assert json.load(file) == [
            {"topic": "red circle", "unseen": False},
            {"topic": "blue square", "unseen": True},
        ]


def test_the_same_data_again_changes_nothing_and_other_data_does(lake, work, dataset):
    first = commit_data(lake, dataset, NOTHING, work)
    assert commit_data(lake, dataset, NOTHING, work) == first
    grown = make(dataset.root.parent, ANNOTATIONS + "b,red circle,x,0.5\n")
    second = commit_data(lake, grown, NOTHING, work)
    assert second != first
    assert len(read_table(lake, "main", "tiny/data/human.parquet")) == 3
    assert len(read_table(lake, first, "tiny/data/human.parquet")) == 2


def test_data_that_is_taken_back_is_there_again(lake, work, dataset):
    commit_data(lake, dataset, NOTHING, work)
    grown = make(dataset.root.parent, ANNOTATIONS + "b,red circle,x,0.5\n")
    commit_data(lake, grown, NOTHING, work)
    back = make(dataset.root.parent)
    third = commit_data(lake, back, NOTHING, work)
    assert len(read_table(lake, "main", "tiny/data/human.parquet")) == 2
    assert commit_data(lake, back, NOTHING, work) == third == lake.resolve("main")


def test_the_quarantines_content_counts_and_its_paths_do_not(lake, work, dataset):
    commits = []
    for name, folder in (("a", "/here"), ("b", "/here"), ("b", "/moved")):
        quarantine = pa.table({"sample_id": [name], "path": [f"{folder}/{name}.mp4"], "reason": ["empty"]})
        commits.append(commit_data(lake, dataset, quarantine, work))
    assert commits[0] != commits[1] == commits[2]
    assert read_table(lake, "main", "tiny/data/quarantine.parquet")["sample_id"].to_pylist() == ["b"]


# -- campaigns -------------------------------------------------------------------------------------------------------


def campaign(**changes: Any) -> CampaignConfig:
    content = {"name": "first", "dataset": "tiny", "teachers": ["vendor"], "encoder": {"kind": "pixels"}}
    return CampaignConfig.model_validate(content | changes)


def test_a_campaign_is_frozen_at_its_first_start(lake):
    freeze_campaign(lake, LAYOUT, campaign())
    head = lake.resolve("main")
    frozen = read_json(lake, "main", "tiny/campaigns/first/campaign.json")
    assert CampaignConfig.model_validate(frozen) == campaign()
    freeze_campaign(lake, LAYOUT, campaign())
    assert lake.resolve("main") == head


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"training": {"steps": 77}}, "training"),
        ({"encoder": {"kind": "pixels", "frames": 3}}, "encoder"),
        ({"dataset": "other"}, "dataset"),
        ({"seed": 1}, "seed"),
        ({"gate": "must-improve", "teachers_see_unseen": True}, "gate, teachers_see_unseen"),
        ({"self_training": {"top_k": 1}}, "self_training"),
        ({"teachers": []}, "teachers"),
        ({"teachers": ["other"]}, "teachers"),
    ],
)
def test_a_changed_configuration_is_refused_by_its_keys(lake, changes, named):
    freeze_campaign(lake, LAYOUT, campaign())
    head = lake.resolve("main")
    with pytest.raises(T2TError) as caught:
        freeze_campaign(lake, LAYOUT, campaign(**changes))
    message = str(caught.value)
    assert message.startswith(f"Campaign 'first' has begun with another configuration; changed since: {named}. ")
    assert "--name" in message
    assert lake.resolve("main") == head


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": {"max": 9}},
        {"rounds": {"max": 9, "patience": 9}},
        {"teachers": ["vendor", "appearance"]},
        {"description": "Told better."},
        {"health": {"constant": "block", "min_distinct": 5}},
    ],
    ids=["more rounds", "more patience", "one more teacher", "description", "health"],
)
def test_a_campaign_may_be_prolonged_and_have_more_teachers(lake, changes):
    freeze_campaign(lake, LAYOUT, campaign())
    freeze_campaign(lake, LAYOUT, campaign(**changes))
    with pytest.raises(T2TError, match="changed since: seed"):
        freeze_campaign(lake, LAYOUT, campaign(**changes, seed=5))


def test_another_name_is_another_campaign(lake):
    freeze_campaign(lake, LAYOUT, campaign())
    freeze_campaign(lake, CampaignLayout("tiny", "second"), campaign(name="second", seed=1))
    assert read_json(lake, "main", "tiny/campaigns/second/campaign.json")["seed"] == 1
    assert read_json(lake, "main", "tiny/campaigns/first/campaign.json")["seed"] == 0


def test_a_newer_version_with_new_keys_has_not_changed_the_configuration(lake):
    frozen = json.loads(campaign(recipe="manual").model_dump_json())
    del frozen["health"], frozen["gate"], frozen["training"]["noise"]
    lake.commit("main", {"tiny/campaigns/first/campaign.json": json.dumps(frozen).encode()}, "k", "m", {})
    freeze_campaign(lake, LAYOUT, campaign(recipe="manual"))
    with pytest.raises(T2TError, match="changed since: gate, training"):
        freeze_campaign(lake, LAYOUT, campaign(recipe="manual", gate="always", training={"noise": 0.5}))


def test_one_that_was_frozen_before_there_were_recipes_was_given_every_number(lake):
    frozen = json.loads(campaign(recipe="manual").model_dump_json())
    del frozen["recipe"]
    lake.commit("main", {"tiny/campaigns/first/campaign.json": json.dumps(frozen).encode()}, "k", "m", {})
    freeze_campaign(lake, LAYOUT, campaign(recipe="manual"))
    with pytest.raises(T2TError, match="changed since: recipe, student, training"):
        freeze_campaign(lake, LAYOUT, campaign())


def test_what_the_recipe_chose_is_not_frozen_and_what_was_given_is(lake):
    freeze_campaign(lake, LAYOUT, campaign(training={"steps": 7}))
    frozen = json.loads(lake.read("main", "tiny/campaigns/first/campaign.json").read())
    assert frozen["recipe"] == "auto"
    assert frozen["training"] == {"steps": 7}
    assert "student" not in frozen
    freeze_campaign(lake, LAYOUT, CampaignConfig.model_validate(frozen))
    with pytest.raises(T2TError, match="changed since: training"):
        freeze_campaign(lake, LAYOUT, campaign(training={"steps": 7, "noise": 0.0}))


def test_a_configuration_that_cannot_be_read_any_more_is_compared_as_it_is(lake):
    frozen = json.loads(campaign().model_dump_json()) | {"temperature": 1}
    lake.commit("main", {"tiny/campaigns/first/campaign.json": json.dumps(frozen).encode()}, "k", "m", {})
    with pytest.raises(T2TError, match="changed since: temperature"):
        freeze_campaign(lake, LAYOUT, campaign())


def test_a_retracted_teacher_may_be_taken_out(lake):
    freeze_campaign(lake, LAYOUT, campaign(teachers=["vendor", "expert"]))
    freeze_campaign(lake, LAYOUT, campaign(), retracted={"expert"})
    with pytest.raises(T2TError, match="changed since: teachers"):
        freeze_campaign(lake, LAYOUT, campaign())
