"""Whatever somebody deletes in MLflow, a campaign goes on: made again from the ledger, or told and passed over."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from t2t.campaign.campaign import Campaign
from t2t.integrations.mlflow.observer import MLflowObserver
from tests.helpers.campaigns import run, tiny_at


class Vandal(MLflowObserver):
    """Somebody deletes the campaign's run, and the round's, while the round is trained."""

    def curve(self, campaign: Campaign, k: int, points: Any) -> None:
        super().curve(campaign, k, points)
        tracker = self.tracker
        if not hasattr(self, "deleted"):
            self.deleted = [tracker.run_id(), tracker.run_id(0)]  # type: ignore[attr-defined]
            for gone in self.deleted:
                tracker.runs.client.delete_run(gone)  # type: ignore[attr-defined]


def test_what_is_deleted_is_made_again(campaign: Callable[..., Campaign], monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    one = campaign(rounds={"max": 1, "patience": 1})
    vandal = Vandal.of(one)
    [record] = run(one, vandal)
    tracker: Any = vandal.tracker
    api = tracker.runs.client
    assert "no longer has what" in caplog.text
    assert tracker.run_id() not in vandal.deleted
    assert tracker.whole(0)
    assert tracker.leads(0)
    points = api.get_metric_history(tracker.run_id(0), "training/loss")
    assert len(points) == len({point.step for point in points}) > 1

    # Between two starts: everything, one after the other. The campaign has ended; each start only puts things right.
    def again() -> Any:
        reopened = tiny_at(one.workspace, rounds={"max": 1, "patience": 1})
        fresh = MLflowObserver.of(reopened)
        assert run(reopened, fresh) == [record]
        return fresh.tracker

    api.delete_registered_model("t2t-tiny")
    shutil.rmtree(one.workspace.work / "mlartifacts")
    tracker = again()
    assert tracker.whole(0)
    assert tracker.leads(0)

    # Its files are gone as well, so it cannot be made again: told, and no start ends with an error.
    api.delete_registered_model("t2t-tiny")
    shutil.rmtree(one.files(0).student)
    caplog.clear()
    tracker = again()
    assert "its files are no longer in" in caplog.text
    assert not tracker.leads(0)

    api.delete_experiment(tracker.runs.experiment)
    again()
