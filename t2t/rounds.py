"""A campaign's rounds: train, evaluate, gate, register as a teacher, tag, publish (DESIGN, sections 2 and 6).

Each step leaves one artifact, written atomically, and looks for it first; the ledger entry in the lake comes last and
is the only truth about what is done. Nothing here knows of Prefect or MLflow: a `Tracker` is told what happened.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from t2t.beginning import Beginning, begin, begun
from t2t.campaign import CampaignConfig
from t2t.cluster.group import ALONE, Group
from t2t.cluster.workers import fit_by_workers
from t2t.coding import codes, positions, strings
from t2t.dataset import HUMAN, Dataset
from t2t.decision import ask, read_decision, waiting
from t2t.environment import find_device
from t2t.errors import T2TError, one_line
from t2t.evaluation import (
    Evaluation,
    Pairs,
    average_precision,
    evaluate,
    human_pairs,
    pairs_of,
    teacher_scores,
)
from t2t.files import atomic_folder, exclusive, remove_folder, remove_leftovers, sha256, sha256_file, write_text
from t2t.gate import Verdict, WaitingForDecision, judge
from t2t.labeling import Asked
from t2t.labels import LabelMatrix
from t2t.lake import Lake, open_lake
from t2t.lake.known import check_lake, remember_lake
from t2t.lake.tables import read_table, write_parquet
from t2t.ledger import Ledger, Record, champion, stop_reason
from t2t.media import Embedded, embed_samples
from t2t.promotion import promote
from t2t.registration import (
    asked,
    commit_data,
    freeze_campaign,
    read_labels,
    register,
    registered,
)
from t2t.registry import Workspace
from t2t.reporting import Reporter, Tracker
from t2t.roster import Roster, refuse_retracted
from t2t.rows import round_matrix
from t2t.students.checkpoint import load_checked, save, start_from
from t2t.students.dual_encoder import Student, build_student
from t2t.teachers import Teacher, TeacherContext, build, parse_entry
from t2t.teachers.annotations import Entry as HumanEntry
from t2t.training import Trained, train
from t2t.watch import self_share

log = logging.getLogger("t2t")
VERDICT = "verdict.json"


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
        self.report = Reporter(self, tracker)
        self.device = device or find_device()
        self.folder = workspace.work / "campaigns" / config.name
        self.prefix = f"{config.dataset}/campaigns/{config.name}/"
        self._started = time.monotonic()

    @cached_property
    def dataset(self) -> Dataset:
        return self.workspace.dataset(self.config.dataset)

    @cached_property
    def lake(self) -> Lake:
        check_lake(self.folder, self.config.lake)
        return open_lake(self.config.lake, self.workspace.work)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.lake, self.config.dataset, self.config.name)

    @cached_property
    def roster(self) -> Roster:
        return Roster(self.config, self.ledger)

    @cached_property
    def embedded(self) -> Embedded:
        """The embeddings of all readable samples; computed once, then read from the store."""
        return embed_samples(
            self.dataset.samples,
            self.config.encoder,
            self.workspace.work,
            self.device,
            self.dataset.config.max_unreadable,
            engine=self.config.engine,
        )

    @cached_property
    def context(self) -> TeacherContext:
        return TeacherContext(self.dataset, self.workspace.work, self.device, self.config.engine)

    def lock(self) -> AbstractContextManager[None]:
        """Holds the campaign for this process; raises Busy, naming host and process, where another one runs it."""
        return exclusive(self.folder / "run.lock", f"Campaign {self.config.name!r}")

    # -- before the rounds ---------------------------------------------------------------------------------------

    def teachers(self) -> list[Teacher]:
        """`human` and the campaign's other teachers that are not retracted, from the registry."""
        names = self.roster.outside()
        entries = [self.workspace.teacher(name, self.dataset.root) for name in names]
        return [build(entry, self.context) for entry in (HumanEntry(id=HUMAN), *entries)]

    def prepare(self) -> None:
        """Embeds the samples and brings data and teachers' labels into the lake; refuses what cannot be trusted.

        The configuration is frozen with the first round: later ones are compared with it, so it may not change.
        What a killed run left half done is cleared away, and what it left out of the tracker is put there.
        """
        for path in [*remove_leftovers(self.workspace.work), *remove_leftovers(self.folder, deep=True)]:
            log.info("Removed %s, which a killed run left.", path)
        teachers = self.teachers()
        for split in ("validation", "test"):
            if not human_pairs(self.dataset.human, self._ids(split), self.dataset.topics).positive.any():
                raise T2TError(
                    f"Dataset {self.dataset.name}: no (sample, topic) pair of split {split!r} has a human relevance of "
                    f"0.5 or more, so PR-AUC cannot be measured. Annotate some."
                )
        out = self.roster.retracted()
        remember_lake(self.folder, self.config.lake)
        taught = {teacher.id for record in self.ledger.records() for teacher in record.teachers}
        freeze_campaign(self.lake, self.prefix, self.config, out, taught - {HUMAN})
        refuse_retracted(self.config, out)
        for name in self.config.teachers:
            if name in out:
                log.info("Teacher %s is left out: it is retracted (t2t teachers retract %s --undo).", name, out[name])
        commit_data(self.lake, self.dataset, self.embedded.quarantine, self.workspace.work)
        readable = self.samples("train", "unlabeled", "validation", "test")
        for teacher in teachers:
            register(self.lake, "main", self.dataset, teacher, readable, self.dataset.topics, self.workspace.work)
        self._label_later_samples()
        self.report.open()

    def _label_later_samples(self) -> None:
        """Has the students that teach the next round label what came into the dataset after them, if anything did."""
        samples, name = self.samples("unlabeled"), self.config.dataset
        wanted = Asked(tuple(samples["sample_id"].to_pylist()), self.dataset.seen)
        records = self.ledger.records()
        for teacher in self.roster.of_round(len(records)):
            if teacher in (HUMAN, *self.config.teachers):
                continue
            known = asked(self.lake, "main", name, teacher, wanted.topics)
            if known is not None and wanted - known:
                entry = registered(self.lake, name, teacher) or {}
                student = build(parse_entry(entry["entry"], f"teacher {teacher!r}"), self.context)
                work = self.workspace.work
                register(self.lake, "main", self.dataset, student, samples, wanted.topics, work)

    def next_round(self) -> int | None:
        """The first round that is not in the ledger, or None when the campaign has ended."""
        records = self.ledger.records()
        # A round that waits for a person is to be ended, whatever was decided about further ones meanwhile.
        if self.roster.stop(records) and waiting(self.ledger) is None:
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
        beginning = begin(self, k)
        self.report.start(k, beginning.commit, beginning.teachers)
        snapshot = self.round_folder(k) / "training.safetensors"
        if (self.round_folder(k) / "student").is_dir():
            snapshot.unlink(missing_ok=True)
            log.info("Round %d: the student is trained already.", k)
            return
        labels = self.round_folder(k) / "labels"
        if labels.is_dir() and not set(LabelMatrix.load(labels).sample_ids) <= set(self.embedded.sample_ids):
            log.warning("Round %d: clips were removed or became unreadable since it began; its rows are made anew.", k)
            remove_folder(labels)
            remove_folder(self.round_folder(k) / "ray")  # of those rows
        if not labels.is_dir():
            round_matrix(self, k, beginning).save(labels)
        matrix = LabelMatrix.load(labels)
        counts = ", ".join(f"{name} {rows:,}" for name, rows in matrix.rows_by_teacher().items())
        log.info("Round %d: %s rows of %d tasks (%s)", k, f"{matrix.rows:,}", len(matrix.teachers), counts)
        student = self.new_student(k, matrix, beginning.started_from)
        now = time.monotonic()
        student, trained = fit_by_workers(
            self, k, student, lambda step, metrics: self.report.curve(k, [(step, metrics)])
        )
        passed = time.monotonic() - now
        facts = {
            "campaign": self.config.name,
            "round": k,
            "encoder": self.config.encoder.model_dump(mode="json"),
            "rows_by_teacher": matrix.rows_by_teacher(),
            "best_step": trained.best_step,
            "curve": trained.curve,
            "seconds": time.monotonic() - self._started - passed + trained.seconds,
        }
        save(student, self.round_folder(k) / "student", facts)
        snapshot.unlink(missing_ok=True)
        remove_folder(self.round_folder(k) / "ray")  # what a training on a cluster left

    def fit(
        self,
        k: int,
        student: Student,
        report: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
        group: Group = ALONE,
    ) -> Trained:
        """Trains `student` in place on the label matrix of round k, as one of a group's workers (`t2t.training`)."""
        matrix = LabelMatrix.load(self.round_folder(k) / "labels")
        pairs = self.human_pairs("validation")
        where = self.positions(pairs.sample_ids)
        identity = self.roster.identity(self.config.evaluation.identity, matrix.teachers)

        def validate(student: Student) -> float:
            return average_precision(student.predict_pairs(self.embedded.embeddings, where, pairs, identity))

        return train(
            student,
            matrix,
            self.embedded.embeddings.take(self.positions(matrix.sample_ids)),
            self.config.training,
            self.seed(k),
            validate,
            f"Round {k}: training",
            report,
            self.round_folder(k) / "training.safetensors",
            group,
        )

    def evaluate(self, k: int) -> None:
        """Measures round k's student on validation and test; leaves `round-<k>/evaluation/`."""
        target = self.round_folder(k) / "evaluation"
        if target.is_dir():
            return
        start = time.monotonic()
        student = Student.load(self.round_folder(k) / "student", self.device)
        identity = self.roster.identity(self.config.evaluation.identity, student.teachers)
        with atomic_folder(target) as folder:
            metrics: dict[str, Any] = {"identity": identity}
            for split in ("validation", "test"):
                evaluation = self.measure(student, split, identity, begun(self, k))
                metrics[split] = evaluation.metrics()
                write_parquet(evaluation.pairs.table(), folder / f"{split}.parquet")
                evaluation.by_topic.to_csv(folder / f"{split}_topics.csv", index=False)
                evaluation.by_teacher.to_csv(folder / f"{split}_teachers.csv", index=False)
            metrics["seconds"] = time.monotonic() - start
            (folder / "metrics.json").write_text(json.dumps(metrics, indent=2))

    def publish(self, k: int) -> Record:
        """Gates round k; commits what it left; registers its student as a teacher when another round follows; tells
        the tracker; writes the ledger entry, last.

        Raises WaitingForDecision, which is no failure, while a person has to decide on the round (`gate: manual`).
        """
        start = time.monotonic()
        records = self.ledger.records()
        if k < len(records):
            return records[k]
        folder = self.round_folder(k)
        metrics = self._metrics(k)
        facts = json.loads((folder / "student" / "config.json").read_text())
        # As it was trained, whatever was added or retracted since.
        beginning = begun(self, k)
        best = champion(records)
        if best is not None and best.yardstick not in ("", self._yardstick()):
            log.warning(
                "The validation split or its annotations changed since round %d: PR-AUCs of before and after are "
                "measured by other pairs. The gate compares the pairs that both rounds scored; champion and patience "
                "go by the numbers as they were measured.",
                best.round,
            )
        verdict = self._verdict(k, best)
        branch = self.branch(k)
        about = {"campaign": self.config.name, "round": str(k), "status": verdict.status}
        commit = self.lake.commit(
            branch,
            {f"{self.prefix}round-{k:03}/{file.name}": file for file in self._files(k)},
            key=f"round:{self.prefix}{k}",
            message=f"Round {k} of {self.config.name}: {about['status']}, {verdict.reason}",
            metadata=about
            | {"pr_auc": f"{metrics['test']['pr_auc']:.6f}", "rows": str(sum(facts["rows_by_teacher"].values()))}
            | {"weights": sha256_file(folder / "student" / "model.safetensors")},
        )
        if self.config.gate == "manual" and verdict.passed is not None:
            # The commit above was made while the round waited.
            commit = self.lake.commit(
                branch,
                {f"{self.prefix}round-{k:03}/{VERDICT}": folder / VERDICT},
                key=f"round:{self.prefix}{k}:decided",
                message=f"Round {k} of {self.config.name}: {about['status']}, {verdict.reason}",
                metadata=about,
            )
        record = Record(
            campaign=self.config.name,
            round=k,
            status=verdict.status,
            reason=verdict.reason,
            teachers=tuple(self.roster.reference(teacher, commit) for teacher in beginning.teachers),
            identity=metrics["identity"],
            rows=sum(facts["rows_by_teacher"].values()),
            rows_by_teacher=facts["rows_by_teacher"],
            validation=metrics["validation"],
            test=metrics["test"],
            best_step=facts["best_step"],
            checkpoint=str((folder / "student").relative_to(self.workspace.work)),
            weights_sha256=sha256_file(folder / "student" / "model.safetensors"),
            run_id=self.report.start(k, beginning.commit, beginning.teachers),
            branch=branch,
            commit=commit,
            data_commit=beginning.commit,
            label_commits=self.roster.label_commits(beginning.teachers, beginning.commit),
            started_from=beginning.started_from,
            yardstick=self._yardstick(),
            self_teacher=None,
            seconds=0.0,
            watch={"self_share": self_share(facts["rows_by_teacher"], self.roster.own(facts["rows_by_teacher"]))},
        )
        if verdict.passed is None:
            seconds = facts["seconds"] + metrics["seconds"] + time.monotonic() - start
            record = record.model_copy(update={"seconds": seconds})
            self.report.round(record, records)
            ask(self.lake, self.prefix, record)
            raise WaitingForDecision(record, best)
        stop = stop_reason([*records, record], self.config.rounds.max, self.config.rounds.patience)
        if verdict.passed:
            if not stop:
                record = promote(self, record)
                stop = self.roster.collapse(record)
            commit = self.lake.merge(
                branch, "main", f"merge:{self.prefix}{k}", f"Merge round {k} of {self.config.name}", about
            )
            self.lake.tag(f"{self.config.name}/round-{k}", commit)
            record = record.model_copy(update={"commit": commit})
        seconds = facts["seconds"] + metrics["seconds"] + time.monotonic() - start
        record = record.model_copy(update={"seconds": seconds, "stop": stop})
        self.report.round(record, records)
        self.ledger.append(record)
        return record

    def human_pairs(self, split: str) -> Pairs:
        """The human-labeled pairs of a split, not scored yet."""
        return human_pairs(self.dataset.human, self._ids(split), self.dataset.topics)

    def _yardstick(self) -> str:
        """SHA-256 of the pairs of the validation split and which of them are positive."""
        pairs = self.human_pairs("validation")
        codes = np.stack([pairs.sample, pairs.topic, pairs.positive.astype(np.int64)])
        return sha256(json.dumps([list(pairs.sample_ids), list(pairs.topics)]), codes.tobytes())

    def _metrics(self, k: int) -> dict[str, Any]:
        path = self.round_folder(k) / "evaluation" / "metrics.json"
        try:
            metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise T2TError(
                f"{path}: cannot be read ({one_line(error, 100)}). Delete the folder {path.parent}: the round is "
                "measured again."
            ) from None
        return metrics

    def _verdict(self, k: int, best: Record | None) -> Verdict:
        """The gate's verdict on round k: once it is said it stays, whatever is retracted before the round ends."""
        path = self.round_folder(k) / VERDICT
        if path.is_file():
            known = json.loads(path.read_text(encoding="utf-8"))
            return Verdict(known["passed"], known["reason"])
        table = pq.read_table(self.round_folder(k) / "evaluation" / "validation.parquet")
        verdict = judge(
            self.config.gate,
            pairs_of(table, self._ids("validation"), self.dataset.topics),
            self.pairs(best, "validation") if best else None,
            self.config.evaluation.resamples,
            decision=read_decision(self.lake, self.prefix, k) if self.config.gate == "manual" else None,
        )
        if verdict.passed is not None:
            write_text(path, json.dumps({"passed": verdict.passed, "reason": verdict.reason}, indent=2))
        return verdict

    # -- parts ---------------------------------------------------------------------------------------------------

    def round_folder(self, k: int) -> Path:
        return self.folder / f"round-{k:03}"

    def branch(self, k: int) -> str:
        return f"{self.config.name}-round-{k}"

    def seed(self, k: int) -> int:
        """Every round draws its own numbers, so that a rejected round is not tried again just as it was."""
        return self.config.seed * 1000 + k

    def samples(self, *splits: str) -> pa.Table:
        """The readable samples of some splits, in file order."""
        return self._readable.filter(pc.is_in(self._readable["split"], value_set=pa.array(splits)))

    @cached_property
    def _embedded_ids(self) -> pa.Array:
        return pa.array(self.embedded.sample_ids, pa.string())

    @cached_property
    def _readable(self) -> pa.Table:
        samples = self.dataset.samples
        return samples.filter(pa.array(codes(samples["sample_id"], self._embedded_ids) >= 0))

    def _ids(self, *splits: str) -> list[str]:
        return self.samples(*splits)["sample_id"].to_pylist()

    def positions(self, sample_ids: Sequence[str]) -> np.ndarray:
        """Where samples stand in `embedded`, int64. Raises T2TError for one that has no embedding."""
        found = positions(strings(sample_ids), self._embedded_ids).astype(np.int64)
        if (found < 0).any():
            raise T2TError(
                f"Sample {sample_ids[int(found.argmin())]!r} has no embedding: it was removed or is unreadable."
            )
        return found

    def new_student(self, k: int, matrix: LabelMatrix, started_from: int | None) -> Student:
        student = build_student(
            self.config.student,
            self.embedded.embeddings.dim,
            self.dataset.topics,
            matrix.teachers,
            self.seed(k),
            prior=float(matrix.confidence.mean()),
        )
        if started_from is not None:
            record = self.ledger.records()[started_from]
            start_from(student, load_checked(self.workspace.work / record.checkpoint, record.weights_sha256))
        else:
            student.frontend.fit(self.embedded.embeddings, self.positions(matrix.sample_ids))
        return student.to(self.device)

    def measure(self, student: Student, split: str, identity: str, beginning: Beginning) -> Evaluation:
        """A student on a split, asked as `identity`, beside the outside teachers that it learned from."""
        pairs = self.human_pairs(split)
        teachers = {
            name: teacher_scores(pairs, read_labels(self.lake, beginning.commit, self.dataset.name, name))
            for name in beginning.teachers
            if name in self.config.teachers
        }
        return evaluate(
            student.predict_pairs(self.embedded.embeddings, self.positions(pairs.sample_ids), pairs, identity),
            self.dataset.unseen,
            teachers,
            self.config.evaluation.resamples,
        )

    def _files(self, k: int) -> list[Path]:
        """What round k leaves in the lake."""
        folder = self.round_folder(k)
        further = [folder / name for name in ("health.csv", VERDICT)]
        return [*sorted((folder / "evaluation").iterdir()), *(path for path in further if path.is_file())]

    def pairs(self, record: Record, split: str) -> Pairs:
        """The scored pairs that a round left in the lake, for `validation` or `test`."""
        table = read_table(self.lake, record.commit, f"{self.prefix}round-{record.round:03}/{split}.parquet")
        return pairs_of(table, self._ids(split), self.dataset.topics)
