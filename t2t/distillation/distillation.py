"""A distillation's facts: configuration, folder, notes, lake, frames, teachers, student. It knows no step."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import timm
from safetensors.torch import load_file

from t2t.campaign.entries import open_dataset
from t2t.campaign.find import distillation_folder
from t2t.core.errors import T2TError, nearest
from t2t.core.files import sha256_file
from t2t.core.host import find_device
from t2t.core.locks import Exclusive
from t2t.core.workspace import Workspace
from t2t.data.dataset import Dataset
from t2t.data.embeddings.distilled import Network, TeacherEncoder, place_of
from t2t.data.embeddings.frames import FrameSettings, FrameSource, decode_frames
from t2t.distillation.cache import keep_features
from t2t.distillation.config import DistillationConfig, TimmTeacherConfig
from t2t.distillation.evaluation.task import Task, task_of
from t2t.distillation.loop import Report, distill
from t2t.distillation.parts import FeatureTeacher, Kept, Views
from t2t.distillation.record import Notes, TrainedEncoder
from t2t.distillation.save import save_encoder
from t2t.distillation.schedule import refuse_unfit
from t2t.distillation.student import EncoderStudent
from t2t.distillation.teachers import build_teachers
from t2t.distillation.views import build_views
from t2t.distillation.workers import together
from t2t.lake import Lake, open_lake


class Distillation:
    """One distillation.

    Attributes:
        folder: its own in the work folder. notes: what is done. place: the folder of the encoder that comes of it.
        lock: held by the process that works on it.
    """

    def __init__(self, config: DistillationConfig, workspace: Workspace, device: str | None = None):
        self.config, self.workspace = config, workspace
        self.folder = distillation_folder(workspace, config.name)
        self.notes = Notes(self.folder)
        self.place: Path = place_of(workspace.work, config.name)
        self.lock = Exclusive(self.folder / "run.lock", f"Distillation {config.name!r}")
        self._device = device

    @property
    def name(self) -> str:
        return self.config.name

    @cached_property
    def device(self) -> str:
        """The torch device that it is trained on."""
        return self._device or find_device()

    @cached_property
    def lake(self) -> Lake:
        return open_lake(self.config.lake, self.workspace.work)

    # -- what is looked at ---------------------------------------------------------------------------------------

    @cached_property
    def datasets(self) -> list[Dataset]:
        """Those that are looked at; no label of theirs is read."""
        return [open_dataset(self.workspace, name) for name in self.config.datasets]

    @cached_property
    def labeled(self) -> list[Dataset]:
        """Those that the encoder is measured on."""
        return [open_dataset(self.workspace, name) for name in self.config.evaluation.datasets]

    @cached_property
    def measured_on(self) -> list[tuple[Task, FrameSource]]:
        """Of each dataset that the encoder is measured on, what people say and the frames, decoded once."""
        found = []
        for dataset in self.labeled:
            table = dataset.samples, dataset.config.max_unreadable
            source = decode_frames([table], self.workspace.work, self.taken, unique=False)
            found.append((task_of(dataset, readable=set(source.sample_ids)), source))
        return found

    @property
    def taken(self) -> FrameSettings:
        """Which frames of a sample are looked at, and how large."""
        return FrameSettings(self.config.frames.per_sample, self.config.frames.size)

    @cached_property
    def source(self) -> FrameSource:
        """The frames, decoded once."""
        tables = []
        for dataset in self.datasets:
            splits = self.config.splits or tuple({*dataset.samples["split"].to_pylist()} - {"test"})
            tables.append((dataset.split(*splits), dataset.config.max_unreadable))
        return decode_frames(tables, self.workspace.work, self.taken, self.config.frames.most)

    @cached_property
    def views(self) -> Views:
        return build_views(self.config, self.device)

    # -- who is learned from, and who learns ----------------------------------------------------------------------

    def check_models(self) -> None:
        """Raises T2TError for a model that timm does not have, a student that cannot be trained so, and datasets to
        measure on whose labels are not enough: before any frame is decoded and any teacher opened."""
        models = {
            f"teacher {one.name!r}": one.model for one in self.config.teachers if isinstance(one, TimmTeacherConfig)
        }
        for whose, model in {**models, "student": self.config.student.model}.items():
            if not timm.is_model(model) and not set(":/") & set(model):
                raise T2TError(f"{whose}: timm has no model {model!r}.{nearest(model, timm.list_models())}")
        refuse_unfit(EncoderStudent(self.config.student, self.config.training.seed), self.config)
        for dataset in self.labeled:
            task_of(dataset)

    @cached_property
    def teachers(self) -> list[FeatureTeacher]:
        return build_teachers(self.config.teachers, self.device)

    @property
    def teacher_records(self) -> tuple[TeacherEncoder, ...]:
        """Whom it learns from, as its lineage names them."""
        return tuple(
            TeacherEncoder(
                name=teacher.name,
                kind=config.kind,
                model=config.model,
                fingerprint=teacher.fingerprint,
                weights=sha256_file(config.weights)
                if isinstance(config, TimmTeacherConfig) and config.weights
                else None,
            )
            for teacher, config in zip(self.teachers, self.config.teachers, strict=True)
        )

    @property
    def student(self) -> EncoderStudent:
        """The student as it begins: a new one each time, for a training that stopped has changed the one it had."""
        return EncoderStudent(self.config.student, self.config.training.seed).to(self.device)

    @cached_property
    def trained_student(self) -> EncoderStudent:
        """The student as its training left it."""
        student = EncoderStudent(self.config.student, self.config.training.seed)
        student.model.load_state_dict(load_file(self.notes.weights), strict=True)
        return student.to(self.device).eval()

    def train(self, report: Report) -> TrainedEncoder:
        """Trains the student and writes its weights (`notes.weights`); returns the note of it."""
        student, teachers, title = self.student, self.teachers, f"Distillation {self.name}"
        kept = self._kept()  # once, and not by every worker
        place = self.workspace.work, self.notes.snapshot
        with together(title, self.config, self.source, *place, self.device) as group:
            made = distill(
                student,
                teachers,
                self.source,
                self.views,
                self.config,
                kept,
                title,
                report,
                self.notes.snapshot,
                group,
            )
        save_encoder(student, self.notes.weights)
        facts = student.encoder(str(self.notes.weights)).model_dump()
        network = {key: facts[key] for key in ("model", "model_kwargs", "size", "crop", "interpolation", "mean", "std")}
        return TrainedEncoder(
            network=Network(**network, dim=student.dim, weights=sha256_file(self.notes.weights)),
            steps=made.steps,
            curve=tuple(made.curve),
            frames_per_second=made.steps * self.config.training.batch / max(made.seconds, 1e-9),
            seconds=made.seconds,
        )

    def _kept(self) -> Mapping[str, Kept]:
        """Teachers' features of all frames, where nothing is drawn: computed once."""
        if self.config.augment != "none":
            return {}
        return keep_features(self.teachers, self.source, self.workspace.work, self.config.loss.patches)
