"""Embedding and labeling on a schedule: only what is new, in one commit, and never what must not be."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from t2t.campaign.config import CampaignConfig
from t2t.campaign.entries import open_dataset
from t2t.campaign.scheduled import EmbedConfig, TagConfig, embed_new, tag_new
from t2t.core.config import parse, resolve
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.lake import open_lake
from t2t.teachers.retraction import retract
from t2t.teachers.store import asked, read_labels
from tests.helpers.campaigns import prepared, run_until, tiny_at
from tests.helpers.worlds import CAMPAIGN

ENCODER = {"kind": "pixels", "frames": 4, "grid": 1}
LATER = 3


@pytest.fixture
def place(world: Path, tmp_path: Path) -> Workspace:
    """The tiny world, of which the last LATER unlabeled clips have not arrived yet."""
    shutil.copytree(world / "data", tmp_path / "data")
    shutil.copy(tmp_path / "data" / "demo" / "samples.csv", tmp_path / "all.csv")
    table = pd.read_csv(tmp_path / "all.csv", dtype=str)
    later = table.index[table["split"] == "unlabeled"][-LATER:]
    table.drop(later).to_csv(tmp_path / "data" / "demo" / "samples.csv", index=False)
    return Workspace.find(world / "registry", tmp_path / "data", tmp_path / "work")


def arrive(place: Workspace) -> list[str]:
    """The missing clips come into the dataset; returns their ids."""
    file = place.data / "demo" / "samples.csv"
    before = set(pd.read_csv(file, dtype=str)["sample_id"])
    shutil.copy(place.data.parent / "all.csv", file)
    return sorted(set(pd.read_csv(file, dtype=str)["sample_id"]) - before)


def history(place: Workspace) -> list[str]:
    return [commit.id for commit in open_lake("git", place.work).log("main")]


def labels(place: Workspace, teacher: str) -> pd.DataFrame:
    frame = read_labels(open_lake("git", place.work), "main", "demo", teacher).to_pandas()
    return frame.sort_values(["sample_id", "topic"], ignore_index=True)


def test_a_teacher_labels_new_videos_only_in_one_commit(place, tmp_path):
    config = TagConfig(dataset="demo", teacher="colour-expert")
    first = tag_new(place, config)
    assert (first.samples, first.unreadable) == (16 - LATER, 0)
    assert history(place)[0] == first.commit
    before, old = history(place), labels(place, "colour-expert")
    assert first.labels == len(old)
    assert set(old["sample_id"]) <= set(open_dataset(place, "demo").sample_ids("unlabeled"))

    again = tag_new(place, config)
    assert (again.commit, again.samples, again.labels) == (None, 0, 0)
    assert str(again) == "Nothing new for colour-expert"
    assert history(place) == before

    new = arrive(place)
    second = tag_new(place, config)
    assert second.samples == LATER
    assert history(place)[1:] == before
    now = labels(place, "colour-expert")
    assert sorted(now["sample_id"][~now["sample_id"].isin(old["sample_id"])].unique()) == new
    assert second.labels == len(now) - len(old)
    # As if it had been asked about all of them at once.
    other = replace(place, work=tmp_path / "other")
    tag_new(other, config)
    pd.testing.assert_frame_equal(now, labels(other, "colour-expert"))


def test_a_student_that_became_a_teacher_labels_on(place):
    first = tiny_at(place, teachers=["colour-expert"])
    run_until(first, "round 0: publish")
    config = TagConfig(dataset="demo", teacher="tiny-self-0")
    before, old = history(place), labels(place, "tiny-self-0")
    assert tag_new(place, config).commit is None
    assert history(place) == before

    new = arrive(place)
    done = tag_new(place, config)
    assert done.samples == LATER
    assert history(place)[1:] == before
    now = labels(place, "tiny-self-0")
    assert sorted(set(now["sample_id"]) - set(old["sample_id"])) == new
    assert not set(now["topic"]) & open_dataset(place, "demo").unseen
    # The campaign's next round finds nothing left to ask it for.
    later = prepared(tiny_at(place, teachers=["colour-expert"]))
    assert not [commit.key for commit in later.lake.log("main", 5) if "tiny-self-0" in commit.key][1:]


def test_a_video_that_cannot_be_read_is_tried_again(place):
    name = arrive(place)[0]
    file = next((place.data / "demo" / "clips").glob(f"{name.removeprefix('clip-')}.*"))
    whole = file.read_bytes()
    file.write_bytes(b"still on its way")
    config = TagConfig(dataset="demo", teacher="colour-expert")
    first = tag_new(place, config)
    assert (first.samples, first.unreadable) == (15, 1)
    known = asked(open_lake("git", place.work), "main", "demo", "colour-expert", ())
    assert name not in known.samples
    assert "cannot be read: 1" in str(tag_new(place, config))
    file.write_bytes(whole)
    assert tag_new(place, config).samples == 1

    for other in sorted((place.data / "demo" / "clips").iterdir())[-3:]:
        other.write_bytes(b"no video")
    with pytest.raises(T2TError, match=r"new videos of dataset 'demo' cannot be read.*t2t data check demo"):
        tag_new(replace(place, work=place.work.with_name("other")), config)


def test_who_cannot_be_asked_is_refused(place):
    with pytest.raises(T2TError, match=r"No teacher 'colour-xpert' .* Did you mean 'colour-expert'"):
        tag_new(place, TagConfig(dataset="demo", teacher="colour-xpert"))
    with pytest.raises(T2TError, match="'human' is the ground truth"):
        tag_new(place, TagConfig(dataset="demo", teacher="human"))
    arrive(place)  # the vendor's file has labels of them
    tag_new(place, TagConfig(dataset="demo", teacher="vendor"))
    retract(open_lake("git", place.work), "demo", "vendor", "wrong", False)
    with pytest.raises(T2TError, match=r"'vendor' is retracted .* t2t teachers retract vendor --undo"):
        tag_new(place, TagConfig(dataset="demo", teacher="vendor"))


def test_new_files_are_embedded_once(place):
    config = EmbedConfig(dataset="demo", encoder=ENCODER)
    first = embed_new(place, config)
    assert (first.samples, first.decoded, first.unreadable, first.unlisted) == (56 - LATER, 56 - LATER, 0, LATER)
    assert f"in no row of the samples file: {LATER}" in str(first)
    arrive(place)
    second = embed_new(place, config)
    assert (second.samples, second.decoded, second.unlisted) == (56, LATER, 0)
    assert embed_new(place, config).decoded == 0


def test_a_campaigns_name_stands_for_its_dataset_and_encoder(place):
    named = EmbedConfig(campaign="tiny")
    assert named.what(place) == ("demo", parse(EmbedConfig, {"dataset": "demo", "encoder": ENCODER}, "test").encoder)
    assert (named.about, EmbedConfig(dataset="demo", encoder=ENCODER).about) == ("tiny", "demo")
    assert embed_new(place, named).decoded == 56 - LATER
    assert embed_new(place, EmbedConfig(dataset="demo", encoder=ENCODER)).decoded == 0
    with pytest.raises(T2TError, match="no such campaign"):
        embed_new(place, EmbedConfig(campaign="tinny"))
    for both in ({"campaign": "tiny", "dataset": "demo"}, {"dataset": "demo"}, {}):
        with pytest.raises(T2TError, match="give a campaign, or else a dataset and an encoder"):
            parse(EmbedConfig, both, "test")


def test_a_deployments_parameters_are_resolved_where_they_are_used(monkeypatch):
    config = EmbedConfig(dataset="demo", encoder={"kind": "timm", "model": "resnet18", "weights": "${WEIGHTS}/a.st"})
    with pytest.raises(T2TError, match=r"EmbedConfig: \$\{WEIGHTS\} is not set"):
        resolve(config)
    monkeypatch.setenv("WEIGHTS", "/there")
    assert resolve(config).encoder.weights == "/there/a.st"
    assert resolve(parse(CampaignConfig, {"name": "tiny", **yaml.safe_load(CAMPAIGN)}, "test")).name == "tiny"
