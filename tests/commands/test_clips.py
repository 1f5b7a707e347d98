"""Clips that move, within a budget of bytes, and the labeled samples on which the student is surest."""

from __future__ import annotations

import base64
import io
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from t2t.commands.page import clips, examples, topics
from t2t.commands.page.clips import Clips, read_clip
from t2t.commands.page.examples import right_and_wrong, surest
from t2t.commands.page.material import Material
from t2t.commands.page.parts import chance_levels
from t2t.core.errors import T2TError


def decoded(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def of_paths(**paths: object) -> Material:
    """A material that has nothing but files."""
    names = list(paths)
    samples = pa.table({"sample_id": names, "path": [str(paths[name]) for name in names]})
    return SimpleNamespace(opened=SimpleNamespace(samples=samples))  # type: ignore[return-value]


def test_a_video_moves_and_an_image_stands_still(finished, tmp_path):
    video = next((finished.data / "demo" / "clips").glob("*.mp4"))
    clip = read_clip(video, 200_000)
    still, moving = decoded(clip.still), decoded(clip.moving)
    assert clip.still.startswith("data:image/jpeg;base64,")
    assert clip.moving.startswith("data:image/webp;base64,")
    assert (moving.format, moving.is_animated, moving.size) == ("WEBP", True, still.size)
    assert 2 <= moving.n_frames <= clips.FRAMES
    seen = []
    for frame in (0, moving.n_frames - 1):
        moving.seek(frame)
        seen.append(np.asarray(moving.convert("RGB"), float))
    assert np.abs(seen[0] - seen[1]).mean() > 0.5  # its shapes move
    Image.new("RGB", (900, 300), "teal").save(tmp_path / "wide.png")
    clip = read_clip(tmp_path / "wide.png", 200_000)
    assert (clip.moving, decoded(clip.still).size) == ("", (256, 85))
    assert read_clip(tmp_path / "none.mp4", 200_000).why == "no such file"


def test_a_moving_picture_keeps_to_its_share_and_the_page_to_its_budget(finished):
    noise = np.random.default_rng(0).integers(0, 255, (6, 96, 96, 3), dtype=np.uint8)
    images = [Image.fromarray(frame) for frame in noise]
    best = base64.b64decode(clips._moving(images, 10**9).partition(",")[2])
    smaller = base64.b64decode(clips._moving(images, len(best) - 1).partition(",")[2])
    assert 0 < len(smaller) < len(best)
    assert clips._moving(images, 100) == ""
    videos = sorted((finished.data / "demo" / "clips").glob("*.mp4"))[:6]
    found = Clips(of_paths(**{f"v{k}": path for k, path in enumerate(videos)}), most=30_000)
    shown = [found.of(f"v{k}") for k in range(6)]
    assert all(clip.still for clip in shown)
    assert shown[0].moving
    assert not shown[-1].moving
    assert sum(len(clip.moving) for clip in shown) <= 30_000
    left = found.left
    assert found.of("v0") is shown[0]
    assert found.left == left
    assert found.of("gone").why == "it is no longer in the dataset"


def test_a_dataset_that_cannot_be_opened_gives_its_reason():
    class Broken:
        @property
        def opened(self):
            raise T2TError("demo: the folder does not exist.")

    assert Clips(Broken()).of("a").why == "demo: the folder does not exist."  # type: ignore[arg-type]


def test_the_surest_are_those_with_the_most_extreme_scores(finished, monkeypatch):
    material = Material(finished, "tiny")
    pairs = material.pairs(material.measured.round, "test")
    found = right_and_wrong(material, Clips(material))
    rows = {kind["name"]: kind["rows"] for kind in found["kinds"]}
    assert list(rows) == ["right", "false", "missed"]
    assert rows["right"][0]["student"] == pairs.score[pairs.positive].max()
    assert rows["false"][0]["student"] == pairs.score[~pairs.positive].max()
    assert rows["missed"][0]["student"] == pairs.score[pairs.positive].min()
    truth = {(row["sample_id"], row["topic"]): row["human"] for row in pairs.table().to_pylist()}
    for kind, some in rows.items():
        assert 0 < len(some) <= examples.EXAMPLES
        assert len({row["sample_id"] for row in some}) == len({row["topic"] for row in some}) == len(some)
        for row in some:
            assert row["people"] == truth[row["sample_id"], row["topic"]]
            assert (row["people"] >= 0.5) is (kind != "false")
            assert row["unseen"] is (row["topic"] in material.unseen)
            assert row["clip"].still
            for name, said in row["teachers"].items():
                at = np.flatnonzero(pairs.score == np.float32(row["student"]))
                assert said in material.scores(name, material.measured.round, "test")[at]
    sample, topic, by = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]), np.array([3.0, 1.0, 2.0, 4.0])
    assert surest(np.arange(4), by, sample, topic) == [1]  # the others share its sample or its topic
    monkeypatch.setattr(material, "pairs", lambda k, split: pairs.with_score(np.full(len(pairs.score), np.nan)))
    with pytest.raises(T2TError, match="scored no human-labeled test pair"):
        right_and_wrong(material, Clips(material))


def test_chance_is_the_share_of_positive_pairs(finished):
    material = Material(finished, "tiny")
    pairs = material.pairs(0, "test")
    seen = np.isin(np.array(material.topics)[pairs.topic], sorted(material.unseen), invert=True)
    levels = chance_levels(material, material.measured)
    assert levels["test"] == pairs.positive.mean()
    assert levels["seen"] == pairs.positive[seen].mean()
    assert levels["unseen"] == pairs.positive[~seen].mean()
    found = topics.by_topic(material)
    assert found["of"] == len(found["rows"]) == 39
    positives = [row["positives"] for row in found["rows"]]
    assert positives == sorted(positives, reverse=True)
    assert all(row["chance"] == row["positives"] / row["pairs"] for row in found["rows"])
