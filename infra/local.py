"""The services of infra/compose.yaml as plain processes of this machine: `make up`, `make status`, `make down`.

PostgreSQL (the system's binaries, a cluster of its own; SQLite where there are none), a Prefect server with its work
pool and a process worker, an MLflow server, and lakeFS where its binary is on the PATH. All listen on loopback, ask for
a login, let no foreign page in, report nothing to anybody, and have their files and logs in `<work>/services/`, which
are their user's only. They go on until `make down`.
"""

from __future__ import annotations

import json
import platform
import secrets
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from infra import postgres
from infra.daemons import Command, Daemons, current_mask, daemons, private_file
from infra.prepare import prepare_lakefs
from t2t.core.errors import T2TError
from t2t.core.host import check_work_folder
from t2t.integrations.door import LOGIN, login_of
from t2t.integrations.mlflow.store import PRIVATE, SERVER, create_store, store_path
from t2t.integrations.mlflow.text import MODE
from t2t.integrations.prefect.setup import POOL, prepare_prefect
from t2t.integrations.services import (
    HOST,
    MLFLOW_ASKS,
    PREFECT_ASKS,
    answers,
    guarded,
    in_environment,
    prefect_command,
    prefect_settings,
    whole_database,
)

PORTS = {"postgres": 5433, "prefect": 4200, "mlflow": 5000, "lakefs": 8000, "worker": 0}
KINDS = ("auto", "postgresql", "sqlite")
WORKER_GRACE = 20.0  # a flow run that is interrupted tells the server so

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)


def up(work: Path, database: str = "auto") -> dict[str, str]:
    """Starts what does not run yet, waits until everything answers, and writes `services/env.sh`.

    Args:
        work: the work folder; each has services of its own.
        database: `postgresql`, `sqlite`, or `auto`: what this folder had before, else PostgreSQL where it can be run.
    Returns:
        the environment variables that lead Prefect, MLflow and t2t to these services.
    Raises:
        T2TError: a service did not come up. What this call had started is ended again; the rest goes on.
    """
    work = Path(work).resolve()
    check_work_folder(work)
    login = login_of(work)
    with daemons(work / "services") as services:
        kind = _database(services, database)
        _make_way(services, kind)
        cluster: tuple[Path, int] | None = None
        if kind == "postgresql":
            cluster = _postgres(services)
        _close(services.folder, kind)
        environment = {LOGIN: login}
        environment |= _prefect(services, cluster, login)
        environment |= _mlflow(services, cluster, work)
        environment |= _lakefs(services, cluster)
        _worker(services, environment, work, login)
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()]
        private_file(services.folder / "env.sh", "".join(lines))
    return environment


def down(work: Path) -> list[str]:
    """Ends the services of a work folder, their users before them; returns their names. Data and logs stay."""
    folder = Path(work).resolve() / "services"
    if not folder.is_dir():
        return []
    with daemons(folder) as services:
        (folder / "env.sh").unlink(missing_ok=True)
        return [name for name in reversed(PORTS) if services.stop(name)]


def addresses(work: Path) -> dict[str, str]:
    """Where each service that runs is to be found; for people, without passwords."""
    folder = Path(work).resolve() / "services"
    if not folder.is_dir():
        return {}
    with daemons(folder) as services:
        ports = {name: running.port for name in PORTS if (running := services.running(name))}
    show = {
        "postgres": f"{HOST}:{{}}",
        "mlflow": f"http://{HOST}:{{}}/#/experiments{MODE}",
        "worker": f"work pool {POOL}",
    }
    return {name: show.get(name, f"http://{HOST}:{{}}").format(port) for name, port in ports.items()}


# The services, in the order in which they start


def _database(services: Daemons, wanted: str) -> str:
    """Which database these services use; noted, because a history in one of them is not in the other."""
    if wanted not in KINDS:
        raise T2TError(f"--database {wanted}: choose one of {', '.join(KINDS)}.")
    note = services.folder / "database"
    before = note.read_text().strip() if note.exists() else None
    reason = postgres.unusable(services.folder / "postgres")
    kind = wanted if wanted != "auto" else before or ("sqlite" if reason else "postgresql")
    if kind == "postgresql" and reason:
        raise T2TError(f"PostgreSQL cannot be used for {services.folder}: {reason}. Mend that, or --database sqlite.")
    if before not in (None, kind) and services.running("prefect"):
        raise T2TError(f"The services in {services.folder} run on {before}: `make down` first.")
    if wanted == "auto" and before is None and reason:
        typer.echo(f"SQLite instead of PostgreSQL: {reason}.")
    note.write_text(f"{kind}\n")
    return kind


def _make_way(services: Daemons, kind: str) -> None:
    """Ends what would go on with the old address of a service that is about to be started anew, and servers that an
    earlier version started, without a login."""
    for name, below, path in (("prefect", "/api", PREFECT_ASKS), ("mlflow", "", MLFLOW_ASKS)):
        if (running := services.running(name)) and not guarded(f"http://{HOST}:{running.port}{below}", path):
            services.stop(name)
    servers = ["prefect", "mlflow"] + (["lakefs"] if shutil.which("lakefs") else [])
    if kind == "postgresql" and not services.running("postgres"):
        users = ["worker", "lakefs", "mlflow", "prefect"]
    else:
        users = [] if all(services.running(name) for name in servers) else ["worker"]
    for name in users:
        services.stop(name)


def _close(folder: Path, kind: str) -> None:
    """Takes the rights of other accounts from what an earlier version wrote. PostgreSQL's account has to come through
    to its own folder, where that is another one."""
    folder.chmod(0o711 if kind == "postgresql" and postgres.owner() else 0o700)
    for pattern in ("*.log", "*.log.1", "*.pid", "database", "prefect/*.db*", "lakefs/*.json"):
        for file in folder.glob(pattern):
            file.chmod(0o600)
    for inner in ("prefect", "lakefs"):
        (folder / inner).mkdir(exist_ok=True)
        (folder / inner).chmod(0o700)


def _postgres(services: Daemons) -> tuple[Path, int]:
    folder = services.folder / "postgres"
    postgres.create(folder)
    port = services.ensure(
        "postgres",
        lambda port: (postgres.command(folder, port), {}),
        lambda port: postgres.ready(folder, port),
        PORTS["postgres"],
        cwd=folder,
        user=postgres.owner(),
        stop=signal.SIGINT,  # does not wait for its clients to leave, and still writes everything down
        grace=WORKER_GRACE,
    )
    postgres.create_databases(folder, port)
    return folder, port


def _prefect(services: Daemons, cluster: tuple[Path, int] | None, login: str) -> dict[str, str]:
    home = services.folder / "prefect"

    def command(port: int) -> Command:
        settings = prefect_settings(home, port, login)
        # In memory, as by default, a restart of the server would forget who holds a slot, and leave the slot taken.
        settings["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] = "prefect.server.concurrency.lease_storage.filesystem"
        if cluster:
            settings["PREFECT_API_DATABASE_CONNECTION_URL"] = postgres.url(*cluster, "prefect", "postgresql+asyncpg")
        else:
            whole_database(home)
        return prefect_command(port), settings

    def ready(port: int) -> bool:
        return guarded(f"http://{HOST}:{port}/api", PREFECT_ASKS)

    port = services.ensure("prefect", command, ready, PORTS["prefect"])
    if not cluster:
        (home / "complete").touch()
    with in_environment(_client_settings(home, port, login)):
        prepare_prefect()
    return {"PREFECT_API_URL": f"http://{HOST}:{port}/api", "PREFECT_API_AUTH_STRING": login}


def _mlflow(services: Daemons, cluster: tuple[Path, int] | None, work: Path) -> dict[str, str]:
    if cluster:
        store = postgres.url(*cluster, "mlflow", "postgresql+psycopg")
    else:
        create_store(store_path(work))
        store = f"sqlite:///{store_path(work)}"

    def command(port: int) -> Command:
        line = [*SERVER, "--host", HOST, "--port", str(port), "--workers", "1"]
        line += ["--artifacts-destination", str(store_path(work).with_name("mlartifacts"))]
        settings = {"MLFLOW_BACKEND_STORE_URI": store, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **PRIVATE}
        return line, settings | {LOGIN: login}

    def ready(port: int) -> bool:
        return guarded(f"http://{HOST}:{port}", MLFLOW_ASKS)

    login = login_of(work)
    user, _, password = login.partition(":")
    port = services.ensure("mlflow", command, ready, PORTS["mlflow"])
    keys = {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
    return {"MLFLOW_TRACKING_URI": f"http://{HOST}:{port}", **keys}


def _lakefs(services: Daemons, cluster: tuple[Path, int] | None) -> dict[str, str]:
    """lakeFS, where it is installed, with the keys that it was first started with."""
    binary, folder = shutil.which("lakefs"), services.folder / "lakefs"
    if binary is None and services.running("lakefs") is None:
        return {}
    file = folder / "keys.json"
    if not file.exists():
        fresh = {"id": f"AKIA{secrets.token_hex(8).upper()}", "secret": secrets.token_hex(20)}
        private_file(file, json.dumps(fresh | {"encryption": secrets.token_hex(32)}))
    keys = json.loads(file.read_text())

    def command(port: int) -> Command:
        settings = {
            "LISTEN_ADDRESS": f"{HOST}:{port}",
            "BLOCKSTORE_TYPE": "local",
            "BLOCKSTORE_LOCAL_PATH": str(folder / "blocks"),
            "COMMITTED_LOCAL_CACHE_DIR": str(folder / "cache"),
            "AUTH_ENCRYPT_SECRET_KEY": keys["encryption"],
            "STATS_ENABLED": "false",
            "SECURITY_CHECK_LATEST_VERSION": "false",
            "SECURITY_AUDIT_CHECK_URL": "",
            "EMAIL_SUBSCRIPTION_ENABLED": "false",
        }
        if cluster:
            settings["DATABASE_TYPE"] = "postgres"
            url = postgres.url(*cluster, "lakefs", "postgres")
            settings["DATABASE_POSTGRES_CONNECTION_STRING"] = f"{url}?sslmode=disable"
            settings |= {"DATABASE_POSTGRES_MAX_OPEN_CONNECTIONS": "10", "DATABASE_POSTGRES_MAX_IDLE_CONNECTIONS": "2"}
        else:
            settings |= {"DATABASE_TYPE": "local", "DATABASE_LOCAL_PATH": str(folder / "metadata")}
        return [str(binary), "run"], {"HOME": str(folder), **{f"LAKEFS_{key}": settings[key] for key in settings}}

    def ready(port: int) -> bool:
        return answers(f"http://{HOST}:{port}/_health")

    port = services.ensure("lakefs", command, ready, PORTS["lakefs"], cwd=folder)
    environment = {
        "LAKECTL_SERVER_ENDPOINT_URL": f"http://{HOST}:{port}",
        "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": keys["id"],
        "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": keys["secret"],
    }
    prepare_lakefs(environment)
    return environment


def _worker(services: Daemons, environment: dict[str, str], work: Path, login: str) -> None:
    """A process worker: each run of a deployment is a process of this machine, with these services around it."""
    from prefect.client.orchestration import get_client

    name, started = platform.node(), time.time()
    if services.running("worker"):
        started = 0.0
    port = int(environment["PREFECT_API_URL"].rpartition(":")[2].partition("/")[0])
    settings = _client_settings(services.folder / "prefect", port, login) | environment | {"T2T_WORK": str(work)}
    # A pool that somebody deleted is made by `make up`, where its command is fixed, and never by the worker.
    line = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", name]
    line.append("--no-create-pool-if-not-found")

    def online(_port: int) -> bool:
        with get_client(sync_client=True) as client:
            workers = [worker for worker in client.read_workers_for_work_pool(POOL) if worker.name == name]
        return any(
            worker.last_heartbeat_time and worker.last_heartbeat_time.timestamp() >= started for worker in workers
        )

    with in_environment(settings):
        # What runs write belongs to campaigns, with the rights of this process's files.
        services.ensure("worker", lambda port: (line, settings), online, 0, grace=WORKER_GRACE, mask=current_mask())


def _client_settings(home: Path, port: int, login: str) -> dict[str, str]:
    settings = prefect_settings(home, port, login)
    del settings["PREFECT_API_DATABASE_CONNECTION_URL"]
    return settings


# The command line

Work = Annotated[Path, typer.Option(help="The work folder.", envvar="T2T_WORK")]


def _print(work: Path) -> None:
    ports = addresses(work)
    for name in PORTS:
        typer.echo(f"{name:<10}{ports.get(name, '-')}")
    typer.echo(f"Logs: {work / 'services'}/<service>.log")


@app.command("up")
def up_command(
    work: Work = Path("work"), database: Annotated[str, typer.Option(help="auto, postgresql or sqlite.")] = "auto"
) -> None:
    """Start the services that do not run yet, and say where they are."""
    up(work, database)
    _print(work)
    typer.echo(f"\nLead t2t to them, with the login:  . {shlex.quote(str(work / 'services' / 'env.sh'))}")
    typer.echo(f"Their pages ask for the login of  {work / 'login'}")


@app.command("status")
def status_command(work: Work = Path("work")) -> None:
    """Say which services run, and where."""
    _print(work)


@app.command("down")
def down_command(work: Work = Path("work")) -> None:
    """End the services. Their data and logs stay."""
    ended = down(work)
    typer.echo(f"Ended: {', '.join(ended)}." if ended else "Nothing was running.")


def main() -> None:
    try:
        app()
    except T2TError as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
