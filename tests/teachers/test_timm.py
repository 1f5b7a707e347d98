"""Kind `timm`: a real, tiny classifier over the frames of real, tiny clips."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import timm
import torch
from safetensors.torch import save_file

from t2t.core.errors import DataError, T2TError
from t2t.data.embeddings.decode import read_frames
from t2t.data.labels import LABEL_SCHEMA
from t2t.teachers import TeacherContext, build, parse_entry
from t2t.teachers.kinds import timm as kind
from tests.helpers.clips import random_clip

MODEL = "resnet10t"
CLASSES = ["Tench", "great_white_shark", "hen", "cock", "crane", "ship", "crane, lifting", "ship"]
TOPICS = ("great white shark", "crane", "bird", "something else")
SHARED = Path(os.environ.get("T2T_TEST_SHARED", Path(__file__).parents[2].parent / "shared"))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    torch.manual_seed(3)
    model = timm.create_model(MODEL, num_classes=len(CLASSES))
    # Larger logits, so that frames differ in what they are taken for.
    torch.nn.init.normal_(cast("torch.nn.Linear", model.fc).weight, std=2)
    save_file(model.state_dict(), root / "model.safetensors")
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (root / "topics.csv").write_text(
        'class,topic\nhen,bird\ncock,bird\ncrane,bird\n"crane, lifting",bird\ncrane,crane\n'
    )
    for i in range(5):
        random_clip(root / f"clip-{i}.mp4", seed=i, count=1 + 2 * i, side=32)
    (root / "empty.mp4").write_bytes(b"")
    return root


@pytest.fixture
def samples(root) -> pa.Table:
    ids = [*(f"clip-{i}" for i in range(5)), "empty"]
    return pa.table({"sample_id": ids, "path": [str(root / f"{name}.mp4") for name in ids]})


def teacher(root: Path, known: tuple[str, ...] = TOPICS, **changes: Any) -> kind.Teacher:
    dataset = SimpleNamespace(root=root, topics=known, name="tiny")
    content = {
        "id": "frames",
        "kind": "timm",
        "model": MODEL,
        "weights": "model.safetensors",
        "num_classes": len(CLASSES),
        "classes": "classes.txt",
        "size": 32,
        "frames": 4,
        **changes,
    }
    context = TeacherContext(cast("Any", dataset), root)
    return cast("kind.Teacher", build(parse_entry(content, "test"), context))


def labels(of: kind.Teacher, samples: pa.Table, topics: tuple[str, ...] = TOPICS) -> dict[tuple[str, str], float]:
    tables = list(of.label(samples, topics))
    assert all(table.schema == LABEL_SCHEMA for table in tables)
    table = pa.concat_tables(tables)
    assert set(table["teacher_id"].to_pylist()) == {"frames"}
    confidence = table["confidence"].to_numpy()
    assert ((confidence >= 0) & (confidence <= 1)).all()
    keys = list(zip(table["sample_id"].to_pylist(), table["topic"].to_pylist(), strict=True))
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, confidence.tolist(), strict=True))


def probabilities(root: Path, name: str, activation: str = "softmax") -> np.ndarray:
    """Mean class probabilities of a clip, the plain way."""
    model = timm.create_model(MODEL, num_classes=len(CLASSES))
    from safetensors.torch import load_file

    model.load_state_dict(load_file(root / "model.safetensors"))
    own = timm.data.resolve_model_data_config(model)
    x = torch.from_numpy(read_frames(root / f"{name}.mp4", 4, 32)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(own[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        logits = model.eval()((x - mean) / std)
    return (logits.softmax(-1) if activation == "softmax" else logits.sigmoid()).mean(0).numpy()


def test_by_name(root, samples):
    found = labels(teacher(root), samples)
    assert set(found) == {(f"clip-{i}", topic) for i in range(5) for topic in ("great white shark", "crane")}
    for i in range(5):
        expected = probabilities(root, f"clip-{i}")
        assert found[f"clip-{i}", "great white shark"] == pytest.approx(expected[1], abs=1e-4)
        assert found[f"clip-{i}", "crane"] == pytest.approx(expected[4], abs=1e-4)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_by_table(root, samples, activation):
    found = labels(teacher(root, topics="topics.csv", activation=activation), samples)
    assert {topic for _, topic in found} == {"bird", "crane"}
    for i in range(5):
        expected = probabilities(root, f"clip-{i}", activation)
        bird = expected[[2, 3, 4, 6]]
        together = bird.sum() if activation == "softmax" else bird.max()
        assert found[f"clip-{i}", "bird"] == pytest.approx(together, abs=1e-4)


def test_asked_topics_only_and_bounded_batches(root, samples, monkeypatch):
    assert {topic for _, topic in labels(teacher(root), samples, ("crane", "bird"))} == {"crane"}
    assert list(teacher(root).label(samples, ("bird",))) == []
    whole = labels(teacher(root), samples)
    monkeypatch.setattr(kind, "BATCH_ROWS", 4)
    tables = list(teacher(root).label(samples, TOPICS))
    assert [len(table) for table in tables] == [4, 4, 2]
    assert labels(teacher(root), samples) == whole


def test_fingerprint(root, tmp_path):
    base = teacher(root).fingerprint()
    assert teacher(root, description="x", batch_size=2, weights=str(root / "model.safetensors")).fingerprint() == base
    (root / "other.txt").write_text("\n".join(reversed(CLASSES)))
    changed = [
        {"activation": "sigmoid"},
        {"classes": "other.txt"},
        {"topics": "topics.csv"},
        {"frames": 2},
        {"crop": "centre"},
        {"mean": 0.5},
        {"size": 64},
        {"id": "another"},
    ]
    prints = {teacher(root, **change).fingerprint() for change in changed}
    assert len(prints | {base}) == len(changed) + 1


def test_refusals(root, samples):
    with pytest.raises(DataError, match=r"nowhere.txt: no such file \(class names of teacher 'frames'"):
        teacher(root, classes="nowhere.txt")
    (root / "short.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match="2 class names, but resnet10t has 8 outputs"):
        list(teacher(root, classes="short.txt").label(samples, TOPICS))
    with pytest.raises(T2TError, match=r"no class in .* stands for a topic of dataset 'tiny'"):
        list(teacher(root, ("juggling",)).label(samples, ("juggling",)))
    for line, message in (
        ("hem,bird", "row 2, column 'class': unknown class 'hem'. Did you mean 'hen'"),
        ("hen,birds", "row 2, column 'topic': unknown topic 'birds'. Did you mean 'bird'"),
        ("hen,bird\nhen,bird", "row 3, column 'topic': .* stands twice"),
    ):
        (root / "bad.csv").write_text(f"class,topic\n{line}\n")
        with pytest.raises(DataError, match=message):
            list(teacher(root, topics="bad.csv").label(samples, TOPICS))


@pytest.mark.parametrize(
    ("classes", "table", "says"),
    [
        ("crane,Tench,Crane", None, r"'crane' \(row 1\) and 'Crane' \(row 3\) are two classes of one name, and topic"),
        ("crane,crane,hen", None, r"'crane' \(row 1\) and 'crane' \(row 2\) are two classes of one name, and topic"),
        ("crane,crane,hen", "crane,bird", r"and topic 'bird' in one.csv needs one of them: nobody can tell which"),
        ("Bird,b,c", None, r"row 1: class 'Bird' may stand for the topics 'bird', 'BIRD', which differ in capitals"),
    ],
)
def test_names_that_meet_are_refused_where_a_topic_needs_them(root, samples, tmp_path, classes, table, says):
    names = [*classes.split(","), *(f"other {i}" for i in range(len(CLASSES) - 3))]
    (tmp_path / "classes.txt").write_text("\n".join(names))
    (tmp_path / "one.csv").write_text(f"class,topic\n{table}\n")
    changes = {"classes": str(tmp_path / "classes.txt"), "topics": str(tmp_path / "one.csv") if table else None}
    known = ("crane", "bird", "BIRD") if "Bird" in classes else TOPICS
    with pytest.raises(DataError, match=says):
        list(teacher(root, known, **changes).label(samples, known))


def test_what_met_nothing_is_told(root, samples):
    asked = teacher(root)
    assert asked.remarks == []
    next(asked.label(samples, TOPICS))
    assert asked.remarks == [
        "6 of 8 classes stand for no topic: Tench, hen, cock, ship, crane, lifting and 1 more.",
        "2 of 4 topics have no class and get no label: bird, something else.",
        "Class names that stand twice, for no topic: ship.",
    ]


@pytest.mark.skipif(
    not (SHARED / "weights" / "imagenet_classes.txt").is_file() or not (SHARED / "data" / "jhmdb").is_dir(),
    reason="shared weights and clips are not here (T2T_TEST_SHARED)",
)
def test_real_weights_know_an_arrow_from_a_golf_ball():
    root = SHARED / "data" / "jhmdb"
    import pandas as pd

    human = pd.read_csv(root / "annotations.csv")
    positive = human[human["relevance"] == 1].set_index("sample_id")["topic"]
    archery = positive[positive == "shoot bow"].index[:3].tolist()
    golf = positive[positive == "golf"].index[:3].tolist()
    ids = archery + golf
    samples = pa.table({"sample_id": ids, "path": [str(root / "clips" / f"{name}.avi") for name in ids]})
    weights = SHARED / "weights"
    of = teacher(
        root,
        ("bow", "golf ball"),
        model="mobilenetv2_100",
        model_kwargs={"pad_type": "same"},
        weights=str(weights / "mobilenetv2_100.safetensors"),
        classes=str(weights / "imagenet_classes.txt"),
        num_classes=None,
        mean=0.5,
        std=0.5,
        size=224,
    )
    found = labels(of, samples, ("bow", "golf ball"))
    assert len(found) == 12
    bow = {name: found[name, "bow"] for name in ids}
    assert np.mean([bow[name] for name in archery]) > 10 * np.mean([bow[name] for name in golf])
