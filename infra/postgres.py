"""PostgreSQL for `make up`: a cluster of its own in the work folder, run by the system's binaries, on loopback only.

Nothing of the system's own PostgreSQL is touched. The password is generated, lies in a file that only its owner can
read, and reaches the services through their environment, never through a command line.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import secrets
import shutil
import subprocess
from pathlib import Path

from infra.daemons import private_file
from t2t.core.errors import T2TError, one_line
from t2t.integrations.guard import account
from t2t.integrations.services import HOST

try:
    import psycopg
    from psycopg import sql
except ImportError:  # an extra; `unusable` says so
    psycopg = sql = None

USER = "t2t"
DATABASES = ("prefect", "mlflow", "lakefs")


def binaries() -> Path | None:
    """The folder of `initdb` and `postgres`; None where there is none. Debian keeps them off the PATH."""
    initdb = shutil.which("initdb")
    folders = [Path(initdb).resolve().parent] if initdb else []
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(debian, key=lambda path: [int(part) for part in re.findall(r"\d+", str(path))], reverse=True)
    return next(
        (folder for folder in folders if all((folder / name).exists() for name in ("initdb", "postgres"))), None
    )


def owner() -> str | None:
    """The account that PostgreSQL runs as: root may not, so one without rights; None stands for this process's own.

    Raises:
        T2TError: this is root, and there is no such account.
    """
    if os.geteuid() != 0:
        return None
    accounts = {entry.pw_name for entry in pwd.getpwall()}
    name = next((name for name in ("postgres", "nobody") if name in accounts), None)
    if name is None:
        raise T2TError("PostgreSQL does not run as root, and there is no account `postgres`: start it as another user.")
    return name


def unusable(folder: Path) -> str | None:
    """Why a cluster in `folder` cannot be run here, in a few words; None if it can."""
    if binaries() is None:
        return "no PostgreSQL is installed"
    if importlib.util.find_spec("psycopg") is None:
        return "its driver is not installed (pip install 'psycopg[binary]')"
    try:
        user = owner()
    except T2TError as error:
        return str(error)
    if user is not None:
        above = next(path for path in (folder, *folder.parents) if path.exists())
        if subprocess.run(["test", "-x", str(above)], cwd="/", **account(user)).returncode:
            return f"root cannot run it, and the account {user} may not enter {above}"
    return None


def create(folder: Path) -> None:
    """Makes the cluster in `folder`, whole or not at all; does nothing where there is one.

    Raises:
        T2TError: `initdb` failed; the message has its last words.
    """
    data, user = folder / "data", owner()
    if data.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    new, password = folder / "data.new", folder / "password"
    shutil.rmtree(new, ignore_errors=True)  # of an initdb that was killed
    private_file(password, secrets.token_hex(24))
    if user is not None:
        for path in (folder, password):
            shutil.chown(path, user, account(user)["group"])
    program = binaries()
    if program is None:
        raise T2TError("No PostgreSQL is installed: install your system's package, or use --database sqlite.")
    command = [str(program / "initdb"), "--pgdata", str(new), "--username", USER, "--pwfile", str(password)]
    command += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, **account(user))
    if done.returncode:
        raise T2TError(f"PostgreSQL's initdb failed in {folder}: {one_line(done.stderr[-600:])}")
    os.replace(new, data)


def command(folder: Path, port: int) -> list[str]:
    """The server's command line: TCP on loopback, no socket file (its path may not be longer than 107 characters)."""
    program = binaries()
    if program is None:
        raise T2TError(f"{folder} is a PostgreSQL cluster, but no PostgreSQL is installed any more.")
    options = {"listen_addresses": HOST, "port": port, "unix_socket_directories": ""}
    line = [str(program / "postgres"), "-D", str(folder / "data")]
    return line + [word for name, value in options.items() for word in ("-c", f"{name}={value}")]


def url(folder: Path, port: int, database: str, scheme: str = "postgresql") -> str:
    """A database's URL, with the password: for an environment, not for a command line or a log."""
    return f"{scheme}://{USER}:{(folder / 'password').read_text()}@{HOST}:{port}/{database}"


def ready(folder: Path, port: int) -> bool:
    """Whether the server takes connections."""
    try:
        psycopg.connect(url(folder, port, "postgres"), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def create_databases(folder: Path, port: int) -> None:
    """Makes the services' databases, each once."""
    with psycopg.connect(url(folder, port, "postgres"), autocommit=True) as connection:
        databases = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for name in DATABASES:
            if name not in databases:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
