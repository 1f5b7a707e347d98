"""MLflow's server behind a door: `python -m t2t.integrations.mlflow.server <options of mlflow server>`.

MLflow's own login (`--app-name basic-auth`) needs a database of users and another package, and its protection against
foreign pages leaves out those of other ports of this machine.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from t2t.integrations.door import LOOPBACK, Door, NoLogin, hosts_of, login_from


def app() -> Door:
    """MLflow's application, as uvicorn asks for it in each of its workers."""
    from mlflow.server.fastapi_app import app as inner

    return Door(inner, hosts_of(), login_from(), free=["/health"])


def main() -> None:
    try:
        login_from()
    except NoLogin as error:
        raise SystemExit(f"Error: {error}") from None
    import mlflow.server
    from mlflow.cli import cli

    # MLflow asks the same things once more, and of those names that the door knows.
    names = [*(name for name in LOOPBACK if name[0] != "["), *hosts_of()]
    os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = ",".join(f"{name}{port}" for name in names for port in ("", ":*"))
    origins = [f"{scheme}://{name}{port}" for scheme in ("http", "https") for name in names for port in ("", ":*")]
    os.environ["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = ",".join(origins)
    # `--app-name` takes plug-ins that are installed, so the application's name is put in where uvicorn is called. Who
    # starts this server asks whether the door is there (`guarded`), should a later MLflow call uvicorn otherwise.
    build = mlflow.server._build_uvicorn_command

    def behind_the_door(*arguments: Any, **options: Any) -> list[str]:
        *command, _ = build(*arguments, **options)
        return [*command, "--factory", "t2t.integrations.mlflow.server:app"]

    mlflow.server._build_uvicorn_command = behind_the_door
    cli(["server", *sys.argv[1:]], prog_name="mlflow")


if __name__ == "__main__":
    main()
