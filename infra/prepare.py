"""What services need once before flows can use them: `python -m infra.prepare`, with their variables set.

On the Prefect server at PREFECT_API_URL: the work pool, the concurrency limit of one GPU, the automations. On the
lakeFS server at LAKECTL_SERVER_ENDPOINT_URL, if that is set: its first user, with the keys of the LAKECTL variables.
What is there already stays as it is, be it changed by people.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lakefs_sdk
from lakefs_sdk.exceptions import ApiException
from urllib3.exceptions import HTTPError

from t2t.core.errors import T2TError, one_line
from t2t.integrations.prefect.setup import prepare_prefect


def prepare_lakefs(environment: Mapping[str, str]) -> None:
    """Sets a new lakeFS server up, whose first user then has the keys of the LAKECTL variables.

    lakeFS does so by itself only where its database is a local file.

    Raises:
        T2TError: a variable is missing, or the server does not answer, or with an error.
    """
    sdk: Any = lakefs_sdk  # its annotations ask for every optional argument
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
