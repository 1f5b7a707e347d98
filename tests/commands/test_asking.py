"""Asking a champion: `predict`, `tag` and `search`, on the command line and in Python."""

from __future__ import annotations

import importlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import t2t
from t2t.campaign.best import Best
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.data.labels import HUMAN
from t2t.students.checkpoint import load
from tests.helpers.cli import invoke
from tests.helpers.page import TOPIC, Page


@pytest.fixture(scope="module")
def place(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The finished campaign `tiny` in a work folder of this module's own."""
    work = tmp_path_factory.mktemp("asking") / "work"
    shutil.copytree(finished.work, work)
    return Workspace.find(finished.registry, finished.data, work)


@pytest.fixture
def asked(place: Workspace) -> Callable[..., Any]:
    def ask(*words: object) -> Any:
        return invoke("--registry", place.registry, "--data-root", place.data, "--work", place.work, *words)

    return ask


@pytest.fixture
def clips(place: Workspace, tmp_path: Path) -> Path:
    """A folder with three clips, a copy of one, what is no video, and a note."""
    folder = tmp_path / "clips"
    (folder / "more").mkdir(parents=True)
    videos = sorted((place.data / "demo" / "clips").glob("*.mp4"))[:3]
    for video in videos:
        shutil.copy(video, folder / video.name)
    shutil.copy(videos[0], folder / "more" / "copy [1].mp4")
    (folder / "broken.mp4").write_text("not a video")
    (folder / "note.txt").write_text("note")
    return folder


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--topics", " "), "A topic is empty"),
        (("--precision", "1.5"), "A precision lies between 0 and 1"),
        (("--identity", "nobody"), "This student has no identity 'nobody'"),
    ],
)
def test_what_no_student_can_be_asked_is_said_before_it_is_loaded(
    asked: Callable[..., Any], clips: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    def load_none(best: Best) -> None:
        raise AssertionError("loaded")

    modules = [importlib.import_module(f"t2t.commands.{name}") for name in ("predict", "tag")]
    for module in modules:
        monkeypatch.setattr(module, "open_scorer", load_none)
    assert said in str(asked("predict", "tiny", clips, *words).exception)
    if words[0] != "--identity":
        tagged = asked("tag", clips, "--campaign", "tiny", "--out", clips / "tags.csv", *words)
        assert said in str(tagged.exception)


def test_a_second_file_is_scored_and_is_no_topic(asked: Callable[..., Any], clips: Path) -> None:
    first, second, *_ = sorted(clips.glob("0*.mp4"))
    result = asked("predict", "tiny", first, second, "--topics", "red star", "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [(row["file"], row["topic"]) for row in rows] == [(str(first), "red star"), (str(second), "red star")]
    assert all(0 <= row["confidence"] <= 1 for row in rows)


def test_every_topic_has_an_option_of_its_own(asked: Callable[..., Any], clips: Path) -> None:
    first = clips / "0000.mp4"
    topics = ["--topics", "red star", "-t", "a spinning square", "--topics", "red star"]
    rows = json.loads(asked("predict", "tiny", first, *topics, "--json").stdout)
    assert sorted(row["topic"] for row in rows) == ["a spinning square", "red star"]
    result = asked("predict", "tiny", first, "--topics", "red star", "a spinning square")
    assert isinstance(result.exception, T2TError)
    assert str(result.exception) == (
        "a spinning square: no such file or folder; if it is a topic, it needs an option of its own: --topics '...'."
    )


def test_without_topics_all_of_the_datasets_are_scored(asked: Callable[..., Any], clips: Path) -> None:
    result = asked("predict", "tiny", clips / "0000.mp4", "--csv")
    lines = result.stdout.splitlines()
    assert lines[0] == "file,topic,confidence,threshold,yes"
    assert len(lines) == 1 + 39
    assert any(TOPIC in line for line in lines)
    shown = asked("predict", "tiny", clips / "0000.mp4", "--top", "3").stdout
    assert shown.count("│") == 3 * 6
    assert isinstance(asked("predict", "tiny", clips / "0000.mp4", "--csv", "--json").exception, T2TError)


def test_a_file_that_cannot_be_read_is_set_aside_and_the_others_are_scored(
    asked: Callable[..., Any], clips: Path
) -> None:
    result = asked("predict", "tiny", clips, "--topics", "red star", "--json")
    assert result.exit_code == 1
    assert {Path(row["file"]).name for row in json.loads(result.stdout)} == {
        "0000.mp4", "0001.mp4", "0002.mp4", "copy [1].mp4",
    }  # fmt: skip
    assert f"Set aside: {clips / 'broken.mp4'}: not readable as video or image" in result.stderr
    assert "Passed over: 1 " in result.stderr
    alone = asked("predict", "tiny", clips / "broken.mp4", "--topics", "red star", "--json")
    assert (alone.exit_code, json.loads(alone.stdout)) == (1, [])


def test_names_and_topics_are_no_markup_and_no_escape_sequences(asked: Callable[..., Any], clips: Path) -> None:
    odd = clips / "\x1b[31mred[b].mp4"
    (clips / "0001.mp4").rename(odd)
    (clips / "\x1b[2Jbad.mp4").write_text("not a video")
    result = asked("predict", "tiny", clips, "--topics", "red [b]star")
    assert "red [b]star" in result.stdout
    assert "red[b].mp4" in result.stdout
    assert "[2Jbad.mp4: not readable" in result.stderr
    assert "\x1b[31mred" not in result.output
    assert "\x1b[2J" not in result.output
    found = pd.read_csv(io.StringIO(asked("predict", "tiny", clips, "--csv", "--top", "1").stdout))
    assert str(odd) in found["file"].tolist()  # a program finds the file by its name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "tiny", "lost.mp4"], "lost.mp4: no such file or folder."),
        (["predict", "tin", "{clip}"], "Campaign 'tin' has not run in"),
        (["predict", "tiny", "{clip}", "--identity", "vendr"], "Did you mean 'vendor'?"),
        (["predict", "tiny", "{clip}", "--topics", " "], "A topic is empty"),
        (["predict", "tiny", "{clip}", "--precision", "1.5"], "lies between 0 and 1"),
        (["predict", "tiny", "{clip}", "--precision", "0.9", "--identity", "vendor"], "there is no precision"),
        (["tag", "dem", "--campaign", "tiny", "--out", "x.csv"], "Did you mean 'demo'?"),
        (["tag", "demo", "--campaign", "tiny", "--out", "x.xlsx"], "ends in .parquet or .csv or .jsonl"),
        (["tag", "demo", "--campaign", "tiny", "--out", "nowhere/x.csv"], "nowhere: no such folder."),
        (["search", "tiny", "  "], "The query is empty"),
        (["search", "tiny", "star", "--out", "page.pdf"], "ends in .html or .htm"),
    ],
)
def test_mistakes_get_one_line(
    words: list[str], message: str, asked: Callable[..., Any], clips: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    result = asked(*(word.format(clip=clips / "0000.mp4") for word in words))
    assert isinstance(result.exception, T2TError)
    assert message in str(result.exception)
    assert len(str(result.exception).splitlines()) == 1


def test_yes_is_said_from_the_threshold_on(place: Workspace, clips: Path) -> None:
    thresholds = Best.of(place, "tiny").thresholds(0.3)
    found = t2t.predict("tiny", [clips], precision=0.3, workspace=place)
    table = found.table
    assert list(found.unreadable) == [str(clips / "broken.mp4")]
    assert len(table) == 4 * 39
    limits = thresholds.of(list(table["topic"]))
    np.testing.assert_array_equal(table["yes"].to_numpy(bool), table["confidence"].to_numpy() >= limits)
    for _, part in table.groupby("file"):
        assert part["confidence"].is_monotonic_decreasing
    as_vendor = t2t.predict("tiny", [clips / "0000.mp4"], ["red star"], identity="vendor", workspace=place)
    assert as_vendor.table["yes"].isna().all()  # thresholds are of the campaign's own identity
    with pytest.raises(T2TError, match="takes lists"):
        t2t.predict("tiny", "a.mp4", ["red star"], workspace=place)


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_dataset_is_tagged_from_the_embedding_store(
    place: Workspace, tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "t2t"):
        done = t2t.tag("demo", "tiny", tmp_path / f"tags.{ending}", precision=0.2, workspace=place)
    assert "Embedding" not in caplog.text
    assert (done.samples, len(done.unreadable)) == (56, 0)
    assert not done.list_of_unreadable.exists()
    read = {"parquet": pd.read_parquet, "csv": pd.read_csv, "jsonl": lambda path: pd.read_json(path, lines=True)}
    table = read[ending](done.out)
    assert list(table.columns) == ["sample_id", "path", "topic", "confidence", "threshold", "yes"]
    assert (len(table), table["sample_id"].nunique()) == (done.tags, done.tagged)
    best = Best.of(place, "tiny")
    thresholds = best.thresholds(0.2)
    dataset = t2t.load_dataset("demo", place)
    campaign = t2t.Campaign.open("tiny", place)
    ids = dataset.sample_ids()
    scores = load(best.checkpoint).predict(campaign.embedded.embeddings, np.arange(len(ids)), dataset.topics, HUMAN)
    row, column = np.nonzero(scores >= thresholds.of(dataset.topics))
    wanted = {(ids[i], dataset.topics[j]) for i, j in zip(row, column, strict=True)}
    assert wanted
    assert set(zip(table["sample_id"], table["topic"], strict=True)) == wanted


def test_the_likeliest_topics_of_each_file_of_a_folder(asked: Callable[..., Any], clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "tags.csv"
    result = asked("tag", clips, "--campaign", "tiny", "--out", out, "--top", "2")
    assert result.exit_code == 1
    assert f"{out}: 8 topics, the likeliest of each, for 4 of 4 files." in result.stdout
    assert f"Set aside: {clips / 'broken.mp4'}: not readable as video or image" in result.stderr
    assert (tmp_path / "tags.unreadable.csv").read_text().count("\n") == 2
    table = pd.read_csv(out)
    assert (table.groupby("sample_id").size() == 2).all()
    copied = table[table["sample_id"].str.contains("copy")]
    same = table[table["sample_id"] == str(clips / "0000.mp4")]
    assert list(copied["topic"]) == list(same["topic"])
    (clips / "broken.mp4").unlink()
    again = asked("tag", clips, "--campaign", "tiny", "--out", out, "--top", "2")
    assert again.exit_code == 0, again.output
    assert not (tmp_path / "tags.unreadable.csv").exists()


def test_tags_do_not_depend_on_blocks(place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = []
    for block in (39, 1 << 22):
        monkeypatch.setattr("t2t.commands.tag.CONFIDENCES", block)
        files.append(t2t.tag("demo", "tiny", tmp_path / f"{block}.jsonl", top=3, workspace=place).out)
    first, second = (pd.read_json(file, lines=True) for file in files)
    assert list(first["topic"]) == list(second["topic"])
    np.testing.assert_allclose(first["confidence"], second["confidence"], atol=2e-6)


def test_nothing_is_left_under_the_name_where_it_is_stopped(
    place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("t2t.commands.tag._tags", stop)
    with pytest.raises(KeyboardInterrupt):
        t2t.tag("demo", "tiny", tmp_path / "tags.parquet", workspace=place)
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_not_utf8_are_written_out_or_set_aside(
    asked: Callable[..., Any], clips: Path, tmp_path: Path
) -> None:
    odd = Path(os.fsdecode(os.fsencode(clips) + b"/\xff.mp4"))
    (clips / "0001.mp4").rename(odd)
    rows = json.loads(asked("predict", "tiny", odd, "--topics", "red star", "--json").stdout)
    assert [row["file"] for row in rows] == [f"{clips}/\\xff.mp4"]
    result = asked("tag", clips, "--campaign", "tiny", "--out", tmp_path / "tags.jsonl", "--top", "1")
    assert result.exit_code == 1
    assert f"Set aside: {clips}/\\xff.mp4: its name is not UTF-8." in result.stderr
    assert (tmp_path / "tags.jsonl").read_text().count("\n") == 3
    too_long = asked("tag", "x" * 5000, "--campaign", "tiny", "--out", tmp_path / "tags.csv")
    assert "neither a dataset of the registry nor a file or folder" in str(too_long.exception)


def test_search_finds_the_clips_of_the_highest_confidence(place: Workspace, asked: Callable[..., Any]) -> None:
    rows = json.loads(asked("search", "tiny", "red star", "--top", "5", "--json").stdout)
    campaign = t2t.Campaign.open("tiny", place)
    best = campaign.champion()
    assert best is not None
    student = load(campaign.checkpoint(best))
    ids = campaign.embedded.sample_ids
    scores = student.predict(campaign.embedded.embeddings, np.arange(len(ids)), ["red star"], HUMAN)[:, 0]
    # Folders that other tests tagged are searched too: here only the dataset's own clips count.
    found = {row["sample_id"]: row["confidence"] for row in rows["found"] if row["sample_id"] in ids}
    assert found
    for name, confidence in found.items():
        assert scores[ids.index(name)] == pytest.approx(confidence, abs=2e-6)
        assert confidence >= np.sort(scores)[-5] - 2e-6
    assert rows["clips"] >= len(ids)
    assert (rows["query"], rows["round"], rows["identity"]) == ("red star", best.round, HUMAN)


def test_what_was_tagged_is_searched_and_shown_with_its_pictures(
    place: Workspace, asked: Callable[..., Any], clips: Path, tmp_path: Path
) -> None:
    before = json.loads(asked("search", "tiny", "star", "--json").stdout)["clips"]
    (clips / "broken.mp4").unlink()
    assert asked("tag", clips, "--campaign", "tiny", "--out", tmp_path / "t.csv").exit_code == 0
    page = tmp_path / "page.html"
    result = asked("search", "tiny", "<b>star</b>", "--top", "1000", "--out", page)
    assert result.exit_code == 0, result.output
    assert f"{before + 4} clips" in result.output.replace("\n", " ")
    shown = Page(page.read_text(encoding="utf-8"))
    assert len(shown.all("li")) == before + 4
    assert not shown.all("b")
    assert not shown.all("script")
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in shown.all("img"))
    assert "copy [1].mp4" in shown.html
    # A clip that is gone keeps its place, and the page says why there is no picture.
    shutil.rmtree(clips)
    asked("search", "tiny", "star", "--top", "1000", "--out", page)
    assert page.read_text().count("No picture: no such file") == 4


def test_search_needs_something_that_is_embedded(place: Workspace, tmp_path: Path) -> None:
    empty = Workspace.find(place.registry, tmp_path, tmp_path / "work")
    shutil.copytree(place.work, empty.work)
    shutil.rmtree(empty.work / "campaigns" / "tiny" / "searched", ignore_errors=True)
    with pytest.raises(T2TError, match="Nothing is embedded"):
        t2t.search("tiny", "star", workspace=empty)


def test_a_campaign_without_a_champion_says_so(world: Path, tmp_path: Path) -> None:
    nowhere = Workspace.find(world / "registry", world / "data", tmp_path)
    with pytest.raises(T2TError, match="has not run in"):
        t2t.tag("demo", "tiny", tmp_path / "x.csv", workspace=nowhere)
