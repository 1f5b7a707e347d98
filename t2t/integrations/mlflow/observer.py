"""MLflow's observer: parameters, inputs, metrics, pictures and tables of each round, told to a tracker."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import pandas as pd
from matplotlib.figure import Figure

from t2t.campaign.campaign import Campaign
from t2t.campaign.facts import RoundStart, TrainFacts
from t2t.campaign.observer import End, Observer, Place
from t2t.campaign.record import Record, champion, rounds_table
from t2t.campaign.seeds import family
from t2t.campaign.tuned import TunedEncoder, all_tuned
from t2t.core.config import parse
from t2t.core.errors import listed
from t2t.data.pairs import teacher_scores
from t2t.evaluation import figures
from t2t.evaluation.calibration import reliability_picture
from t2t.evaluation.decisions import Decisions
from t2t.evaluation.figures import pr_picture
from t2t.evaluation.metrics import chance
from t2t.integrations.mlflow.client import Gone
from t2t.integrations.mlflow.names import CHANCE, PR_AUC, readable
from t2t.integrations.mlflow.study import study_tags
from t2t.integrations.mlflow.text import checkpoint_note
from t2t.integrations.mlflow.tracker import DataInput, MLflowTracker
from t2t.lake.layout import DatasetLayout
from t2t.teachers.retraction import all_marks
from t2t.teachers.store import named_labels
from t2t.tuning.needs import tuning_of

log = logging.getLogger("t2t")

# Teachers whose labels are an input of a round's run each; of more the folder that all of them lie in is one.
MOST_INPUTS = 50
# In which state a campaign's run is left.
STATUS: dict[End, str] = {"ended": "FINISHED", "pausing": "FINISHED", "waiting": "SCHEDULED", "failed": "FAILED"}


class Tracker(Protocol):
    """Where people watch rounds; `MLflowTracker` is the one for MLflow. Every call may be repeated."""

    def ready(self) -> None: ...
    def forget(self) -> None: ...
    def open(self, params: dict[str, Any], tags: dict[str, str]) -> str: ...
    def finished(self, k: int) -> bool: ...
    def whole(self, k: int) -> bool: ...
    def leads(self, k: int) -> bool: ...
    def start_round(self, k: int, params: dict[str, Any], tags: dict[str, str]) -> str: ...
    def log_inputs(self, k: int, inputs: Sequence[DataInput]) -> None: ...
    def log_curve(self, k: int | None, points: Sequence[tuple[int, Mapping[str, float]]]) -> None: ...
    def log_round(
        self, k: int, metrics: dict[str, float], figures: dict[str, Figure], tables: dict[str, pd.DataFrame]
    ) -> None: ...
    def log_recipe(self, k: int, params: dict[str, Any]) -> None: ...
    def log_checkpoint(self, k: int, folder: Path, metrics: Mapping[str, float], tags: Mapping[str, str]) -> str: ...
    def champion(self, k: int | None) -> None: ...
    def finish_round(self, k: int, status: str, tags: dict[str, str], seconds: float | None = None) -> None: ...
    def discard_round(self, k: int) -> None: ...
    def finish(self, status: str) -> None: ...
    def url(self, k: int | None) -> str | None: ...
    def ui_command(self) -> str: ...


Told = TypeVar("Told", bound=Callable[..., Any])


def _mended(method: Told) -> Told:
    """Where somebody has deleted in MLflow what is written to, it is made again, once; else it is told and passed over.

    MLflow's history is a convenience, and the next start looks for whatever is missing in it.
    """

    @wraps(method)
    def tell(self: MLflowObserver, campaign: Campaign, *arguments: Any) -> Any:
        try:
            return method(self, campaign, *arguments)
        except Gone as gone:
            log.warning("%s It is made again.", gone)
        try:
            self._again(campaign)
            return method(self, campaign, *arguments)
        except Gone as gone:
            log.warning("%s It is passed over; the next run puts it right.", gone)
            return None

    return cast(Told, tell)


class MLflowObserver(Observer):
    """Tells a tracker of one campaign's rounds."""

    def __init__(self, tracker: Tracker):
        self.tracker = tracker
        # The round under way, and what was told of its training: to be told again where its run is deleted.
        self._under_way: RoundStart | None = None
        self._curve: list[tuple[int, Mapping[str, float]]] = []
        # What rounds were started with, and the runs that this gave: telling it again would change nothing.
        self._started: dict[RoundStart, str] = {}

    @classmethod
    def of(cls, campaign: Campaign) -> MLflowObserver:
        """The observer of a campaign in the store that the environment names, or the work folder's own."""
        config = campaign.config
        return cls(MLflowTracker(None, campaign.workspace.work, config.dataset, config.name))

    def ready(self, campaign: Campaign) -> None:
        """Opens the store, and writes to it."""
        self.tracker.ready()

    @_mended
    def opened(self, campaign: Campaign) -> None:
        """Opens the campaign, and puts right what killed runs left and what was retracted since."""
        self._open(campaign)

    def _open(self, campaign: Campaign) -> None:
        self._started.clear()  # runs that were ended since are opened again
        config, lake = campaign.config, campaign.lake
        parameters = config.model_dump(mode="json", exclude={"name", "description"})
        tags = {"t2t.dataset": config.dataset, "t2t.lake": lake.uri("main")}
        if (base := family(config)) is not None:
            tags["t2t.seeds_of"] = base  # grouped by it, MLflow's chart has one line with a band
        self.tracker.open(parameters, tags | study_tags(campaign))
        for encoder in all_tuned(campaign.ledger) if tuning_of(config.encoder) is not None else ():
            self._tuned(encoder)
        self._repair(campaign)
        self._retractions(campaign)

    def _again(self, campaign: Campaign) -> None:
        """Opens the campaign as a new process would, with the round under way."""
        start, curve = self._under_way, self._curve
        self.tracker.forget()
        self._open(campaign)
        if start is not None:
            self._start(campaign, start)
            self.tracker.log_curve(start.round, curve)

    @_mended
    def tuned(self, campaign: Campaign, encoder: TunedEncoder) -> None:
        """The curve of a tuning, on the campaign's own run."""
        self._tuned(encoder)

    def _tuned(self, encoder: TunedEncoder) -> None:
        # One that was tuned again, without a teacher that was retracted, is a section of charts of its own.
        section = f"tuning {encoder.number}" if encoder.number else "tuning"
        names = {"validation_pr_auc": "PR-AUC validation by step"}
        points = [
            (step, {f"{section}/{names.get(key, key)}": value for key, value in point.items()})
            for step, point in encoder.curve
        ]
        self.tracker.log_curve(None, points)

    @_mended
    def round_started(self, campaign: Campaign, start: RoundStart) -> str:
        """Starts a round's run, which reads its labels at a commit; returns the run's id."""
        if self._under_way != start:
            self._under_way, self._curve = start, []
        return self._start(campaign, start)

    def _start(self, campaign: Campaign, start: RoundStart) -> str:
        if start in self._started:
            return self._started[start]
        k, teachers, layout = start.round, start.teachers, DatasetLayout(campaign.config.dataset)
        facts = {
            "round": k,
            "seed": campaign.seed(k),
            "teachers": ",".join(teachers[:MOST_INPUTS]),
            "tasks": len(teachers),
        }
        settings = campaign.config.model_dump(mode="json", include={"method", "encoder", "student", "training"})
        run = self.tracker.start_round(k, facts | settings, {"t2t.branch": campaign.layout.branch(k)})
        lake, commit = campaign.lake, start.commit
        inputs = [DataInput("data", lake.uri(commit, layout.data), commit[:12], "data")]
        many = len(teachers) > MOST_INPUTS
        if many:
            inputs.append(DataInput("teachers", lake.uri(commit, layout.teachers), commit[:12], "training"))
        for teacher in teachers[:1] if many else teachers:
            path = layout.teacher(teacher).labels
            inputs.append(DataInput(teacher, lake.uri(commit, path), commit[:12], "training"))
        self.tracker.log_inputs(k, inputs)
        self._started[start] = run
        return run

    @_mended
    def discarded(self, campaign: Campaign, k: int) -> None:
        self._started.clear()
        self._under_way = None
        self.tracker.discard_round(k)

    @_mended
    def curve(self, campaign: Campaign, k: int, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Points of the curve. PR-AUC by step has a name of its own: the round's is that of its best step."""
        renamed = _renamed(points)
        if self._under_way is not None and self._under_way.round == k:
            self._curve += renamed
        self.tracker.log_curve(k, renamed)

    @_mended
    def round_settled(self, campaign: Campaign, record: Record, earlier: Sequence[Record]) -> None:
        """What a round came to, and how it stands beside the earlier ones."""
        self._settle(campaign, record, earlier)

    def _settle(self, campaign: Campaign, record: Record, earlier: Sequence[Record]) -> None:
        k, everything = record.round, [*earlier, record]
        tables = _tables(campaign, record, everything)
        pictures = {"pr_curves": picture(campaign, record), "rounds": figures.rounds(tables["rounds"])}
        pictures |= _reliability(campaign, record)
        level = chance(campaign.scored_pairs(record, "test"))
        self.tracker.log_round(k, _metrics(record) | {CHANCE: level}, pictures, tables)
        tags = {"t2t.status": record.status, "t2t.reason": record.reason, "t2t.commit": record.commit}
        tags |= {"t2t.resampled": record.resampled}
        if record.recipe is not None and campaign.config.recipe == "auto":
            self.tracker.log_recipe(k, {"recipe": record.recipe.model_dump(mode="json")})
        if record.status == "waiting":
            self.tracker.finish_round(k, "SCHEDULED", tags)
            return
        checkpoint = campaign.workspace.work / record.checkpoint
        self.tracker.log_checkpoint(k, checkpoint, {PR_AUC: record.test["pr_auc"]}, _about(campaign, record))
        best = champion(everything)
        if best is not None:
            self.tracker.champion(best.round)
        tags |= {"t2t.stop": record.stop} if record.stop else {}
        self.tracker.finish_round(k, "FINISHED", tags, record.seconds)
        if record.stop:
            self.tracker.finish("FINISHED")

    def recorded(self, campaign: Campaign, record: Record) -> None:
        self._under_way = None

    @_mended
    def promoted(self, campaign: Campaign, record: Record) -> None:
        """What the watch found on a student that teaches only since its campaign was prolonged."""
        shares = pd.read_csv(campaign.files(record.round).class_share)
        self.tracker.log_round(record.round, watch_metrics(record), {}, {"class_share": shares})

    @_mended
    def finished(self, campaign: Campaign, how: End) -> None:
        self.tracker.finish(STATUS[how])

    def place(self, k: int | None = None) -> Place:
        return Place("MLflow", self.tracker.url(k), self.tracker.ui_command())

    def _repair(self, campaign: Campaign) -> None:
        """Tells the tracker of rounds that the ledger has and it has not, or not as finished (DESIGN, section 6)."""
        records = campaign.ledger.records()
        missing = [record for record in records if not self.tracker.whole(record.round)]
        for record in missing:
            k, files = record.round, campaign.files(record.round)
            if not files.evaluation.is_dir() or not files.student.is_dir():
                log.warning("Round %d is missing in MLflow, and its files are no longer in %s.", k, files.folder)
                continue
            log.info("Round %d: its MLflow run is repaired from the ledger.", k)
            teachers = tuple(teacher.id for teacher in record.teachers)
            commit = record.data_commit or record.commit
            start = RoundStart(round=k, commit=commit, teachers=teachers, started_from=record.started_from)
            self._start(campaign, start)
            self.tracker.log_curve(k, _renamed(TrainFacts.read(files).curve))
            self._settle(campaign, record, records[:k])
        best = champion(records)
        if best is not None and self.tracker.finished(best.round) and (missing or not self.tracker.leads(best.round)):
            self.tracker.champion(best.round)

    def _retractions(self, campaign: Campaign) -> None:
        """Tells the tracker which rounds are retracted, or stand again, and which one is the best of those that do."""
        if not all_marks(campaign.lake, campaign.config.dataset):
            return
        records = campaign.ledger.records()
        for record in records:
            if self.tracker.finished(record.round):
                tags = {"t2t.status": record.status, "t2t.reason": record.reason}
                self.tracker.finish_round(record.round, "FINISHED", tags)
        best = champion(records)
        if best is None or self.tracker.finished(best.round):
            self.tracker.champion(best.round if best else None)


def _renamed(points: Sequence[tuple[int, Mapping[str, float]]]) -> list[tuple[int, dict[str, float]]]:
    steps = {"validation_pr_auc": "step_validation_pr_auc"}
    return [(step, {readable(steps.get(key, key)): value for key, value in point.items()}) for step, point in points]


def picture(campaign: Campaign, record: Record) -> Figure:
    """The student's PR curve on test against each teacher's own (paper, figure 5)."""
    pairs, told = campaign.scored_pairs(record, "test"), set(record.foremost())
    scores = {
        name: teacher_scores(pairs, named_labels(campaign.lake, record.commit, campaign.config.dataset, name))
        for name in campaign.lineup.outside(record.commit)
        if name in told
    }
    title = f"{campaign.config.name}, round {record.round}: {len(pairs.sample_ids)} test samples"
    return pr_picture(pairs, record.identity, scores, title, figures.teacher_styles(campaign.config.teachers))


def _reliability(campaign: Campaign, record: Record) -> dict[str, Figure]:
    """How far the student's confidences on test can be taken at their word, where that was measured."""
    files = campaign.files(record.round)
    if not files.decisions.is_file():
        return {}
    bins = (
        parse(Decisions, json.loads(files.decisions.read_text(encoding="utf-8")), files.decisions)
        .calibration["test"]
        .bins
    )
    return {"reliability": reliability_picture(bins, f"{campaign.config.name}, round {record.round}: test")}


def _tables(campaign: Campaign, record: Record, everything: Sequence[Record]) -> dict[str, pd.DataFrame]:
    files = campaign.files(record.round)
    tables = {
        "topics": pd.read_csv(files.topics("test")),
        "teachers": pd.read_csv(files.teachers("test")),
        "rounds": rounds_table(everything),
    }
    for name, path in (("health", files.health), ("class_share", files.class_share)):
        if path.is_file():
            tables[name] = pd.read_csv(path)
    return tables


def _metrics(record: Record) -> dict[str, float]:
    """What a round came to, under the names that people read."""
    metrics = dict(record.test)
    metrics |= {f"validation_{name}": value for name, value in record.validation.items() if "/" not in name}
    if record.control is not None:
        gain = record.control.gain_test
        metrics |= {"control_pr_auc": record.control.test["pr_auc"], "gain_over_control": gain.value}
        metrics |= {"gain_over_control_low": gain.low, "gain_over_control_high": gain.high}
    told = set(record.shown())
    metrics = {name: value for name, value in metrics.items() if not _untold(name, told)}
    for name, scale in record.scales.items():
        if name not in told:
            continue
        facts = {"worth": scale.worth, "slope": scale.slope}
        metrics |= {f"scale_{fact}/{name}": value for fact, value in facts.items() if value is not None}
    metrics |= {f"decisions/{name}": value for name, value in record.decisions.items()}
    metrics |= {"rows": record.rows, "seconds": record.seconds, "best_step": record.best_step}
    metrics |= {f"rows/{name}": rows for name, rows in record.rows_by_teacher.items() if name in told}
    return {readable(name): value for name, value in metrics.items()} | watch_metrics(record)


def watch_metrics(record: Record) -> dict[str, float]:
    """What the watch found, under the names that the tracker has it by."""
    told = set(record.shown())
    watched = {name: value for name, value in record.watch.items() if not _untold(name, told)}
    return {readable(f"watch/{name}"): value for name, value in watched.items()}


def _untold(metric: str, told: Collection[str]) -> bool:
    """Whether a metric is of a teacher that is not told of by name: its numbers stand in the table of teachers."""
    kind, _, teacher = metric.partition("/")
    return kind in ("pr_auc_teacher", "pr_auc_beside", "agreement") and bool(teacher) and teacher not in told


def _about(campaign: Campaign, record: Record) -> dict[str, str]:
    """The tags of a round's checkpoint, which lead from it to the lake and to its teachers."""
    lake, dataset = campaign.lake, campaign.config.dataset
    return {
        "t2t.commit": record.commit,
        "t2t.data_commit": record.data_commit,
        "t2t.lake": lake.uri(record.commit),
        "t2t.status": record.status,
        "t2t.identity": record.identity,
        "t2t.teachers": listed([teacher.id for teacher in record.teachers], MOST_INPUTS),
        "mlflow.note.content": checkpoint_note(record, dataset, lake.uri(record.commit)),
    }
