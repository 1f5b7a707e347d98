"""Deployments of campaigns on a Prefect server: made, listed, removed. `t2t deploy` says what was done."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from t2t.core.errors import T2TError, nearest, one_line
from t2t.core.host import check_server, shown
from t2t.core.workspace import Workspace
from t2t.integrations.prefect.setup import POOL, prepare_prefect

FLOW = "self-training"
ENTRYPOINT = "t2t.flows.self_training.self_training"
SLUG = "t2t-deploy"
# Automations look at runs with this tag.
TAG = "t2t"
# As in prefect.yaml, which says why.
ENVIRONMENT = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "t2t",
    "DO_NOT_TRACK": "true",
}
# A worker says so often that it lives; a pool whose workers are silent for longer has none.
SILENT = timedelta(seconds=90)


@dataclass(frozen=True)
class Order:
    """A campaign to deploy.

    campaign: its name in the registry. overrides: what differs from its file. cron: None keeps what schedule there is.
    most_rounds: of a run; None: all that are left. folder: where runs start.
    """

    campaign: str
    overrides: Mapping[str, Any]
    workspace: Workspace
    folder: Path
    cron: str | None = None
    timezone: str = "UTC"
    most_rounds: int | None = None

    @property
    def name(self) -> str:
        """The deployment's name: that of the campaign that runs."""
        return str(self.overrides.get("name", self.campaign))


@dataclass(frozen=True)
class Deployed:
    """A deployment as the server has it.

    name: `<flow>/<deployment>`. runs: what is run, for people. schedules: (cron or other rule, whether it is active).
    new: whether it was not there before. worker: whether somebody looks at its work pool.
    """

    name: str
    url: str
    runs: str
    schedules: tuple[tuple[str, bool], ...]
    new: bool = False
    worker: bool = True


def check_schedule(cron: str, timezone: str) -> None:
    """Raises T2TError for what is no cron expression, or no timezone."""
    from prefect.client.schemas.schedules import CronSchedule

    try:
        CronSchedule(cron=cron)
    except ValidationError:
        raise T2TError(
            f"--cron {one_line(repr(cron), 80)}: no cron expression. Five fields: minute, hour, day, month, weekday; "
            "each night at two is '0 2 * * *'."
        ) from None
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValidationError:
        raise T2TError(
            f"--timezone {one_line(repr(timezone), 80)}: no timezone. Write it as Europe/Berlin or UTC."
        ) from None


def server_address() -> str:
    """The server's API, at PREFECT_API_URL. Raises T2TError where none is named, or none answers."""
    url = os.environ.get("PREFECT_API_URL", "")
    if not url:
        raise T2TError(
            "A schedule needs a Prefect server that stays, and PREFECT_API_URL names none. For one on this machine: "
            "make up, then . work/services/env.sh; and the same command again."
        )
    check_server("Prefect", "PREFECT_API_URL", url, timeout=5)
    return url


def deploy(order: Order, flow: Any) -> Deployed:
    """Makes or renews a campaign's deployment, and what it needs on the server where that is missing.

    Args:
        flow: Prefect's, at ENTRYPOINT; its parameters' schema is what the server checks runs by.

    Raises T2TError where there is no server, or one that does not let us in, or where the name is another folder's.
    """
    with _client() as client:
        before = _read(client, f"{FLOW}/{order.name}")
        if before is not None:
            _refuse_other_folder(before, order)
        prepare_prefect()
        pool = client.read_work_pool(POOL)
        settings = _settings(order, flow, before, pool.type == "process")
        known = client.create_flow_from_name(FLOW)
        made = client.create_deployment(known, order.name, work_pool_name=POOL, **settings)
        return _told(client.read_deployment(made), new=before is None, worker=worker_there(client))


def deployments() -> list[Deployed]:
    """All deployments of t2t on the server, by name."""
    with _client() as client:
        flows = _flows(client)
        found = [_told(one, flows=flows) for one in client.read_deployments(deployment_filter=_ours())]
    return sorted(found, key=lambda one: one.name)


def remove(name: str, folder: Path) -> int:
    """Removes a campaign's deployment; runs that it has scheduled go with it.

    Returns: how many runs of it are under way, which go on.

    Raises T2TError where there is none, or where it belongs to another folder.
    """
    with _client() as client:
        there = _read(client, f"{FLOW}/{name}")
        if there is None:
            flows = _flows(client)
            names = [o.name for o in client.read_deployments(deployment_filter=_ours()) if flows[o.flow_id] == FLOW]
            raise T2TError(f"No deployment {FLOW}/{name} on {_url()}.{nearest(name, names)}")
        _refuse_other_folder(there, folder)
        running = _running(client, there.id)
        client.delete_deployment(there.id)
        return running


@contextmanager
def _client() -> Iterator[Any]:
    """A client of the server; what the server refuses becomes one line."""
    server_address()
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        with get_client(sync_client=True) as client:
            yield client
    except PrefectHTTPStatusError as error:
        if error.response.status_code in (401, 403):
            raise T2TError(
                f"The Prefect server at {_url()} does not let us in ({error.response.status_code}): set "
                "PREFECT_API_AUTH_STRING to its login; `make up` writes it to work/services/env.sh."
            ) from None
        raise T2TError(f"The Prefect server at {_url()} refuses it: {one_line(error.response.text, 300)}") from None


def _url() -> str:
    return shown(os.environ.get("PREFECT_API_URL", ""))


def _settings(order: Order, flow: Any, before: Any, on_this_machine: bool) -> dict[str, Any]:
    """What the server is told of a deployment."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.utilities.callables import parameter_schema

    if order.cron is not None:
        rule = CronSchedule(cron=order.cron, timezone=order.timezone)
        schedules = [DeploymentScheduleCreate(schedule=rule, slug=SLUG, active=True)]
    else:
        kept = before.schedules if before is not None else ()
        schedules = [
            DeploymentScheduleCreate(
                schedule=one.schedule, slug=one.slug, active=one.active, parameters=one.parameters or {}
            )
            for one in kept
        ]
    parameters: dict[str, Any] = {"campaign": order.campaign, "overrides": dict(order.overrides)}
    parameters["most_rounds"] = order.most_rounds
    pull = []
    # A process of this machine works in its folders; a container elsewhere has folders of its own.
    if on_this_machine:
        place = order.workspace
        parameters["workspace"] = {key: str(getattr(place, key)) for key in ("registry", "data", "work")}
        pull = [{"prefect.deployments.steps.set_working_directory": {"directory": str(order.folder)}}]
    return {
        "description": f"Rounds of the campaign {order.campaign}, from where it stands (t2t deploy).",
        "entrypoint": ENTRYPOINT,
        "path": "",
        "parameters": parameters,
        "parameter_openapi_schema": parameter_schema(flow).model_dump_for_openapi(),
        "enforce_parameter_schema": True,
        "schedules": schedules,
        "paused": False if order.cron is not None else None,
        # The next run waits until the one before is done.
        "concurrency_limit": 1,
        "concurrency_options": ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.ENQUEUE),
        "pull_steps": pull,
        "job_variables": {"env": ENVIRONMENT},
        "tags": [TAG],
    }


def _read(client: Any, name: str) -> Any:
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _refuse_other_folder(there: Any, order: Order | Path) -> None:
    """Two projects may have a campaign of one name, and a server may serve both."""
    folder = order if isinstance(order, Path) else order.folder
    steps = [step.get("prefect.deployments.steps.set_working_directory", {}) for step in there.pull_steps or ()]
    places = {str(step["directory"]) for step in steps if "directory" in step}
    if places and str(folder) not in places:
        raise T2TError(
            f"{FLOW}/{there.name} on {_url()} runs in {', '.join(sorted(places))}: go there, or have this one under "
            f"another name with --name. To remove it all the same: prefect deployment delete {FLOW}/{there.name}"
        )


def _ours() -> Any:
    from prefect.client.schemas.filters import DeploymentFilter

    return DeploymentFilter.model_validate({"tags": {"all_": [TAG]}})


def worker_there(client: Any) -> bool:
    """Whether a worker looks at the pool."""
    now = datetime.now(UTC)
    beats = [worker.last_heartbeat_time for worker in client.read_workers_for_work_pool(POOL)]
    return any(beat is not None and now - beat < SILENT for beat in beats)


def _running(client: Any, deployment: Any) -> int:
    from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter

    return len(
        client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING"]}}}),
            deployment_filter=DeploymentFilter.model_validate({"id": {"any_": [deployment]}}),
        )
    )


def _flows(client: Any) -> dict[Any, str]:
    return {flow.id: flow.name for flow in client.read_flows()}


def _told(there: Any, new: bool = False, worker: bool = True, flows: Mapping[Any, str] | None = None) -> Deployed:
    from prefect.utilities.urls import url_for

    flow = FLOW if flows is None else flows.get(there.flow_id, "?")
    url = url_for("deployment", obj_id=there.id) or _url()
    schedules = tuple((_rule(one.schedule), one.active and not there.paused) for one in there.schedules)
    return Deployed(f"{flow}/{there.name}", url, _runs(there.parameters), schedules, new, worker)


def _rule(schedule: Any) -> str:
    rule = getattr(schedule, "cron", None) or getattr(schedule, "rrule", None)
    rule = rule or f"every {getattr(schedule, 'interval', '?')}"
    return f"{rule} ({getattr(schedule, 'timezone', None) or 'UTC'})"


def _runs(parameters: Mapping[str, Any]) -> str:
    """What a deployment's runs do, from its parameters: ours have a campaign, by its name or whole, or settings."""
    campaign = parameters.get("campaign")
    if campaign is not None:
        whole = isinstance(campaign, Mapping)
        text = f"{campaign.get('name', '?')} (whole, not by its name)" if whole else str(campaign)
        changed = ", ".join(sorted(parameters.get("overrides") or {}))
        text += f", changed: {changed}" if changed else ""
        most = parameters.get("most_rounds")
        return text + ("" if most is None else f", {most} round{'s' * (most > 1)} a run")
    settings = parameters.get("settings")
    settings = settings if isinstance(settings, Mapping) else {}
    return ", ".join(str(settings[key]) for key in ("campaign", "teacher", "dataset") if key in settings)
