"""A campaign that dies where it is told to: the engine with its MLflow tracker, without Prefect (helpers/crash.py).

Run as a script it imports everything once and then forks a process for every line on its standard input, so that a
start costs milliseconds instead of seconds. A line is JSON:

    {"registry", "data", "work", "settings": [...], "log": file,
     "at": name of the point to act at or null, "action": "kill" | "full" | "wait", "kill_after": seconds or null,
     "trace": file or null, "clock": seconds, "study": name or null}

With "study" it runs that study, without MLflow.

It answers with {"status"}. A *point* is the moment before or after one call that changes
something outside of the process: a file renamed, a lake operation, a call to MLflow; and every training step.
"""

from __future__ import annotations

import errno
import functools
import json
import logging
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from t2t.core.errors import explain

TRACKER = ("open", "start_round", "log_inputs", "log_curve", "log_round", "log_checkpoint", "champion", "finish_round")
MLFLOW = ("create_run", "update_run", "log_batch", "log_artifacts", "log_inputs", "log_outputs", "set_terminated")
MODELS = ("create_logged_model", "log_model_artifacts", "finalize_logged_model", "set_logged_model_tags")
REGISTRY = ("create_registered_model", "create_model_version", "set_registered_model_alias")


PID = re.compile(r"\.\d+\.")


class Points:
    """Passes points by name, and acts at the first one that is called `at`."""

    def __init__(self, at: str | None, action: str, trace: str | None):
        self.at, self.action = at, action
        self.trace = open(trace, "a", encoding="utf-8") if trace else None  # noqa: SIM115 (until the process dies)
        self.steps = 0

    def reach(self, name: str) -> None:
        if self.trace:
            print(name, file=self.trace, flush=True)
        if name == self.at and self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == self.at and self.action == "full":
            self.at = None
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if name == self.at and self.action == "wait" and self.trace:
            while not Path(f"{self.trace.name}.go").exists():
                time.sleep(0.02)

    def wrap(self, owner: Any, name: str, label: Callable[..., str]) -> None:
        """Makes `owner.name` pass a point before and one after each of its calls."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            detail = label(*args, **kwargs)
            self.reach(f"before {name} {detail}".strip())
            result = function(*args, **kwargs)
            self.reach(f"after {name} {detail}".strip())
            return result

        setattr(owner, name, watched)

    def step(self, *_: Any) -> str:
        self.steps += 1
        return str(self.steps)


def install(points: Points, lake: Any) -> None:
    import mlflow

    from t2t.integrations.mlflow.tracker import MLflowTracker
    from t2t.training.batches import Ahead

    def target(_source: Any, path: Any, *_: Any) -> str:
        parts = Path(path).parts[-2:]
        # Shards and staging folders have random names, temporary ones the process's number.
        return "/".join("*" if len(part) > 40 or "staging" in part else PID.sub(".PID.", part) for part in parts)

    points.wrap(os, "replace", target)
    points.wrap(os, "rename", target)
    points.wrap(lake, "branch", lambda _self, name, *_: name)
    points.wrap(lake, "commit", lambda _self, branch, files, key, *_, **__: ":".join(key.split(":")[:3]))
    points.wrap(lake, "merge", lambda _self, source, *_: source)
    points.wrap(lake, "tag", lambda _self, name, *_: name)
    points.wrap(Ahead, "__next__", points.step)
    for name in TRACKER:
        points.wrap(MLflowTracker, name, lambda _self, k=None, *_, **__: str(k) if isinstance(k, int) else "")
    for name in (*MLFLOW, *MODELS, *REGISTRY):
        points.wrap(mlflow.MlflowClient, name, lambda *_, **__: "")


def run(order: dict[str, Any]) -> None:
    """What the flow does, without Prefect."""
    from t2t.campaign import loop
    from t2t.campaign.campaign import Campaign
    from t2t.campaign.engine import LocalEngine
    from t2t.core.workspace import Workspace
    from t2t.integrations.mlflow.observer import MLflowObserver
    from t2t.lake.git import GitLake
    from t2t.studies.cells import read_study
    from t2t.studies.running import run_study
    from tests.helpers.study_world import alone

    if order.get("clock"):
        real = time.time
        time.time = lambda: real() + order["clock"]
    place = Workspace.find(Path(order["registry"]), Path(order["data"]), Path(order["work"]))
    if order.get("study"):
        install(Points(order.get("at"), order.get("action", "kill"), order.get("trace")), GitLake)
        study = read_study(place, order["study"])
        run_study(study, place, run_campaign=alone, engine=LocalEngine("cpu"))
        return
    campaign = Campaign.open("tiny", place, settings=order["settings"], engine=LocalEngine("cpu"))
    lake: Any = GitLake
    if campaign.config.lake.startswith("lakefs"):
        from t2t.lake.lakefs.lake import LakeFSLake as lake
    install(Points(order.get("at"), order.get("action", "kill"), order.get("trace")), lake)
    loop.run(campaign, MLflowObserver.of(campaign))


def child(order: dict[str, Any]) -> int:
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    try:
        run(order)
    except BaseException as error:
        traceback.print_exc()
        print(f"explained: {explain(error)}", file=sys.stderr, flush=True)
        return 1
    return 0


def wait(pid: int, kill_after: float | None) -> int:
    """Waits for a child, and kills it if it is still there after so many seconds; returns its exit status."""
    if kill_after is not None:
        end = time.monotonic() + kill_after
        while time.monotonic() < end:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def serve() -> None:
    import sklearn.metrics  # noqa: F401

    import t2t.campaign.loop
    import t2t.integrations.mlflow.observer
    import t2t.studies.running  # noqa: F401

    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(child(order))
        print(json.dumps({"status": wait(pid, order.get("kill_after"))}), flush=True)


if __name__ == "__main__":
    serve()
