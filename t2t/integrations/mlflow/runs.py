"""A campaign's or a study's runs in an MLflow store: found by tags, and written to so that a repeat changes nothing."""

from __future__ import annotations

import functools
import json
import logging
import math
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from t2t.core.errors import T2TError
from t2t.core.files import staging
from t2t.core.host import user
from t2t.integrations.mlflow.client import Client
from t2t.integrations.mlflow.door import check_address, check_artifacts, tracking_uri, unusable
from t2t.integrations.mlflow.store import create_store, load_mlflow
from t2t.integrations.mlflow.text import CHART, flatten, short

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

log = logging.getLogger("t2t")

Owner = Literal["campaign", "study", "distillation"]
# What is typed after `t2t` to run it.
VERBS = {"campaign": "run", "study": "study", "distillation": "distill"}

# MLflow's page that compares runs shows files side by side, but only those that lie in no folder.
COMPARED = ("pr_curves", "topics")
# Within MLflow's own limits: 1000 entries in a call, 100 of them parameters; characters of a tag and of a parameter.
METRICS_A_CALL, PARAMS_A_CALL, TAG_LENGTH, PARAM_LENGTH = 800, 100, 8000, 6000


def _now() -> int:
    """Milliseconds since the epoch, as MLflow counts time."""
    return int(time.time() * 1000)


class Runs:
    """The campaign's run and those of its rounds. k: a round; None for the campaign.

    Every call costs a search or a write of the database, so what this process knows is not asked for: which runs it
    made, in what state runs are, which points and tables they have.

    Args:
        uri: an MLflow server or database; where None, `MLFLOW_TRACKING_URI`, and without that `work`/mlflow.db.
        owner: whose runs they are; a study or a distillation has one run only, and `campaign` is its name.

    Attributes:
        database: the file of a local store; None for a server.
    """

    def __init__(self, uri: str | None, work: Path, dataset: str, campaign: str, owner: Owner = "campaign"):
        self.dataset, self.campaign, self.work, self.owner = dataset, campaign, Path(work), owner
        self.uri = uri or tracking_uri(work)
        sqlite = self.uri.startswith("sqlite:////")
        self.database = Path(self.uri.removeprefix("sqlite:///")) if sqlite else None
        self._runs: dict[int | None, str] = {}
        # Per run and metric: step -> (timestamp, value) of the points that are there, asked for at most once.
        self._points: dict[tuple[str, str], dict[int, tuple[int, float]]] = {}
        self._new: set[str] = set()
        self._status: dict[str, str] = {}
        self._listed: dict[str, list[dict[str, str]]] = {}
        # The rounds' runs as they were last read, by id, and the runs that were written to since.
        self._read: dict[str, Any] | None = None
        self._written: set[str] = set()
        # Milliseconds: when a run started, when this process opened it, and how long it had been at work before.
        self._worked: dict[str, tuple[int, int, int]] = {}

    @property
    def _verb(self) -> str:
        return VERBS[self.owner]

    # Connecting and finding

    @functools.cached_property
    def client(self) -> Any:
        check_address(self.uri)  # MLflow itself would try for minutes
        mlflow = load_mlflow()
        if self.database:
            create_store(self.database)
        try:
            client = mlflow.MlflowClient(self.uri, self.uri)
            client.search_experiments(max_results=1)
        except Exception as error:  # whatever drivers and databases raise
            raise unusable(self.uri, error) from error
        return Client(client, self.uri)

    @functools.cached_property
    def experiment(self) -> str:
        """The id of the dataset's experiment, which is made, or brought back where somebody deleted it."""
        found = self.client.get_experiment_by_name(self.dataset)
        if found is None:
            # Only a local store needs to be told where files go; a server knows.
            place = self.database and (self.database.with_name("mlartifacts") / self.dataset).as_uri()
            tags = {"mlflow.experimentKind": "custom_model_development"}

            def made() -> str | None:
                # Perhaps by another process, which was faster.
                experiment = self.client.get_experiment_by_name(self.dataset)
                return experiment and str(experiment.experiment_id)

            found = self.client.get_experiment(
                self.client.make("create_experiment", self.dataset, place, tags, look=made)
            )
        if found.lifecycle_stage == "deleted":

            def restored() -> bool | None:
                return self.client.get_experiment(found.experiment_id).lifecycle_stage == "active" or None

            self.client.make("restore_experiment", found.experiment_id, look=restored)
        experiment = str(found.experiment_id)
        if "mlflow.note.content" not in found.tags:
            # Stands above the experiment's runs, which the UI opens as a bare list.
            description = f"Dataset **{self.dataset}**: each run is a campaign, the runs below it are its rounds. "
            description += f"[PR-AUC by round](#/experiments/{experiment}{CHART})"
            self.client.set_experiment_tag(experiment, "mlflow.note.content", description)
        return experiment

    def _search(self, kind: str, **tags: str) -> list[Any]:
        """Its runs of a kind, oldest first."""
        wanted = {"t2t.kind": kind, f"t2t.{self.owner}": self.campaign, **tags}
        where = " and ".join(f"tags.`{key}` = '{value}'" for key, value in wanted.items())
        order = ["attributes.start_time ASC"]
        return list(self.client.search_runs([self.experiment], where, order_by=order, max_results=1000))

    def find(self, k: int | None = None) -> str | None:
        """The id of the run of round k, or of the campaign; None where there is none yet."""
        if k not in self._runs:
            if k is None:
                runs = self._search(self.owner)
            else:
                parent = self.find()
                # Children of a parent that somebody deleted belong to the past.
                tags = {"t2t.round": str(k), "mlflow.parentRunId": parent or ""}
                runs = self._search("round", **tags) if parent else []
            if not runs:
                return None
            self._runs[k] = runs[0].info.run_id
        return self._runs[k]

    def need(self, k: int | None = None) -> str:
        """As `find`. Raises T2TError where there is none yet."""
        run = self.find(k)
        if run is None:
            what = f"{self.owner} {self.campaign!r}" if k is None else f"round {k} of campaign {self.campaign!r}"
            raise T2TError(f"MLflow has no run for {what}: call {'open' if k is None else 'start_round'} first.")
        return run

    def rounds(self) -> list[Any]:
        """MLflow's runs of the campaign's rounds, in their order.

        They are searched for once, which takes longer with every round; then those are read that were written to.
        """
        parent = self.need()
        if self._read is None:
            found = self._search("round", **{"mlflow.parentRunId": parent})
            self._read = {run.info.run_id: run for run in found}
        else:
            for written in self._written - {parent}:
                run = self.client.get_run(written)
                tags = run.data.tags
                if tags.get("t2t.kind") == "round" and tags.get("mlflow.parentRunId") == parent and _is_active(run):
                    self._read[written] = run
                else:
                    self._read.pop(written, None)
        self._written.clear()
        return sorted(self._read.values(), key=lambda run: int(run.data.tags["t2t.round"]))

    def is_new(self, run: str) -> bool:
        """Whether this process made the run: it has nothing that this process does not know of."""
        return run in self._new

    # Starting and ending

    def start(
        self,
        k: int | None,
        name: str,
        identifying: Mapping[str, Any],
        params: Mapping[str, Any],
        tags: Mapping[str, Any],
    ) -> str:
        """Starts a run, or goes on in it, whatever state a killed process left it in; returns its id.

        Args:
            identifying: tags that it is found by. params, tags: as in `MLflowTracker.open`.
        """
        identifying = {**identifying, f"t2t.{self.owner}": self.campaign, "t2t.dataset": self.dataset}
        run = self.find(k)
        if run is None:
            origin = {"mlflow.user": user(), "mlflow.source.name": f"t2t {self._verb} {self.campaign}"}
            origin["mlflow.source.type"] = "LOCAL"
            wanted = {key: short(value, TAG_LENGTH) for key, value in {**origin, **tags, **identifying}.items()}
            now = _now()
            run = self._make(k, name, wanted, now)
            self._runs[k] = run
            self._new.add(run)
            self._written.add(run)
            self._status[run] = "RUNNING"
            self._worked[run] = (now, now, 0)
            params_before: dict[str, str] = {}
            changed_tags: dict[str, Any] = {}
        else:
            run_before = self.client.get_run(run)
            params_before, changed_tags = run_before.data.params, dict(tags)
            self._status[run] = run_before.info.status
            ended = run_before.info.end_time or run_before.info.start_time
            self._worked[run] = (run_before.info.start_time, _now(), ended - run_before.info.start_time)
            if run_before.info.status != "RUNNING" and (k is None or run_before.info.status != "FINISHED"):
                self.client.update_run(run, status="RUNNING")
                self._status[run] = "RUNNING"
                self._written.add(run)
        flat = {key: short(value, PARAM_LENGTH) for key, value in flatten(params)}
        changed = {key: value for key, value in flat.items() if params_before.get(key, value) != value}
        if changed:
            log.warning("MLflow keeps the first values of parameters that changed: %s", ", ".join(sorted(changed)))
            changed_tags["t2t.changed_params"] = json.dumps(changed)
        self.write(
            run, params={key: value for key, value in flat.items() if key not in params_before}, tags=changed_tags
        )
        return run

    def _make(self, k: int | None, name: str, tags: Mapping[str, str], start_time: int) -> str:
        def made() -> Any | None:
            run = self.find(k)
            return None if run is None else self.client.get_run(run)

        made_run = self.client.make(
            "create_run", self.experiment, start_time=start_time, tags=tags, run_name=name, look=made
        )
        return str(made_run.info.run_id)

    def finish(
        self,
        run: str,
        status: str,
        tags: Mapping[str, Any] | None,
        seconds: float | None = None,
        at_least: float = 0.0,
    ) -> None:
        """Ends a run, once. MLflow shows as its duration what lies between start and end: that is its work here,
        `seconds` where these are known, and no pause between processes."""
        self.write(run, tags=tags)
        if (self._status.get(run) or self.client.get_run(run).info.status) != status:
            end = None  # now
            if run in self._worked:
                start, opened, before = self._worked[run]
                worked = before + _now() - opened if seconds is None else 1000 * seconds
                end = start + int(max(worked, 1000 * at_least))
            self.client.set_terminated(run, status, end)
            self._status[run] = status
            self._written.add(run)

    def forget(self, k: int) -> None:
        """Round k's run is not to be found any more."""
        del self._runs[k]

    def forget_all(self) -> None:
        """Nothing that this process knows is taken for true any more: somebody deleted something."""
        for known in (self._runs, self._points, self._new, self._status, self._listed):
            known.clear()
        self._read = None
        self.__dict__.pop("experiment", None)

    def replace_metrics(self, run: str, values: Mapping[str, float]) -> None:
        """Writes numbers that may change, each at step 0: MLflow shows the newest. One that is there already is not
        written again."""
        from mlflow.entities import Metric

        now, known = _now(), self.client.get_run(run).data.metrics
        wanted = {
            key: float(value) for key, value in values.items() if math.isfinite(value) and known.get(key) != value
        }
        self.write(run, [Metric(key, value, now, 0) for key, value in wanted.items()])

    def write_mark(self) -> None:
        """Writes when the experiment was last opened. Raises T2TError where the store cannot be written to."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.client.set_experiment_tag(self.experiment, "t2t.opened", now)
        check_artifacts(self.uri, self.client.get_experiment(self.experiment).artifact_location)

    def delete_tag(self, run: str, key: str) -> None:
        def deleted() -> bool | None:
            return key not in self.client.get_run(run).data.tags or None

        self._written.add(run)
        self.client.make("delete_tag", run, key, look=deleted)

    def has_files(self, run: str) -> bool:
        """Whether a run has any picture or table."""
        return bool(self.client.list_artifacts(run))

    # Writing

    def write(
        self,
        run: str,
        metrics: Sequence[Any] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes everything at once, or in as few calls as MLflow allows."""
        from mlflow.entities import Param, RunTag

        self._written.add(run)
        points, pairs = list(metrics), [Param(key, value) for key, value in (params or {}).items()]
        marks = [RunTag(key, short(value, TAG_LENGTH)) for key, value in (tags or {}).items()]
        while points or pairs or marks:
            self.client.log_batch(run, points[:METRICS_A_CALL], pairs[:PARAMS_A_CALL], marks)
            points, pairs, marks = points[METRICS_A_CALL:], pairs[PARAMS_A_CALL:], []

    def history(self, run: str, key: str) -> dict[int, tuple[int, float]]:
        """A metric's points: step -> (timestamp, value)."""
        if (run, key) not in self._points:
            points = [] if run in self._new else self.client.get_metric_history(run, key)
            self._points[run, key] = {metric.step: (metric.timestamp, metric.value) for metric in points}
        return self._points[run, key]

    def metrics(
        self, run: str, points: Iterable[tuple[int, Mapping[str, float]]], tags: Mapping[str, Any] | None = None
    ) -> None:
        """Writes (step, values) points and tags. NaN and infinite values are left out, and steps that a metric already
        has are not logged again."""
        from mlflow.entities import Metric

        now = _now()
        wanted = {}
        for step, values in points:
            for key, number in values.items():
                value = float(number)
                if math.isfinite(value) and step not in self.history(run, key):
                    wanted[key, step] = Metric(key, value, now, step)
        self.write(run, list(wanted.values()), tags=tags)
        for metric in wanted.values():
            self.history(run, metric.key)[metric.step] = (metric.timestamp, metric.value)

    def files(
        self, run: str, figures: Mapping[str, Figure], tables: Mapping[str, pd.DataFrame | str]
    ) -> dict[str, str]:
        """Logs pictures and tables; returns the tag that is to be written for the UI to show the tables.

        Args:
            tables: each a table, or what `text.table_json` made of one.
        """
        if not figures and not tables:
            return {}
        with staging(self.work) as folder:
            for name, figure in figures.items():
                path = Path(folder, "figures", name).with_suffix(".png")
                path.parent.mkdir(parents=True, exist_ok=True)
                figure.savefig(path)
            listed = []
            for name, table in tables.items():
                path = Path(folder, "tables", name).with_suffix(".json")
                path.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(table, str):
                    path.write_text(table, encoding="utf-8")
                else:
                    # As `log_table` writes it, which would append to a table that is there: a repeat doubled its rows.
                    table.to_json(path, orient="split", index=False, date_format="iso")
                    if name in COMPARED:
                        table.to_csv(Path(folder, f"{name}.csv"), index=False)
                listed.append({"path": path.relative_to(folder).as_posix(), "type": "table"})
            for name in COMPARED:
                if name in figures:
                    shutil.copy(Path(folder, "figures", f"{name}.png"), folder)
            self.client.log_artifacts(run, folder)
        if run not in self._listed:
            there = {} if run in self._new else self.client.get_run(run).data.tags
            self._listed[run] = json.loads(there.get("mlflow.loggedArtifacts", "[]"))
        self._listed[run] += [entry for entry in listed if entry not in self._listed[run]]
        return {"mlflow.loggedArtifacts": json.dumps(self._listed[run])}


def _is_active(run: Any) -> bool:
    """Whether nobody has deleted a run."""
    return str(run.info.lifecycle_stage) == "active"
