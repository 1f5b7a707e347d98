"""What people watch rounds by: parameters, inputs, metrics, pictures and tables of each round, told to a tracker.

Nothing here decides anything: all of it can be told again, from the ledger and the round's files.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from t2t.evaluation import Pairs, curve, teacher_scores
from t2t.ledger import Record, champion, rounds_table
from t2t.mlflow_text import checkpoint_note
from t2t.registration import read_labels, teacher_prefix
from t2t.retraction import all_marks
from t2t.tracking import DataInput

# matplotlib takes seconds to import; it comes with the first picture.
if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from t2t import figures
    from t2t.rounds import Rounds

log = logging.getLogger("t2t")


class Tracker(Protocol):
    """Where people watch rounds; `t2t.tracking.MLflowTracker` is the one for MLflow. Every call may be repeated."""

    def open(self, params: dict[str, Any], tags: dict[str, str]) -> str: ...
    def finished(self, k: int) -> bool: ...
    def start_round(self, k: int, params: dict[str, Any], tags: dict[str, str]) -> str: ...
    def log_inputs(self, k: int, inputs: Sequence[DataInput]) -> None: ...
    def log_curve(self, k: int, points: Sequence[tuple[int, Mapping[str, float]]]) -> None: ...
    def log_round(
        self, k: int, metrics: dict[str, float], figures: dict[str, Figure], tables: dict[str, pd.DataFrame]
    ) -> None: ...
    def log_checkpoint(self, k: int, folder: Path, metrics: Mapping[str, float], tags: Mapping[str, str]) -> str: ...
    def champion(self, k: int | None) -> None: ...
    def finish_round(self, k: int, status: str, tags: dict[str, str]) -> None: ...
    def discard_round(self, k: int) -> None: ...
    def finish(self, status: str) -> None: ...


class Reporter:
    """Tells a tracker of one campaign's rounds; without a tracker it does nothing."""

    def __init__(self, rounds: Rounds, tracker: Tracker | None):
        self.rounds = rounds
        self.tracker = tracker
        # What rounds were started with, and the runs that this gave: telling it again would change nothing.
        self._started: dict[tuple[int, str, tuple[str, ...]], str] = {}

    def open(self) -> None:
        """Opens the campaign, and puts right what killed runs left and what was retracted since."""
        if self.tracker is None:
            return
        self._started.clear()  # runs that were ended since are opened again
        config, lake = self.rounds.config, self.rounds.lake
        parameters = config.model_dump(mode="json", exclude={"name", "description"})
        self.tracker.open(parameters, {"t2t.dataset": config.dataset, "t2t.lake": lake.uri("main")})
        self._repair(self.tracker)
        self._retractions(self.tracker)

    def start(self, k: int, commit: str, teachers: Sequence[str]) -> str | None:
        """Starts round k, which reads its labels at `commit`; returns the tracker's id of it."""
        if self.tracker is None:
            return None
        known = (k, commit, tuple(teachers))
        if known in self._started:
            return self._started[known]
        rounds = self.rounds
        own = {"round": k, "seed": rounds.seed(k), "teachers": ",".join(teachers), "tasks": len(teachers)}
        settings = rounds.config.model_dump(mode="json", include={"method", "encoder", "student", "training"})
        run = self.tracker.start_round(k, own | settings, {"t2t.branch": rounds.branch(k)})
        dataset = rounds.config.dataset
        inputs = [DataInput("data", rounds.lake.uri(commit, f"{dataset}/data"), commit[:12], "data")]
        for teacher in teachers:
            path = f"{teacher_prefix(dataset, teacher)}labels.parquet"
            inputs.append(DataInput(teacher, rounds.lake.uri(commit, path), commit[:12], "training"))
        self.tracker.log_inputs(k, inputs)
        self._started[known] = run
        return run

    def discard(self, k: int) -> None:
        """Round k begins again: what was told of it no longer counts."""
        self._started.clear()
        if self.tracker is not None:
            self.tracker.discard_round(k)

    def curve(self, k: int, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Points of the curve. PR-AUC by step has a name of its own: the round's is that of its best step."""
        if self.tracker is not None:
            names = {"validation_pr_auc": "step_validation_pr_auc"}
            renamed = [(step, {names.get(key, key): value for key, value in point.items()}) for step, point in points]
            self.tracker.log_curve(k, renamed)

    def round(self, record: Record, earlier: list[Record]) -> None:
        """What a round came to, and how it stands beside the earlier ones."""
        if self.tracker is None:
            return
        from t2t import figures

        k, rounds = record.round, self.rounds
        folder = rounds.round_folder(k)
        metrics = dict(record.test)
        metrics |= {f"validation_{name}": value for name, value in record.validation.items() if "/" not in name}
        metrics |= {"rows": record.rows, "seconds": record.seconds, "best_step": record.best_step}
        metrics |= {f"rows/{name}": rows for name, rows in record.rows_by_teacher.items()} | watch_metrics(record)
        everything = [*earlier, record]
        tables = {
            "topics": pd.read_csv(folder / "evaluation" / "test_topics.csv"),
            "teachers": pd.read_csv(folder / "evaluation" / "test_teachers.csv"),
            "rounds": rounds_table(everything),
        }
        for name in ("health", "class_share"):
            if (folder / f"{name}.csv").is_file():
                tables[name] = pd.read_csv(folder / f"{name}.csv")
        pictures = {"pr_curves": self._picture(record), "rounds": figures.rounds(tables["rounds"])}
        self.tracker.log_round(k, metrics, pictures, tables)
        tags = {"t2t.status": record.status, "t2t.reason": record.reason, "t2t.commit": record.commit}
        if record.status == "waiting":
            self.tracker.finish_round(k, "SCHEDULED", tags)
            self.tracker.finish("SCHEDULED")
            return
        checkpoint = rounds.workspace.work / record.checkpoint
        self.tracker.log_checkpoint(k, checkpoint, {"pr_auc": record.test["pr_auc"]}, self._about(record))
        best = champion(everything)
        if best is not None:
            self.tracker.champion(best.round)
        self.tracker.finish_round(k, "FINISHED", tags | ({"t2t.stop": record.stop} if record.stop else {}))
        if record.stop:
            self.tracker.finish("FINISHED")

    def _about(self, record: Record) -> dict[str, str]:
        """The tags of a round's checkpoint, which lead from it to the lake and to its teachers."""
        lake, dataset = self.rounds.lake, self.rounds.config.dataset
        return {
            "t2t.commit": record.commit,
            "t2t.data_commit": record.data_commit,
            "t2t.lake": lake.uri(record.commit),
            "t2t.status": record.status,
            "t2t.identity": record.identity,
            "t2t.teachers": ", ".join(teacher.id for teacher in record.teachers),
            "mlflow.note.content": checkpoint_note(record, dataset, lake.uri(record.commit)),
        }

    def watched(self, record: Record) -> None:
        """What the watch found on a student that teaches only since its campaign was prolonged."""
        if self.tracker is not None:
            path = self.rounds.round_folder(record.round) / "class_share.csv"
            self.tracker.log_round(record.round, watch_metrics(record), {}, {"class_share": pd.read_csv(path)})

    def _repair(self, tracker: Tracker) -> None:
        """Tells the tracker of rounds that the ledger has and it has not, or not as finished (DESIGN, section 6)."""
        records = self.rounds.ledger.records()
        missing = [record for record in records if not tracker.finished(record.round)]
        for record in missing:
            k = record.round
            folder = self.rounds.round_folder(k)
            if not (folder / "evaluation").is_dir() or not (folder / "student").is_dir():
                log.warning("Round %d is missing in MLflow, and its files are no longer in %s.", k, folder)
                continue
            log.info("Round %d: its MLflow run is repaired from the ledger.", k)
            self.start(k, record.data_commit or record.commit, [teacher.id for teacher in record.teachers])
            self.curve(k, json.loads((folder / "student" / "config.json").read_text())["curve"])
            self.round(record, records[:k])
        best = champion(records)
        if missing and best is not None and tracker.finished(best.round):
            tracker.champion(best.round)

    def _retractions(self, tracker: Tracker) -> None:
        """Tells the tracker which rounds are retracted, or stand again, and which one is the best of those that do."""
        if not all_marks(self.rounds.lake, self.rounds.config.dataset):
            return
        records = self.rounds.ledger.records()
        for record in records:
            if tracker.finished(record.round):
                tags = {"t2t.status": record.status, "t2t.reason": record.reason}
                tracker.finish_round(record.round, "FINISHED", tags)
        best = champion(records)
        if best is None or tracker.finished(best.round):
            tracker.champion(best.round if best else None)

    def _picture(self, record: Record) -> Figure:
        """The student's PR curve on test against each teacher's own (paper, figure 5)."""
        from t2t import figures

        rounds = self.rounds
        pairs = rounds.pairs(record, "test")
        scores = {
            name: teacher_scores(pairs, read_labels(rounds.lake, record.commit, rounds.config.dataset, name))
            for name in rounds.roster.outside(record.commit)
        }
        title = f"{rounds.config.name}, round {record.round}: {len(pairs.sample_ids)} test samples"
        return pr_picture(pairs, record.identity, scores, title, figures.teacher_styles(rounds.config.teachers))


def pr_picture(
    pairs: Pairs,
    identity: str,
    scores: Mapping[str, np.ndarray],
    title: str = "",
    styles: Mapping[str, figures.Style] | None = None,
    below: bool = False,
) -> Figure:
    """A student's PR curve against each teacher's own (paper, figure 5).

    Args:
        pairs: scored by the student, asked as `identity`.
        scores: each teacher's confidences for these pairs, float [P], NaN where it gave none: its curve is of the pairs
            that it has, and a teacher that has none is left out.
        styles, below: as for `figures.pr_curves`.
    """
    from t2t import figures

    curves, notes = {f"student, asked as {identity}": curve(pairs)}, {}
    for name, score in scores.items():
        covered = ~np.isnan(score)
        if covered.any():
            curves[name] = curve(pairs.where(covered).with_score(score[covered]))
            if not covered.all():
                notes[name] = f"{covered.mean():.0%} of pairs"
    chance = float(pairs.positive.mean())
    return figures.pr_curves(curves, title, chance=chance, styles=styles, notes=notes, below=below)


def watch_metrics(record: Record) -> dict[str, float]:
    """What the watch found, under the names that the tracker has it by."""
    return {f"watch/{name}": value for name, value in record.watch.items()}
