"""`t2t data import class-votes`: labeling functions that may abstain become teachers; and campaigns on what came in."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from t2t.campaign.campaign import Campaign
from t2t.campaign.entries import load_dataset, read_campaign, teacher_entry
from t2t.campaign.loop import run
from t2t.campaign.observer import Observer
from t2t.core.workspace import Workspace
from tests.helpers.documented import documented
from tests.helpers.exchange import done, failed, space
from tests.helpers.worlds import ROOT

ROWS = {"train": 160, "valid": 48, "test": 60}
CLASSES, FUNCTIONS, DIM = ("ham", "spam", "other"), 4, 8


def folder_of(place: Path, sizes: dict[str, int] = ROWS) -> Path:
    """Three classes of vectors around centres of their own; functions that abstain half of the time."""
    draw = np.random.default_rng(0)
    place.mkdir()
    (place / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    centres = draw.normal(size=(len(CLASSES), DIM))
    for part, rows in sizes.items():
        gold = draw.integers(len(CLASSES), size=rows)
        vectors = centres[gold] + 0.7 * draw.normal(size=(rows, DIM))
        np.save(place / f"{part}_vectors.npy", vectors.astype(np.float16))
        right = draw.random((rows, FUNCTIONS)) < 0.8
        votes = np.where(right, gold[:, None], draw.integers(len(CLASSES), size=(rows, FUNCTIONS)))
        votes = np.where(draw.random((rows, FUNCTIONS)) < 0.5, votes, -1)
        header = ",".join(f"lf{i:02}" for i in range(FUNCTIONS))
        np.savetxt(place / f"{part}_votes.csv", votes, "%d", ",", header=header, comments="")
        np.savetxt(place / f"{part}_gold.csv", gold, "%d", header="label", comments="")
    return place


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return space(tmp_path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "votes")


def test_splits_and_votes_are_what_they_were(workspace: Workspace, source: Path) -> None:
    done(workspace, "data", "import", "class-votes", source, "--dataset", "own")
    dataset = load_dataset("own", workspace)
    counts = {split: len(dataset.split(split)) for split in ("train", "unlabeled", "validation", "test")}
    assert counts == {"train": 36, "unlabeled": 160, "validation": 12, "test": 60}
    assert dataset.topics == CLASSES
    assert dataset.config.exclusive
    assert dataset.samples["path"][0].as_py() == f"{source}/train_vectors.npy#0"
    human = dataset.human.to_pandas().pivot_table(index="sample_id", columns="topic", values="confidence")
    gold = pd.read_csv(source / "test_gold.csv")["label"]
    assert not any(name.startswith("train") for name in human.index)
    for row in (0, 7, 59):
        assert human.loc[f"test-{row}", list(CLASSES)].tolist() == [float(gold[row] == i) for i in range(3)]
    labels = pq.read_table(workspace.data / "own" / "teachers" / "functions.parquet").to_pandas()
    votes = pd.read_csv(source / "train_votes.csv")
    mine = labels[labels["teacher"] == "lf02"].pivot_table(index="sample_id", columns="topic", values="confidence")
    for row in range(20):
        said = votes["lf02"][row]
        assert (f"train-{row}" in mine.index) == (said >= 0)
        if said >= 0:
            assert mine.loc[f"train-{row}", CLASSES[said]] == 1
            assert mine.loc[f"train-{row}"].sum() == 1


@pytest.mark.parametrize(("valid", "train", "validation"), [(178, 133, 45), (240, 180, 60), (500, 437, 63)])
def test_people_teach_with_what_choosing_a_step_does_not_need(
    workspace: Workspace, tmp_path: Path, valid: int, train: int, validation: int
) -> None:
    rows = {**ROWS, "valid": valid}
    done(workspace, "data", "import", "class-votes", folder_of(tmp_path / "votes", rows), "--dataset", "own")
    dataset = load_dataset("own", workspace)
    assert [len(dataset.split(split)) for split in ("train", "validation")] == [train, validation]


def test_a_function_is_a_teacher_of_one_file(workspace: Workspace, source: Path) -> None:
    done(workspace, "data", "import", "class-votes", source, "--dataset", "own")
    content = "dataset: own\nteachers: [own-functions]\nencoder: {kind: vectors, dim: 8}\n"
    (workspace.registry / "campaigns" / "own.yaml").write_text(content)
    config = read_campaign(workspace, "own", None, [])
    assert config.teachers == tuple(f"own-functions.lf{i:02}" for i in range(FUNCTIONS))
    assert teacher_entry(workspace, "own-functions.lf02").id == "own-functions.lf02"


def test_a_function_that_never_votes_is_no_teacher(workspace: Workspace, source: Path) -> None:
    for part in ROWS:
        table = pd.read_csv(source / f"{part}_votes.csv")
        table.assign(lf01=-1).to_csv(source / f"{part}_votes.csv", index=False)
    said = done(workspace, "data", "import", "class-votes", source, "--dataset", "own")
    assert "Left out, since they never vote: lf01." in said
    entry = workspace.file("teachers", "own-functions").read_text()
    assert yaml.safe_load(entry)["members"] == ["lf00", "lf02", "lf03"]


def test_what_is_there_is_not_written_over(workspace: Workspace, source: Path) -> None:
    done(workspace, "data", "import", "class-votes", source, "--dataset", "own")
    assert "write its tables anew by --replace" in failed(
        workspace, "data", "import", "class-votes", source, "--dataset", "own"
    )
    done(workspace, "data", "import", "class-votes", source, "--dataset", "own", "--replace")


def test_other_functions_are_the_teachers_after_a_replacement(workspace: Workspace, source: Path) -> None:
    done(workspace, "data", "import", "class-votes", source, "--dataset", "own")
    entry = workspace.file("teachers", "own-functions")
    entry.write_text(entry.read_text() + "modalities: [vectors]\n")
    for part in ROWS:
        table = pd.read_csv(source / f"{part}_votes.csv")
        table.assign(extra=table["lf00"]).to_csv(source / f"{part}_votes.csv", index=False)
    done(workspace, "data", "import", "class-votes", source, "--dataset", "own", "--replace")
    content = yaml.safe_load(entry.read_text())
    assert content["members"] == ["lf00", "lf01", "lf02", "lf03", "extra"]
    assert content["modalities"] == ["vectors"]
    before = entry.read_text()
    done(workspace, "data", "import", "class-votes", source, "--dataset", "own", "--replace")
    assert entry.read_text() == before
    # Somebody else's teachers of that name stay theirs.
    entry.write_text("kind: labels\npath: ${data}/mine.csv\n")
    said = failed(workspace, "data", "import", "class-votes", source, "--dataset", "own", "--replace")
    assert "are other teachers than class-votes writes there; import under another name" in said


def test_what_only_a_campaign_would_find_is_found_at_once(workspace: Workspace, source: Path) -> None:
    vectors = np.load(source / "train_vectors.npy")
    vectors[3, 2] = np.nan
    np.save(source / "train_vectors.npy", vectors)
    said = failed(workspace, "data", "import", "class-votes", source, "--dataset", "own")
    assert "train_vectors.npy, row 3: (sample 'train-3') holds NaN" in said
    assert not (workspace.data / "own").exists()
    said = failed(workspace, "data", "import", "class-votes", folder_of(source / "more"), "--dataset", "o" * 54)
    assert "rename 'lf00', or give the dataset a shorter name" in said


BAD = {
    "abstaining said otherwise": ("train_votes.csv", "lf00,lf01,lf02,lf03\n" + "0,abstain,0,0\n" * 160),
    "abstaining left empty": ("train_votes.csv", "lf00,lf01,lf02,lf03\n" + "0,,0,0\n" * 160),
    "a name that is no teacher's": ("train_votes.csv", "lf00,lf..1,lf02,lf03\n" + "0,0,0,0\n" * 160),
    "a vote for no class": ("train_votes.csv", "lf00,lf01,lf02,lf03\n" + "3,0,0,0\n" * 160),
    "too few votes": ("valid_votes.csv", "lf00,lf01,lf02,lf03\n0,0,0,0\n"),
    "other functions": ("test_votes.csv", "a,b,c,d\n" + "0,0,0,0\n" * 60),
    "no truth": ("test_gold.csv", "label\n" + "-1\n" * 60),
    "one class": ("classes.txt", "ham\n"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_folder_is_refused_and_nothing_is_written(workspace: Workspace, source: Path, case: str) -> None:
    name, text = BAD[case]
    (source / name).write_text(text)
    message = failed(workspace, "data", "import", "class-votes", source, "--dataset", "own")
    documented(message.removeprefix("Error: ").strip())
    assert not (workspace.data / "own").exists()
    assert not (workspace.registry / "datasets" / "own.yaml").exists()


def test_a_campaign_learns_from_votes_and_measures_accuracy(workspace: Workspace, source: Path) -> None:
    done(workspace, "data", "import", "class-votes", source, "--dataset", "own")
    content = "dataset: own\nteachers: [own-functions]\nencoder: {kind: vectors, dim: 8}\nrounds: {max: 1}\n"
    (workspace.registry / "campaigns" / "own.yaml").write_text(content)
    campaign = Campaign.open("own", workspace, settings=["training.steps=120", "student.members=1"])
    run(campaign, Observer())
    facts = campaign.ledger.records()[0].decisions
    student = json.loads((campaign.checkpoint(campaign.ledger.records()[0]) / "config.json").read_text())["student"]
    assert student["frontend"]["scaling"] == "whole"  # recipe: auto, of one's own embeddings
    assert facts["accuracy"] > 0.75
    assert facts["accuracy_low"] < facts["accuracy"] < facts["accuracy_high"]
    assert {f"class_f1/{name}" for name in CLASSES} < set(facts)
    assert f"has accuracy {facts['accuracy']:.3f}" in done(workspace, "rounds", "own")
    row = done(workspace, "predict", "own", f"{source}/test_vectors.npy#3", "--json")
    assert "test_vectors.npy#3" in row
    done(workspace, "tag", "own", "--campaign", "own", "--out", source.parent / "tags.csv")
    done(workspace, "annotate", "own", "--out", source.parent / "ask")
    assert sorted(path.name for path in (source.parent / "ask").iterdir()) == ["look.html", "pairs.csv"]


def test_a_class_that_people_lack_and_a_function_without_rows_do_not_stop_a_campaign(
    workspace: Workspace, source: Path
) -> None:
    names = ("Cause-Effect(e1,e2)", 'said "so"', "Other/none")
    (source / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    gold = pd.read_csv(source / "valid_gold.csv")
    gold.replace(2, 1).to_csv(source / "valid_gold.csv", index=False)
    for part in ("train", "valid"):
        table = pd.read_csv(source / f"{part}_votes.csv")
        table.assign(lf03=-1).to_csv(source / f"{part}_votes.csv", index=False)
    done(workspace, "data", "import", "class-votes", source, "--dataset", "own")
    content = "dataset: own\nteachers: [own-functions]\nencoder: {kind: vectors, dim: 8}\nrounds: {max: 1}\n"
    (workspace.registry / "campaigns" / "own.yaml").write_text(content)
    campaign = Campaign.open("own", workspace, settings=["training.steps=60", "student.members=1"])
    run(campaign, Observer())
    facts = campaign.ledger.records()[0].decisions
    assert facts["accuracy"] > 0.5
    assert {f"class_f1/{name}" for name in names} < set(facts)
    found = json.loads(done(workspace, "predict", "own", f"{source}/test_vectors.npy#3", "--json"))
    assert all(name in json.dumps(found) for name in ("Cause-Effect(e1,e2)", "Other/none"))


WRENCH = Path(os.environ.get("T2T_DATA", "/nowhere")) / "wrench"


@pytest.mark.skipif(not WRENCH.is_dir(), reason="T2T_DATA has no folder wrench")
@pytest.mark.parametrize(("name", "functions"), [("youtube", 10), ("sms", 73)])
def test_wrench_comes_in_as_the_registry_has_it(tmp_path: Path, name: str, functions: int) -> None:
    workspace = Workspace(ROOT / "registry", tmp_path / "data", tmp_path / "work")
    done(workspace, "data", "import", "class-votes", WRENCH / name, "--dataset", name)
    campaign = Campaign.open(name, workspace)
    assert len(campaign.config.teachers) == functions
    campaign.check_samples()
    assert campaign.dataset.config.exclusive
