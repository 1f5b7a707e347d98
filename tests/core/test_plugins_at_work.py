"""A campaign whose frame encoder, student, engine and teacher are an installed package's; and a baseline that is."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from t2t.campaign.campaign import Campaign
from t2t.campaign.config import CampaignConfig
from t2t.campaign.steps.rows import as_trained
from t2t.core.config import parse
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.students.checkpoint import load, read_encoder
from tests.helpers.campaigns import run_until
from tests.helpers.plugins import install
from tests.helpers.training import random_matrix
from tests.helpers.worlds import CAMPAIGN

POINTS = {
    "t2t.encoders": {"grey": "plugged_grey:Grey"},
    "t2t.students": {"sworn": "plugged_sworn"},
    "t2t.engines": {"noting": "plugged_noting:Noting"},
    "t2t.teachers": {"parrot": "plugged_parrot"},
    "t2t.baselines": {"people-only": "plugged_baseline:people_only"},
}
MODULES = {
    # Each frame as so many means of rows of pixels.
    "plugged_grey": """
        from typing import Literal

        import numpy as np

        from t2t.core.config import Config as Base
        from t2t.data.embeddings.encoders import encoder_fingerprint


        class Grey:
            class Config(Base):
                kind: Literal["grey"] = "grey"
                stripes: int

            crop, interpolation, frames, size, batch_size = "squash", "bilinear", 3, 16, 8

            def __init__(self, config, device):
                self.dim = config.stripes
                self.fingerprint = encoder_fingerprint(config.model_dump())

            def encode(self, frames):
                rows = frames.reshape(len(frames), self.dim, -1)
                return (rows.mean(axis=2) / 255).astype(np.float16)
    """,
    # The dual encoder, which keeps a word of its own in its checkpoint.
    "plugged_sworn": """
        from typing import Literal

        from t2t.students import dual_encoder
        from t2t.students.config import DualEncoderConfig


        class Config(DualEncoderConfig):
            kind: Literal["sworn"] = "sworn"
            word: str


        class Student(dual_encoder.Student):
            @property
            def saved(self):
                return {**super().saved, "word": self.config.word}


        def build(*arguments):
            student = dual_encoder.build(*arguments)
            student.__class__ = Student
            return student


        def restore(saved, tokenizer, config, where):
            assert saved["word"] == config.word
            student = dual_encoder.restore(saved, tokenizer, config, where)
            student.__class__ = Student
            return student
    """,
    "plugged_noting": """
        from t2t.campaign.engine import LocalEngine


        class Noting(LocalEngine):
            def __init__(self, device=None):
                super().__init__("cpu")
                self.asked = []

            def embed(self, samples, encoder, work, max_unreadable):
                self.asked.append(("embed", encoder.kind))
                return super().embed(samples, encoder, work, max_unreadable)

            def label(self, teacher, parts):
                self.asked.append(("label", teacher.entry.id, len(parts)))
                super().label(teacher, parts)

            def train(self, job, student, report):
                self.asked.append(("train", job.title))
                return super().train(job, student, report)
    """,
    # An expensive one, which the engine labels in parts.
    "plugged_parrot": """
        from typing import Literal

        import pyarrow as pa

        from t2t.data.labels import LABEL_SCHEMA
        from t2t.teachers.base import TeacherEntry, entry_fingerprint


        class Entry(TeacherEntry):
            kind: Literal["parrot"] = "parrot"
            says: tuple[float, float]


        class Teacher:
            shard_samples = 40

            def __init__(self, entry, context):
                self.entry = entry

            def fingerprint(self):
                return entry_fingerprint(self.entry)

            def label(self, samples, topics):
                ids = samples["sample_id"].to_pylist()
                rows = [(s, t, self.entry.id, self.entry.says[i % 2]) for s in ids for i, t in enumerate(topics)]
                yield pa.table([list(column) for column in zip(*rows, strict=True)], schema=LABEL_SCHEMA)
    """,
    # What people said, and nothing else.
    "plugged_baseline": """
        import numpy as np

        from t2t.training.matrix import LabelMatrix


        def people_only(matrix):
            keep = matrix.teacher == matrix.teachers.index("human")
            indptr = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr]
            rows = matrix.topic[keep], np.zeros(keep.sum(), np.int16), matrix.confidence[keep]
            return LabelMatrix(matrix.sample_ids, matrix.topics, ("human",), indptr, *rows)
    """,
}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", monkeypatch, POINTS, MODULES)


def campaign(world: Path, folder: Path) -> Campaign:
    """The campaign `tiny`, but with nothing of ours where a package can have its own."""
    shutil.copytree(world / "registry", folder / "registry")
    (folder / "registry" / "teachers" / "polly.yaml").write_text("kind: parrot\nsays: [0.25, 0.75]\n")
    tiny = yaml.safe_load(CAMPAIGN)
    content = {
        **tiny,
        "teachers": ["vendor", "polly"],
        "encoder": {"kind": "grey", "stripes": 8},
        "student": {**tiny["student"], "kind": "sworn", "word": "honest"},
        "engine": "noting",
        "training": {"steps": 4, "evaluate_every": 2},
        "evaluation": {"resamples": 10},
    }
    (folder / "registry" / "campaigns" / "plugged.yaml").write_text(yaml.safe_dump(content))
    return Campaign.open("plugged", Workspace.find(folder / "registry", world / "data", folder / "work"))


def test_a_campaign_uses_what_a_package_brings(installed: None, world: Path, tmp_path: Path) -> None:
    own = campaign(world, tmp_path)
    scores = run_until(own, "round 0: evaluate")
    assert 0 <= scores.validation["pr_auc"] <= 1
    # The engine did the work, and it is the package's.
    assert type(own.engine).__module__ == "plugged_noting"
    assert own.engine.asked == [("embed", "grey"), ("label", "polly", 2), ("train", "Round 0: training")]  # type: ignore[attr-defined]
    # The encoder's numbers were trained on.
    assert own.embedded.embeddings.dim == 8
    assert own.embedded.encoder == sys.modules["plugged_grey"].Grey(own.config.encoder, "cpu").fingerprint
    # The student learned the teacher as one of its identities, and is restored by its own kind.
    student = load(own.files(0).student)
    assert type(student).__module__ == "plugged_sworn"
    assert student.teachers == ["human", "vendor", "polly"]
    assert (student.input_dim, student.config.word) == (8, "honest")
    assert json.loads((own.files(0).student / "config.json").read_text())["word"] == "honest"
    assert read_encoder(own.files(0).student) == own.config.encoder
    # What it was frozen with is whole.
    with own.lake.read("main", own.layout.config) as file:
        frozen = json.load(file)
    assert frozen["encoder"] == {"kind": "grey", "stripes": 8}
    assert frozen["student"]["word"] == "honest"
    assert parse(CampaignConfig, frozen, "frozen") == own.config
    # The same start again finds nothing changed; another word is another campaign.
    again = Campaign.open("plugged", own.workspace)
    run_until(again, "prepare")
    changed = Campaign.open("plugged", own.workspace, settings=["student.word=sly"])
    with pytest.raises(T2TError, match="changed since: student"):
        run_until(changed, "prepare")


def test_a_packages_baseline_is_trained_on(installed: None) -> None:
    content = {"name": "b", "dataset": "demo", "encoder": {"kind": "pixels"}, "rounds": {"max": 1}}
    config = parse(CampaignConfig, {**content, "method": "people-only"}, "b.yaml")
    matrix = random_matrix()
    trained = as_trained(matrix, config.method)
    assert trained.teachers == ("human",)
    people = matrix.teacher == matrix.teachers.index("human")
    assert trained.confidence.tolist() == matrix.confidence[people].tolist()
    assert 0 < trained.rows < matrix.rows
    assert trained.indptr[-1] == trained.rows
    assert as_trained(matrix, "teacher2task") is matrix
    with pytest.raises(T2TError, match=r"b\.yaml: method: 'people-onli' is none of .*, people-only, "):
        parse(CampaignConfig, {**content, "method": "people-onli"}, "b.yaml")
    with pytest.raises(T2TError, match="'people-only' has one identity only"):
        parse(CampaignConfig, {**content, "method": "people-only", "rounds": {"max": 2}}, "b.yaml")
