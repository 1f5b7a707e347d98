"""The demo's two teachers that are asked in words: checkpoints like any other, which the real kinds load and ask."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn.metrics import average_precision_score

import t2t
from t2t.campaign.entries import open_dataset, teacher_entry
from t2t.campaign.observer import Observer
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.data.demo import CHECKPOINTS, image_text, make, vlm
from t2t.data.demo.language import Clips, captions, evenly, mirrors, simple_sayings
from t2t.data.demo.teachers import on_threads
from t2t.data.demo.world import DIRECTIONS, FRAMES, Thing, all_topics, render
from t2t.data.embeddings.decode import read_frames
from t2t.data.embeddings.image_text import ImageTextModel
from t2t.teachers import TeacherContext, build
from t2t.teachers.labeling import answers
from t2t.teachers.yes_or_no import YesOrNo
from tests.helpers.worlds import ROOT

READERS = ("tiny-align", "tiny-vlm")


@pytest.fixture(scope="module")
def asked(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with the two teachers, which `make` adds to a demo that lacks them, and their entries."""
    folder = tmp_path_factory.mktemp("asked")
    for part in ("data", "registry"):
        shutil.copytree(world / part, folder / part)
    for name in READERS:
        shutil.copy(ROOT / "registry" / "teachers" / f"{name}.yaml", folder / "registry" / "teachers")
    assert not make(folder / "data" / "demo", readers=False)
    assert make(folder / "data" / "demo", effort=0.05)
    assert not make(folder / "data" / "demo")
    return folder


def place(folder: Path, work: Path) -> Workspace:
    return Workspace.find(folder / "registry", folder / "data", work)


def entry(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "registry" / "teachers" / f"{name}.yaml").read_text())
    return found


def test_captions_say_what_is_true_and_mirrors_keep_it_true():
    moving = Thing("red", "star", "left", 50, 32, 10, 0, 2.0)
    assert captions(moving) == ["red star", "star moving left", "red star moving left"]
    spinning = Thing("blue", "square", "spinning", 32, 32, 10, 0, 0.3)
    assert captions(spinning)[-1] == "a spinning blue square"
    texts = [*all_topics(), *simple_sayings()]
    clips = Clips(torch.zeros(2, FRAMES, 64, 64, 3, dtype=torch.uint8), [[moving, spinning], [spinning]])
    true = clips.truth(texts)
    said = {text for text, holds in zip(texts, true[0].tolist(), strict=True) if holds}
    assert said == {
        *("red star", "star moving left", "blue square", "a spinning square", "something red", "something blue"),
        *("a star", "a square", "something moving left", "something spinning"),
    }
    # Left becomes right in a mirror, and when time goes backwards, which turns up and down as well.
    across, upright, back = mirrors(texts)
    left, right, up, down = (texts.index(f"star moving {way}") for way in DIRECTIONS)
    assert true[0, across.order][[left, right, up, down]].tolist() == [False, True, False, False]
    assert true[0, upright.order][left]
    assert back.order[[left, right, up, down]].tolist() == [right, left, down, up]


def test_frames_are_those_that_the_decoder_picks(world):
    clip = world / "data" / "demo" / "clips" / "0000.mp4"
    every = read_frames(str(clip), FRAMES)
    for frames in (3, 4):
        np.testing.assert_array_equal(read_frames(str(clip), frames), every[evenly(frames)])


def test_the_registrys_entries_ask_as_the_models_were_trained(world):
    assert entry("tiny-align")["templates"] == [image_text.TEMPLATE]
    assert entry("tiny-vlm")["prompt"] == vlm.PROMPT
    assert entry("tiny-vlm")["frames"] == vlm.VLM_FRAMES
    assert entry("tiny-vlm")["topics_per_block"] == len(all_topics())


@pytest.mark.parametrize("name", READERS)
def test_the_real_kinds_ask_them(asked, tmp_path, name):
    dataset = open_dataset(place(asked, tmp_path), "demo")
    teacher = build(teacher_entry(place(asked, tmp_path), name), TeacherContext(dataset, tmp_path))
    samples = dataset.samples.slice(0, 3)
    rows = pd.concat([table.to_pandas() for table in answers(teacher, samples, dataset.topics)])
    assert len(rows) == 3 * 39
    assert rows["confidence"].between(0, 1).all()
    assert rows["confidence"].nunique() > 20  # so little training tells topics apart, and hardly clips
    if name == "tiny-vlm":
        assert teacher.closed.shared
        assert "Yes has" in teacher.remarks[0]


def test_a_demo_of_an_older_version_has_all_else_and_is_told_what_to_do(world, asked, tmp_path):
    added = {path.name for path in (asked / "data" / "demo" / "teachers").iterdir()}
    assert added - {path.name for path in (world / "data" / "demo" / "teachers").iterdir()} == {CHECKPOINTS}
    at = Workspace.find(asked / "registry", world / "data", tmp_path)
    dataset = open_dataset(at, "demo")
    for name in READERS:
        with pytest.raises(T2TError, match=rf"{name}: no such folder \(checkpoint of .*`t2t demo` makes it"):
            build(teacher_entry(at, name), TeacherContext(dataset, tmp_path))


def test_a_campaign_learns_from_both(asked, tmp_path):
    settings = ["teachers=[tiny-align, tiny-vlm]", "training.steps=10", "training.evaluate_every=5", "rounds.max=1"]
    (record,) = t2t.run("tiny", workspace=place(asked, tmp_path), settings=settings, observer=Observer())
    assert [teacher.id for teacher in record.teachers] == ["human", *READERS]
    assert record.rows_by_teacher["tiny-vlm"] == record.rows_by_teacher["tiny-align"] > 0
    assert 0 < record.test["pr_auc_teacher/tiny-vlm"] < 1


def plain_clips(count: int, seed: int) -> Clips:
    """One large thing in the middle, of one of two colours and two shapes."""
    frames, things = [], []
    for number in range(count):
        generator = np.random.default_rng([seed, number])
        colour, shape = generator.choice(["red", "blue"]), generator.choice(["circle", "star"])
        x, y = generator.uniform(24, 40, 2)
        things.append([Thing(str(colour), str(shape), "still", x, y, 13, -np.pi / 2, 0.3)])
        frames.append(render(things[-1], 1000 * seed + number, generator))
    return Clips(torch.from_numpy(np.stack(frames)), things)


def test_they_are_better_than_chance_on_clips_that_they_never_saw(tmp_path, caplog):
    """On an easier world than the demo's, since that takes tens of seconds."""
    caplog.set_level(logging.WARNING)
    clips, others = plain_clips(96, 1), plain_clips(30, 2)
    with torch.random.fork_rng(devices=[]), on_threads(1):
        model = image_text.train_image_text(tmp_path / "align", clips, 60, 0)
        vlm.train_vlm(tmp_path / "vlm", clips, model, 60, 0)
    topics = [f"{colour} {shape}" for colour in ("red", "blue") for shape in ("circle", "star")]
    true = others.truth(topics).numpy()
    dual = ImageTextModel(str(tmp_path / "align"), None, frames=1)
    images = dual.encode(others.frames[:, 5].numpy())
    texts = np.concatenate([dual.texts([image_text.TEMPLATE.replace("{}", topic)]) for topic in topics])
    found = {"align": images.astype(np.float64) @ texts.T.astype(np.float64)}
    asked = YesOrNo(str(tmp_path / "vlm"), None, vlm.PROMPT, ["yes"], ["no"], size=64, block=len(topics))
    answer = [asked.ask(clip, topics) for clip in others.frames[:, evenly(vlm.VLM_FRAMES)].numpy()]
    found["vlm"] = np.array([one.score for one in answer])
    assert np.median([np.add(one.yes, one.no) for one in answer]) > 0.9
    worth = {name: average_precision_score(true.ravel(), score.ravel()) for name, score in found.items()}
    assert min(worth.values()) > 1.6 * true.mean(), worth
