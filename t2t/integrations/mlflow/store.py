"""Where MLflow keeps what it is told: the default store, the server over it, and the lake as a source of data.

`mlflow` costs three seconds to import, so that happens on first use only.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock

from t2t.core.errors import T2TError
from t2t.core.files import atomic_file
from t2t.integrations.door import LOGIN_FILE, login_of

SERVER = [sys.executable, "-m", "t2t.integrations.mlflow.server"]  # MLflow's, behind our door
PRIVATE = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def store_path(work: Path) -> Path:
    """The default store's database; its artifacts lie beside it in `mlartifacts/`."""
    return Path(work).resolve() / "mlflow.db"


def server_command(database: Path, port: int = 5000) -> tuple[list[str], dict[str, str]]:
    """Arguments and extra environment of a small MLflow server on a SQLite store: one process, loopback only, behind a
    door whose login is in the file `login` beside the store."""
    login_of(database.parent)
    arguments = [*SERVER, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    arguments += ["--backend-store-uri", f"sqlite:///{database}"]
    arguments += ["--artifacts-destination", str(database.with_name("mlartifacts"))]
    settings = {LOGIN_FILE: str(database.with_name("login")), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return arguments, settings | PRIVATE


def create_store(database: Path) -> None:
    """Creates MLflow's SQLite database, whole or not at all; does nothing where it exists.

    MLflow's own creation runs dozens of migrations in place. Measured: four processes at once broke the file for good,
    and so did two of six kills. Here it is made in a temporary file, one process at a time, and renamed into place.
    """
    if database.exists():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_name(f".{database.name}.lock")):
        if database.exists():
            return
        for stale in database.parent.glob(f".{database.name}.*.tmp*"):
            stale.unlink()
        with atomic_file(database) as temporary:
            temporary.touch(mode=0o600)
            _migrate(temporary, database.with_name("mlartifacts"))
            temporary.chmod(0o600)


def _migrate(database: Path, artifacts: Path) -> None:
    load_mlflow()
    # SQLAlchemy comes with MLflow, and is as slow to import.
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore, sqlalchemy

    event, engines = sqlalchemy.event, sqlalchemy.engine.Engine

    def unsafe_but_fast(connection: Any, _record: Any) -> None:
        # Safe here: the file is flushed to disk as a whole before it gets its name. 1.6 s instead of 3.5 s and more.
        if connection.execute("PRAGMA database_list").fetchone()[2] == str(database):
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA journal_mode=MEMORY")

    event.listen(engines, "connect", unsafe_but_fast)
    alembic = logging.getLogger("alembic")
    level = alembic.level
    alembic.setLevel(logging.WARNING)
    try:
        SqlAlchemyStore(f"sqlite:///{database}", artifacts.as_uri()).engine.dispose()
    finally:
        alembic.setLevel(level)
        event.remove(engines, "connect", unsafe_but_fast)


def load_mlflow() -> Any:
    """The `mlflow` module, imported with its telemetry and its chatter off."""
    for name, value in PRIVATE.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow

    # It logs a traceback for what it then raises; we tell that in one line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return mlflow


@functools.cache
def lake_source() -> Any:
    """A DatasetSource for the lake's URIs, registered with MLflow, which knows neither scheme by itself."""
    load_mlflow()
    from mlflow.data.dataset_source import DatasetSource
    from mlflow.data.dataset_source_registry import register_dataset_source

    class LakeDatasetSource(DatasetSource):
        """`git+file://…@commit/path` or `lakefs://repository/commit/path`."""

        def __init__(self, uri: str):
            self.uri = uri

        @staticmethod
        def _get_source_type() -> str:
            return "t2t-lake"

        @staticmethod
        def _can_resolve(raw_source: Any) -> bool:
            return isinstance(raw_source, str) and raw_source.startswith(("git+file://", "lakefs://"))

        @classmethod
        def _resolve(cls, raw_source: str) -> LakeDatasetSource:
            return cls(raw_source)

        def load(self, **_: Any) -> Any:
            raise T2TError(f"{self.uri}: read it with t2t.lake.open_lake(…).read(commit, path).")

        def to_dict(self) -> dict[str, str]:
            return {"uri": self.uri}

        @classmethod
        def from_dict(cls, source_dict: dict[str, str]) -> LakeDatasetSource:
            return cls(source_dict["uri"])

    register_dataset_source(LakeDatasetSource)
    return LakeDatasetSource
