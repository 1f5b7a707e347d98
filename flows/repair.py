"""Prefect's record, mended: a run that a kill left RUNNING is marked as crashed by the next one of its campaign."""

from __future__ import annotations

import platform
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter, TaskRunFilter
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Crashed

UNFINISHED = {"state": {"type": {"any_": ["RUNNING", "CANCELLING"]}}}


def mark_dead_runs(folder: Path) -> int:
    """Marks unfinished runs of the current flow, name and work folder as crashed; returns how many there were.

    Call it with the campaign's lock held: no other process of that work folder can be at work on it then, so those runs
    are dead. A run killed by SIGKILL stays RUNNING otherwise, for ever where no worker looks after it.

    Args:
        folder: the campaign's folder. Runs carry it as a tag, with the machine: the same path elsewhere is another one.
    """
    place = f"{platform.node()}:{folder}"
    with get_client(sync_client=True) as client:
        own = client.read_flow_run(flow_run.id)
        client.update_flow_run(own.id, tags=[*own.tags, place])
        found = client.read_flow_runs(
            flow_filter=FlowFilter.model_validate({"id": {"any_": [own.flow_id]}}),
            flow_run_filter=FlowRunFilter.model_validate({"name": {"any_": [own.name]}, **UNFINISHED}),
        )
        dead = [run for run in found if run.id != own.id and place in run.tags]
        for run in dead:
            inside = FlowRunFilter.model_validate({"id": {"any_": [run.id]}})
            tasks = client.read_task_runs(
                flow_run_filter=inside, task_run_filter=TaskRunFilter.model_validate(UNFINISHED)
            )
            for each in tasks:
                client.set_task_run_state(each.id, Crashed(message="Its flow run was killed."), force=True)
            client.set_flow_run_state(run.id, Crashed(message="It was killed; a later run goes on."), force=True)
            get_run_logger().info("Marked the dead run %s (%s) as crashed.", run.name, run.id)
        return len(dead)
