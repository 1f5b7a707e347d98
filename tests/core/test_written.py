"""YAML takes `no` for a truth value, `2024` for a number and `010` for eight; where a name is meant it is a name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from t2t.campaign.config import CampaignConfig, override
from t2t.campaign.entries import campaign_config, dataset_config, read_campaign, teacher_entry
from t2t.commands.teachers import add_teacher
from t2t.core.config import Config, Written, expand, load_yaml, parse, read_yaml
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace

pytestmark = pytest.mark.unit


class Inner(Config):
    names: tuple[str, ...] = ()
    weights: dict[str, float] = Field({})
    by: Literal["no", "people"] = "people"


class Sample(Config):
    name: str = ""
    count: int = 0
    on: bool = False
    share: float = 0.0
    inner: Inner = Inner()
    free: dict[str, Any] = Field({})


def read(folder: Path, text: str) -> Sample:
    (folder / "x.yaml").write_text(text)
    return parse(Sample, expand(read_yaml(folder / "x.yaml"), {}, "x.yaml"), "x.yaml")


@pytest.mark.parametrize(
    "word",
    ["no", "Yes", "off", "true", "2024", "1e3", "1.10", "007", "0x1F", "1_000", "12:30", "2024-01-01", "2024-02-31"],
)
def test_a_word_is_the_name_that_was_written(tmp_path, word):
    assert read(tmp_path, f"name: {word}\n").name == word
    assert read(tmp_path, f"inner: {{names: [a, {word}]}}\n").inner.names == ("a", word)
    assert read(tmp_path, f"inner:\n  weights:\n    {word}: 0.5\n").inner.weights == {word: 0.5}
    assert read(tmp_path, f"inner: {{names: [&w {word}, *w]}}\n").inner.names == (word, word)


def test_numbers_and_truth_values_are_what_they_were(tmp_path):
    found = read(tmp_path, "count: 12\non: yes\nshare: 1e-3\nfree: {a: no, b: 7, c: 1.5, d: null, e: 2024-01-01}\n")
    assert (found.count, found.on, found.share) == (12, True, 0.001)
    assert found.free == {"a": False, "b": 7, "c": 1.5, "d": None, "e": "2024-01-01"}
    # Ten as people read it, and not the octal eight; a time is no number.
    assert read(tmp_path, "count: 010\n").count == 10
    with pytest.raises(T2TError, match=r"key 'count': .*unable to parse string as an integer \(found '1:30'\)"):
        read(tmp_path, "count: 1:30\n")


def test_nothing_is_no_name_but_in_a_list_of_names(tmp_path):
    assert read(tmp_path, "inner: {names: [null, Null]}\n").inner.names == ("null", "Null")
    for text in ("name:\n", "name: null\n", "name: ~\n"):
        with pytest.raises(T2TError, match=r"key 'name': Input should be a valid string \(found None\)"):
            read(tmp_path, text)


def test_a_choice_may_be_a_word_of_yaml(tmp_path):
    assert read(tmp_path, "inner: {by: no}\n").inner.by == "no"
    with pytest.raises(T2TError, match=r"'inner.by': Input should be 'no' or 'people' \(found 'yes'\)"):
        read(tmp_path, "inner: {by: yes}\n")


def test_settings_of_the_command_line_are_names_too():
    content = Written({"name": "c", "dataset": "d", "encoder": {"kind": "pixels"}})
    settings = ["dataset=2024", "teachers=[no, 7]", "training.task_weight={no: 0.5}", "seed=010"]
    config = parse(CampaignConfig, override(content, settings), "c.yaml")
    assert (config.dataset, config.teachers, config.seed) == ("2024", ("no", "7"), 10)
    assert config.training.task_weight == {"no": 0.5}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    for kind in ("datasets", "campaigns", "teachers"):
        (tmp_path / kind).mkdir()
    return Workspace.find(tmp_path, tmp_path / "data", tmp_path / "work")


def test_entries_may_be_named_by_numbers_and_words(workspace):
    for name in ("2024", "no", "1e3"):
        (workspace.registry / "datasets" / f"{name}.yaml").write_text(f"name: {name}\nroot: {name}\n")
        (workspace.registry / "teachers" / f"{name}.yaml").write_text(f"id: {name}\nkind: labels\npath: x.csv\n")
        (workspace.registry / "campaigns" / f"{name}.yaml").write_text(
            f"name: {name}\ndataset: {name}\nteachers: [{name}]\nencoder: {{kind: pixels}}\n"
        )
        dataset = dataset_config(workspace, name)
        assert (dataset.name, dataset.root, teacher_entry(workspace, name).id) == (name, name, name)
        for config in (campaign_config(workspace, name), read_campaign(workspace, name, None, [])):
            assert (config.name, config.dataset, config.teachers) == (name, name, (name,))
        assert read_campaign(workspace, name, "7", []).name == "7"
    (workspace.registry / "datasets" / "a.yaml").write_text("name: 7\nroot: x\n")
    with pytest.raises(T2TError, match="'name' is 7 but the file is named 'a'"):
        dataset_config(workspace, "a")


def test_a_flag_is_a_name_where_a_name_is_meant(workspace):
    add_teacher(workspace, "v", "labels", "", ["--path", "2024"])
    assert teacher_entry(workspace, "v").model_dump()["path"] == "2024"


def test_paths_of_a_datasets_entry_are_expanded_as_those_of_others_are(workspace, monkeypatch):
    monkeypatch.setenv("MY_VIDEOS", "/videos")
    path = workspace.registry / "datasets" / "d.yaml"
    path.write_text("root: ${MY_VIDEOS}/d\nsamples: ${MY_VIDEOS}/list.csv\nannotations: ${data}/people.csv\n")
    config = dataset_config(workspace, "d")
    assert (config.root, config.samples) == ("/videos/d", "/videos/list.csv")
    assert config.annotations == f"{workspace.data}/people.csv"
    path.write_text("root: ${NOT_SET_HERE}/d\n")
    with pytest.raises(T2TError, match=r"d.yaml: \$\{NOT_SET_HERE\} is not set\. Set the environment variable"):
        dataset_config(workspace, "d")


def test_unseen_may_be_a_list(workspace):
    (workspace.registry / "datasets" / "d.yaml").write_text("root: x\nunseen: [no, 2024-01-01]\n")
    assert dataset_config(workspace, "d").unseen.topics == ("no", "2024-01-01")


def test_an_entry_that_would_take_minutes_to_read_is_refused():
    for text in ("x: [" + "a, " * 50_000 + "]", "- " * 60_000, "[" * 60_000):
        with pytest.raises(T2TError, match=r"more than 50,000 values|nested too deeply"):
            load_yaml(text)
    assert len(load_yaml("[" + "a, " * 40_000 + "]")) == 40_000
