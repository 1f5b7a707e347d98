"""What `make up` decides before it starts anything. The services: test_local_services.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra import local, postgres
from infra.daemons import daemons
from infra.prepare import prepare_lakefs
from t2t.core.errors import T2TError
from t2t.integrations.services import free_port


def choose(folder: Path, wanted: str) -> str:
    with daemons(folder) as services:
        return local._database(services, wanted)


@pytest.mark.parametrize(("reason", "kind"), [(None, "postgresql"), ("none is installed", "sqlite")])
def test_the_first_choice_is_kept(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    reason: str | None,
    kind: str,
) -> None:
    monkeypatch.setattr(postgres, "unusable", lambda folder: reason)
    assert choose(tmp_path, "auto") == kind
    assert ("SQLite instead of PostgreSQL: none is installed" in capsys.readouterr().out) == (kind == "sqlite")
    # PostgreSQL comes: the history stays where it is.
    monkeypatch.setattr(postgres, "unusable", lambda folder: None)
    assert choose(tmp_path, "auto") == kind
    assert choose(tmp_path, "postgresql") == "postgresql"
    assert choose(tmp_path, "auto") == "postgresql"
    # PostgreSQL goes: SQLite would show an empty history.
    monkeypatch.setattr(postgres, "unusable", lambda folder: "no PostgreSQL is installed")
    with pytest.raises(T2TError, match="no PostgreSQL is installed"):
        choose(tmp_path, "auto")
    assert choose(tmp_path, "sqlite") == "sqlite"


def test_an_unknown_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(T2TError, match="auto, postgresql, sqlite"):
        choose(tmp_path, "mysql")
    assert not (tmp_path / "database").exists()


def test_down_and_status_without_services_do_nothing(tmp_path: Path) -> None:
    assert local.down(tmp_path) == []
    assert local.addresses(tmp_path) == {}
    assert not any(tmp_path.iterdir())


def test_what_keeps_postgresql_from_running_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "binaries", lambda: Path("/somewhere"))
    monkeypatch.setattr(postgres, "owner", lambda: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'psycopg[binary]'" in str(postgres.unusable(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert postgres.unusable(tmp_path) is None
    monkeypatch.setattr(postgres, "binaries", lambda: None)
    assert postgres.unusable(tmp_path) == "no PostgreSQL is installed"


def test_the_password_is_not_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "binaries", lambda: Path("/somewhere"))
    (tmp_path / "password").write_text("geheim")
    line = postgres.command(tmp_path, 5433)
    assert line[:3] == ["/somewhere/postgres", "-D", str(tmp_path / "data")]
    assert {"listen_addresses=127.0.0.1", "port=5433", "unix_socket_directories="} <= set(line)
    assert "geheim" not in " ".join(line)
    assert postgres.url(tmp_path, 5433, "mlflow") == "postgresql://t2t:geheim@127.0.0.1:5433/mlflow"


def test_lakefs_out_of_reach_or_without_keys_is_told() -> None:
    variables = {"LAKECTL_SERVER_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    with pytest.raises(T2TError, match="LAKECTL_CREDENTIALS_ACCESS_KEY_ID is not set"):
        prepare_lakefs(variables)
    variables |= {"LAKECTL_CREDENTIALS_ACCESS_KEY_ID": "id", "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": "geheim"}
    with pytest.raises(T2TError, match="No lakeFS server answers") as error:
        prepare_lakefs(variables)
    assert "geheim" not in str(error.value)
