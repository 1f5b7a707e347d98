"""`t2t data import` and `t2t data export`: what comes back, what is added, what is refused before a file is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from t2t.campaign.entries import changing
from t2t.commands.exchange import NAMES
from t2t.core.workspace import Workspace
from t2t.data.formats.table import FORMATS
from tests.helpers.documented import documented
from tests.helpers.elsewhere import elsewhere
from tests.helpers.exchange import (
    ANSWERS,
    LABELS,
    TOPICS,
    dataset,
    done,
    failed,
    picture,
    read_csv,
    space,
    write_csv,
)

# Formats that hold all of a dataset, and how many answers of it the others have.
WHOLE = ("label-studio", "wide-csv", "huggingface", "fiftyone", "coco")
SUFFIX = {"cvat": ".xml", "kinetics": ".csv", "wide-csv": ".csv", "folders": "", "huggingface": ""}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return space(tmp_path)


def exported(workspace: Workspace, form: str, *words: object) -> Path:
    out = workspace.data.parent / f"out{SUFFIX.get(form, '.json')}"
    done(workspace, "data", "export", "own", "--format", form, "--out", out, *words)
    return out


def numbers(rows: list[tuple[str, ...]]) -> list[tuple[object, ...]]:
    return sorted((*row[:-1], float(row[-1])) for row in rows)


def tasks(path: Path, count: int = 12, **labels: str) -> Path:
    """Label Studio tasks of pictures of their own beside `path`, the even ones with the choice `cat` by anna."""
    content = []
    for n in range(count):
        picture(path.parent / "pics" / f"{n}.png", 100 + n)
        result = [{"from_name": "k", "type": "choices", "value": {"choices": ["cat"]}}]
        annotations = [{"completed_by": {"email": "anna"}, "result": result if n % 2 == 0 else []}]
        content.append({"id": n, "data": {"image": f"pics/{n}.png", **labels}, "annotations": annotations})
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_the_help_names_the_formats() -> None:
    assert NAMES.split(", ") == list(FORMATS)


@pytest.mark.parametrize("form", WHOLE)
def test_what_is_exported_comes_back_as_it_was(form: str, workspace: Workspace) -> None:
    root = dataset(workspace)
    out = exported(workspace, form, "--teachers", "vendor")
    printed = done(
        workspace, "data", "import", form, out, "--dataset", "back", "--media", root, "--teacher", "vendor=vendor-b"
    )
    assert "Pairs: 10 positive, 9 negative, 31 not asked." in printed
    assert "Next: t2t data check back" in printed
    back = workspace.data / "back"
    assert numbers(read_csv(back / "annotations.csv")) == sorted(ANSWERS)
    assert numbers(read_csv(back / "teachers" / "vendor-b.csv")) == sorted(LABELS)
    assert (back / "topics.txt").read_text(encoding="utf-8").splitlines() == TOPICS
    without_path = [(row[0], *row[2:]) for row in read_csv(root / "samples.csv")]
    assert [(row[0], *row[2:]) for row in read_csv(back / "samples.csv")] == without_path
    assert "Dataset back" in done(workspace, "data", "check", "back")
    # The teacher's entry is one that t2t takes.
    assert "sound" in done(workspace, "teachers", "check", "vendor-b", "--dataset", "back")


@pytest.mark.parametrize(
    ("form", "column"),
    [("coco", "id"), ("fiftyone", "tags"), ("label-studio", "video"), ("huggingface", "topics")],
)
def test_a_column_that_a_format_has_itself_is_refused(form: str, column: str, workspace: Workspace) -> None:
    root = dataset(workspace)
    pd.read_csv(root / "samples.csv").rename(columns={"title": column}).to_csv(root / "samples.csv", index=False)
    out = root.parent / f"out{SUFFIX.get(form, '.json')}"
    documented(failed(workspace, "data", "export", "own", "--format", form, "--out", out))
    assert not out.exists()


def test_two_models_whose_names_would_be_one_field_keep_their_labels(workspace: Workspace) -> None:
    root = dataset(workspace)
    models = ["see-r", "see_r", "group", "title", "tags"]
    for number, name in enumerate(models):
        write_csv(root / f"{name}.csv", ["sample_id", "topic", "confidence"], [("s0", "red circle", number / 8)])
        entry = f"id: {name}\nkind: labels\npath: ${{data}}/{name}.csv\n"
        (workspace.registry / "teachers" / f"{name}.yaml").write_text(entry, encoding="utf-8")
    out = exported(workspace, "fiftyone", "--teachers", ",".join(models))
    renamed = [word for name in models for word in ("--teacher", f"{name}={name}-b")]
    done(workspace, "data", "import", "fiftyone", out, "--dataset", "back", "--media", root, *renamed)
    for number, name in enumerate(models):
        rows = read_csv(workspace.data / "back" / "teachers" / f"{name}-b.csv")
        assert [float(row[2]) for row in rows] == [number / 8]


@pytest.mark.parametrize("form", ["huggingface", "folders"])
def test_pictures_of_other_machines_are_exported_or_refused_by_their_address(form: str, workspace: Workspace) -> None:
    pytest.importorskip("aiohttp", reason="the extra `remote` is not installed")
    root = dataset(workspace, videos=False)
    content = (root / "media" / "2 é.png").read_bytes()
    with elsewhere() as there:
        there.files["/2.png"] = content
        samples = pd.read_csv(root / "samples.csv")
        samples.loc[2, "path"] = there.url("/2.png")
        samples.to_csv(root / "samples.csv", index=False)
        entry = workspace.registry / "datasets" / "own.yaml"
        entry.write_text(entry.read_text() + "schemes: [file, http]\nremote: {private: [127.0.0.1], attempts: 1}\n")
        out = exported(workspace, form)
        if form == "folders":
            assert content in [path.read_bytes() for path in out.rglob("2.png")]
        else:
            rows = pd.concat(map(pd.read_parquet, (out / "data").glob("*.parquet"))).set_index("sample_id")
            assert rows.loc["s2", "image"]["bytes"] == content
        shutil.rmtree(out)
    samples.loc[2, "path"] = there.url("/gone.png")
    samples.to_csv(root / "samples.csv", index=False)
    assert "/gone.png: cannot be read: " in documented(
        failed(workspace, "data", "export", "own", "--format", form, "--out", out)
    )
    assert not out.exists()


@pytest.mark.parametrize("form", [form for form in FORMATS if form not in WHOLE])
def test_what_a_format_cannot_hold_is_counted_and_the_rest_comes_back(form: str, workspace: Workspace) -> None:
    root = dataset(workspace)
    out = workspace.data.parent / f"out{SUFFIX.get(form, '.json')}"
    printed = done(workspace, "data", "export", "own", "--format", form, "--out", out, "--teachers", "vendor")
    assert "Not in this format: 1 columns of the samples." in printed
    assert "Not in this format: 1 relevances from 0.5 to 1, which are 1 there." in printed
    done(workspace, "data", "import", form, out, "--dataset", "back", "--media", root)
    back = {(topic, float(value)) for _, topic, _, value in read_csv(workspace.data / "back" / "annotations.csv")}
    assert ("red circle", 1.0) in back
    if form != "activitynet":
        assert all(value == 1.0 for _, value in back)  # nobody is said to have denied anything
        assert "Not in this format: 9 answers that a topic is not there." in printed
    splits = {row[4] for row in read_csv(workspace.data / "back" / "samples.csv")}
    assert splits == {"train", "validation", "test", "unlabeled"}
    assert "Dataset back" in done(workspace, "data", "check", "back")


def test_pictures_and_paths_behind_a_prefix_are_found_again(workspace: Workspace) -> None:
    root = dataset(workspace)
    out = exported(workspace, "label-studio", "--prefix", "/data/local-files/?d=own/")
    assert "/data/local-files/?d=own/media/1%20%C3%A9.png" in out.read_text(encoding="utf-8")
    done(workspace, "data", "import", "label-studio", out, "--dataset", "back", "--media", root.parent)
    paths = {row[1] for row in read_csv(workspace.data / "back" / "samples.csv")}
    assert (root / "media" / "1 é.png").as_uri() in paths


def test_a_dataset_that_is_there_is_refused_added_to_or_replaced(workspace: Workspace, tmp_path: Path) -> None:
    source = tasks(tmp_path / "tasks.json")
    imported = ("data", "import", "label-studio", source, "--dataset", "pets")
    assert "6 positive, 0 negative, 6 not asked" in done(workspace, *imported)
    root = workspace.data / "pets"
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert "nothing to do" in done(workspace, *imported)
    assert "Nothing is new" in done(workspace, *imported, "--add")
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    documented(failed(workspace, *imported, "--complete"))
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    # More of the same project: answers of another annotator, one that differs, and new samples.
    content = json.loads(source.read_text())
    result = [{"from_name": "k", "type": "choices", "value": {"choices": ["cat"]}}]
    for n in (0, 1):
        content[n]["annotations"].append({"completed_by": {"email": "bob"}, "result": result})
    source.write_text(json.dumps(content), encoding="utf-8")
    assert "8 answers (2 of them new)" in done(workspace, *imported, "--add")
    assert "6 positive, 6 negative" not in done(workspace, *imported, "--add")
    printed = done(workspace, *imported, "--replace", "--complete")
    assert "7 positive, 5 negative, 0 not asked" in printed


def test_an_answer_that_differs_is_kept_or_taken_and_said(workspace: Workspace, tmp_path: Path) -> None:
    source = tasks(tmp_path / "tasks.json")
    done(workspace, "data", "import", "label-studio", source, "--dataset", "pets")
    content = json.loads(source.read_text())
    content[0]["annotations"][0]["result"] = [{"from_name": "cat", "type": "number", "value": {"number": 0.25}}]
    source.write_text(json.dumps(content), encoding="utf-8")
    again = ("data", "import", "label-studio", source, "--dataset", "pets", "--add")
    printed = done(workspace, *again)
    assert "Conflicts: 1 answers differ from those in the dataset ('anna' of 'pics/0.png', 'cat': 1 there" in printed
    assert "the old ones were kept" in printed
    row = ("pics/0.png", "cat", "anna")
    assert (*row, "1") in read_csv(workspace.data / "pets" / "annotations.csv")
    assert "the new ones were taken" in done(workspace, *again, "--take")
    assert (*row, "0.25") in read_csv(workspace.data / "pets" / "annotations.csv")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_what_else_a_table_holds_stays_as_it_is(kind: str, workspace: Workspace, tmp_path: Path) -> None:
    root = dataset(workspace)
    samples = pd.read_csv(root / "samples.csv").assign(year=range(2000, 2010))
    answers = pd.read_csv(root / "annotations.csv", dtype={"annotator": str}).assign(note="by phone, at once")
    entry = workspace.registry / "datasets" / "own.yaml"
    if kind == "csv":
        samples.to_csv(root / "samples.csv", index=False, lineterminator="\r\n")
        answers.to_csv(root / "annotations.csv", sep=";", index=False)
    else:
        samples.to_parquet(root / "samples.parquet", index=False)
        answers.to_parquet(root / "annotations.parquet", index=False)
        entry.write_text(entry.read_text() + "samples: samples.parquet\nannotations: annotations.parquet\n")
    before = {path: path.read_bytes() for path in root.glob(f"*.{kind}")}
    source = tasks(tmp_path / "tasks.json", count=2)
    content = json.loads(source.read_text())
    result = [{"from_name": "red circle", "type": "number", "value": {"number": 1 / 3}}]
    own = {"image": str(root / "media" / "1 é.png"), "sample_id": "s1"}
    content.append({"id": 9, "data": own, "annotations": [{"completed_by": {"email": "anna"}, "result": result}]})
    source.write_text(json.dumps(content), encoding="utf-8")
    added = ("data", "import", "label-studio", source, "--dataset", "own", "--add")
    assert "the old ones were kept" in done(workspace, *added)
    if kind == "csv":
        for path, content in before.items():
            assert path.read_bytes().startswith(content)
    else:
        whole = pd.read_parquet(root / "samples.parquet")
        assert whole["year"].tolist()[:10] == list(range(2000, 2010))
        assert len(whole) == 12
    assert "the new ones were taken" in done(workspace, *added, "--take")
    table = root / f"annotations.{kind}"
    now = pd.read_csv(table, sep=";", dtype={"annotator": str}) if kind == "csv" else pd.read_parquet(table)
    assert now["note"].tolist()[: len(answers)] == ["by phone, at once"] * len(answers)
    assert now["note"][len(answers) :].isna().all()
    taken = now[(now["sample_id"] == "s1") & (now["topic"] == "red circle") & (now["annotator"] == "anna")]
    assert taken["relevance"].tolist() == [1 / 3]


def test_a_folder_whose_labels_changed_is_not_taken_for_the_one_that_was_imported(
    workspace: Workspace, tmp_path: Path
) -> None:
    picture(tmp_path / "pets" / "a.png", 1)
    table = write_csv(tmp_path / "pets" / "metadata.csv", ["file_name", "cat"], [("a.png", 1)])
    words = ("data", "import", "huggingface", tmp_path / "pets", "--dataset", "pets", "--labels", "cat")
    done(workspace, *words)
    assert "nothing to do" in " ".join(done(workspace, *words).split())
    table.write_text(table.read_text().replace("a.png,1", "a.png,0"))
    assert "add to it by --add" in failed(workspace, *words)


def test_a_dataset_is_changed_by_one_at_a_time(workspace: Workspace, tmp_path: Path) -> None:
    source = tasks(tmp_path / "tasks.json")
    words = ("data", "import", "label-studio", source, "--dataset", "pets")
    with changing(workspace, "pets"):
        assert "A change of dataset 'pets' is being run by" in documented(failed(workspace, *words))
    done(workspace, *words)


def test_rows_of_who_did_not_answer_are_no_answers(workspace: Workspace, tmp_path: Path) -> None:
    root = dataset(workspace)
    entry = workspace.registry / "datasets" / "own.yaml"
    entry.write_text(entry.read_text() + "people: {unanswered: abstain}\n")
    with open(root / "annotations.csv", "a", encoding="utf-8") as file:
        file.write("s9,red circle,anna,\ns1,red circle,carl,\n")
    printed = done(workspace, "data", "export", "own", "--format", "label-studio", "--out", tmp_path / "out.json")
    assert "Not in this format: 2 pairs that somebody was shown and did not answer." in printed
    result = [{"from_name": "red circle", "type": "number", "value": {"number": 1}}]
    own = {"image": str(root / "media" / "1 é.png"), "sample_id": "s1"}
    content = [{"id": 1, "data": own, "annotations": [{"completed_by": {"email": "carl"}, "result": result}]}]
    (tmp_path / "tasks.json").write_text(json.dumps(content), encoding="utf-8")
    added = ("data", "import", "label-studio", tmp_path / "tasks.json", "--dataset", "own", "--add")
    assert "('carl' of 's1', 'red circle': no answer there, 1 here); the old ones" in done(workspace, *added)
    done(workspace, *added, "--take")
    assert ("s1", "red circle", "carl", "1") in read_csv(root / "annotations.csv")
    assert ("s9", "red circle", "anna", "") in read_csv(root / "annotations.csv")


def test_absent_is_not_asked_unless_somebody_says_so(workspace: Workspace, tmp_path: Path) -> None:
    source = tasks(tmp_path / "tasks.json")
    imported = ("data", "import", "label-studio", source)
    assert "6 positive, 0 negative, 6 not asked" in done(workspace, *imported, "--dataset", "one")
    assert "6 positive, 6 negative, 0 not asked" in done(workspace, *imported, "--dataset", "two", "--complete")


def test_samples_without_a_split_are_put_by_the_hash_of_their_group(workspace: Workspace, tmp_path: Path) -> None:
    source = tasks(tmp_path / "tasks.json", count=40)
    shutil.copyfile(tmp_path / "pics" / "0.png", tmp_path / "pics" / "1.png")
    imported = ("data", "import", "label-studio", source, "--complete")
    printed = done(workspace, *imported, "--dataset", "one", "--split-by-hash", "0.5,0.25,0.25")
    assert "40 samples have no split in there: by a hash of their group, 0.5,0.25,0.25 of them" in printed
    rows = read_csv(workspace.data / "one" / "samples.csv")
    split_of, group_of = {row[0]: row[4] for row in rows}, {row[0]: row[3] for row in rows}
    assert set(split_of.values()) == {"train", "validation", "test"}
    # Copies are of one group, so that nothing is measured on what was learned from.
    assert group_of["pics/0.png"] == group_of["pics/1.png"] == "pics/0.png"
    done(workspace, "data", "check", "one")
    # Whoever comes later moves nobody.
    content = json.loads(source.read_text())
    picture(tmp_path / "pics" / "new.png", 7)
    (tmp_path / "more.json").write_text(json.dumps([{**content[0], "data": {"image": "pics/new.png"}}, *content]))
    done(workspace, "data", "import", "label-studio", tmp_path / "more.json", "--dataset", "one", "--add")
    after = {row[0]: row[4] for row in read_csv(workspace.data / "one" / "samples.csv")}
    assert {name: after[name] for name in split_of} == split_of
    assert len(after) == 41
    done(workspace, *imported, "--dataset", "two", "--split", "train", "--group-by", "folder")
    rows = read_csv(workspace.data / "two" / "samples.csv")
    assert {row[4] for row in rows} == {"train"}
    assert len({row[3] for row in rows}) == 1


def test_each_version_is_a_teacher_with_an_id_that_it_may_have(workspace: Workspace, tmp_path: Path) -> None:
    source = tasks(tmp_path / "tasks.json")
    content = json.loads(source.read_text())
    result = [{"from_name": "k", "type": "choices", "value": {"choices": ["cat"]}}]
    versions = ["human", "../../etc/x", "模型", "v1", "V1", "v1.0", None]
    for version in versions:
        content[0].setdefault("predictions", []).append({"model_version": version, "score": 0.5, "result": result})
    source.write_text(json.dumps(content), encoding="utf-8")
    imported = ("data", "import", "label-studio", source)
    done(workspace, *imported, "--dataset", "pets")
    names = workspace.names("teachers")
    assert len(names) == len(versions)
    assert "v1.0" in names
    assert "human" not in names
    assert all(read_csv(workspace.data / "pets" / "teachers" / f"{name}.csv") for name in names)
    assert not list(tmp_path.rglob("x.csv"))
    content[0]["predictions"][5]["score"] = 0.75
    source.write_text(json.dumps(content), encoding="utf-8")
    documented(failed(workspace, *imported, "--dataset", "pets", "--add"))
    assert "v1.0-b" in done(workspace, *imported, "--dataset", "pets", "--add", "--teacher", "v1.0=v1.0-b")
    documented(failed(workspace, *imported, "--dataset", "other", "--teacher", "v2=x"))
    documented(failed(workspace, *imported, "--dataset", "other", "--teacher", "v1=same", "--teacher", "V1=same"))
    other = "id: v1.0\nkind: labels\npath: ${data}/mine.csv\n"
    (workspace.registry / "teachers" / "v1.0.yaml").write_text(other, encoding="utf-8")
    documented(failed(workspace, *imported, "--dataset", "other"))


def test_media_that_are_missing_are_named_and_left_out_only_when_said(workspace: Workspace, tmp_path: Path) -> None:
    source = tasks(tmp_path / "tasks.json")
    (tmp_path / "pics" / "3.png").unlink()
    imported = ("data", "import", "label-studio", source, "--dataset", "pets")
    message = documented(failed(workspace, *imported))
    assert "1 of 12 samples have no file here, the first is task 4 (id 3): 'pics/3.png'" in message
    assert not (workspace.data / "pets").exists()
    assert "Left out: 1 of 12 samples" in done(workspace, *imported, "--allow-missing")
    documented(failed(workspace, *imported, "--add", "--media", tmp_path / "nowhere"))
    shutil.rmtree(tmp_path / "pics")
    documented(failed(workspace, "data", "import", "label-studio", source, "--dataset", "x", "--allow-missing"))


def test_what_cannot_be_is_refused_in_one_line(workspace: Workspace, tmp_path: Path) -> None:
    source = tasks(tmp_path / "tasks.json")
    start = ("data", "import", "label-studio", source, "--dataset")
    for words in (
        ("data", "import", "label-studoi", source, "--dataset", "x"),
        ("data", "import", "coco", tmp_path / "no.json", "--dataset", "x"),
        (*start, "a/b"),
        (*start, "x", "--add"),
        (*start, "x", "--add", "--replace"),
        (*start, "x", "--split", "training"),
        (*start, "x", "--split-by-hash", "0.9,0.2"),
        (*start, "x", "--group-by", "day"),
        (*start, "x", "--spans", "some"),
        (*start, "x", "--teacher", "v1"),
        ("data", "export", "own", "--format", "coco", "--out", source),
        ("data", "export", "own", "--format", "cocoa", "--out", tmp_path / "x.json"),
        ("data", "export", "own", "--format", "coco", "--out", tmp_path / "x.json", "--teachers", "human"),
        ("data", "export", "own", "--format", "coco", "--out", tmp_path / "x.json", "--teachers", "nobody"),
    ):
        if "own" in words and not (workspace.data / "own").exists():
            dataset(workspace)
        documented(failed(workspace, *words))
    assert not (workspace.data / "x").exists()
    assert not (tmp_path / "x.json").exists()


def test_a_group_in_two_splits_or_a_sample_of_two_files_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png", ord(name))
    table = tmp_path / "t.csv"
    imported = ("data", "import", "wide-csv", table, "--dataset", "x")
    header = ["sample_id", "path", "group", "split", "cat"]
    write_csv(table, header, [("1", "a.png", "g", "train", 1), ("2", "b.png", "g", "test", 1)])
    documented(failed(workspace, *imported))
    write_csv(table, header, [("1", "a.png", "g", "train", 1), ("1", "b.png", "g", "train", 1)])
    documented(failed(workspace, *imported))
    write_csv(table, header, [("1", "a.png", "g", "tarin", 1)])
    documented(failed(workspace, *imported))
    write_csv(table, header, [("1", "a.png", "g", "val", 1)])
    done(workspace, *imported)
    write_csv(table, header, [("1", "b.png", "g", "val", 1)])
    documented(failed(workspace, *imported, "--add"))


def test_more_answers_than_a_table_may_have_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    source = tasks(tmp_path / "tasks.json")
    entry = "name: pets\nroot: pets\ntable_limits: {rows: 5}\n"
    (workspace.registry / "datasets" / "pets.yaml").write_text(entry, encoding="utf-8")
    documented(failed(workspace, "data", "import", "label-studio", source, "--dataset", "pets", "--complete"))
    assert not (workspace.data / "pets").exists()


def test_a_folder_for_it_that_cannot_be_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    imported = ("data", "import", "label-studio", tasks(tmp_path / "tasks.json"), "--dataset", "pets")
    (workspace.data / "taken").write_text("x")
    documented(failed(workspace, *imported, "--into", "taken"))
    done(workspace, *imported, "--into", "deep/pets")
    assert (workspace.data / "deep" / "pets" / "samples.csv").is_file()
    documented(failed(workspace, *imported, "--into", "elsewhere", "--add"))


def test_topics_that_nobody_can_tell_apart_are_one(workspace: Workspace, tmp_path: Path) -> None:
    source = tasks(tmp_path / "tasks.json")
    content = json.loads(source.read_text())
    for n, name in enumerate(["café", "cafe\u0301", " café", "caf\u200bé"]):
        content[n]["annotations"][0]["result"] = [{"from_name": "k", "type": "choices", "value": {"choices": [name]}}]
    source.write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "topics.txt").write_text("zebra\ncafé\n", encoding="utf-8")
    imported = ("data", "import", "label-studio", source, "--dataset", "x", "--topics", tmp_path / "topics.txt")
    assert "3 labels whose blanks or Unicode form were made plain" in done(workspace, *imported)
    assert (workspace.data / "x" / "topics.txt").read_text(encoding="utf-8") == "zebra\ncafé\ncat\n"
    content[0]["annotations"][0]["result"][0]["value"]["choices"] = ["x" * 1001]
    source.write_text(json.dumps(content), encoding="utf-8")
    documented(failed(workspace, *imported, "--replace"))


def test_nothing_is_written_where_a_row_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    for column, cell in (("modality", "film"), ("group", "a\tb"), ("sample_id", "a\nb"), ("cat", "2"), ("cat", "nan")):
        row = {"sample_id": "1", "path": "a.png", "group": " g", "modality": "image", "cat": "1"} | {column: cell}
        table = write_csv(tmp_path / "t.csv", list(row), [list(row.values())])
        message = documented(failed(workspace, "data", "import", "wide-csv", table, "--dataset", "x"))
        assert f"{table}, row 2" in message
        assert not list(workspace.data.iterdir())
        assert not workspace.names("datasets")


def test_labels_in_a_lake_are_exported_under_the_teachers_id(workspace: Workspace) -> None:
    from t2t.campaign.entries import open_dataset, teacher_entry
    from t2t.lake import open_lake
    from t2t.teachers import TeacherContext, build
    from t2t.teachers.register import Registrar
    from t2t.teachers.retraction import retract

    root = dataset(workspace, videos=False)
    opened = open_dataset(workspace, "own")
    lake = open_lake("git", workspace.work)
    teacher = build(teacher_entry(workspace, "vendor", root), TeacherContext(opened, workspace.work))
    Registrar(lake, opened, workspace.work).register(teacher, opened.samples, opened.topics)
    (workspace.registry / "teachers" / "vendor.yaml").unlink()
    out = exported(workspace, "wide-csv", "--teachers", "vendor")
    assert sum(row[7] == "vendor" for row in read_csv(out)) == 4
    retract(lake, "own", "vendor")
    out.unlink()
    documented(failed(workspace, "data", "export", "own", "--format", "coco", "--out", out, "--teachers", "vendor"))
