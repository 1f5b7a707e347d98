"""What services need once before flows can use them: `python -m infra.prepare`, with their variables set.

On the Prefect server at PREFECT_API_URL: the work pool, the concurrency limit of one GPU, the automations. On the
lakeFS server at LAKECTL_SERVER_ENDPOINT_URL, if that is set: its first user, with the keys of the LAKECTL variables.
What is there already stays as it is, be it changed by people.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from t2t.errors import T2TError, one_line

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

    from infra.automations import apply

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


def prepare_lakefs(environment: Mapping[str, str]) -> None:
    """Sets a new lakeFS server up, whose first user then has the keys of the LAKECTL variables.

    lakeFS does so by itself only where its database is a local file.

    Raises:
        T2TError: a variable is missing, or the server does not answer, or with an error.
    """
    from lakefs_sdk.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    sdk: Any = importlib.import_module("lakefs_sdk")  # its annotations ask for every optional argument
    try:
        host = f"{environment['LAKECTL_SERVER_ENDPOINT_URL'].rstrip('/')}/api/v1"
        key = sdk.AccessKeyCredentials(
            access_key_id=environment["LAKECTL_CREDENTIALS_ACCESS_KEY_ID"],
            secret_access_key=environment["LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"],
        )
    except KeyError as error:
        raise T2TError(f"{error.args[0]} is not set: without it lakeFS has no first user.") from None
    with sdk.ApiClient(sdk.Configuration(host=host)) as client:
        try:
            sdk.InternalApi(client).setup(sdk.Setup(username="t2t", key=key), _request_timeout=60)
        except ApiException as error:
            if error.status != 409:  # it is set up already
                raise T2TError(f"lakeFS at {host} cannot be set up: {one_line(error.body)}") from None
        except HTTPError as error:
            raise T2TError(f"No lakeFS server answers at {host}: {one_line(error, 200)}") from None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m infra.prepare", description=__doc__)
    parser.add_argument("--job-template", type=Path, help="makes the pool one of Kubernetes jobs, with this template")
    arguments = parser.parse_args()
    try:
        prepare_prefect(arguments.job_template)
        if os.environ.get("LAKECTL_SERVER_ENDPOINT_URL"):
            prepare_lakefs(os.environ)
    except T2TError as error:
        raise SystemExit(f"Error: {error}") from None


if __name__ == "__main__":
    main()
