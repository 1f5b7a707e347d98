"""What a Prefect server needs once before flows can use it."""

from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from t2t.integrations.prefect.automations import apply

POOL = "t2t"  # the work pool of the deployments in prefect.yaml
GPU = "gpu"  # the global concurrency limit that flows hold while they use the GPU


def prepare_prefect(template: Path | None = None) -> None:
    """Makes the work pool, the limit and the automations on the server at PREFECT_API_URL.

    What is there stays, be it changed by people, but for the pool's command, which is fixed in one that is there, too.

    Args:
        template: the base job template of a pool of type `kubernetes`; None: a pool of processes.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
    from prefect.workers.process import ProcessWorker

    kind = "kubernetes" if template else "process"
    content = json.loads(template.read_text()) if template else ProcessWorker.get_default_base_job_template()
    content = without_command(content)
    limit = GlobalConcurrencyLimitCreate(name=GPU, limit=1, active=True)
    # Looked for first: the server's log shows a traceback for a second one.
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        try:
            there = client.read_work_pool(POOL).base_job_template
            if there and without_command(there) != there:
                client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=without_command(there)))
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=POOL, type=kind, base_job_template=content))
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        try:
            client.read_global_concurrency_limit_by_name(GPU)
        except ObjectNotFound:
            client.create_global_concurrency_limit(limit)
    apply()


def without_command(template: dict[str, Any]) -> dict[str, Any]:
    """A base job template in which no deployment and no run can say what the worker executes.

    `command` is a variable of Prefect's own templates, and a worker hands what stands in it to the system. Here it is
    fixed as empty, which has the worker start Prefect's engine; variables that the template does not name are refused.
    """
    fixed = deepcopy(template)
    variables = fixed["variables"]
    variables.get("properties", {}).pop("command", None)
    if "command" in variables.get("required", []):
        variables["required"].remove("command")
    # `env.NAME` is how `prefect deploy --job-variable` gives one variable of the environment.
    variables |= {"additionalProperties": False, "patternProperties": {r"^env\.": {"type": ["string", "null"]}}}
    fixed["job_configuration"]["command"] = None
    return fixed
