"""Whether MLflow's store can be used, asked before anything else is done and before MLflow is imported (3 s)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import sqlite3
import ssl
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen

from t2t.core.errors import T2TError, one_line
from t2t.core.host import observer_names, shown
from t2t.integrations.door import basic
from t2t.integrations.mlflow.store import store_path

VARIABLE = "MLFLOW_TRACKING_URI"
WEB = ("http://", "https://")
# Databases that MLflow knows: the driver's module that SQLAlchemy takes where none is named, and the usual port.
DATABASES = {"postgresql": ("psycopg2", 5432), "mysql": ("MySQLdb", 3306), "mssql": ("pyodbc", 1433)}
MODULES = {"mysqldb": "MySQLdb", "mysqlconnector": "mysql.connector"}
# What MLflow looks up by itself, with credentials of their own.
HOSTED = ("databricks", "databricks-uc", "uc")
STORAGE = {
    "s3": ("boto3", "boto3"),
    "gs": ("google.cloud.storage", "google-cloud-storage"),
    "wasbs": ("azure.storage.blob", "azure-storage-blob"),
    "abfss": ("azure.storage.filedatalake", "azure-storage-file-datalake"),
}
ANSWER_SECONDS, CONNECT_SECONDS = 10.0, 5.0


def tracking_uri(work: Path) -> str:
    """The store that the environment names, else the work folder's own database."""
    return os.environ.get(VARIABLE) or f"sqlite:///{store_path(work)}"


def check_history(work: Path) -> None:
    """As `check_address`, of the store that a campaign's run would take; nothing where MLflow is not told."""
    if "mlflow" in observer_names():
        check_address(tracking_uri(work))


def unusable(uri: str, error: object) -> T2TError:
    """What to say where a store does not open, whatever the library said."""
    return T2TError(
        f"{_named(uri)}: the MLflow store cannot be opened: {one_line(error, 300).rstrip('.')}. Correct the address, "
        f"or unset {VARIABLE}: runs are then kept in the work folder."
    )


def check_address(uri: str) -> None:
    """Raises T2TError, in one line that says what to do, where a store cannot be used: as far as that can be said
    within some seconds and without MLflow."""
    scheme = uri.partition(":")[0].lower() if "://" in uri else ""
    database = scheme.partition("+")[0]
    if uri.startswith(WEB):
        _check_server(uri)
    elif database == "sqlite":
        _check_sqlite(uri)
    elif database in DATABASES:
        _check_database(uri, database, scheme.partition("+")[2])
    elif uri in HOSTED or scheme in HOSTED:
        return
    elif scheme in ("", "file"):
        path = uri.removeprefix("file://") or uri
        # People write a database's path without its scheme.
        better = f"sqlite:///{Path(path).absolute()}" if path.endswith((".db", ".sqlite")) else "sqlite:////<file>.db"
        raise T2TError(
            f"{_named(uri)}: MLflow no longer keeps run histories in folders of files. Name a database, {better} (a "
            f"folder that has some is moved by `mlflow migrate-filestore`), or a server, or unset {VARIABLE}."
        )
    else:
        known = ", ".join(("http(s)", "sqlite", *DATABASES))
        hint = " Write postgresql:// for postgres://." if database == "postgres" else ""
        raise T2TError(f"{_named(uri)}: MLflow knows no addresses of the kind {scheme!r}, but {known}.{hint}")


def check_artifacts(uri: str, location: str) -> None:
    """Raises T2TError where an experiment's files could not be stored.

    Args:
        location: the experiment's, as MLflow says it.
    """
    scheme = urlsplit(location).scheme
    if scheme == "mlflow-artifacts" and uri.startswith(WEB):
        code, _ = _get(uri, f"{uri.rstrip('/')}/api/2.0/mlflow-artifacts/artifacts?path=")
        if code >= 400:
            raise T2TError(
                f"{_named(uri)}: the MLflow server does not take files (status {code}). Start it with "
                "--artifacts-destination <folder or bucket>."
            )
    elif scheme in ("", "file"):
        folder = Path(unquote(urlsplit(location).path) if scheme else location)
        there = next((parent for parent in (folder, *folder.parents) if parent.exists()), folder)
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            raise T2TError(
                f"{_named(uri)}: MLflow keeps this experiment's files in {folder}, which cannot be written to from "
                "here. Give this user the right to it, or start the server with --artifacts-destination."
            )
    elif scheme in STORAGE and not _installed(STORAGE[scheme][0]):
        raise T2TError(
            f"{_named(uri)}: MLflow keeps this experiment's files at {shown(location)}, which needs a package that is "
            f"not installed: pip install {STORAGE[scheme][1]}"
        )


def _named(uri: str) -> str:
    return f"{VARIABLE} ({shown(uri)})" if os.environ.get(VARIABLE) == uri else shown(uri)


# Servers


def _check_server(uri: str) -> None:
    code, body = _get(uri, f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1")
    if code in (401, 403):
        raise T2TError(
            f"{_named(uri)}: the MLflow server refuses us (status {code}). Set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
        )
    with contextlib.suppress(ValueError):
        if isinstance(json.loads(body), dict) and (code < 400 or "error_code" in json.loads(body)):
            return
    raise T2TError(
        f"{_named(uri)}: what answers there is no MLflow server (status {code}). Correct the address, or unset "
        f"{VARIABLE}."
    )


def _get(uri: str, address: str) -> tuple[int, str]:
    """The status and the beginning of what a server answers."""
    try:
        parts = urlsplit(uri)
        headers = {"Accept": "application/json"}
        name = os.environ.get("MLFLOW_TRACKING_USERNAME") or unquote(parts.username or "")
        word = os.environ.get("MLFLOW_TRACKING_PASSWORD") or unquote(parts.password or "")
        if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
            headers["Authorization"] = f"Bearer {token}"
        elif name:
            headers["Authorization"] = basic(f"{name}:{word}")
        request = Request(shown(address), headers=headers)
        with urlopen(request, timeout=ANSWER_SECONDS, context=_trust()) as answer:
            return answer.status, answer.read(100_000).decode("utf-8", "replace")
    except HTTPError as error:
        with contextlib.suppress(OSError, HTTPException):
            return error.code, error.read(100_000).decode("utf-8", "replace")
        return error.code, ""
    except (OSError, HTTPException, ValueError) as error:
        raise T2TError(
            f"No MLflow server answers at {shown(uri)}: {one_line(error, 200)}. Is it running? Start it, correct "
            f"{VARIABLE}, or unset it."
        ) from None


def _trust() -> ssl.SSLContext | None:
    """How MLflow's own variables have certificates checked."""
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() == "true":
        return ssl._create_unverified_context()
    file = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
    return ssl.create_default_context(cafile=file) if file else None


# Databases


def _check_sqlite(uri: str) -> None:
    path, query, _ = uri.partition(":///")[2].partition("?")
    if not path or path == ":memory:":
        raise T2TError(f"{_named(uri)}: name a file, for instance sqlite:////home/me/mlflow.db (four slashes).")
    if query:
        raise T2TError(
            f"{_named(uri)}: MLflow cannot open a database whose path holds a '?'. Choose another folder (--work, "
            f"T2T_WORK), or name a database elsewhere in {VARIABLE}."
        )
    file = Path(path)
    there = next(parent for parent in (file, *file.absolute().parents) if parent.exists())
    if file.is_dir() or not os.access(there, os.W_OK) or not (file.exists() or there.is_dir()):
        why = "it is a folder" if file.is_dir() else f"{there} cannot be written to"
        raise unusable(uri, why)
    if file.exists() and file.stat().st_size:
        try:
            # Not for reading only: what a killed process left half written is rolled back by who opens it next.
            with contextlib.closing(sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=rw", uri=True)) as opened:
                tables = {row[0] for row in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                rows = opened.execute("SELECT version_num FROM alembic_version").fetchall() if tables else []
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                return  # somebody writes; MLflow waits for that
            raise unusable(uri, "it is no database of MLflow" if "no such table" in str(error) else error) from None
        except sqlite3.DatabaseError as error:
            raise unusable(uri, error) from None
        _check_version(uri, {row[0] for row in rows}, bool(tables))


def _check_version(uri: str, found: set[str], has_tables: bool) -> None:
    """Compares a database's version with those that the installed MLflow knows, by the names of its migrations."""
    place = find_spec("mlflow")
    files = list(Path(place.origin).parent.glob("store/db_migrations/versions/*.py")) if place and place.origin else []
    texts = [file.read_text(encoding="utf-8") for file in files]
    known = {match[1] for text in texts if (match := re.search(r"^revision = [\"'](\w+)", text, re.M))}
    before = {match[1] for text in texts if (match := re.search(r"^down_revision = [\"'](\w+)", text, re.M))}
    if not known or not has_tables:
        return
    if found - known:
        raise T2TError(
            f"{_named(uri)}: the database was made by a newer MLflow than the one that is installed here. Install that "
            "one (pip install --upgrade mlflow), or name another database."
        )
    if found & before:
        raise T2TError(
            f"{_named(uri)}: the database was made by an older MLflow. Copy it, then bring it up to date: "
            f"mlflow db upgrade {shown(uri)}"
        )


def _check_database(uri: str, database: str, driver: str) -> None:
    usual, port = DATABASES[database]
    module = MODULES.get(driver, driver) or usual
    if not _installed(module):
        other = f", or write {database}+psycopg://" if database == "postgresql" and _installed("psycopg") else ""
        raise T2TError(
            f"{_named(uri)}: the database's driver is not installed here: pip install {module}{other}, or unset "
            f"{VARIABLE}."
        )
    try:
        parts = urlsplit(uri)
        if parts.hostname and not parts.hostname.startswith("/"):
            socket.create_connection((parts.hostname, parts.port or port), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise unusable(uri, error) from None


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
