"""`t2t annotate`: the pairs to answer next, the files to answer in, and the answers read back."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from t2t.campaign.best import Best
from t2t.campaign.entries import open_dataset
from t2t.commands.annotate.choose import uncertainty
from t2t.commands.annotate.pairs import questions
from t2t.commands.annotate.wanted import Wanted
from t2t.commands.health import reopen
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.data.formats import label_studio
from t2t.data.formats.model import Options
from t2t.data.labels import HUMAN
from t2t.students import build_student
from t2t.students.config import StudentConfig
from tests.helpers.campaigns import run
from tests.helpers.cli import invoke
from tests.helpers.documented import documented
from tests.helpers.page import hostile_campaign
from tests.helpers.students import TOWER

Asked = Callable[..., Any]


@pytest.fixture
def place(finished: Workspace, tmp_path: Path) -> Workspace:
    """The finished campaign `tiny` with data and a work folder of the test's own."""
    shutil.copytree(finished.work, tmp_path / "work", ignore=shutil.ignore_patterns("report"))
    shutil.copytree(finished.data, tmp_path / "data")
    return Workspace.find(finished.registry, tmp_path / "data", tmp_path / "work")


@pytest.fixture
def asked(place: Workspace) -> Asked:
    def ask(*words: object) -> Any:
        return invoke("--registry", place.registry, "--data-root", place.data, "--work", place.work, *words)

    return ask


def pairs_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "pairs.csv", dtype=str, keep_default_na=False)


def filled(folder: Path, annotator: str = "anna", answers: tuple[str, ...] = ("yes", "no")) -> Path:
    table = pairs_of(folder)
    table["annotator"] = annotator
    table["relevance"] = [answers[row % len(answers)] for row in range(len(table))]
    table.to_csv(folder / "pairs.csv", index=False)
    return folder / "pairs.csv"


def exported(folder: Path, said: str, **annotation: Any) -> Path:
    """Label Studio's export of the tasks, in which every topic was answered so."""
    tasks = json.loads((folder / "label-studio-video.json").read_text())
    for number, task in enumerate(tasks, start=1):
        task["id"] = number
        result = [
            {"from_name": name, "to_name": "clip", "type": "choices", "value": {"choices": [said]}}
            for name, topic in task["data"].items()
            if name.startswith("topic") and topic != "(nothing more)"
        ]
        task["annotations"] = [{"id": number, "completed_by": {"email": "bo@example.org"}, "result": result}]
        task["annotations"][0] |= annotation
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json"


def failed(result: Any) -> str:
    assert isinstance(result.exception, T2TError), result.output
    return documented(str(result.exception))


def test_what_is_asked_is_open_and_of_train_and_unlabeled_and_reasons_take_turns(asked: Asked, place: Workspace):
    result = asked("annotate", "tiny", "--n", 60, "--out", place.work / "batch")
    assert result.exit_code == 0, result.output
    table, dataset = pairs_of(place.work / "batch"), open_dataset(place, "demo")
    assert len(table) == 60
    assert not table.duplicated(["sample_id", "topic"]).any()
    answered = set(zip(*(dataset.human[name].to_pylist() for name in ("sample_id", "topic")), strict=True))
    assert not answered & set(zip(table["sample_id"], table["topic"], strict=True))
    assert set(table["sample_id"]) <= set(dataset.sample_ids("train", "unlabeled"))
    assert set(table["topic"]) <= set(dataset.seen)
    counts = table["why"].value_counts()
    assert counts["random"] == 9
    assert set(counts.index) == {"random", "uncertain", "disputed", "rare"}
    assert set(table["relevance"]) == {""}
    assert all(Path(path).is_file() for path in table["path"])
    # The same question again has the same answer; another seed draws others.
    again = asked("annotate", "tiny", "--n", 60, "--out", place.work / "again")
    assert again.exit_code == 0
    assert pairs_of(place.work / "again").equals(table)
    other = asked("annotate", "tiny", "--n", 60, "--seed", 1, "--out", place.work / "other")
    assert other.exit_code == 0
    assert not pairs_of(place.work / "other").equals(table)


@pytest.mark.parametrize("kind", ["encoder-only", "multi-head"])
def test_what_a_champion_of_another_kind_is_uncertain_of_is_by_its_own_confidences(
    place: Workspace, monkeypatch: pytest.MonkeyPatch, kind: str
):
    opened, dataset = reopen(place, "tiny"), open_dataset(place, "demo")
    embeddings, topics = opened.embedded.embeddings, dataset.seen[:-1]
    tower = {"sample": TOWER} if kind == "multi-head" else {"reader": TOWER}
    shape = TypeAdapter(StudentConfig).validate_python({"kind": kind, "dim": 8, **tower})
    student = build_student(shape, embeddings.dim, topics, [HUMAN], 0)
    student.trained_topics = topics
    student.frontend.fit(embeddings, np.arange(8))
    champion = SimpleNamespace(student=student.eval(), identity=HUMAN)
    monkeypatch.setattr("t2t.commands.annotate.pairs.open_scorer", lambda best: champion)
    table = questions(place, "tiny", Wanted(pairs=40)).table
    uncertain = table[table["why"] == "uncertain"]
    assert len(uncertain)
    # A topic that it was not trained on can still be drawn, or disputed between teachers.
    assert kind != "multi-head" or set(table.loc[table["topic"] == dataset.seen[-1], "why"]) <= {"random", "disputed"}
    levels = Best.of(place, "tiny").thresholds()
    for row in uncertain.to_dict("records"):
        said = student.predict(embeddings, opened.positions(pa.array([row["sample_id"]])), [row["topic"]], HUMAN)
        assert uncertainty(said, levels.of([row["topic"]]))[0, 0] == pytest.approx(row["priority"], abs=1e-3)


def test_the_task_file_goes_with_its_interface_and_names_files_label_studio_can_serve(asked: Asked, place: Workspace):
    assert asked("annotate", "tiny", "--n", 40, "--out", place.work / "batch").exit_code == 0
    tasks = json.loads((place.work / "batch" / "label-studio-video.json").read_text())
    view = ElementTree.parse(place.work / "batch" / "label-studio-video.xml").getroot()
    assert view.find("Video").attrib == {"name": "clip", "value": "$video"}
    controls = {item.attrib["name"]: [choice.attrib["value"] for choice in item] for item in view.iter("Choices")}
    headers = [item.attrib["value"].removeprefix("$") for item in view.iter("Header")]
    assert list(controls) == headers
    assert all(choices == ["yes", "no", "unsure"] for choices in controls.values())
    table = pairs_of(place.work / "batch")
    pairs = set()
    for task in tasks:
        assert {"video", "sample_id", *headers} == set(task["data"])
        file = place.data / "demo" / task["data"]["video"].removeprefix("/data/local-files/?d=")
        assert file.is_file()
        topics = [task["data"][name] for name in headers]
        pairs |= {(task["data"]["sample_id"], topic) for topic in topics if topic != "(nothing more)"}
    assert pairs == set(zip(table["sample_id"], table["topic"], strict=True))
    # Who answers must not see why a pair is asked.
    assert not any("why" in task["data"] for task in tasks)


def test_the_page_shows_every_clip_and_no_markup_of_a_topic(asked: Asked, place: Workspace):
    assert asked("annotate", "tiny", "--n", 300, "--out", place.work / "batch").exit_code == 0
    page = (place.work / "batch" / "look.html").read_text()
    assert "<script" not in page
    assert page.count("data:image/jpeg") == pairs_of(place.work / "batch")["sample_id"].nunique()


def test_answers_read_back_are_rows_of_the_next_round(asked: Asked, place: Workspace):
    """From the files to the label matrix: they are neither lost in a split nor taken twice."""
    batch = place.work / "batch"
    before = open_dataset(place, "demo")
    assert asked("annotate", "tiny", "--n", 30, "--topics", before.seen[0], "--topics", before.seen[1], "--out", batch)
    file = filled(batch)
    wanted = len(pairs_of(batch))
    assert "add --move to make them 'train'" in failed(asked("annotate", "tiny", "--read", file))
    assert open_dataset(place, "demo").human.num_rows == before.human.num_rows
    result = asked("annotate", "tiny", "--read", file, "--move")
    assert result.exit_code == 0, result.output
    assert f"{wanted} answers added by anna" in result.output
    assert "--set rounds.max=4 --set rounds.patience=4" in result.output
    after = open_dataset(place, "demo")
    assert after.human.num_rows == before.human.num_rows + wanted
    again = asked("annotate", "tiny", "--read", file, "--move")
    assert again.exit_code == 0
    assert f"0 answers added; {wanted} stood there" in again.output
    assert open_dataset(place, "demo").fingerprint == after.fingerprint
    records = run(hostile_campaign(place, rounds={"max": 4, "patience": 4}))
    campaign = hostile_campaign(place, rounds={"max": 4, "patience": 4})
    rows = [campaign.files(k).health for k in (2, 3)]
    people = [int(pd.read_csv(path).set_index("teacher").loc[HUMAN, "rows"]) for path in rows]
    assert len(records) == 4
    assert people[1] == people[0] + wanted


def test_label_studios_export_is_read_with_its_annotators(asked: Asked, place: Workspace):
    batch = place.work / "batch"
    assert asked("annotate", "tiny", "--n", 20, "--out", batch).exit_code == 0
    result = asked("annotate", "tiny", "--read", exported(batch, "yes"), "--move")
    assert result.exit_code == 0, result.output
    assert "20 answers added by bo@example.org" in result.output
    lines = (place.data / "demo" / "annotations.csv").read_text().splitlines()
    assert all(",bo@example.org,1" in line for line in lines[-20:])


def test_the_import_of_label_studios_files_understands_these_tasks_too(asked: Asked, place: Workspace):
    batch = place.work / "batch"
    assert asked("annotate", "tiny", "--n", 20, "--out", batch).exit_code == 0
    wanted = set(pairs_of(batch)[["sample_id", "topic"]].itertuples(index=False, name=None))
    for said, relevance in (("yes", 1.0), ("no", 0.0)):
        file = exported(batch, said)
        # Without the interface beside it, and with it, as Label Studio has it.
        for beside in (False, True):
            if beside:
                shutil.copy(batch / "label-studio-video.xml", file.with_suffix(".xml"))
            found = label_studio.read(file, Options())
            assert {(row.sample_id, row.topic): row.value for row in found.answers} == dict.fromkeys(wanted, relevance)
            assert {row.who for row in found.answers} == {"bo@example.org"}
            assert set(found.topics) == {topic for _, topic in wanted}
    unsure = label_studio.read(exported(batch, "unsure"), Options())
    assert (len(unsure.answers), len(unsure.topics)) == (0, 0)


@pytest.mark.parametrize(("said", "annotation"), [("unsure", {}), ("yes", {"was_cancelled": True})])
def test_unsure_and_cancelled_answers_are_none(
    asked: Asked, place: Workspace, said: str, annotation: dict[str, Any]
) -> None:
    batch = place.work / "batch"
    assert asked("annotate", "tiny", "--n", 10, "--out", batch).exit_code == 0
    before = (place.data / "demo" / "annotations.csv").read_bytes()
    result = asked("annotate", "tiny", "--read", exported(batch, said, **annotation))
    assert result.exit_code == 0, result.output
    assert "0 answers added; 0 stood there; 10 pairs open" in result.output
    assert (place.data / "demo" / "annotations.csv").read_bytes() == before


def test_an_answer_that_contradicts_an_earlier_one_is_said_and_changes_nothing(asked: Asked, place: Workspace):
    batch = place.work / "batch"
    assert asked("annotate", "tiny", "--n", 10, "--out", batch).exit_code == 0
    assert asked("annotate", "tiny", "--read", filled(batch, answers=("yes",)), "--move").exit_code == 0
    before = (place.data / "demo" / "annotations.csv").read_bytes()
    result = asked("annotate", "tiny", "--read", filled(batch, answers=("no",)))
    assert result.exit_code == 1
    assert result.output.count("Conflict: ") == 10
    assert "'anna' said 0 of sample" in result.output
    assert (place.data / "demo" / "annotations.csv").read_bytes() == before
    # Somebody else may see it otherwise.
    assert asked("annotate", "tiny", "--read", filled(batch, "bo", ("no",))).exit_code == 0


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ({"sample_id": "clip-9999"}, "unknown sample 'clip-9999'"),
        ({"topic": "red circl"}, "unknown topic 'red circl'"),
        ({"relevance": "perhaps"}, "'perhaps' is neither yes, no nor unsure"),
        ({"relevance": "1.5"}, "'1.5' is neither yes, no nor unsure"),
        ({"annotator": ""}, "who answered?"),
        ({"sample_id": "of-test"}, "of split 'test'"),
    ],
)
def test_an_answer_that_is_none_is_refused_with_its_row(
    asked: Asked, place: Workspace, cells: dict[str, str], says: str
) -> None:
    batch = place.work / "batch"
    assert asked("annotate", "tiny", "--n", 3, "--out", batch).exit_code == 0
    table = pd.read_csv(filled(batch), dtype=str, keep_default_na=False)
    if cells.get("sample_id") == "of-test":
        cells = {"sample_id": open_dataset(place, "demo").sample_ids("test")[0]}
    for name, cell in cells.items():
        table.loc[1, name] = cell
    table.to_csv(batch / "pairs.csv", index=False)
    before = (place.data / "demo" / "annotations.csv").read_bytes()
    message = failed(asked("annotate", "tiny", "--read", batch / "pairs.csv", "--move"))
    assert says in message
    assert "row 3" in message
    assert (place.data / "demo" / "annotations.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "the file is empty"),
        ("topic,relevance\n", "column 'sample_id' is missing"),
        ("sample_id,topic,relevance\na,b\n", "2 cells, but the header has 3"),
        (b"sample_id,topic,relevance\na,b\xff,1\n", "not readable as a table"),
        ("sample_id,topic\na,b\n", "column 'relevance' is missing"),
        ("[1, 2]", "no list of tasks"),
        ("{", "not readable as JSON"),
        ('[{"id": 1, "sample_id": "a"}]', "no `data` and `annotations`"),
        ('[{"data": {"video": "a.mp4"}, "annotations": []}]', "no `sample_id` in its data"),
        ('[{"data": {"sample_id": "a"}, "annotations": [17]}]', "an annotation is no object"),
    ],
)
def test_files_that_hold_no_answers_are_refused(
    asked: Asked, place: Workspace, content: str | bytes, says: str
) -> None:
    (place.work / "answers").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert says in failed(asked("annotate", "tiny", "--read", place.work / "answers"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--split", "test"), "No pair is asked of split 'test'"),
        (("--split", "tset"), "Unknown split 'tset'"),
        (("--split", "validation"), "say why (--reason '...')"),
        (("--topics", "red circl"), "Unknown topic 'red circl'"),
        (("--move",), "--annotator and --move go with --read FILE"),
        (("--read", "nowhere.csv"), "no such file"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked: Asked, words: tuple[str, ...], says: str) -> None:
    assert says in failed(asked("annotate", "tiny", *words))


def test_topics_whose_answers_would_teach_nobody_are_refused(asked: Asked, place: Workspace):
    unseen = sorted(open_dataset(place, "demo").unseen)
    assert unseen
    assert "unseen topics are kept out of training" in failed(asked("annotate", "tiny", "--topics", unseen[0]))


def test_pairs_of_validation_are_all_drawn(asked: Asked, place: Workspace):
    dataset = open_dataset(place, "demo")
    labels = pd.read_csv(place.data / "demo" / "annotations.csv")
    labels[~labels["sample_id"].isin(dataset.sample_ids("validation")[2:6])].to_csv(
        place.data / "demo" / "annotations.csv", index=False
    )
    words = ("--split", "validation", "--reason", "four clips were never looked at", "--n", 20)
    assert asked("annotate", "tiny", *words, "--out", place.work / "batch").exit_code == 0
    table = pairs_of(place.work / "batch")
    assert set(table["why"]) == {"random"}
    assert set(table["sample_id"]) <= set(dataset.sample_ids("validation")[2:6])
    everything = asked("annotate", "tiny", "--split", "validation", "--reason", "x", "--n", 9999)
    assert everything.exit_code == 0


def test_a_folder_with_somebodys_answers_is_not_written_over(asked: Asked, place: Workspace):
    batch = place.work / "batch"
    assert asked("annotate", "tiny", "--n", 5, "--out", batch).exit_code == 0
    content = filled(batch).read_bytes()
    assert "is there already" in failed(asked("annotate", "tiny", "--n", 5, "--out", batch))
    assert (batch / "pairs.csv").read_bytes() == content


def test_nothing_left_to_ask_is_said(asked: Asked, place: Workspace):
    dataset = open_dataset(place, "demo")
    rows = [f'{sample},"{topic}",x,0' for sample in dataset.sample_ids("train", "unlabeled") for topic in dataset.seen]
    with open(place.data / "demo" / "annotations.csv", "a") as file:
        file.write("\n".join(rows) + "\n")
    labels = pd.read_csv(place.data / "demo" / "annotations.csv", dtype=str)
    labels.drop_duplicates(["sample_id", "topic", "annotator"]).to_csv(
        place.data / "demo" / "annotations.csv", index=False
    )
    assert "no pair left to ask" in failed(asked("annotate", "tiny"))
