"""The registry: where it lies, and what it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2t.campaign.entries import campaign_config, dataset_config, teacher_entry
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace

pytestmark = pytest.mark.unit

VARIABLES = ("T2T_REGISTRY", "T2T_DATA", "T2T_WORK")


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    for kind in ("datasets", "teachers", "campaigns"):
        (tmp_path / "registry" / kind).mkdir(parents=True)
    write(tmp_path, "datasets/tiny", "root: tiny\n")
    write(tmp_path, "teachers/appearance", "kind: labels\npath: ${data}/a.csv\n")
    write(tmp_path, "campaigns/tiny", "dataset: tiny\nencoder: {kind: pixels}\nteachers: [appearance]\n")
    return Workspace.find(tmp_path / "registry", tmp_path / "data", tmp_path / "work")


def write(folder: Path, entry: str, text: str) -> None:
    (folder / "registry" / f"{entry}.yaml").write_text(text)


# -- where it lies ---------------------------------------------------------------------------------------------------


def test_folders_are_those_here_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    assert Workspace.find() == Workspace(tmp_path / "registry", tmp_path / "data", tmp_path / "work")


def test_the_environment_goes_before_the_default_and_arguments_before_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("T2T_REGISTRY", "from/environment")
    monkeypatch.setenv("T2T_DATA", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("T2T_WORK", "")
    found = Workspace.find(registry=Path("given"))
    assert found == Workspace(tmp_path / "given", tmp_path / "elsewhere", tmp_path / "work")
    assert Workspace.find().registry == tmp_path / "from" / "environment"


# -- names -----------------------------------------------------------------------------------------------------------


def test_names_are_the_files(workspace, tmp_path):
    write(tmp_path, "teachers/zebra", "kind: labels\npath: z.csv\n")
    (tmp_path / "registry" / "teachers" / "notes.txt").write_text("no entry")
    assert workspace.names("teachers") == ["appearance", "zebra"]
    assert workspace.names("campaigns") == ["tiny"]
    assert workspace.names("none") == []


@pytest.mark.parametrize(
    ("read", "says"),
    [
        (lambda w: teacher_entry(w, "apearance"), "no such teacher. Did you mean 'appearance'?"),
        (lambda w: dataset_config(w, "tinny"), "no such dataset. Did you mean 'tiny'?"),
        (lambda w: campaign_config(w, "zzz"), "no such campaign. Known: tiny."),
        (lambda w: teacher_entry(w, "../datasets/tiny"), "no such teacher."),
    ],
)
def test_an_unknown_name_names_the_nearest(workspace, read, says):
    with pytest.raises(T2TError) as caught:
        read(workspace)
    assert says in str(caught.value)


def test_a_missing_registry_tells_where_to_run(tmp_path):
    workspace = Workspace.find(tmp_path / "none", tmp_path, tmp_path)
    with pytest.raises(T2TError, match=r"none: no registry here\. Run t2t where `registry/` is, or set T2T_REGISTRY"):
        teacher_entry(workspace, "appearance")


@pytest.mark.parametrize(
    ("entry", "text", "read", "key"),
    [
        ("datasets/tiny", "name: other\nroot: tiny\n", lambda w: dataset_config(w, "tiny"), "name"),
        ("teachers/t", "id: other\nkind: labels\npath: a.csv\n", lambda w: teacher_entry(w, "t"), "id"),
        (
            "campaigns/c",
            "name: other\ndataset: tiny\nencoder: {kind: pixels}\n",
            lambda w: campaign_config(w, "c"),
            "name",
        ),
    ],
)
def test_a_name_inside_must_be_the_files_name(workspace, tmp_path, entry, text, read, key):
    write(tmp_path, entry, text)
    with pytest.raises(T2TError) as caught:
        read(workspace)
    name = entry.split("/")[1]
    assert f"{entry}.yaml: {key!r} is 'other' but the file is named {name!r}" in str(caught.value)


def test_without_a_name_inside_the_files_name_counts(workspace):
    assert dataset_config(workspace, "tiny").name == "tiny"
    assert teacher_entry(workspace, "appearance").id == "appearance"
    assert campaign_config(workspace, "tiny").name == "tiny"


# -- entries ---------------------------------------------------------------------------------------------------------


def test_data_stands_for_the_datasets_root(workspace, tmp_path):
    assert teacher_entry(workspace, "appearance", tmp_path / "root").path == f"{tmp_path}/root/a.csv"
    assert teacher_entry(workspace, "appearance").path == "${data}/a.csv"


@pytest.mark.parametrize(
    ("entry", "text", "read", "says"),
    [
        (
            "datasets/d",
            "root: d\nsample: s.csv\n",
            lambda w: dataset_config(w, "d"),
            "unknown key 'sample'. Did you mean 'samples'?",
        ),
        (
            "datasets/d",
            "root: d\nunseen: {fractoin: 0.1}\n",
            lambda w: dataset_config(w, "d"),
            "unknown key 'unseen.fractoin'. Did you mean 'fraction'?",
        ),
        (
            "teachers/t",
            "kind: labels\npth: a.csv\n",
            lambda w: teacher_entry(w, "t"),
            "unknown key 'pth'. Did you mean 'path'?",
        ),
        ("teachers/t", "kind: labels\n", lambda w: teacher_entry(w, "t"), "key 'path' is missing"),
        (
            "teachers/t",
            "path: a.csv\n",
            lambda w: teacher_entry(w, "t"),
            "key 'kind' is missing. Known: altered, annotations, ",
        ),
        (
            "teachers/t",
            "kind: lables\npath: a.csv\n",
            lambda w: teacher_entry(w, "t"),
            "unknown kind 'lables'. Did you mean 'labels'?",
        ),
        ("teachers/human", "kind: labels\npath: a.csv\n", lambda w: teacher_entry(w, "human"), "'human' is reserved"),
        ("teachers/a b", "kind: labels\npath: a.csv\n", lambda w: teacher_entry(w, "a b"), "key 'id'"),
        (
            "teachers/t",
            "kind: labels\npath: ${T2T_TEST_UNSET}/a.csv\n",
            lambda w: teacher_entry(w, "t"),
            "${T2T_TEST_UNSET} is not set",
        ),
        (
            "campaigns/c",
            "dataset: tiny\nencoder: {kind: pixels}\ntraining: {stps: 3}\n",
            lambda w: campaign_config(w, "c"),
            "unknown key 'training.stps'. Did you mean 'steps'?",
        ),
        (
            "campaigns/c",
            "dataset: tiny\nencoder: {kind: pixels, gird: 2}\n",
            lambda w: campaign_config(w, "c"),
            "Did you mean 'grid'?",
        ),
        (
            "campaigns/c",
            "dataset: tiny\nencoder: {kind: pixels}\nteachers: [a, a]\n",
            lambda w: campaign_config(w, "c"),
            "named twice: a",
        ),
        ("campaigns/c", "a: [\n", lambda w: campaign_config(w, "c"), "not readable as YAML"),
    ],
)
def test_bad_entries_are_refused_by_file_and_key(workspace, tmp_path, entry, text, read, says):
    write(tmp_path, entry, text)
    with pytest.raises(T2TError) as caught:
        read(workspace)
    assert str(tmp_path / "registry" / f"{entry}.yaml") in str(caught.value)
    assert says in str(caught.value)
