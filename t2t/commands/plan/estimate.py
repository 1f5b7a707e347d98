"""The counting behind `t2t plan`: what is left to embed, label and train on, how long it takes, what it weighs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from t2t.campaign.config import CampaignConfig
from t2t.campaign.decision import waiting
from t2t.campaign.entries import open_dataset, teacher_entry
from t2t.campaign.find import check_lake
from t2t.campaign.ledger import Ledger
from t2t.campaign.lineup import Lineup
from t2t.campaign.people import plan_notes
from t2t.campaign.recipe import Recipe
from t2t.campaign.record import RETRACTED, Record
from t2t.campaign.seeds import seeds_notes
from t2t.campaign.tuned import encoder_here
from t2t.commands.plan.disk import checkpoint_size, free_bytes, label_size
from t2t.commands.plan.memory import student_plan
from t2t.commands.plan.model import UNKNOWN, Plan, RoundPlan, StudentPlan, Work
from t2t.commands.plan.others import others
from t2t.commands.plan.paid import cost_of
from t2t.commands.plan.probe import try_rounds
from t2t.commands.plan.rates import encode, round_seconds, shard_seconds, try_few, with_controls
from t2t.commands.plan.recipe import chosen, planned, unseen_note
from t2t.commands.plan.tuning import tuning_work
from t2t.core.errors import T2TError
from t2t.core.host import find_device
from t2t.core.workspace import Workspace
from t2t.data.dataset import without
from t2t.data.embeddings.config import TimmConfig
from t2t.data.embeddings.encoders import FrameEncoder, build_encoder, most_steps
from t2t.data.embeddings.store import EmbeddingStore
from t2t.data.labels import HUMAN
from t2t.lake import Lake, UnknownLake, UnknownPath, UnknownRef, open_lake
from t2t.lake.layout import DatasetLayout
from t2t.lake.tables import read_table
from t2t.students import build_student
from t2t.teachers import Teacher, TeacherContext, build
from t2t.teachers.asked import Asked
from t2t.teachers.base import Registration
from t2t.teachers.labeling import labeled, shard_samples
from t2t.teachers.store import asked, registered

# A label file up to this size is read for its rows; of a larger one it is said how many there can be at most.
READ_BYTES = 64 << 20
# Bytes of a row in a round's label matrix: topic int32, teacher int16, confidence float32.
MATRIX_ROW = 10


class Estimates:
    """One campaign, as far as a look at its registry, store, lake and data tells. Reads only."""

    def __init__(self, workspace: Workspace, config: CampaignConfig, probe: bool = True):
        self.probe = probe
        self.workspace, self.config, self.work = workspace, config, workspace.work
        self.layout = DatasetLayout(config.dataset)
        self.device = find_device()
        check_lake(self.work / "campaigns" / config.name, config.lake)
        self.lake: Lake | None = None
        self.head = ""
        self.records: list[Record] = []
        self.lineup: Lineup | None = None
        try:
            lake = open_lake(config.lake, self.work, create=False)
            self.head = lake.resolve("main")
        except (UnknownLake, UnknownRef):
            pass
        else:
            self.lake = lake
            ledger = Ledger(lake, config.dataset, config.name)
            self.records, self.lineup = ledger.records(), Lineup(config, ledger)
        self.dataset = open_dataset(workspace, config.dataset, lambda: self.lake)
        self.outside = self.lineup.outside() if self.lineup else list(config.teachers)
        self.tried: dict[str, float] = {}
        self._counted: dict[str, tuple[int, bool]] = {}
        self._read: dict[str, tuple[int, int]] = {}

    def plan(self) -> Plan:
        teachers = [self._teacher(name) for name in self.outside]
        self.left = {work.what: work.left for work in teachers}
        embedding, stop = self._embedding(), self.lineup.stop(self.records) if self.lineup else None
        tuning = [] if stop else tuning_work(self.workspace, self.config, embedding, self.encoder)
        told = others(self.workspace, self.config, self.records)
        seconds, measured = round_seconds(self.config, self.records, told)
        rounds = [] if stop else [self._round(at, seconds) for at in range(len(self._numbers))]
        recipe, rows = self._recipe() if rounds else None, [self._rows_by_teacher(at) for at in range(len(rounds))]
        student = student_plan(recipe, self.dataset, self.encoder, rows[-1], self.device) if recipe else None
        if recipe and seconds is None and self.probe and self.encoder and (student is None or student.fits):
            taken, measured = try_rounds(recipe, self.dataset, self.encoder, rows, self.device)
            for planned, passed in zip(rounds, taken, strict=True):
                planned.seconds = passed
        if self.config.with_control:
            measured = with_controls(rounds, len(self._people_rows) + len(self.outside), measured)
        labeling = [self._human(), *teachers, *self._students(len(rounds))]
        unseen = unseen_note(self.dataset, recipe) if recipe else None
        return Plan(
            campaign=self.config.name,
            dataset=self.config.dataset,
            work=str(self.work),
            embedding=embedding,
            labeling=labeling,
            rounds_done=len(self.records),
            rounds=rounds,
            stop=stop,
            measured=measured,
            bytes=self._bytes([embedding, *tuning[1:]], labeling, rounds, student),
            free=free_bytes(self.work),
            notes=[*seeds_notes(self.config), *self._notes(), *([unseen] if unseen else [])],
            recipe=chosen(recipe) if recipe else [],
            student=student,
            tuning=tuning,
        )

    def _recipe(self) -> Recipe:
        """The next round's, if every label is there that it may train on."""
        rows = self._people_rows | {name: self._rows_of(name)[0] for name in self.outside}
        if self.encoder:
            return planned(self.config, self.dataset, most_steps(self.encoder), self.encoder.dim, rows)
        # What goes by the embeddings is not known without their encoder.
        recipe = planned(self.config, self.dataset, 2, 1, rows)
        return replace(recipe, choices=tuple(choice for choice in recipe.choices if choice.key != "noise"))

    def _notes(self) -> list[str]:
        notes = plan_notes(self.config, {HUMAN: 0} | self._people_rows)
        if self.lineup and (waits := waiting(self.lineup.ledger)) is not None:
            notes.append(
                f"Round {waits.round} is trained and waits for a decision: t2t decide {waits.campaign} {waits.round}."
            )
        if self.lineup and (out := [name for name in self.config.teachers if name not in self.outside]):
            notes.append(f"Retracted, and left out: {', '.join(out)}.")
        if self._quarantine:
            notes.append(f"{len(self._quarantine)} samples were unreadable; a run tries them again.")
        return notes

    # -- embedding -----------------------------------------------------------------------------------------------

    @cached_property
    def encoder(self) -> FrameEncoder | None:
        """None where its weights would first have to be fetched, which a plan does not do."""
        config = encoder_here(self.workspace, self.config)
        if isinstance(config, TimmConfig) and config.weights is None and config.pretrained:
            return None
        return build_encoder(config, self.device)

    def _embedding(self) -> Work:
        samples, encoder = self.dataset.samples, self.encoder
        work = Work("embedding", "samples", len(samples), 0)
        if encoder is None:
            work.seconds, work.measured = None, UNKNOWN
            work.note = "at most: what the store has is known once the encoder's weights are fetched"
            return work
        store = EmbeddingStore(self.work / "embeddings", encoder.fingerprint, clean=False)
        stored = [(store.remembered(path) or "") in store for path in samples["path"].to_pylist()]
        work.done = sum(stored)
        if work.left:
            rate, number = shard_seconds(store.folder)
            work.measured = f"by {number} shards of the store"
            if rate is None and self.probe:
                missing = samples.filter(pa.array([not there for there in stored]))
                rate, number = try_few(missing, lambda few: encode(few, encoder))
                work.measured = f"{number} clips tried just now"
            work.measured = UNKNOWN if rate is None else work.measured
            work.seconds = None if rate is None else rate * work.left
        return work

    # -- labeling ------------------------------------------------------------------------------------------------

    @cached_property
    def _quarantine(self) -> list[str]:
        """The samples that the last run could not read."""
        if self.lake is None:
            return []
        try:
            table = read_table(self.lake, self.head, self.layout.table("quarantine"), ["sample_id"])
        except UnknownPath:
            return []
        return table["sample_id"].to_pylist()

    def _samples(self, *splits: str) -> pa.Table:
        samples = self.dataset.split(*splits) if splits else self.dataset.samples
        return without(samples, self._quarantine)

    @cached_property
    def _unlabeled(self) -> list[str]:
        return self._samples("unlabeled")["sample_id"].to_pylist()

    @property
    def _topics(self) -> tuple[str, ...]:
        """The topics that teachers' labels are trained on."""
        return self.dataset.topics if self.config.teachers_see_unseen else self.dataset.taught

    @cached_property
    def _people_rows(self) -> dict[str, int]:
        """The rows that students train on of `human` and each annotator's identity."""
        return self.dataset.people_rows(self._samples("train")["sample_id"].combine_chunks())

    def _human(self) -> Work:
        registration, rows = self._registered(HUMAN), len(without(self.dataset.human, self._quarantine))
        done = min(rows, registration.rows) if registration else 0
        note = "annotations, read from a file"
        return Work(HUMAN, "pairs", rows, done, note=note, labels=registration.rows if registration else 0)

    def _registered(self, teacher: str) -> Registration | None:
        return registered(self.lake, self.config.dataset, teacher, self.head) if self.lake else None

    def _asked(self, teacher: str) -> Asked:
        """What a teacher was asked so far: nothing where it is not registered."""
        before = asked(self.lake, self.head, self.config.dataset, teacher, self.dataset.topics) if self.lake else None
        return before or Asked()

    @cached_property
    def _built(self) -> dict[str, Teacher]:
        context = TeacherContext(self.dataset, self.work, self.device)
        entries = [teacher_entry(self.workspace, name, self.dataset.root) for name in self.outside]
        return {entry.id: build(entry, context) for entry in entries}

    def _teacher(self, name: str) -> Work:
        """The pairs that an outside teacher is asked. Raises T2TError where it has changed since it was registered."""
        teacher, registration = self._built[name], self._registered(name)
        if registration is not None and registration.fingerprint != (now := teacher.fingerprint()):
            raise T2TError(
                f"Teacher {name!r} is registered with other content (fingerprint {registration.fingerprint[:12]}, now "
                f"{now[:12]}), so a run would be refused: choose a new id."
            )
        samples, topics = labeled(teacher, self._samples()), self.dataset.topics
        ids = samples["sample_id"].to_pylist()
        missing = Asked(tuple(ids), topics) - self._asked(name)
        left = sum(len(block.samples) * len(block.topics) for block in missing)
        work = Work(name, "pairs", len(ids) * len(topics), len(ids) * len(topics) - left)
        work.labels = registration.rows if registration else 0
        if left and (cost := cost_of(teacher, samples, missing)) is not None:
            # A few that are tried would be paid for.
            work.seconds, work.measured, work.note, work.cost = None, UNKNOWN, cost.note, cost
        elif left and shard_samples(teacher) is None:
            work.note = "read from a file"
            if self._file(teacher) is not None:
                work.note += f" of {self._file_rows(name)[0]:,} labels"
        elif left:
            clips = list(dict.fromkeys(sample for block in missing for sample in block.samples))
            few = samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(clips, pa.string())))
            rate, number = try_few(few, lambda part: self._try(teacher, part)) if self.probe else (None, 0)
            work.seconds = None if rate is None else rate * len(clips)
            work.measured = UNKNOWN if rate is None else f"{number} clips tried just now"
        return work

    def _try(self, teacher: Teacher, samples: pa.Table) -> None:
        """Labels some samples, and notes what share of the pairs asked came back."""
        rows = sum(len(table) for table in teacher.label(samples, self._topics))
        self.tried[teacher.entry.id] = rows / (len(samples) * len(self._topics))

    def _students(self, rounds: int) -> list[Work]:
        """What own students labeled and will: clips that came after them, and in rounds to come (in their time)."""
        works = []
        own = self.lineup.students(len(self.records)) if self.lineup else []
        for name in own:
            registration = self._registered(name)
            work = Work(name, "pairs", 0, 0, note="a student", labels=registration.rows if registration else 0)
            work.total = work.done = work.labels or 0
            if rounds and name in self.config.teaching(own, len(self.records)):
                missing = Asked(tuple(self._unlabeled), self.dataset.taught) - self._asked(name)
                new = sum(min(self._tags, len(block.topics)) * len(block.samples) for block in missing)
                if new:
                    work.total, work.seconds, work.measured = work.done + new, None, UNKNOWN
            works.append(work)
        # The last round's student teaches nobody, unless the campaign is prolonged.
        last = self.records[-1] if self.records else None
        makes = max(rounds - 1, 0) + bool(rounds and last and last.status == "passed" and last.self_teacher is None)
        if makes:
            each = self._tags * len(self._unlabeled)
            note = f"{makes} of its own, {each:,} pairs each"
            works.append(Work("new students", "pairs", makes * each, 0, 0.0, "in the rounds' time", note))
        return works

    @property
    def _tags(self) -> int:
        """Labels that a student gives each unlabeled sample."""
        settings, topics = self.config.self_training, len(self.dataset.taught)
        top = min(settings.top_k, topics)
        return top + min(settings.random, topics - top)

    # -- rounds --------------------------------------------------------------------------------------------------

    @cached_property
    def _numbers(self) -> list[int]:
        """The rounds that are left, if none ends the campaign before; retracted ones are done again."""
        standing = sum(record.status != RETRACTED for record in self.records)
        return [len(self.records) + at for at in range(max(self.config.rounds.max - standing, 0))]

    def _round(self, at: int, seconds: float | None) -> RoundPlan:
        rows = self._rows_by_teacher(at)
        exact = all(self._rows_of(name)[1] for name in self.outside)
        return RoundPlan(self._numbers[at], len(rows), sum(rows.values()), exact, seconds)

    def _rows_by_teacher(self, at: int) -> dict[str, int]:
        """The rows of a round that is left, if each before it passes its gate."""
        own_students = self.lineup.students(len(self.records)) if self.lineup else []
        last = self.records[-1] if self.records else None
        earlier = [last.round] if last is not None and last.status == "passed" else []
        further = [name for k in [*earlier, *self._numbers[:at]] for name in self.config.self_teachers(k)]
        own_students = list(dict.fromkeys([*own_students, *further]))
        rows = self._people_rows | {name: self._rows_of(name)[0] for name in self.outside}
        students = self.config.teaching(own_students, self._numbers[at])
        return rows | dict.fromkeys(students, self._tags * len(self._unlabeled))

    def _rows_of(self, name: str) -> tuple[int, bool]:
        """An outside teacher's rows that students train on, and whether that is their number for sure."""
        if name not in self._counted:
            self._counted[name] = self._count(name)
        return self._counted[name]

    def _count(self, name: str) -> tuple[int, bool]:
        teacher, registration, before = self._built[name], self._registered(name), self._asked(name)
        samples = self._samples("train", "unlabeled")
        pairs = len(samples) * len(self._topics)
        used = [record.rows_by_teacher[name] for record in self.records if name in record.rows_by_teacher]
        if used and not self.left[name]:
            return used[-1], True
        if self._file(teacher) is not None:
            return self._file_rows(name)[1], True
        if registration is not None and before.samples and before.topics:
            return round(registration.rows / (len(before.samples) * len(before.topics)) * pairs), False
        # Where nothing is known, as many as it can be asked for.
        return round(self.tried.get(name, 1.0) * pairs), False

    def _file(self, teacher: Teacher) -> Path | None:
        """The file of a teacher's labels, where there is one that is small enough to be read for a plan."""
        path = Path(getattr(teacher, "path", ""))
        return path if shard_samples(teacher) is None and path.is_file() and path.stat().st_size <= READ_BYTES else None

    def _file_rows(self, name: str) -> tuple[int, int]:
        """The labels in a teacher's file, and those of them that students train on."""
        if name not in self._read:
            ids = self._samples("train", "unlabeled")["sample_id"].combine_chunks()
            topics, total, trained = pa.array(self._topics, pa.string()), 0, 0
            teacher = self._built[name]
            for table in teacher.label(labeled(teacher, self._samples()), self.dataset.topics):
                of_samples = pc.is_in(table["sample_id"], value_set=ids)
                kept = pc.and_(of_samples, pc.is_in(table["topic"], value_set=topics))
                total, trained = total + len(table), trained + int(pc.sum(kept).as_py() or 0)
            self._read[name] = (total, trained)
        return self._read[name]

    # -- disk ----------------------------------------------------------------------------------------------------

    def _bytes(
        self,
        embedding: Sequence[Work],
        labeling: Sequence[Work],
        rounds: Sequence[RoundPlan],
        student: StudentPlan | None,
    ) -> dict[str, int | None]:
        # float16 for each number; an offset and a key for each sample.
        clip = most_steps(self.encoder) * self.encoder.dim * 2 + 40 if self.encoder else None
        size = label_size(self.lake, self.head, self.layout, self.dataset)
        labels = round(sum(self._new_rows(work) for work in labeling) * size)
        weights = checkpoint_size(self.work, self.records, self._new_student) if rounds else 0
        if weights is None and student is not None:
            weights = student.bytes["weights"]
        # MLflow keeps a copy of each checkpoint; without a server of its own that is in the work folder too.
        copies = 1 if os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http") else 2
        return {
            "embeddings": clip if clip is None else sum(work.left for work in embedding) * clip,
            "labels": labels,
            "training rows": sum(planned.rows for planned in rounds) * MATRIX_ROW,
            "checkpoints": weights if weights is None else weights * copies * len(rounds),
        }

    def _new_rows(self, work: Work) -> float:
        """Rows that will come of the pairs that are left."""
        pairs = len(self._samples("train", "unlabeled")) * len(self._topics)
        if work.what not in self._built or not pairs:
            return work.left
        return work.left * self._rows_of(work.what)[0] / pairs

    def _new_student(self) -> Any:
        """A student as the next round would have it; None where a pretrained text encoder would have to be loaded."""
        student = self._recipe().student
        if self.encoder is None or getattr(getattr(student, "text", None), "pretrained", None) is not None:
            return None
        teachers = [*self._people_rows, *self.outside]
        return build_student(student, self.encoder.dim, self.dataset.topics, teachers, 0)


def plan(workspace: Workspace, config: CampaignConfig, probe: bool = True) -> Plan:
    """What `t2t run` would do for a campaign now.

    Args:
        probe: try a few clips and ten steps where nothing that was done here says how long they take.

    Raises T2TError where that run would be refused before its rounds."""
    return Estimates(workspace, config, probe).plan()
