"""What a Prefect server needs once before flows can use it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from t2t.integrations.prefect.automations import apply

POOL = "t2t"  # the work pool of the deployments in prefect.yaml
GPU = "gpu"  # the global concurrency limit that flows hold while they use the GPU


def prepare_prefect(template: Path | None = None) -> None:
    """Makes the work pool, the limit and the automations on the server at PREFECT_API_URL.

    Args:
        template: the base job template of a pool of type `kubernetes`; None: a pool of processes.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
    from prefect.workers.process import ProcessWorker

    kind = "kubernetes" if template else "process"
    content = json.loads(template.read_text()) if template else ProcessWorker.get_default_base_job_template()
    limit = GlobalConcurrencyLimitCreate(name=GPU, limit=1, active=True)
    # Looked for first: the server's log shows a traceback for a second one.
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        try:
            client.read_work_pool(POOL)
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=POOL, type=kind, base_job_template=content))
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        try:
            client.read_global_concurrency_limit_by_name(GPU)
        except ObjectNotFound:
            client.create_global_concurrency_limit(limit)
    apply()
