"""Prefect's record, mended: what a kill left RUNNING is marked as crashed, and a run crashes only so often."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter, TaskRunFilter
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Crashed

from t2t.core.errors import T2TError
from t2t.core.files import write_text

UNFINISHED = {"state": {"type": {"any_": ["RUNNING", "CANCELLING"]}}}
RESTARTS = 3
# A dead run that another one took over from is not to be started again: automations go by the state's name.
TAKEN_OVER = "TakenOver"
FIRST = "first-round:"


def check_restarts() -> None:
    """Raises T2TError when the current run has crashed more than RESTARTS times, which ends it as failed.

    The automation that starts crashed runs again (`automations`) does not count; a run's states do, and are not
    raised by a round that waited for a person, as its run count is.
    """
    with get_client(sync_client=True) as client:
        crashes = sum(state.is_crashed() for state in client.read_flow_run_states(flow_run.id))
    if crashes > RESTARTS:
        raise T2TError(
            f"This run has crashed {crashes} times and is not tried again. Its logs say how it ended (out of memory "
            "leaves nothing but an exit status of -9). Once that is mended start a new run: it goes on where this one "
            "stopped."
        )


def place_tag(folder: Path) -> str:
    """What runs on a campaign's folder carry as a tag: a name that the folder has drawn for itself.

    The same path on another machine is another folder, and a container's host name is a new one at each start.
    """
    file = folder / "id"
    if not file.is_file():
        write_text(file, uuid4().hex[:12])
    return f"{folder.name}:{file.read_text(encoding='utf-8')}"


def first_round(begun: int) -> int:
    """The round that the current run began with; a tag keeps it over crashes and suspensions.

    Args:
        begun: the first round that is not done now.
    """
    with get_client(sync_client=True) as client:
        this_run = client.read_flow_run(flow_run.id)
        noted = [tag.removeprefix(FIRST) for tag in this_run.tags if tag.startswith(FIRST)]
        if not noted:
            client.update_flow_run(this_run.id, tags=[*this_run.tags, f"{FIRST}{begun}"])
    return int(noted[0]) if noted else begun


def mark_dead_runs(folder: Path) -> int:
    """Marks unfinished runs of the current flow, name and work folder as crashed; returns how many there were.

    Call it with the campaign's lock held: no other process of that work folder can be at work on it then, so those runs
    are dead. A run killed by SIGKILL stays RUNNING otherwise, for ever where no worker looks after it. So do the tasks
    of the current run's own earlier attempts.

    Args:
        folder: the campaign's folder.
    """
    with get_client(sync_client=True) as client:
        this_run = client.read_flow_run(flow_run.id)
        client.update_flow_run(this_run.id, tags=sorted({*this_run.tags, place_tag(folder)}))
        _end_tasks(client, this_run.id)
        unfinished = client.read_flow_runs(
            flow_filter=FlowFilter.model_validate({"id": {"any_": [this_run.flow_id]}}),
            flow_run_filter=FlowRunFilter.model_validate({"name": {"any_": [this_run.name]}, **UNFINISHED}),
        )
        dead = [run for run in unfinished if run.id != this_run.id and place_tag(folder) in run.tags]
        for run in dead:
            _end_tasks(client, run.id)
            state = Crashed(name=TAKEN_OVER, message="It was killed; a later run goes on.")
            client.set_flow_run_state(run.id, state, force=True)
            get_run_logger().info("Marked the dead run %s (%s) as crashed.", run.name, run.id)
        return len(dead)


def _end_tasks(client: Any, run: Any) -> None:
    """Marks the tasks that a killed process left unfinished as crashed."""
    inside = FlowRunFilter.model_validate({"id": {"any_": [run]}})
    unfinished = TaskRunFilter.model_validate(UNFINISHED)
    for task in client.read_task_runs(flow_run_filter=inside, task_run_filter=unfinished):
        client.set_task_run_state(task.id, Crashed(message="Its process was killed."), force=True)
