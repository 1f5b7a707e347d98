"""A campaign's rounds: train, evaluate, gate, register as a teacher, tag, publish (DESIGN, sections 2 and 6).

Each step leaves one artifact, written atomically, and looks for it first; the ledger entry in the lake comes last and
is the only truth about what is done. Nothing here knows of Prefect or MLflow: a `Tracker` is told what happened.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from matplotlib.figure import Figure

from t2t import figures
from t2t.campaign import NEWEST, CampaignConfig
from t2t.dataset import HUMAN, Dataset
from t2t.errors import T2TError
from t2t.evaluation import (
    Evaluation,
    Pairs,
    average_precision,
    curve,
    evaluate,
    human_pairs,
    pairs_of,
    teacher_scores,
)
from t2t.files import atomic_folder, sha256_file
from t2t.gate import judge
from t2t.labels import LabelMatrix, build_matrix, conventional_average
from t2t.lake import Lake, open_lake
from t2t.lake.tables import read_table, write_parquet
from t2t.ledger import Ledger, Record, TeacherRef, champion, rounds_table, stop_reason
from t2t.media import Embedded, embed_samples
from t2t.registration import commit_data, freeze_campaign, read_labels, register, registered, teacher_prefix
from t2t.registry import Workspace
from t2t.students.checkpoint import save, start_from
from t2t.students.dual_encoder import Student, build_student
from t2t.tagging import TaggingConfig
from t2t.teachers import Teacher, TeacherContext, build
from t2t.teachers.annotations import Entry as HumanEntry
from t2t.teachers.student import Entry as StudentEntry
from t2t.teachers.student import Parent
from t2t.tracking import DataInput
from t2t.training import train

log = logging.getLogger("t2t")


class Tracker(Protocol):
    """Where people watch rounds; `t2t.tracking.MLflowTracker` is the one for MLflow. Every call may be repeated."""

    def open(self, params: dict[str, Any], tags: dict[str, str]) -> str: ...
    def start_round(self, k: int, params: dict[str, Any], tags: dict[str, str]) -> str: ...
    def log_inputs(self, k: int, inputs: Sequence[DataInput]) -> None: ...
    def log_curve(self, k: int, points: Sequence[tuple[int, Mapping[str, float]]]) -> None: ...
    def log_round(
        self, k: int, metrics: dict[str, float], figures: dict[str, Figure], tables: dict[str, pd.DataFrame]
    ) -> None: ...
    def log_checkpoint(self, k: int, folder: Path, metrics: Mapping[str, float], tags: Mapping[str, str]) -> str: ...
    def champion(self, k: int) -> None: ...
    def finish_round(self, k: int, status: str, tags: dict[str, str]) -> None: ...
    def finish(self, status: str) -> None: ...


class Rounds:
    """One campaign at work. Every method can be repeated: what is done is found, not done again.

    Args:
        tracker: told of every round; None keeps the results in the lake only.
        device: torch device; chosen automatically when None.
    """

    def __init__(
        self, config: CampaignConfig, workspace: Workspace, tracker: Tracker | None = None, device: str | None = None
    ):
        self.config = config
        self.workspace = workspace
        self.tracker = tracker
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.folder = workspace.work / "campaigns" / config.name
        self.prefix = f"{config.dataset}/campaigns/{config.name}/"
        self._started = time.monotonic()

    @cached_property
    def dataset(self) -> Dataset:
        return self.workspace.dataset(self.config.dataset)

    @cached_property
    def lake(self) -> Lake:
        return open_lake(self.config.lake, self.workspace.work)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.lake, self.config.dataset, self.config.name)

    @cached_property
    def embedded(self) -> Embedded:
        """The embeddings of all readable samples; computed once, then read from the store."""
        return embed_samples(
            self.dataset.samples,
            self.config.encoder,
            self.workspace.work,
            self.device,
            self.dataset.config.max_unreadable,
        )

    @cached_property
    def context(self) -> TeacherContext:
        return TeacherContext(self.dataset, self.workspace.work, self.device)

    # -- before the rounds ---------------------------------------------------------------------------------------

    def teachers(self) -> list[Teacher]:
        """`human` and the campaign's other teachers, from the registry."""
        entries = [self.workspace.teacher(name, self.dataset.root) for name in self.config.teachers]
        return [build(entry, self.context) for entry in (HumanEntry(id=HUMAN), *entries)]

    def prepare(self) -> None:
        """Embeds the samples and brings data and teachers' labels into the lake; refuses what cannot be trusted.

        The configuration is frozen with the first round: later ones are compared with it, so it may not change.
        """
        teachers = self.teachers()
        for split in ("validation", "test"):
            if not human_pairs(self.dataset.human, self._ids(split), self.dataset.topics).positive.any():
                raise T2TError(
                    f"Dataset {self.dataset.name}: no (sample, topic) pair of split {split!r} has a human relevance of "
                    f"0.5 or more, so PR-AUC cannot be measured. Annotate some."
                )
        freeze_campaign(self.lake, self.prefix, self.config)
        commit_data(self.lake, self.dataset, self.embedded.quarantine, self.workspace.work)
        readable = self._samples("train", "unlabeled", "validation", "test")
        for teacher in teachers:
            register(self.lake, "main", self.dataset, teacher, readable, self.dataset.topics, self.workspace.work)
        if self.tracker:
            parameters = flatten(self.config.model_dump(mode="json", exclude={"name", "description"}))
            self.tracker.open(parameters, {"t2t.dataset": self.config.dataset, "t2t.lake": self.lake.uri("main")})

    def next_round(self) -> int | None:
        """The first round that is not in the ledger, or None when the campaign has ended."""
        records = self.ledger.records()
        if stop_reason(records, self.config.rounds.max, self.config.rounds.patience):
            return None
        return len(records)

    # -- one round -----------------------------------------------------------------------------------------------

    def run_round(self, k: int) -> Record:
        """All steps of round k, one after the other."""
        self.train(k)
        self.evaluate(k)
        return self.publish(k)

    def train(self, k: int) -> None:
        """Builds the label matrix of round k and trains its student; leaves `round-<k>/student/`."""
        self._started = time.monotonic()
        commit = self._start_branch(k)
        teachers = self._round_teachers(k)
        if self.tracker:
            self.tracker.start_round(k, self._parameters(k, teachers), {"t2t.branch": self._branch(k)})
            self.tracker.log_inputs(k, self._inputs(commit, teachers))
        if (self._round(k) / "student").is_dir():
            log.info("Round %d: the student is trained already.", k)
            return
        labels = self._round(k) / "labels"
        if not labels.is_dir() or LabelMatrix.load(labels).teachers != self._identities(teachers):
            self._matrix(commit, teachers).save(labels)
        matrix = LabelMatrix.load(labels)
        counts = ", ".join(f"{name} {rows:,}" for name, rows in matrix.rows_by_teacher().items())
        log.info("Round %d: %s rows of %d tasks (%s)", k, f"{matrix.rows:,}", len(matrix.teachers), counts)
        student = self._new_student(k, matrix)
        pairs = human_pairs(self.dataset.human, self._ids("validation"), self.dataset.topics)
        where = self._positions(pairs.sample_ids)
        identity = self._identity(self.config.evaluation.identity, matrix.teachers)

        def validate(student: Student) -> float:
            scores = student.predict(self.embedded.embeddings, where, pairs.topics, identity)
            return average_precision(pairs.with_score(scores[pairs.sample, pairs.topic]))

        def report(step: int, metrics: dict[str, float]) -> None:
            if self.tracker:
                self.tracker.log_curve(k, [(step, metrics)])

        trained = train(
            student,
            matrix,
            self.embedded.embeddings.take(self._positions(matrix.sample_ids)),
            self.config.training,
            self._seed(k),
            validate,
            f"Round {k}: training",
            report,
        )
        facts = {
            "campaign": self.config.name,
            "round": k,
            "encoder": self.config.encoder.model_dump(mode="json"),
            "rows_by_teacher": matrix.rows_by_teacher(),
            "best_step": trained.best_step,
            "curve": trained.curve,
            "seconds": time.monotonic() - self._started,
        }
        save(student, self._round(k) / "student", facts)

    def evaluate(self, k: int) -> None:
        """Measures round k's student on validation and test; leaves `round-<k>/evaluation/`."""
        target = self._round(k) / "evaluation"
        if target.is_dir():
            return
        start = time.monotonic()
        student = Student.load(self._round(k) / "student", self.device)
        identity = self._identity(self.config.evaluation.identity, student.teachers)
        with atomic_folder(target) as folder:
            metrics: dict[str, Any] = {"identity": identity}
            for split in ("validation", "test"):
                evaluation = self.measure(student, split, identity)
                metrics[split] = evaluation.metrics()
                write_parquet(evaluation.pairs.table(), folder / f"{split}.parquet")
                evaluation.by_topic.to_csv(folder / f"{split}_topics.csv", index=False)
                evaluation.by_teacher.to_csv(folder / f"{split}_teachers.csv", index=False)
            metrics["seconds"] = time.monotonic() - start
            (folder / "metrics.json").write_text(json.dumps(metrics, indent=2))

    def publish(self, k: int) -> Record:
        """Gates round k; commits what it left; registers its student as a teacher when another round follows; tells
        the tracker; writes the ledger entry, last."""
        start = time.monotonic()
        records = self.ledger.records()
        if k < len(records):
            return records[k]
        folder = self._round(k)
        metrics = json.loads((folder / "evaluation" / "metrics.json").read_text())
        facts = json.loads((folder / "student" / "config.json").read_text())
        teachers = self._round_teachers(k)
        topics = self.dataset.topics
        best = champion(records)
        verdict = judge(
            self.config.gate,
            pairs_of(pq.read_table(folder / "evaluation" / "validation.parquet"), self._ids("validation"), topics),
            self.pairs(best, "validation") if best else None,
            self.config.evaluation.resamples,
        )
        branch = self._branch(k)
        about = {"campaign": self.config.name, "round": str(k), "status": "passed" if verdict.passed else "rejected"}
        commit = self.lake.commit(
            branch,
            {f"{self.prefix}round-{k:03}/{file.name}": file for file in sorted((folder / "evaluation").iterdir())},
            key=f"round:{self.prefix}{k}",
            message=f"Round {k} of {self.config.name}: {about['status']}, {verdict.reason}",
            metadata={**about, "pr_auc": f"{metrics['test']['pr_auc']:.6f}"},
        )
        record = Record(
            campaign=self.config.name,
            round=k,
            status="passed" if verdict.passed else "rejected",
            reason=verdict.reason,
            teachers=tuple(self._reference(teacher, commit) for teacher in teachers),
            identity=metrics["identity"],
            rows=sum(facts["rows_by_teacher"].values()),
            rows_by_teacher=facts["rows_by_teacher"],
            validation=metrics["validation"],
            test=metrics["test"],
            best_step=facts["best_step"],
            checkpoint=str((folder / "student").relative_to(self.workspace.work)),
            weights_sha256=sha256_file(folder / "student" / "model.safetensors"),
            run_id=self.tracker.start_round(k, self._parameters(k, teachers), {}) if self.tracker else None,
            branch=branch,
            commit=commit,
            self_teacher=None,
            seconds=0.0,
        )
        stop = stop_reason([*records, record], self.config.rounds.max, self.config.rounds.patience)
        if verdict.passed:
            self_teacher = None if stop else self._register_student(record, branch)
            commit = self.lake.merge(
                branch, "main", f"merge:{self.prefix}{k}", f"Merge round {k} of {self.config.name}", about
            )
            self.lake.tag(f"{self.config.name}/round-{k}", commit)
            record = record.model_copy(update={"self_teacher": self_teacher, "commit": commit})
        seconds = facts["seconds"] + metrics["seconds"] + time.monotonic() - start
        record = record.model_copy(update={"seconds": seconds, "stop": stop})
        self._track(record, records)
        self.ledger.append(record)
        return record

    # -- parts ---------------------------------------------------------------------------------------------------

    def _round(self, k: int) -> Path:
        return self.folder / f"round-{k:03}"

    def _branch(self, k: int) -> str:
        return f"{self.config.name}-round-{k}"

    def _seed(self, k: int) -> int:
        """Every round draws its own numbers, so that a rejected round is not tried again just as it was."""
        return self.config.seed * 1000 + k

    def _samples(self, *splits: str) -> pa.Table:
        """The readable samples of some splits, in file order."""
        table = self.dataset.split(*splits)
        return table.filter(pc.is_in(table["sample_id"], value_set=pa.array(self.embedded.sample_ids)))

    def _ids(self, *splits: str) -> list[str]:
        return self._samples(*splits)["sample_id"].to_pylist()

    def _positions(self, sample_ids: Sequence[str]) -> np.ndarray:
        return pd.Index(self.embedded.sample_ids).get_indexer(pd.Index(sample_ids))

    def _round_teachers(self, k: int) -> list[str]:
        """The identities that round k trains on: `human`, the campaign's teachers, retained self-training teachers."""
        earlier = [record for record in self.ledger.records()[:k] if record.status == "passed"]
        own = [self.config.self_teacher(record.round) for record in earlier]
        known = [teacher for teacher in own if registered(self.lake, self.config.dataset, teacher)]
        return [HUMAN, *self.config.teachers, *self.config.self_training.retained(known)]

    def _identity(self, wanted: str, teachers: Sequence[str]) -> str:
        """Resolves `newest` to the latest self-training teacher that a student knows, or `human` in the first round."""
        if wanted != NEWEST:
            return wanted
        own = [teacher for teacher in teachers if teacher.startswith(self.config.self_teacher(0)[:-1])]
        return own[-1] if own else HUMAN

    def _start_branch(self, k: int) -> str:
        """The round's branch. A campaign that is prolonged first makes its last student a teacher, which its last
        round had no reason to do."""
        records = self.ledger.records()
        previous = records[k - 1] if 0 < k <= len(records) else None
        if previous is not None and previous.status == "passed":
            teacher = self.config.self_teacher(previous.round)
            if not registered(self.lake, self.config.dataset, teacher):
                self._register_student(previous, previous.branch)
                about = {"campaign": self.config.name, "round": str(previous.round), "teacher": teacher}
                self.lake.merge(previous.branch, "main", f"merge:{self.prefix}{teacher}", f"Merge {teacher}", about)
        return self.lake.branch(self._branch(k), "main")

    def _matrix(self, commit: str, teachers: Sequence[str]) -> LabelMatrix:
        """The training rows of a round: human labels of `train`, teachers' labels of `train` and `unlabeled`."""
        dataset = self.dataset
        tables = [read_labels(self.lake, commit, dataset.name, teacher) for teacher in teachers]
        if self.config.teachers_see_unseen:
            seen = pa.array(dataset.seen)
            tables[0] = tables[0].filter(pc.is_in(tables[0]["topic"], value_set=seen))
        # Human labels of the unlabeled split would be an accident of the annotation tool: that split has none.
        tables[0] = tables[0].filter(pc.is_in(tables[0]["sample_id"], value_set=pa.array(self._ids("train"))))
        topics = dataset.topics if self.config.teachers_see_unseen else dataset.seen
        if self.config.method == "conventional-average":
            tables = [conventional_average(tables)]
        return build_matrix(tables, self._ids("train", "unlabeled"), topics, self._identities(teachers))

    def _identities(self, teachers: Sequence[str]) -> tuple[str, ...]:
        """The tasks that teachers' labels make: one each, or a single one where they are averaged."""
        return (HUMAN,) if self.config.method == "conventional-average" else tuple(teachers)

    def _new_student(self, k: int, matrix: LabelMatrix) -> Student:
        student = build_student(
            self.config.student,
            self.embedded.embeddings.dim,
            self.dataset.topics,
            matrix.teachers,
            self._seed(k),
            prior=float(matrix.confidence.mean()),
        )
        if k and self.config.training.initialise == "previous":
            start_from(student, Student.load(self._round(k - 1) / "student"))
        else:
            student.frontend.fit(self.embedded.embeddings, self._positions(matrix.sample_ids))
        return student.to(self.device)

    def measure(self, student: Student, split: str, identity: str) -> Evaluation:
        pairs = human_pairs(self.dataset.human, self._ids(split), self.dataset.topics)
        scores = student.predict(self.embedded.embeddings, self._positions(pairs.sample_ids), pairs.topics, identity)
        head = self.lake.resolve("main")
        teachers = {
            name: teacher_scores(pairs, read_labels(self.lake, head, self.dataset.name, name))
            for name in self.config.teachers
        }
        return evaluate(
            pairs.with_score(scores[pairs.sample, pairs.topic]),
            self.dataset.unseen,
            teachers,
            self.config.evaluation.resamples,
        )

    def _register_student(self, record: Record, branch: str) -> str:
        """Makes a passed round's student a teacher: entry and labels of the unlabeled videos in one commit."""
        settings = self.config.self_training
        known = [teacher.id for teacher in record.teachers]
        tagging = TaggingConfig(
            **{**settings.model_dump(exclude={"retention"}), "identity": self._identity(settings.identity, known)}
        )
        entry = StudentEntry(
            id=self.config.self_teacher(record.round),
            description=f"Student of round {record.round} of campaign {record.campaign}.",
            campaign=record.campaign,
            round=record.round,
            checkpoint=record.checkpoint,
            weights_sha256=record.weights_sha256,
            tagging=tagging,
            seed=self._seed(record.round),
            parents=tuple(Parent(id=teacher.id, fingerprint=teacher.fingerprint) for teacher in record.teachers),
        )
        about = {"campaign": record.campaign, "round": str(record.round)}
        samples = self._samples("unlabeled")
        teacher = build(entry, self.context)
        register(self.lake, branch, self.dataset, teacher, samples, self.dataset.seen, self.workspace.work, about)
        return entry.id

    def _reference(self, teacher: str, commit: str) -> TeacherRef:
        known = registered(self.lake, self.config.dataset, teacher, commit)
        if known is None:
            raise T2TError(f"Teacher {teacher!r} is not in the lake at {commit}.")
        return TeacherRef(id=teacher, fingerprint=known["fingerprint"])

    def pairs(self, record: Record, split: str) -> Pairs:
        """The scored pairs that a round left in the lake, for `validation` or `test`."""
        table = read_table(self.lake, record.commit, f"{self.prefix}round-{record.round:03}/{split}.parquet")
        return pairs_of(table, self._ids(split), self.dataset.topics)

    # -- what people watch ---------------------------------------------------------------------------------------

    def _parameters(self, k: int, teachers: Sequence[str]) -> dict[str, Any]:
        own = {"round": k, "seed": self._seed(k), "teachers": ",".join(teachers), "tasks": len(teachers)}
        settings = self.config.model_dump(mode="json", include={"method", "encoder", "student", "training"})
        return own | flatten(settings)

    def _inputs(self, commit: str, teachers: Sequence[str]) -> list[DataInput]:
        inputs = [DataInput("data", self.lake.uri(commit, f"{self.dataset.name}/data"), commit[:12], "data")]
        for teacher in teachers:
            path = f"{teacher_prefix(self.dataset.name, teacher)}labels.parquet"
            inputs.append(DataInput(teacher, self.lake.uri(commit, path), commit[:12], "training"))
        return inputs

    def _track(self, record: Record, earlier: list[Record]) -> None:
        if self.tracker is None:
            return
        k = record.round
        folder = self._round(k) / "evaluation"
        metrics = dict(record.test)
        metrics |= {f"validation_{name}": value for name, value in record.validation.items() if "/" not in name}
        metrics |= {"rows": record.rows, "seconds": record.seconds, "best_step": record.best_step}
        metrics |= {f"rows/{name}": rows for name, rows in record.rows_by_teacher.items()}
        everything = [*earlier, record]
        best = champion(everything)
        tables = {
            "topics": pd.read_csv(folder / "test_topics.csv"),
            "teachers": pd.read_csv(folder / "test_teachers.csv"),
            "rounds": rounds_table(everything),
        }
        pictures = {"pr_curves": self._picture(record), "rounds": figures.rounds(tables["rounds"])}
        self.tracker.log_round(k, metrics, pictures, tables)
        checkpoint = self.workspace.work / record.checkpoint
        self.tracker.log_checkpoint(k, checkpoint, {"pr_auc": record.test["pr_auc"]}, {"t2t.commit": record.commit})
        if best is not None:
            self.tracker.champion(best.round)
        tags = {"t2t.status": record.status, "t2t.reason": record.reason, "t2t.commit": record.commit}
        self.tracker.finish_round(k, "FINISHED", tags)
        if record.stop:
            self.tracker.finish("FINISHED")

    def _picture(self, record: Record) -> Figure:
        """The student's PR curve on test against each teacher's own (paper, figure 5)."""
        pairs = self.pairs(record, "test")
        curves = {f"student, asked as {record.identity}": curve(pairs)}
        for name in self.config.teachers:
            scores = teacher_scores(pairs, read_labels(self.lake, record.commit, self.dataset.name, name))
            covered = ~np.isnan(scores)
            if covered.any():
                part = pairs.where(covered).with_score(scores[covered])
                share = "" if covered.all() else f" ({covered.mean():.0%} of pairs)"
                curves[name + share] = curve(part)
        title = f"{self.config.name}, round {record.round}: {len(pairs.sample_ids)} test samples"
        return figures.pr_curves(curves, title, chance=float(pairs.positive.mean()))


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys, for parameters that people compare."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
    return flat
