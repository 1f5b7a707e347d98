"""Several teachers in one file of the registry: members of a table, of a cube, and of altered teachers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from t2t.campaign.entries import read_campaign, teacher_entry
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.data.dataset import Dataset, DatasetConfig, read_dataset
from t2t.teachers import TeacherContext, build, parse_entry
from t2t.teachers.contract import labels_of, small_dataset
from t2t.teachers.members import members_of

TOPICS = ("red square", "blue circle", "a dog")
SET = "kind: labels\npath: ${data}/votes.csv\nmembers: [lf0..lf2, keyword]\n"
VOTES = """sample_id,topic,confidence,teacher
red,red square,1,lf0
blue,red square,0,lf0
red,red square,0.5,lf1
green,a dog,0.25,keyword
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("w000..w003", ("w000", "w001", "w002", "w003")),
        ("w8..w11", ("w8", "w9", "w10", "w11")),
        (["lf0..1", "keyword", 7], ("lf0", "lf1", "keyword", "7")),
        ("1..2", ("1", "2")),
    ],
)
def test_ranges_and_names(given: object, expected: tuple[str, ...]) -> None:
    assert members_of({"members": given}, "x.yaml") == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("w3..w1", "counts up"),
        ("w1..v3", "counts up"),
        ("w01..w100", "as many digits"),
        ("w0..w99999", "more than 32,766"),
        (["a", "a"], "'a' is named twice"),
        (["a..b"], "no name of letters"),
        ("human/anna", "no name of letters"),
        ([], "empty list"),
        (True, "no name"),
        ({"a": 1}, "no name"),
    ],
)
def test_what_is_no_list_of_members_is_refused(given: object, said: str) -> None:
    with pytest.raises(T2TError, match=r"x\.yaml: members: ") as error:
        members_of({"members": given}, "x.yaml")
    assert said in str(error.value)


def test_one_teacher_has_no_members() -> None:
    assert members_of({"kind": "labels"}, "x.yaml") is None


@pytest.fixture
def place(tmp_path: Path) -> tuple[Workspace, Dataset]:
    dataset = small_dataset(tmp_path / "data", TOPICS)
    workspace = Workspace.find(tmp_path / "registry", tmp_path / "data", tmp_path / "work")
    for kind in ("teachers", "campaigns", "datasets"):
        (workspace.registry / kind).mkdir(parents=True)
    (workspace.registry / "teachers" / "votes.yaml").write_text(SET)
    (dataset.root / "votes.csv").write_text(VOTES)
    return workspace, dataset


def made(workspace: Workspace, dataset: Dataset, teacher: str) -> dict[tuple[str, str], float]:
    entry = teacher_entry(workspace, teacher, dataset.root)
    return labels_of(build(entry, TeacherContext(dataset, workspace.work)), dataset.samples, dataset.topics)


def test_a_campaign_names_a_set_or_single_members(place: tuple[Workspace, Dataset]) -> None:
    workspace, _ = place
    (workspace.registry / "teachers" / "vendor.yaml").write_text("kind: labels\npath: x.csv\n")
    text = "dataset: small\nencoder: {kind: pixels}\nteachers: [vendor, %s]\n"
    campaign = workspace.registry / "campaigns" / "c.yaml"
    campaign.write_text(text % "votes")
    assert read_campaign(workspace, "c", None, []).teachers == (
        "vendor", "votes.lf0", "votes.lf1", "votes.lf2", "votes.keyword",
    )  # fmt: skip
    campaign.write_text(text % "votes.lf1")
    assert read_campaign(workspace, "c", None, []).teachers == ("vendor", "votes.lf1")
    found = read_campaign(workspace, "c", None, ["teachers=[votes]"])
    assert len(found.teachers) == 4


def test_members_of_a_table(place: tuple[Workspace, Dataset]) -> None:
    workspace, dataset = place
    assert made(workspace, dataset, "votes.lf0") == {("red", "red square"): 1.0, ("blue", "red square"): 0.0}
    assert made(workspace, dataset, "votes.keyword") == {("green", "a dog"): 0.25}
    entry = teacher_entry(workspace, "votes.lf0", dataset.root)
    context = TeacherContext(dataset, workspace.work)
    before = build(entry, context).fingerprint()
    # Another teacher's rows, and another order, change nothing of this one.
    lines = VOTES.splitlines()
    (dataset.root / "votes.csv").write_text("\n".join([lines[0], *lines[:0:-1], "blue,a dog,1,lf2"]) + "\n")
    assert build(entry, context).fingerprint() == before
    (dataset.root / "votes.csv").write_text(VOTES.replace("red,red square,1,", "red,red square,0.9,"))
    assert build(entry, context).fingerprint() != before


def test_a_member_that_the_table_does_not_know(place: tuple[Workspace, Dataset]) -> None:
    workspace, dataset = place
    with pytest.raises(T2TError, match=r"votes\.csv: no teacher 'lf2': it has lf0, lf1, keyword"):
        made(workspace, dataset, "votes.lf2")


def test_a_set_is_no_teacher_and_an_unknown_member_none_either(place: tuple[Workspace, Dataset]) -> None:
    workspace, dataset = place
    with pytest.raises(T2TError, match=r"a set of 4 teachers: name one, such as votes\.lf0"):
        teacher_entry(workspace, "votes", dataset.root)
    with pytest.raises(T2TError, match="no such teacher"):
        teacher_entry(workspace, "votes.lf9", dataset.root)


def test_a_table_without_its_column(place: tuple[Workspace, Dataset]) -> None:
    workspace, dataset = place
    (dataset.root / "votes.csv").write_text("sample_id,topic,confidence\nred,red square,1\n")
    with pytest.raises(T2TError, match="column 'teacher' is missing"):
        made(workspace, dataset, "votes.lf0")


def cube(dataset: Dataset, name: str, **arrays: np.ndarray) -> None:
    said = np.full((2, 3, 2), np.nan, np.float16)
    said[0, 0, 1], said[1, 2, 0] = 0.5, 0.25
    whole = {
        "confidence": said,
        "sample_ids": np.array(["red", "blue", "green"]),
        "topics": np.array(["red square", "a dog"]),
        "teachers": np.array(["w0", "w1"]),
    }
    whole |= arrays
    kept: dict[str, Any] = {key: value for key, value in whole.items() if value is not None}
    np.savez(dataset.root / name, **kept)


def test_members_of_a_cube_by_name_and_by_place(place: tuple[Workspace, Dataset]) -> None:
    workspace, dataset = place
    path = workspace.registry / "teachers" / "crowd.yaml"
    path.write_text("kind: labels\npath: ${data}/crowd.npz\nmembers: w0..w1\n")
    cube(dataset, "crowd.npz")
    assert made(workspace, dataset, "crowd.w0") == {("red", "a dog"): 0.5}
    cube(dataset, "crowd.npz", teachers=None)  # type: ignore[arg-type]
    assert made(workspace, dataset, "crowd.w1") == {("green", "red square"): 0.25}


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"confidence": np.full((2, 3, 2), 1.5)}, "outside 0..1"),
        ({"confidence": np.zeros((2, 2, 2))}, r"expected floats \[2, 3, 2\]"),
        ({"confidence": np.zeros((2, 3, 2), int)}, "confidence is int64"),
        ({"topics": np.array(["red square", "a cat"])}, "unknown topic 'a cat'"),
        ({"sample_ids": np.array(["red", "red", "blue"])}, "a sample stands twice: 'red'"),
        ({"teachers": np.array(["w0", "w0"])}, "teachers names one twice"),
        ({"topics": None}, "the array 'topics' is missing"),
        ({"topics": np.array([{}, []], object)}, "not readable as an .npz file"),
    ],
)
def test_bad_cubes(place: tuple[Workspace, Dataset], arrays: dict[str, np.ndarray], said: str) -> None:
    workspace, dataset = place
    (workspace.registry / "teachers" / "crowd.yaml").write_text("kind: labels\npath: crowd.npz\nmembers: w0..w1\n")
    cube(dataset, "crowd.npz", **arrays)
    with pytest.raises(T2TError, match=said):
        made(workspace, dataset, "crowd.w0")


def test_altered_teachers_stand_on_entries_of_the_registry(place: tuple[Workspace, Dataset]) -> None:
    workspace, dataset = place
    teachers = workspace.registry / "teachers"
    (teachers / "liar.yaml").write_text("kind: altered\nof: votes.lf0\ncontradict: 1\n")
    assert made(workspace, dataset, "liar") == {("red", "red square"): 0.0, ("blue", "red square"): 1.0}
    # Members are those of their own names.
    (teachers / "honest.yaml").write_text("kind: altered\nmembers: [liar, votes.keyword]\ncontradict: 1\n")
    assert made(workspace, dataset, "honest.liar") == {("red", "red square"): 1.0, ("blue", "red square"): 0.0}
    assert made(workspace, dataset, "honest.votes.keyword") == {("green", "a dog"): 0.75}
    (teachers / "loop.yaml").write_text("kind: altered\nof: pool\n")
    (teachers / "pool.yaml").write_text("kind: altered\nof: loop\n")
    with pytest.raises(T2TError, match="altered of itself"):
        teacher_entry(workspace, "loop", dataset.root)
    (teachers / "none.yaml").write_text("kind: altered\n")
    with pytest.raises(T2TError, match=r"none\.yaml: .*of"):
        teacher_entry(workspace, "none", dataset.root)


def test_noise_takes_the_share_that_is_asked_for_and_keeps_the_distribution(tmp_path: Path) -> None:
    """40 % are replaced, by draws of the teacher's own answers; 60 % replaces those as well."""
    root = tmp_path / "many"
    root.mkdir()
    names = [f"s{i:03}" for i in range(400)]
    for name in names:
        (root / f"{name}.png").touch()
    lines = ["sample_id,path,modality,group,split"] + [f"{n},{n}.png,image,{n},unlabeled" for n in names]
    (root / "samples.csv").write_text("\n".join(lines) + "\n")
    (root / "topics.txt").write_text("a\nb\n")
    (root / "annotations.csv").write_text("sample_id,topic,annotator,relevance\n")
    said = np.random.default_rng(0).beta(0.3, 2, (400, 2)).round(6)
    rows = [f"{n},{t},{said[i, j]}" for i, n in enumerate(names) for j, t in enumerate("ab")]
    (root / "labels.csv").write_text("sample_id,topic,confidence\n" + "\n".join(rows) + "\n")
    dataset = read_dataset(DatasetConfig(name="many", root="many"), tmp_path)
    context = TeacherContext(dataset, tmp_path / "work")
    of = {"id": "vendor", "kind": "labels", "path": "labels.csv"}

    def answers(**changes: object) -> np.ndarray:
        entry = parse_entry({"id": "worse", "kind": "altered", "of": of, **changes}, "entry")
        table = pa.concat_tables(build(entry, context).label(dataset.samples, dataset.topics))
        return np.asarray(table["confidence"].to_numpy())

    plain, some, more = answers(), answers(noise=0.4), answers(noise=0.6)
    assert np.allclose(plain, said.ravel(), atol=1e-6)
    moved = some != plain
    assert abs(moved.mean() - 0.4) < 0.06
    assert ((more != plain) | ~moved).mean() > 0.99  # one that drew its own value apart
    assert abs(answers(noise=1).mean() - plain.mean()) < 0.05
    assert abs(float(np.corrcoef(answers(noise=1), plain)[0, 1])) < 0.1
    assert np.allclose(answers(contradict=1), 1 - plain, atol=1e-6)
    assert len(answers(topics=0.5)) == 400
    assert abs(len(answers(samples=0.25)) / 800 - 0.25) < 0.06
    timid = answers(loudness=0.25)
    assert np.array_equal(np.argsort(timid, kind="stable"), np.argsort(plain.clip(1e-6), kind="stable"))
    assert timid.std() < plain.std()
