"""`t2t.load_student`: files in, confidences out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import t2t
from t2t.core.errors import T2TError
from t2t.data.embeddings.config import PixelsConfig
from t2t.students import build_student
from t2t.students.checkpoint import save
from t2t.students.scorer import Scorer
from tests.helpers.clips import random_clip
from tests.helpers.embedding import embed_file
from tests.helpers.records import record
from tests.helpers.students import TEACHERS, TOPICS, tiny_config

ENCODER = PixelsConfig(frames=3, size=16, grid=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in `student/`, and beside it two videos and an image."""
    place = tmp_path_factory.mktemp("scorer")
    for seed in (0, 1):
        random_clip(place / f"{seed}.mp4", seed)
    Image.fromarray(np.full((40, 40, 3), (200, 30, 30), np.uint8)).save(place / "red.png")
    dim = embed_file(place / "red.png", ENCODER).dim
    student = build_student(tiny_config({"identity_std": 1.0}), dim, TOPICS, TEACHERS, 0)
    save(student, place / "student", {"encoder": ENCODER.model_dump(mode="json")})
    return place


@pytest.fixture
def student(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    monkeypatch.chdir(folder)
    return t2t.load_student("student", "cpu")


def test_it_says_what_it_is(student: Scorer) -> None:
    assert (student.teachers, student.identity) == (list(TEACHERS), "human")
    assert repr(student) == "Scorer('student', identity 'human', on cpu)"


def test_videos_and_images_are_scored_in_any_mixture(student: Scorer, folder: Path) -> None:
    files = ["0.mp4", folder / "red.png", Path("1.mp4"), "0.mp4"]
    scores = student.score(files, TOPICS)
    assert (scores.dtype, scores.shape) == (np.float32, (4, len(TOPICS)))
    assert scores.min() >= 0
    assert scores.max() <= 1
    np.testing.assert_array_equal(scores[0], scores[3])
    assert len({row.tobytes() for row in scores[:3]}) == 3
    for file, row in zip(files, scores, strict=True):
        np.testing.assert_allclose(student.score([file], TOPICS)[0], row, atol=1e-6)
        # What a campaign scores of the file's stored embeddings.
        stored = student.student.predict(embed_file(file, ENCODER), np.arange(1), TOPICS)
        np.testing.assert_allclose(stored[0], row, atol=1e-6)


def test_it_answers_as_whom_it_is_asked(student: Scorer) -> None:
    asked = {name: student.score(["0.mp4"], TOPICS, name) for name in TEACHERS}
    assert len({scores.tobytes() for scores in asked.values()}) == len(TEACHERS)
    np.testing.assert_array_equal(student.score(["0.mp4"], TOPICS), asked["human"])
    np.testing.assert_array_equal(student.score(["0.mp4"], TOPICS, identity="shape"), asked["shape"])
    student.identity = "colour"
    np.testing.assert_array_equal(student.score(["0.mp4"], TOPICS), asked["colour"])


def test_any_sequence_will_do_and_nothing_gives_nothing(student: Scorer) -> None:
    expected = student.score(["0.mp4", "1.mp4"], TOPICS)
    np.testing.assert_array_equal(student.score((f"{i}.mp4" for i in (0, 1)), iter(TOPICS)), expected)
    np.testing.assert_array_equal(student.score(np.array(["0.mp4", "1.mp4"]), np.array(TOPICS)), expected)
    assert student.score([], TOPICS).shape == (0, len(TOPICS))
    assert student.score(["0.mp4"], []).shape == (1, 0)


@pytest.mark.parametrize(
    ("files", "topics", "identity", "words"),
    [
        (["0.mp4", "lost.mp4", "1.mp4"], TOPICS, None, r"^lost\.mp4: no such file\.$"),
        (
            ["0.mp4", Path("student/config.json")],
            TOPICS,
            None,
            r"^student/config\.json: not readable as video or image",
        ),
        (["student"], TOPICS, None, r"^student: not a file\.$"),
        ("0.mp4", TOPICS, None, r"^score takes lists: student\.score\(\['a\.mp4'\]"),
        (Path("0.mp4"), TOPICS, None, "^score takes lists"),
        (["0.mp4"], "red ball", None, "^score takes lists"),
        (["0.mp4"], ["red ball", 7], None, "^Topics are texts, and 7 is none"),
        (["0.mp4"], ["red ball", None], None, "^Topics are texts, and None is none"),
        (["0.mp4"], TOPICS, "colur", "^This student has no identity 'colur'. Did you mean 'colour'"),
        ([], TOPICS, "colur", "no identity 'colur'"),
        (None, TOPICS, None, "^score takes lists, and files is None"),
        (b"0.mp4", TOPICS, None, "^score takes lists, and files is b'0.mp4'"),
        ([None], TOPICS, None, "^A file is named by its path, and None is none"),
        (["0.mp4"], 3, None, "^score takes lists, and topics is 3"),
        (["0.mp4"], ["\ud800"], None, "half a character"),
        (["0.mp4"], TOPICS, 3, "^An identity is a text, and 3 is none"),
        (["0.mp4"], TOPICS, "", "no identity ''"),
    ],
)
def test_what_it_refuses(files: Any, topics: Any, identity: str | None, words: str, student: Scorer) -> None:
    with pytest.raises(T2TError, match=words):
        student.score(files, topics, identity)


def test_an_identity_is_looked_at_before_a_video_is(student: Scorer) -> None:
    with pytest.raises(T2TError, match="no identity"):
        student.score(["lost.mp4"], TOPICS, "nobody")


def test_a_folder_without_a_checkpoint_is_refused(folder: Path) -> None:
    for place in (folder, folder / "nowhere", "demo"):
        with pytest.raises(T2TError, match="not a checkpoint of a student"):
            t2t.load_student(place, "cpu")


def test_what_is_no_folder_and_no_device_is_refused(folder: Path) -> None:
    with pytest.raises(T2TError, match=r"^A checkpoint is named by its folder, and None is none"):
        t2t.load_student(None)  # type: ignore[arg-type]
    with pytest.raises(T2TError, match=r"load_student\(campaign\.checkpoint\(record\)\)"):
        t2t.load_student(record(0))  # type: ignore[arg-type]
    with pytest.raises(T2TError, match=r"^The device 'cudax' cannot be used: "):
        t2t.load_student(folder / "student", "cudax")
