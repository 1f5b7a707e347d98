"""What every observer keeps to: it may be told again, decides nothing, and its own errors do not hide another one."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from t2t.campaign import loop
from t2t.campaign.campaign import Campaign
from t2t.campaign.decision import decide
from t2t.campaign.facts import RoundStart, TrainFacts
from t2t.campaign.observer import Observer, Observers, Place
from t2t.campaign.record import Record
from t2t.integrations.mlflow.observer import STATUS, MLflowObserver
from t2t.integrations.mlflow.store import create_store, store_path
from t2t.integrations.mlflow.tracker import MLflowTracker
from t2t.integrations.prefect import board
from tests.helpers.campaigns import tiny, waits

KINDS = ("observer", "observers", "mlflow", "board")
ROUND = ["round_started", "curve", "curve", "round_started", "round_settled", "recorded"]


class Heard(Observer):
    """Keeps what it is told, in order; fails at the calls named."""

    def __init__(self, name: str = "heard", *fails: str):
        self.name, self.fails = name, fails
        self.calls: list[tuple[Any, ...]] = []

    def _hear(self, call: str, *about: Any) -> None:
        self.calls.append((call, *about))
        if call in self.fails:
            raise RuntimeError(f"{self.name} fails at {call}")

    def opened(self, campaign: Campaign) -> None:
        self._hear("opened")

    def round_started(self, campaign: Campaign, start: RoundStart) -> str | None:
        self._hear("round_started", start.round)
        return f"{self.name}-{start.round}"

    def curve(self, campaign: Campaign, k: int, points: Any) -> None:
        self._hear("curve", k, [step for step, _ in points])

    def round_settled(self, campaign: Campaign, record: Record, earlier: Any) -> None:
        self._hear("round_settled", record.round, record.status, [one.round for one in earlier])

    def recorded(self, campaign: Campaign, record: Record) -> None:
        assert campaign.ledger.records()[record.round] == record
        self._hear("recorded", record.round, record.status)

    def promoted(self, campaign: Campaign, record: Record) -> None:
        self._hear("promoted", record.round)

    def discarded(self, campaign: Campaign, k: int) -> None:
        self._hear("discarded", k)

    def finished(self, campaign: Campaign, how: Any) -> None:
        self._hear("finished", how)

    def place(self, k: int | None = None) -> Place | None:
        return Place(self.name, None, f"look at {k}")

    @property
    def names(self) -> list[str]:
        return [call[0] for call in self.calls]


class Desk:
    """Prefect's artifacts and events without a server: what people would see."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.artifacts: dict[str, Any] = {}
        self.events: list[str] = []
        for name in ("create_progress_artifact", "create_markdown_artifact", "create_link_artifact"):
            monkeypatch.setattr(board, name, self._create)
        monkeypatch.setattr(board, "update_progress_artifact", self._create_progress)
        monkeypatch.setattr(board, "emit_event", lambda name, **_: self.events.append(name))
        monkeypatch.setattr(board, "get_run_logger", lambda: logging.getLogger("test"))

    def _create(self, content: Any, link_text: str | None = None, *, key: str, description: str = "") -> str:
        self.artifacts[key] = content
        return key

    def _create_progress(self, key: str, percent: float) -> None:
        self.artifacts[key] = percent


@pytest.fixture(scope="module")
def done(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Campaign, list[Record], Heard]:
    """A finished campaign of two rounds, its records, and what an observer heard of it."""
    campaign, heard = tiny(world, tmp_path_factory.mktemp("observed") / "work"), Heard()
    assert loop.run(campaign, heard) is None
    return campaign, campaign.ledger.records(), heard


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store, since making one takes seconds."""
    database = store_path(tmp_path_factory.mktemp("store"))
    create_store(database)
    return database


@pytest.fixture
def tracker(template: Path, tmp_path: Path) -> MLflowTracker:
    shutil.copy(template, store_path(tmp_path))
    return MLflowTracker(f"sqlite:///{store_path(tmp_path)}", tmp_path, "demo", "tiny")


def history(tracker: MLflowTracker) -> dict[str, Any]:
    """All that MLflow has of a campaign, asked by a client of its own."""
    from mlflow import MlflowClient

    client = MlflowClient(tracker.uri, tracker.uri)
    experiment = client.get_experiment_by_name("demo")
    if experiment is None:
        return {}
    seen: dict[str, Any] = {}
    for run in client.search_runs([experiment.experiment_id]):
        points = {
            key: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics
        }
        places = ["", "figures", "tables"]
        files = sorted(file.path for place in places for file in client.list_artifacts(run.info.run_id, place))
        inputs = [(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs]
        about = (run.info.status, run.data.params, run.data.tags)
        seen[f"{run.info.run_name} {run.info.run_id}"] = (*about, points, files, inputs)
    versions = client.search_model_versions("name = 't2t-tiny'")
    seen["versions"] = sorted((version.version, version.run_id) for version in versions)
    seen["aliases"] = [dict(model.aliases) for model in client.search_registered_models("name = 't2t-tiny'")]
    return seen


@pytest.fixture
def make(
    tracker: MLflowTracker, monkeypatch: pytest.MonkeyPatch, done: tuple[Campaign, list[Record], Heard]
) -> Callable[[str], tuple[Observer, Callable[[], Any]]]:
    """Of a kind's name: an observer, and what tells how things stand at its place."""

    def make(kind: str) -> tuple[Observer, Callable[[], Any]]:
        desk = Desk(monkeypatch)
        if kind == "observer":
            return Observer(), dict
        mlflow = MLflowObserver(tracker)
        if kind == "mlflow":
            return mlflow, lambda: history(tracker)
        own = board.Board(done[0], mlflow)
        if kind == "board":
            return own, lambda: (dict(desk.artifacts), sorted(set(desk.events)))
        return Observers(mlflow, own), lambda: (history(tracker), dict(desk.artifacts), sorted(set(desk.events)))

    return make


def tell(observer: Observer, campaign: Campaign, records: list[Record], twice: bool) -> None:
    """All that there is to tell of a finished campaign, each call once or twice in a row."""
    times = range(2 if twice else 1)
    for _ in times:
        observer.opened(campaign)
    for record in records:
        k, files = record.round, campaign.files(record.round)
        start, points = RoundStart.read(files, k), TrainFacts.read(files).curve
        names = {observer.round_started(campaign, start) for _ in times}
        assert len(names) == 1
        for _ in times:
            observer.curve(campaign, k, points)
        for _ in times:
            observer.round_settled(campaign, record, records[:k])
        for _ in times:
            observer.recorded(campaign, record)
    for _ in times:
        observer.promoted(campaign, records[0])
    for _ in times:
        observer.finished(campaign, "ended")


@pytest.mark.parametrize("kind", KINDS)
def test_every_call_may_be_repeated(kind: str, make: Any, done: tuple[Campaign, list[Record], Heard]) -> None:
    campaign, records, _ = done
    before = [record.model_dump() for record in records]
    commits = [commit.id for commit in campaign.lake.log("main")]
    observer, state = make(kind)
    tell(observer, campaign, records, twice=False)
    once = state()
    tell(observer, campaign, records, twice=True)
    assert state() == once
    if kind != "board":  # a board belongs to one run
        again, _ = make(kind)
        tell(again, campaign, records, twice=True)
        assert state() == once
    # Observers decide nothing and write nothing of the campaign's own.
    assert [record.model_dump() for record in campaign.ledger.records()] == before
    assert [commit.id for commit in campaign.lake.log("main")] == commits


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_campaign_is_told_as_one(kind: str, make: Any, done: tuple[Campaign, list[Record], Heard]) -> None:
    campaign, records, _ = done
    observer, state = make(kind)
    assert loop.run(campaign, observer) is None
    seen = state()
    if kind == "observer":
        return
    if kind in ("board", "observers"):
        artifacts = seen[0] if kind == "board" else seen[1]
        assert artifacts["tiny-progress"] == 100.0
        # A page where MLflow runs on a server, the command that shows it here.
        assert "t2t.integrations.mlflow.server" in artifacts["tiny-mlflow"]
    if kind in ("mlflow", "observers"):
        runs = {name.split()[0]: run for name, run in (seen if kind == "mlflow" else seen[0]).items() if " " in name}
        # What no observer heard of is put right from the ledger.
        assert set(runs) == {"tiny", "tiny-round-0", "tiny-round-1"}
        assert {run[0] for run in runs.values()} == {"FINISHED"}
        assert runs["tiny"][3]["PR-AUC/test"] == [(record.round, record.test["pr_auc"]) for record in records]
        for record in records:
            _, _, tags, points, files, inputs = runs[f"tiny-round-{record.round}"]
            assert (tags["t2t.status"], tags["t2t.reason"]) == (record.status, record.reason)
            assert [step for step, _ in points["training/loss"]] == [15, 30]
            assert {"figures/pr_curves.png", "tables/rounds.json"} <= set(files)
            assert {name for name, _ in inputs} == {"data", *(teacher.id for teacher in record.teachers)}


def test_the_loop_tells_in_this_order(done: tuple[Campaign, list[Record], Heard]) -> None:
    campaign, _, heard = done
    assert heard.names == ["opened", *ROUND, *ROUND, "finished"]
    settled = [call[1:] for call in heard.calls if call[0] == "round_settled"]
    assert settled == [(0, "passed", []), (1, "passed", [0])]
    assert heard.calls[-1] == ("finished", "ended")
    # Nothing is left to do, and that is told too.
    again = Heard()
    assert loop.run(campaign, again) is None
    assert again.calls == [("opened",), ("finished", "ended")]


def test_a_run_that_stops_before_a_round_pauses(world: Path, tmp_path: Path) -> None:
    campaign, heard = tiny(world, tmp_path / "work"), Heard()
    for until, records in ((1, 1), (1, 1), (0, 1)):
        # Rounds that another run has done meanwhile do not bring it past its end.
        assert loop.run(campaign, heard, until=until) is None
        assert heard.calls[-1] == ("finished", "pausing")
        assert len(campaign.ledger.records()) == records


def test_a_student_that_teaches_after_all_is_told(world: Path, tmp_path: Path) -> None:
    heard = Heard()
    for rounds in (1, 2):  # the campaign is prolonged
        assert loop.run(tiny(world, tmp_path / "work", rounds={"max": rounds}), heard) is None
    assert heard.names == ["opened", *ROUND, "finished", "opened", "promoted", *ROUND, "finished"]
    assert ("promoted", 0) in heard.calls


def test_a_round_that_waits_is_told_before_and_after_its_answer(world: Path, tmp_path: Path) -> None:
    campaign, heard = tiny(world, tmp_path / "work", gate="manual", rounds={"max": 1}), Heard()
    for _ in range(2):
        waits(campaign, heard)
        assert heard.calls[-2:] == [("round_settled", 0, "waiting", []), ("finished", "waiting")]
    assert campaign.ledger.records() == []
    decide(campaign.ledger, "tiny", 0, passed=False, reason="worse")
    assert loop.run(campaign, heard) is None
    assert heard.calls[-2:] == [("recorded", 0, "rejected"), ("finished", "ended")]


@pytest.mark.parametrize("how", STATUS)
def test_mlflow_leaves_the_campaigns_run_as_it_ended(
    how: Any, tracker: MLflowTracker, done: tuple[Campaign, list[Record], Heard]
) -> None:
    observer = MLflowObserver(tracker)
    observer.finished(done[0], how)  # an error before anything was opened
    assert history(tracker) == {"versions": [], "aliases": []}
    tracker.open({}, {})
    for _ in range(2):
        observer.finished(done[0], how)
        (status,) = [run[0] for name, run in history(tracker).items() if " " in name]
        assert status == STATUS[how]
    assert STATUS == {"ended": "FINISHED", "pausing": "FINISHED", "waiting": "SCHEDULED", "failed": "FAILED"}


def test_mlflow_sets_a_discarded_round_aside(
    tracker: MLflowTracker, done: tuple[Campaign, list[Record], Heard]
) -> None:
    campaign, observer = done[0], MLflowObserver(tracker)
    tracker.open({}, {})
    start = RoundStart(round=0, commit=campaign.lake.resolve("main"), teachers=("human", "vendor"))
    first = observer.round_started(campaign, start)
    observer.curve(campaign, 0, [(15, {"loss": 1.0})])
    for _ in range(2):
        observer.discarded(campaign, 0)
    second = observer.round_started(campaign, start)
    assert second != first
    tags = {name.split()[1]: run[2] for name, run in history(tracker).items() if " " in name}
    assert (tags[first]["t2t.kind"], tags[second]["t2t.kind"]) == ("discarded", "round")


def test_a_board_shows_rejected_and_not_waiting_rounds(
    monkeypatch: pytest.MonkeyPatch, done: tuple[Campaign, list[Record], Heard]
) -> None:
    campaign, records, _ = done
    desk = Desk(monkeypatch)
    own = board.Board(campaign, Observer())
    own.opened(campaign)
    # Rounds from before are shown at once.
    assert desk.artifacts.pop("tiny-progress") == 100.0
    assert "| 1 |" in desk.artifacts.pop("tiny-rounds")
    assert desk.artifacts == {}  # nobody shows anything
    # Of what comes then only what is in the ledger is shown, once.
    for status in ("waiting", "rejected"):
        own.round_settled(campaign, records[0].model_copy(update={"status": status}), [])
    assert (desk.artifacts, desk.events) == ({}, [])
    own.recorded(campaign, records[0].model_copy(update={"status": "rejected"}))
    assert desk.events == ["t2t.round.rejected"]
    assert desk.artifacts["tiny-progress"] == 50.0
    assert "| 0 |" in desk.artifacts["tiny-rounds"]
    for how in ("failed", "pausing", "waiting"):
        own.finished(campaign, how)  # type: ignore[arg-type]
        assert desk.artifacts["tiny-progress"] == 50.0
    own.finished(campaign, "ended")
    assert desk.artifacts["tiny-progress"] == 100.0


# -- several of them ------------------------------------------------------------------------------------------------


def test_several_are_told_one_after_the_other(done: tuple[Campaign, list[Record], Heard]) -> None:
    campaign, records, _ = done
    first, second = Heard("first"), Heard("second")
    both = Observers(Observer(), first, second)
    tell(both, campaign, records, twice=False)
    both.discarded(campaign, 1)
    assert first.calls == second.calls
    told = ["round_started", "curve", "round_settled", "recorded"]
    assert first.names == ["opened", *told, *told, "promoted", "finished", "discarded"]
    start = RoundStart.read(campaign.files(0), 0)
    assert both.round_started(campaign, start) == "first-0"
    assert Observers(Observer()).round_started(campaign, start) is None


@pytest.mark.parametrize("call", ["opened", *dict.fromkeys(ROUND), "promoted", "finished"])
def test_an_error_of_one_ends_the_step(call: str, done: tuple[Campaign, list[Record], Heard]) -> None:
    campaign, records, _ = done
    after = Heard("after")
    with pytest.raises(RuntimeError, match=f"broken fails at {call}"):
        tell(Observers(Heard("broken", call), after), campaign, records, twice=False)
    assert call not in after.names


def test_of_a_failure_all_are_told_and_its_error_is_the_one_to_see(world: Path, tmp_path: Path) -> None:
    campaign, after = tiny(world, tmp_path / "work"), Heard("after")
    broken = Heard("broken", "finished")

    def step(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        if name == "round 0: rows":
            raise ValueError("what went wrong")
        return function(*arguments)

    with pytest.raises(ValueError, match="what went wrong"):
        loop.run(campaign, Observers(broken, after), step)
    assert broken.calls[-1] == after.calls[-1] == ("finished", "failed")
    # Alone, too, it does not hide that error.
    with pytest.raises(ValueError, match="what went wrong"):
        loop.run(campaign, broken, step)
    # The lock is free again.
    with campaign.lock:
        pass


# -- where people look ----------------------------------------------------------------------------------------------


def test_where_people_look(
    tracker: MLflowTracker, monkeypatch: pytest.MonkeyPatch, done: tuple[Campaign, list[Record], Heard]
) -> None:
    mlflow = MLflowObserver(tracker)
    Desk(monkeypatch)
    silent = [Observer(), board.Board(done[0], mlflow)]
    assert [observer.place(k) for observer in silent for k in (None, 0)] == [None] * 4
    assert Observers(*silent).place() is None
    for k in (None, 0):
        place = mlflow.place(k)
        assert place == Place("MLflow", None, tracker.ui_command())
        assert f"sqlite:///{store_path(tracker.runs.work)}" in place.command
        # The first that shows anything is where people are sent.
        assert Observers(*silent, mlflow, Heard()).place(k) == place
    assert Observers(Heard(), mlflow).place(1) == Place("heard", None, "look at 1")


def test_mlflows_place_on_a_server_is_the_page_of_the_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = MLflowTracker("http://me:secret@history.example:5000", tmp_path, "demo", "tiny")
    monkeypatch.setattr(type(tracker.runs), "experiment", "7")
    monkeypatch.setattr(tracker.runs, "find", lambda k=None: f"run-{k}")
    place = MLflowObserver(tracker).place(1)
    page = "http://history.example:5000/#/experiments/7/runs/run-1?workflowType=machine_learning"
    assert place is not None
    assert (place.name, place.url) == ("MLflow", page)
    assert "secret" not in place.command
