"""The compose file and the image: what they promise, read from them; and `docker compose config` where there is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from t2t.integrations.prefect.setup import POOL
from tests.helpers.worlds import ROOT

INFRA = ROOT / "infra"
COMPOSE = INFRA / "compose.yaml"
TEXT = COMPOSE.read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
ONCE = {name for name, service in SERVICES.items() if service.get("restart") == "no"}
TEXT_OF_IMAGE = (INFRA / "Dockerfile").read_text()
EXAMPLE = (INFRA / "compose.env.example").read_text()
REQUIRED = set(re.findall(r"^([A-Z_]+)=$", EXAMPLE, re.M))


def test_the_set_is_whole() -> None:
    assert SERVICES.keys() == {
        "postgres",
        "minio",
        "buckets",
        "lakefs",
        "mlflow",
        "prefect",
        "prepare",
        "worker",
        "own",
    }
    assert {"own", "buckets", "prepare"} == ONCE


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_healthy_before_others_use_it(name: str) -> None:
    service = SERVICES[name]
    if name in ONCE:
        users = [other for other in SERVICES.values() if name in other.get("depends_on", {})]
        assert users
        assert all(user["depends_on"][name]["condition"] == "service_completed_successfully" for user in users)
    else:
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["restart"] == "unless-stopped"
        users = [other for other in SERVICES.values() if name in other.get("depends_on", {})]
        assert all(user["depends_on"][name]["condition"] == "service_healthy" for user in users)


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_loopbacks_and_versions_exact(name: str) -> None:
    service = SERVICES[name]
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), port
    version, _, digest = service["image"].partition("@")
    assert re.search(r":\d+\.\d+(\.\d+)?(-\w+)?$|:RELEASE\.[\dTZ-]+$", version), version
    # Ours are built here, and lakeFS's digest could not be had where this was written: docs/deployments.md.
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest) or version.startswith(("t2t-", "treeverse/lakefs:")), version


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_rights_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert "/tmp" in service["tmpfs"]
    assert not {"privileged", "devices", "pid", "ipc", "network_mode"} & service.keys() or name == "own"
    if name == "own":  # gives a new volume to MinIO's account, and has nothing else to do
        assert (service["user"], service["cap_add"], service["network_mode"]) == ("0:0", ["CHOWN"], "none")
        assert service["command"][0] == "chown"
        assert "environment" not in service
    else:
        assert int(service["user"].partition(":")[0]) > 0
        assert "cap_add" not in service
    for volume in service.get("volumes", []):
        source, _, *mode = volume.rsplit("}", 1)[-1].split(":")
        assert "docker.sock" not in volume
        assert mode == ["ro"] or re.fullmatch(r"[a-z]+", source), volume


def test_the_worker_reaches_servers_and_no_store() -> None:
    networks = yaml.safe_load(TEXT)["networks"]
    assert networks["stores"] == {"internal": True}
    on = {name: set(service.get("networks", [])) for name, service in SERVICES.items()}
    assert on["worker"] == on["prepare"] == {"services"}
    assert on["postgres"] == {"stores"}
    assert {name for name, found in on.items() if "stores" in found} == {
        "postgres", "minio", "buckets", "lakefs", "mlflow", "prefect",
    }  # fmt: skip
    assert not {"worker", "prepare"} & {name for name, found in on.items() if found & on["minio"]}


def test_servers_ask_for_a_login_and_know_their_names() -> None:
    for name, module in (
        ("prefect", "t2t.integrations.prefect.server:app"),
        ("mlflow", "t2t.integrations.mlflow.server"),
    ):
        service = SERVICES[name]
        assert module in service["command"]
        assert service["environment"]["T2T_SERVER_LOGIN"] == "t2t:${SERVER_PASSWORD}"
        assert service["environment"]["T2T_SERVER_HOSTS"] == name
    client = SERVICES["worker"]["environment"]
    assert client["PREFECT_API_AUTH_STRING"].startswith("t2t:${SERVER_PASSWORD")
    assert client["MLFLOW_TRACKING_USERNAME"] == "t2t"
    assert client["MLFLOW_TRACKING_PASSWORD"] == "${SERVER_PASSWORD}"
    assert "--no-create-pool-if-not-found" in SERVICES["worker"]["command"]
    # lakeFS asks for its keys by itself once it has a first user, which `prepare` makes.
    assert "LAKEFS_AUTH_ENCRYPT_SECRET_KEY" in SERVICES["lakefs"]["environment"]
    assert SERVICES["minio"]["environment"]["MINIO_API_CORS_ALLOW_ORIGIN"].startswith("http://127.0.0.1:")


def test_no_secret_has_a_value() -> None:
    secret = re.compile(r"PASSWORD|SECRET|KEY|ROOT_USER")
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            value = str(value)
            if secret.search(key):
                assert re.fullmatch(r"\$\{[A-Z_]+(:\?[^}]*)?\}", value), f"{name}: {key}"
            for password in re.findall(r"://[^:/@]+:([^@]+)@", value):
                assert re.fullmatch(r"\$\{[A-Z_]+\}", password), f"{name}: {key}"
    # Where one is missing, or empty as in the example, compose says so and starts nothing.
    assert set(re.findall(r"\$\{([A-Z_]+):\?", TEXT)) == REQUIRED
    assert set(re.findall(r"\$\{([A-Z_]+)\}", TEXT)) <= REQUIRED
    assert not set(re.findall(r"\$\{([A-Z_]+):-", TEXT)) & REQUIRED


def test_nothing_reports_to_its_makers() -> None:
    off = {
        "lakefs": {
            "LAKEFS_STATS_ENABLED": "false",
            "LAKEFS_SECURITY_CHECK_LATEST_VERSION": "false",
            "LAKEFS_SECURITY_AUDIT_CHECK_URL": "",
            "LAKEFS_EMAIL_SUBSCRIPTION_ENABLED": "false",
        },
        "mlflow": {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
        "minio": {"MINIO_UPDATE": "off"},
        "prefect": {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "true"},
        "worker": {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "RAY_USAGE_STATS_ENABLED": "0"},
    }
    for name, settings in off.items():
        assert settings.items() <= SERVICES[name]["environment"].items()


def test_every_database_that_is_used_is_made() -> None:
    made = set(re.findall(r"CREATE DATABASE (\w+);", yaml.safe_load(TEXT)["configs"]["databases"]["content"]))
    assert set(re.findall(r"@postgres:5432/(\w+)", TEXT)) == made == {"prefect", "mlflow", "lakefs"}


def test_the_worker_serves_the_pool_of_the_deployments() -> None:
    command = SERVICES["worker"]["command"]
    assert command[command.index("--pool") + 1] == POOL
    prefect = yaml.safe_load((INFRA.parent / "prefect.yaml").read_text())
    assert {deployment["work_pool"]["name"] for deployment in prefect["deployments"]} == {POOL}


def test_git_ignores_the_environment_file() -> None:
    assert "/infra/*.env" in (INFRA.parent / ".gitignore").read_text().splitlines()


def test_the_image_runs_as_nobody_in_particular_and_copies_what_exists() -> None:
    stages = TEXT_OF_IMAGE.split("\nFROM ")[1:]
    assert [stage.split()[2] for stage in stages] == ["base", "services", "worker"]
    assert re.search(r"^ARG PYTHON=\d+\.\d+\.\d+-slim-bookworm@sha256:[0-9a-f]{64}$", TEXT_OF_IMAGE, re.M)
    for stage in stages[1:]:
        assert re.findall(r"^USER (\S+)", stage, re.M)[-1] == "1000:1000"
    assert all("--constraint constraints.txt" in stage for stage in (stages[0], stages[2]))
    copied = re.findall(r"^COPY (.+) \S+$", "\n".join(stages), re.M)
    names = [name for line in copied for name in line.split()]
    assert names
    assert all((INFRA.parent / name).exists() for name in names)
    allowed = re.findall(r"^!(\S+)$", (INFRA / "Dockerfile.dockerignore").read_text(), re.M)
    assert sorted(set(names)) == sorted(allowed)


def test_the_image_asks_for_what_the_project_depends_on_and_never_for_the_project() -> None:
    """The project's own extras stand among its dependencies under its own name, which pip would look up."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (INFRA / "Dockerfile").read_text().replace("\\\n", "")
    (code,) = re.findall(r'python -c "(import sys, tomllib.+?)" ', text)
    line = [sys.executable, "-c", code, "postgres,s3"]
    asked = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    own = "teacher2task[lakefs,mlflow,prefect,video]"
    wanted = [*project["dependencies"]]
    wanted.remove(own)
    for extra in ("lakefs", "mlflow", "prefect", "video", "postgres", "s3"):
        wanted += project["optional-dependencies"][extra]
    assert sorted(asked) == sorted(wanted)


def compose_command() -> list[str] | None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and not subprocess.run([*command, "version"], capture_output=True).returncode:
            return command
    return None


@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "compose.gpu.yaml"]], ids=["cpu", "gpu"])
def test_docker_compose_accepts_it(tmp_path: Path, files: list[str]) -> None:
    command = compose_command()
    if command is None:
        pytest.skip("no `docker compose` here")
    for name in files:
        command += ["-f", str(INFRA / name)]
    full = tmp_path / "full.env"
    full.write_text("".join(f"{name}=x{i}\n" for i, name in enumerate(sorted(REQUIRED))))
    done = subprocess.run([*command, "--env-file", full, "config", "--format", "json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    config = json.loads(done.stdout)
    assert set(config["services"]) == set(SERVICES)
    published = [port for service in config["services"].values() for port in service.get("ports", [])]
    assert published
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    done = subprocess.run(
        [*command, "--env-file", INFRA / "compose.env.example", "config"], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "set it in the environment file" in done.stderr


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_the_schema_of_compose_files_accepts_it(name: str) -> None:
    schemas = pytest.importorskip("check_jsonschema.builtin_schemas", reason="check-jsonschema is not installed")
    import jsonschema

    jsonschema.validate(yaml.safe_load((INFRA / name).read_text()), schemas.get_builtin_schema("vendor.compose-spec"))
