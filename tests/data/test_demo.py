"""The demo's world: its clips are what its topics say, and the registry's entries fit it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from t2t.campaign.entries import open_dataset
from t2t.core.workspace import Workspace
from t2t.data.demo import make
from t2t.data.demo.world import COLOURS, DIRECTIONS, SHAPES, Thing, all_topics, draw_things, render
from t2t.data.embeddings.decode import read_frames


def thing(shape: str = "square", motion: str = "still", colour: str = "red", **changes: float) -> Thing:
    values = {"x": 32.0, "y": 32.0, "radius": 11.0, "angle": 0.0, "speed": 2.0} | changes
    return Thing(colour, shape, motion, **values)


def where(frames: np.ndarray) -> np.ndarray:
    """Pixels that are red, bool [F, S, S]."""
    red, green, blue = frames.astype(int).transpose(3, 0, 1, 2)
    return (red > 150) & (green < 110) & (blue < 110)


def test_topics_are_distinct_and_made_of_known_words():
    topics = all_topics()
    assert len(topics) == len(set(topics)) == 39
    words = {*COLOURS, *SHAPES, *DIRECTIONS, "moving", "a", "spinning"}
    assert {word for topic in topics for word in topic.split()} == words


def test_every_drawn_thing_is_described_by_known_topics():
    seen = set()
    for number in range(300):
        things = draw_things(np.random.default_rng(number))
        assert 1 <= len(things) <= 2
        assert len({one.colour for one in things}) == len(things)
        seen |= set().union(*(one.topics for one in things))
    assert seen == set(all_topics())


@pytest.mark.parametrize("motion", list(DIRECTIONS))
def test_things_move_where_they_are_said_to_and_stay_in_the_picture(motion):
    frames = where(render([thing(motion=motion)], 3, np.random.default_rng(0)))
    centres = np.array([np.argwhere(frame).mean(axis=0)[::-1] for frame in frames])
    way = centres[-1] - centres[0]
    np.testing.assert_allclose(way, np.array(DIRECTIONS[motion]) * 22, atol=1.5)
    for number in range(200):
        generator = np.random.default_rng(number)
        for one in draw_things(generator):
            dx, dy = DIRECTIONS.get(one.motion, (0, 0))
            for place in (one.x, one.y, one.x + dx * one.speed * 11, one.y + dy * one.speed * 11):
                assert 0 <= place <= 64


def test_spinning_turns_and_stillness_does_not():
    spinning = where(render([thing("star", "spinning", speed=0.3)], 3, np.random.default_rng(0)))
    still = where(render([thing("star")], 3, np.random.default_rng(0)))
    assert (spinning[0] != spinning[2]).sum() > 30
    assert (still[0] != still[2]).sum() < 10


def test_shapes_differ_in_what_they_cover():
    areas = {shape: where(render([thing(shape)], 3, np.random.default_rng(0)))[0].sum() for shape in SHAPES}
    assert len(set(areas.values())) == len(SHAPES)
    assert max(areas, key=lambda shape: areas[shape]) == "circle"
    assert min(areas.values()) > 80


def test_grounds_belong_to_scenes():
    first, again, other = (render([], scene, np.random.default_rng(0)) for scene in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_the_made_dataset_is_read_and_checked_like_any_other(world, tmp_path):
    dataset = open_dataset(Workspace.find(world / "registry", world / "data", tmp_path), "demo")
    samples = dataset.samples.to_pandas()
    assert samples["split"].value_counts().to_dict() == {"train": 12, "validation": 12, "test": 16, "unlabeled": 16}
    assert set(dataset.unseen) < set(dataset.topics)
    # Every word of an unseen topic stands in a seen one: only the combination is new.
    seen = {word for topic in dataset.seen for word in topic.split()}
    assert {word for topic in dataset.unseen for word in topic.split()} <= seen
    human = dataset.human.to_pandas().merge(samples, on="sample_id")
    assert set(human["split"]) == {"train", "validation", "test"}
    assert set(human["confidence"][human["split"] != "train"]) == {0.0, 1.0}
    assert set(human["confidence"][human["split"] == "train"]) >= {0.0, 1.0}
    assert read_frames(samples["path"][0]).shape == (8, 64, 64, 3)


def test_the_vendor_labels_only_what_it_is_paid_for(world):
    root = world / "data" / "demo"
    samples = pd.read_csv(root / "samples.csv")
    labels = pd.read_csv(root / "teachers" / "vendor.csv").merge(samples, on="sample_id")
    assert labels["confidence"].between(0, 1).all()
    share = labels.groupby("split")["sample_id"].nunique() / samples["split"].value_counts()
    assert share["unlabeled"] < 0.5
    assert share.drop("unlabeled").eq(1).all()


def test_making_it_again_changes_nothing_and_the_same_seed_gives_the_same_clips(world, tmp_path):
    root = world / "data" / "demo"
    assert make(root, readers=False) is False
    sizes = {"train": 4, "validation": 4, "test": 4, "unlabeled": 4}
    for name in ("a", "b"):
        assert make(tmp_path / name, sizes, effort=0.01)
    for path in sorted((tmp_path / "a").rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path.name
