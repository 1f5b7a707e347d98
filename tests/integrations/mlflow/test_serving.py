"""A checkpoint that answers requests: the student's own confidences, and nothing read that was not allowed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from t2t.core.errors import T2TError
from t2t.core.files import sha256_file
from t2t.data.embeddings.store import Embeddings
from t2t.integrations.mlflow import serving
from t2t.integrations.mlflow.model_files import EXAMPLE, pinned, write_model
from t2t.integrations.mlflow.serving import ROOT, WEIGHTS, Served, allowed, find_weights
from t2t.students.checkpoint import load
from t2t.students.dual_encoder import Student
from tests.helpers.embedding import embed_file
from tests.helpers.serving import ENCODER, TOPICS, clip, picture, student_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return student_folder(tmp_path_factory.mktemp("served") / "student")


@pytest.fixture
def served(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    monkeypatch.setenv(ROOT, str(tmp_path / "videos"))
    monkeypatch.delenv(WEIGHTS, raising=False)
    picture(tmp_path / "videos" / "a.png")
    picture(tmp_path / "videos" / "inner" / "b.png", seed=1)
    return Served(folder, {})


def expected(student: Student, clips: list[np.ndarray], topics: list[str], identity: str) -> np.ndarray:
    return student.predict(Embeddings.of(clips), np.arange(len(clips)), topics, identity)


def test_embeddings_are_answered_as_the_student_answers(served: Served) -> None:
    dim = served.student.input_dim
    clips = [clip(dim, frames, seed) for seed, frames in enumerate((2, 1, 2))]
    rows = [
        {"embedding": clips[0].tolist(), "topics": TOPICS, "identity": "vendor"},
        {"embedding": clips[1].tolist(), "topics": TOPICS[:1], "video": None},
        {"embedding": clips[2].tolist(), "topics": TOPICS, "identity": None},
    ]
    answers = served.answer(rows)
    for row, answer, one in zip(rows, answers, clips, strict=True):
        identity = row.get("identity") or "human"
        assert (answer["identity"], answer["topics"]) == (identity, row["topics"])
        np.testing.assert_allclose(
            answer["confidences"], expected(served.student, [one], row["topics"], identity)[0], atol=1e-6
        )
    # The identity is heard.
    assert np.abs(np.subtract(answers[0]["confidences"], answers[2]["confidences"])).max() > 1e-4


def test_videos_under_the_root_are_embedded_by_the_checkpoints_encoder(served: Served) -> None:
    rows = [{"video": name, "topics": TOPICS} for name in ("a.png", "inner/b.png", "./inner/../a.png")]
    answers = served.answer(rows)
    for answer, name in zip(answers, ("a.png", "inner/b.png", "a.png"), strict=True):
        found = served.student.predict(embed_file(Path(str(served.root)) / name, ENCODER), np.array([0]), TOPICS)[0]
        np.testing.assert_allclose(answer["confidences"], found, atol=1e-6)
    assert answers[0]["confidences"] != answers[1]["confidences"]


def test_who_is_asked_where_a_request_does_not_say(folder: Path) -> None:
    served = Served(folder, {"identity": "vendor"})
    row = {"embedding": clip(served.student.input_dim).tolist(), "topics": TOPICS}
    assert served.answer([row]) == served.answer([{**row, "identity": "vendor"}])
    assert served.answer([row]) != served.answer([{**row, "identity": "human"}])


WRONG: dict[str, Any] = {
    "give either a video or an embedding": {"topics": TOPICS},
    "either a video or": {"topics": TOPICS, "video": "a.png", "embedding": [[0.0]]},
    "1 to 1,024 frames of": {"topics": TOPICS, "embedding": [[0.0, 1.0]]},
    "each a list of as many numbers": {"topics": TOPICS, "embedding": [[0.0], [0.0, 1.0]]},
    "list of frames": {"topics": TOPICS, "embedding": 3},
    "one text or more": {"topics": [], "video": "a.png"},
    "a list of one": {"topics": "red star", "video": "a.png"},
    "not empty": {"topics": ["red", " "], "video": "a.png"},
    "no identity 'vender'. Did you mean 'vendor'": {"topics": TOPICS, "video": "a.png", "identity": "vender"},
    "identity is a teacher's id": {"topics": TOPICS, "video": "a.png", "identity": 3},
    "no such file": {"topics": TOPICS, "video": "c.png"},
    "not below the folder": {"topics": TOPICS, "video": "../secret.png"},
    "video is a path": {"topics": TOPICS, "video": 3},
    "text.txt: ": {"topics": TOPICS, "video": "text.txt"},
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_row_is_one_clear_error(message: str, served: Served, tmp_path: Path) -> None:
    (tmp_path / "videos" / "text.txt").write_text("no video")
    good = {"topics": TOPICS, "video": "a.png"}
    with pytest.raises(T2TError, match=r"^row 1: ") as error:
        served.answer([good, WRONG[message]])
    assert message in str(error.value)
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), 1e9])
def test_numbers_that_float16_does_not_have_are_refused(value: float, served: Served) -> None:
    frame = [value] + [0.0] * (served.student.input_dim - 1)
    with pytest.raises(T2TError, match="within float16"):
        served.answer([{"topics": TOPICS, "embedding": [frame]}])


def test_nothing_outside_of_the_root_is_found(tmp_path: Path) -> None:
    root = tmp_path / "root"
    inside = picture(root / "a.png")
    outside = picture(tmp_path / "outside.png")
    (root / "link.png").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path)
    (root / "circle").symlink_to(root / "circle")
    (root / "fine.png").symlink_to(inside)
    os.mkfifo(root / "pipe")
    assert allowed("a.png", str(root)) == allowed(str(inside), str(root)) == allowed("fine.png", str(root)) == inside
    for name in (
        "../outside.png",
        str(outside),
        "link.png",
        "folder/outside.png",
        "/etc/passwd",
        "a\0.png",
        "x" * 5000,
    ):
        with pytest.raises(T2TError, match="not below the folder") as told:
            allowed(name, str(root))
        # The same answer for what is there and what is not.
        with pytest.raises(T2TError, match="not below the folder"):
            allowed(f"../{'missing'}.png", str(root))
        assert str(tmp_path) not in str(told.value).replace(name, "")
    for name in ("pipe", "missing.png", ".", "http://example.org/a.png"):
        with pytest.raises(T2TError, match="no such file"):
            allowed(name, str(root))
    with pytest.raises(T2TError):
        allowed("circle", str(root))
    with pytest.raises(T2TError, match=f"embeddings only.*{ROOT}"):
        allowed("a.png", None)


def test_without_a_root_only_embeddings_are_answered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ROOT, raising=False)
    served = Served(folder, {})
    assert served.answer([{"embedding": clip(served.student.input_dim).tolist(), "topics": TOPICS}])
    with pytest.raises(T2TError, match=ROOT):
        served.answer([{"video": "a.png", "topics": TOPICS}])


def test_the_encoders_weights_are_found_or_what_to_set_is_said(tmp_path: Path) -> None:
    weights = tmp_path / "here" / "net.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    digest = sha256_file(weights)
    assert find_weights(str(weights), None, digest) == weights
    assert find_weights("/gone/net.safetensors", str(weights), digest) == weights
    assert find_weights("/gone/net.safetensors", str(weights.parent), None) == weights
    with pytest.raises(T2TError, match=rf"net\.safetensors.*not on this machine.*{WEIGHTS}"):
        find_weights("/gone/net.safetensors", None, digest)
    with pytest.raises(T2TError, match="other ones than the student was trained behind"):
        find_weights(str(weights), None, "0" * 64)


def test_an_encoder_that_does_not_fit_the_student_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ROOT, str(tmp_path))
    picture(tmp_path / "a.png")
    monkeypatch.setattr(serving, "build_encoder", lambda config, device: SimpleNamespace(dim=7))
    with pytest.raises(T2TError, match="7 numbers a frame, and the student was trained on"):
        Served(folder, {}).answer([{"video": "a.png", "topics": TOPICS}])


def test_the_files_for_mlflow_are_the_same_each_time_and_name_no_pickle(folder: Path, tmp_path: Path) -> None:
    import yaml

    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_model(tmp_path / name, folder, "vendor", "m-1", "run", 1_700_000_000_000)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["MLmodel", "input_example.json", "requirements.txt", "serving_input_example.json"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    model = yaml.safe_load((tmp_path / "one" / "MLmodel").read_text())
    flavor = model["flavors"]["python_function"]
    assert flavor["loader_module"] == "t2t.serving"
    assert flavor["config"]["identity"] == "vendor"
    assert "pickle" not in (tmp_path / "one" / "MLmodel").read_text()
    assert model["utc_time_created"].startswith("2023-11-14")
    inputs = [column["name"] for column in json.loads(model["signature"]["inputs"])]
    assert inputs == ["video", "embedding", "topics", "identity"]
    wanted = (tmp_path / "one" / "requirements.txt").read_text().splitlines()[1:]
    assert wanted == pinned()
    assert all("==" in line for line in wanted)
    # What its extras bring is there by name, and t2t itself is not asked of an index.
    names = [line.partition("==")[0] for line in wanted]
    assert {"av", "mlflow", "torch"} <= set(names)
    assert "teacher2task" not in names
    assert len(names) == len(set(names))


def test_mlflow_loads_it_and_answers_as_the_student(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.models.utils import load_serving_example

    monkeypatch.setenv(ROOT, str(tmp_path / "videos"))
    image = picture(tmp_path / "videos" / EXAMPLE["data"][0][0])
    place = shutil.copytree(folder, tmp_path / "model")
    write_model(place, folder, None, "m-1", "run", 0)
    model = mlflow.pyfunc.load_model(str(place))
    student = load(folder)

    one = clip(student.input_dim)
    frame = pd.DataFrame({"embedding": [one.astype(float).tolist()], "topics": [TOPICS], "identity": ["vendor"]})
    found = model.predict(frame)
    np.testing.assert_allclose(found["confidences"][0], expected(student, [one], TOPICS, "vendor")[0], atol=1e-6)
    # The example that people see works, once the server has a video of that name.
    example = json.loads(load_serving_example(str(place)))["dataframe_split"]
    found = model.predict(pd.DataFrame(example["data"], columns=example["columns"]))
    topics = example["data"][0][1]
    wanted = student.predict(embed_file(image, ENCODER), np.array([0]), topics)[0]
    np.testing.assert_allclose(found["confidences"][0], wanted, atol=1e-6)
    with pytest.raises(MlflowException, match="not below the folder") as error:
        model.predict(pd.DataFrame({"video": ["../x.mp4"], "topics": [TOPICS]}))
    assert error.value.get_http_status_code() == 400
