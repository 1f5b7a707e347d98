"""A dataset of images and videos: who labels what of it, and a student that learns from stills, asked of clips."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from t2t.campaign.entries import open_dataset, teacher_entry
from t2t.commands.predict import predict
from t2t.commands.search import search, write_page
from t2t.commands.tag import tag
from t2t.core.config import parse
from t2t.core.errors import T2TError
from t2t.core.files import sha256
from t2t.core.workspace import Workspace
from t2t.data.labels import HUMAN
from t2t.teachers import parse_entry
from t2t.teachers.base import TeacherEntry, entry_fingerprint
from t2t.teachers.store import read_labels
from tests.helpers.campaigns import run, tiny_at
from tests.helpers.cli import invoke
from tests.helpers.worlds import CAMPAIGN, ROOT

TEACHERS = ["colour-expert-mixed", "shape-expert-mixed"]


def script() -> ModuleType:
    """docs/images/mixed.py, which makes the dataset that docs/images.md shows."""
    spec = importlib.util.spec_from_file_location("mixed", ROOT / "docs" / "images" / "mixed.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def place(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The tiny world's mixed dataset, and the campaign `mixed` on it, finished after two rounds."""
    folder = tmp_path_factory.mktemp("mixed")
    shutil.copytree(world / "registry", folder / "registry")
    (folder / "registry" / "campaigns" / "demo.yaml").write_text(f"name: demo{CAMPAIGN}")
    (folder / "data").mkdir()
    script().make(world / "data" / "demo", folder / "data" / "mixed", folder / "registry")
    place = Workspace.find(folder / "registry", folder / "data", folder / "work")
    records = run(tiny_at(place, name="mixed", dataset="mixed", teachers=TEACHERS))
    assert [record.status for record in records] == ["passed", "passed"]
    return place


@pytest.fixture
def modality(place: Workspace) -> dict[str, str]:
    samples = open_dataset(place, "mixed").samples
    return dict(zip(samples["sample_id"].to_pylist(), samples["modality"].to_pylist(), strict=True))


def test_an_image_teacher_labels_images_only_and_the_student_all(place: Workspace, modality: dict[str, str]):
    campaign = tiny_at(place, name="mixed", dataset="mixed", teachers=TEACHERS)
    dataset = campaign.dataset
    for teacher in TEACHERS:
        labeled = set(read_labels(campaign.lake, "main", "mixed", teacher)["sample_id"].to_pylist())
        assert labeled == {name for name, kind in modality.items() if kind == "image"}
    own = read_labels(campaign.lake, "main", "mixed", campaign.config.self_teacher(0))
    assert set(own["sample_id"].to_pylist()) == set(dataset.sample_ids("unlabeled"))
    assert {modality[name] for name in dataset.sample_ids("unlabeled")} == {"image", "video"}
    assert {modality[name] for name in dataset.sample_ids("train")} == {"image"}
    assert {modality[name] for name in dataset.sample_ids("validation", "test")} == {"video"}
    rows = pd.read_csv(campaign.files(0).health).set_index("teacher")["rows"]
    assert rows[HUMAN] > 0
    for record in campaign.ledger.records():
        assert np.isfinite(record.test["pr_auc"])
    frames = campaign.embedded.embeddings.gather(np.arange(len(modality)))[1].sum(axis=1)
    kinds = [modality[name] for name in campaign.embedded.sample_ids]
    assert {kind: set(frames[np.array(kinds) == kind].tolist()) for kind in set(kinds)} == {"image": {1}, "video": {4}}


def test_every_way_to_ask_a_champion_takes_both(place: Workspace, modality: dict[str, str], tmp_path: Path):
    samples = open_dataset(place, "mixed").samples.to_pandas()
    files = [samples[samples["modality"] == kind]["path"].iloc[0] for kind in ("image", "video")]
    found = predict("mixed", files, ["red circle"], workspace=place)
    assert len(found.table) == 2
    assert not found.unreadable
    tags = tag("mixed", "mixed", tmp_path / "tags.csv", top=1, workspace=place)
    assert tags.samples == len(modality)
    assert not len(tags.unreadable)
    shown = search("mixed", "red circle", top=len(modality), workspace=place)
    assert {modality[name] for name in shown.table["sample_id"]} == {"image", "video"}
    page = write_page(shown, tmp_path / "found.html").read_text()
    assert page.count("data:image/jpeg") == len(modality)
    place_words = ("--registry", place.registry, "--data-root", place.data, "--work", place.work)
    asked = invoke(*place_words, "annotate", "mixed", "--n", 60, "--out", tmp_path / "batch")
    assert asked.exit_code == 0, asked.output
    names = {path.name for path in (tmp_path / "batch").glob("label-studio-*")}
    assert names == {f"label-studio-{kind}.{end}" for kind in ("image", "video") for end in ("json", "xml")}
    assert '<Image name="clip" value="$image"/>' in (tmp_path / "batch" / "label-studio-image.xml").read_text()
    tasks = json.loads((tmp_path / "batch" / "label-studio-image.json").read_text())
    assert {modality[task["data"]["sample_id"]] for task in tasks} == {"image"}


@pytest.mark.parametrize(
    "words",
    [
        ("data", "check", "mixed"),
        ("plan", "mixed"),
        ("teachers", "check", *TEACHERS),
        ("teachers", "health", "mixed"),
        ("report", "mixed", "--no-leave-one-out"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_every_command_takes_both(place: Workspace, words: tuple[str, ...]):
    result = invoke("--registry", place.registry, "--data-root", place.data, "--work", place.work, *words)
    assert result.exit_code == 0, result.output


def test_a_plan_counts_what_an_image_teacher_is_asked(place: Workspace, modality: dict[str, str], tmp_path: Path):
    result = invoke(
        *("--registry", place.registry, "--data-root", place.data, "--work", tmp_path / "work"),
        *("plan", "mixed", "--json", "--no-probe"),
    )
    assert result.exit_code == 0, result.output
    images = sum(kind == "image" for kind in modality.values())
    assert f'"total": {images * 20}' in result.output


def test_the_key_is_in_the_fingerprint_only_where_it_is_given(place: Workspace):
    content = {"id": "x", "kind": "labels", "path": "labels.csv"}
    plain, same = parse_entry(content, "x"), parse_entry({**content, "modalities": None}, "x")
    images = parse_entry({**content, "modalities": ["image"]}, "x")
    assert "modalities" not in plain.model_dump()
    assert entry_fingerprint(plain) == entry_fingerprint(same)
    # As versions before there was such a key computed it.
    before = {name: value for name, value in plain.model_dump(mode="json").items() if name != "description"}
    assert entry_fingerprint(plain) == sha256(json.dumps(before, sort_keys=True))
    assert entry_fingerprint(images) != entry_fingerprint(plain)
    assert teacher_entry(place, TEACHERS[0]).modalities == ("image",)


def test_a_teacher_of_what_the_dataset_has_not_is_refused(place: Workspace, world: Path, tmp_path: Path):
    registry = tmp_path / "registry"
    shutil.copytree(world / "registry", registry)
    entry = registry / "teachers" / "colour-expert.yaml"
    entry.write_text(entry.read_text() + "modalities: [image]\n")
    far = Workspace.find(registry, world / "data", tmp_path / "work")
    with pytest.raises(T2TError, match="it labels image only"):
        run(tiny_at(far, teachers=["colour-expert"]))


@pytest.mark.parametrize("given", [[], ["pictures"], "image"])
def test_other_modalities_are_refused(given: Any):
    with pytest.raises(T2TError, match="modalities"):
        parse(TeacherEntry, {"id": "x", "kind": "y", "modalities": given}, "x")
