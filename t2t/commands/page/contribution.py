"""What each outside teacher adds, by leaving it out: trained with and without it, on a small budget, by the same path
that a round takes. Measured on validation, never on test. The lake is only read.

The students here learn from people and the outside teachers alone: a self-training teacher has learned from the teacher
that is left out, so its labels would bring it back in. All start from scratch and from the same seed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from t2t.campaign.recipe import recipe_of
from t2t.campaign.steps.rows import as_trained, groups_of, training_rows
from t2t.campaign.steps.train import fresh_student
from t2t.commands.page.material import Material, Missing
from t2t.commands.page.trainings import Order, Training, crowded, room, train_all
from t2t.commands.plan.show import duration
from t2t.core.errors import T2TError, one_line
from t2t.core.files import sha256
from t2t.core.host import cpu_threads
from t2t.core.progress import progress
from t2t.data.coding import strings
from t2t.data.labels import HUMAN, write_parquet
from t2t.data.pairs import Pairs, human_pairs, pairs_of
from t2t.evaluation.metrics import Interval, average_precision
from t2t.evaluation.scales import scales_of
from t2t.lake.tables import latest_commit
from t2t.students.base import Student
from t2t.training.baselines import METHODS
from t2t.training.config import TrainingConfig
from t2t.training.loop import train
from t2t.training.matrix import assemble

log = logging.getLogger("t2t")

# Changed when what is measured changes: older results are then not taken for it.
VERSION = 2
# On the demo, whose rounds have 400, 100 steps rank the three teachers as 200 do, but do not tell the weakest one from
# nothing: it adds 0.006 of PR-AUC then, and 0.060 with 200, where another seed alone makes 0.012.
STEPS = 200


class LeaveOneOut:
    """Trainings with all of a campaign's outside teachers, and without each.

    Args:
        steps: of each training, at most; the campaign's own number where that is smaller.
    """

    def __init__(self, material: Material, steps: int = STEPS):
        self.material, self.record, self.most = material, material.measured, steps
        if material.more:
            raise Missing(
                f"There are {len(material.named) + material.more:,} outside teachers, and a training without each is "
                f"made for {len(material.named)} at most. What they are worth stands in the table of teachers."
            )
        self.outside = [name for name in material.outside(self.record) if name not in material.out]
        if not self.outside:
            raise Missing("There is no outside teacher that stands, so there is none to leave out.")
        if material.config.method in METHODS:
            raise Missing(f"Its method is {material.config.method!r}: what each teacher adds to it is not measured.")
        self.commit = self.record.data_commit or self.record.commit
        self.folder = material.workspace.work / "campaigns" / material.campaign / "report" / "leave-one-out"
        recipe = self.record.recipe
        # As the round was trained; before there were recipes the campaign gave every number.
        self.full = recipe.model_dump(mode="json") if recipe is not None else material.frozen["training"]
        self.training = {**self.full, "steps": min(steps, self.full["steps"])}
        # One look at validation, at the end: nothing is selected on the split that is measured.
        self.training |= {"evaluate_every": self.training["steps"], "workers": 1}
        if material.engine.device == "cpu":
            # Numbers go by the number of threads, and so would those of trainings side by side.
            self.training["threads"] = 1

    def measure(self) -> dict[str, Any]:
        """Trains what is not known yet.

        Returns: `rows`, a frame with name, without (PR-AUC), value, low and high (PR-AUC with all teachers less that
            without this one), the largest first; `everyone`, PR-AUC with all; `seed`, the Interval of the difference
            that another seed makes with all teachers, which no teacher has a part in; `steps` and `full_steps`.
        """
        plans = self._plans()
        self._train_missing(plans)
        scored = [self._read(plan) for plan in plans]
        everyone, *without, again = scored
        rows = []
        for name, pairs in zip(self.outside, without, strict=True):
            gain = self._difference(everyone, pairs)
            row = {"name": name, "without": average_precision(pairs)}
            rows.append(row | {"value": gain.value, "low": gain.low, "high": gain.high})
        frame = pd.DataFrame(rows).sort_values("value", ascending=False, kind="stable", ignore_index=True)
        return {
            "rows": frame,
            "everyone": average_precision(everyone),
            "seed": self._difference(everyone, again),
            "steps": self.training["steps"],
            "full_steps": self.full["steps"],
            "round": self.record.round,
        }

    def _difference(self, first: Pairs, second: Pairs) -> Interval:
        interval = self.material.difference(first, second)
        return interval or Interval(float("nan"))

    def _plans(self) -> list[Training]:
        """With all teachers, without each, and with all from another seed."""
        everyone = tuple(self.outside)
        plans = [Training(teachers=everyone, seed=0, title="all teachers")]
        for name in everyone:
            others = tuple(other for other in everyone if other != name)
            plans.append(Training(teachers=others, seed=0, title=f"without {name}"))
        return [*plans, Training(teachers=everyone, seed=1, title="all teachers, another seed")]

    def _train_missing(self, plans: Sequence[Training]) -> None:
        """Trains what is not known yet, side by side where there is room, and says beforehand how long it takes."""
        missing = [plan for plan in plans if not self._path(plan).is_file()]
        if not missing:
            return
        _ = self.readable  # what stands in the way is said before anything is trained
        material, steps = self.material, int(self.training["steps"])
        at_once = room(self.record.rows, len(missing), material.engine.device)
        log.info("%s", self._announced(len(missing), at_once))
        order = Order(workspace=material.workspace, campaign=material.campaign, steps=self.most)
        with progress("Leave-one-out", steps * len(missing), "steps") as advance:
            train_all(order, missing, self.make, self.folder, at_once, advance)

    def _announced(self, trainings: int, at_once: int) -> str:
        steps, record = int(self.training["steps"]), self.record
        what = f"{trainings} short training{'s' * (trainings != 1)} of {steps:,} steps"
        how = f"{at_once} at a time" if at_once > 1 else "one after the other"
        # What a round took per step, and its control as many again; a part of it went into other things than steps.
        taken = int(self.full["steps"]) * (2 if record.control else 1)
        seconds = -(-trainings // at_once) * steps * record.seconds / taken
        crowd = crowded(at_once) if self.material.engine.device == "cpu" else 1.0
        slower = f", {duration(seconds * crowd)} while this machine is as busy as now" if crowd > 1.5 else ""
        return (
            f"Leave-one-out: {what}, {how}, take about {duration(seconds)} by what round {record.round} took{slower}; "
            "they are kept. Without them: --no-leave-one-out"
        )

    def make(self, plan: Training) -> None:
        """Trains one of the plans, and writes what it came to."""
        write_parquet(self._train([HUMAN, *plan.teachers], plan.seed, plan.title).table(), self._path(plan))

    def _path(self, plan: Training) -> Path:
        return self.folder / f"{self.key([HUMAN, *plan.teachers], plan.seed)}.parquet"

    def _read(self, plan: Training) -> Pairs:
        """The validation pairs as a student of some teachers scores them; kept by what can change them."""
        path = self._path(plan)
        try:
            table = pq.read_table(path)
        except pa.ArrowException as error:
            raise T2TError(f"{path}: cannot be read ({one_line(error, 100)}). Delete it: it is made again.") from None
        groups = self.material.groups("validation")
        return pairs_of(table, self.material.ids("validation"), self.material.topics).in_groups(groups)

    @cached_property
    def _digests(self) -> dict[str, str]:
        return {entry.path: entry.digest for entry in self.material.lake.list(self.commit, self.material.data.prefix)}

    def key(self, teachers: list[str], seed: int) -> str:
        """A hash of data, labels and recipe of one training."""
        frozen = self.material.frozen
        names = ("encoder", "student", "method", "teachers_see_unseen", "seed", "recipe", "scale")
        content: dict[str, Any] = {name: frozen.get(name) for name in names}
        content |= {"version": VERSION, "training": self._training(teachers), "teachers": teachers, "run": seed}
        layout = self.material.data
        wanted = {layout.teacher(name).labels for name in teachers}
        content["content"] = {
            path: digest
            for path, digest in self._digests.items()
            if path in wanted or path.startswith(f"{layout.data}/")
        }
        return sha256(json.dumps(content, sort_keys=True))[:32]

    def _training(self, teachers: Sequence[str]) -> dict[str, Any]:
        weights = {name: weight for name, weight in self.training["task_weight"].items() if name in teachers}
        return {**self.training, "task_weight": weights}

    @cached_property
    def readable(self) -> pa.Table:
        """The samples that have embeddings. Raises Missing where the dataset is not what it was."""
        material = self.material
        data = latest_commit(material.lake, self.commit, material.data.data_keys)
        if data is not None and data.metadata["fingerprint"] != material.opened.fingerprint:
            raise Missing(
                f"The dataset's files changed since round {self.record.round} was trained, so teachers cannot be "
                f"compared on what it learned from. A later round can be: t2t run {material.campaign}"
            )
        samples = material.opened.samples
        return samples.filter(pa.array(material.positions(samples["sample_id"].combine_chunks()) >= 0))

    def _train(self, teachers: list[str], seed: int, title: str) -> Pairs:
        material, readable = self.material, self.readable
        config, dataset, embeddings = material.config, material.opened, material.embedded.embeddings
        rows = training_rows(material.lake, dataset, readable, self.commit, teachers, config.teachers_see_unseen)
        scales = scales_of(rows, groups_of(readable, rows.sample_ids), gain=config.gain) if config.common_scale else {}
        matrix = as_trained(assemble(rows), config.method, scales)
        matrix = replace(matrix, sample_ids=strings(matrix.sample_ids).to_pylist())  # as it is once it was saved
        ids = readable.filter(pc.equal(readable["split"], "validation"))["sample_id"].to_pylist()
        pairs = human_pairs(dataset.human, ids, dataset.topics)
        where, at = material.positions(matrix.sample_ids), material.positions(pairs.sample_ids)

        def scored(student: Student) -> Pairs:
            with cpu_threads(self.training.get("threads")):
                return student.predict_pairs(embeddings, at, pairs, HUMAN)

        drawn = config.seed * 1000 + seed
        shape = recipe_of(config, embeddings.frames, embeddings.dim, matrix).student
        student = fresh_student(shape, embeddings, where, dataset.topics, matrix, drawn)
        train(
            student.to(material.engine.device),
            matrix,
            embeddings.take(where),
            TrainingConfig.model_validate(self._training(matrix.teachers)),
            drawn,
            lambda now: average_precision(scored(now)),
            title,
        )
        return scored(student)
