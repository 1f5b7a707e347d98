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
EXAMPLE = (INFRA / "compose.env.example").read_text()
REQUIRED = set(re.findall(r"^([A-Z_]+)=$", EXAMPLE, re.M))


def test_the_set_is_whole() -> None:
    assert SERVICES.keys() == {"postgres", "minio", "buckets", "lakefs", "mlflow", "prefect", "prepare", "worker"}
    assert {"buckets", "prepare"} == ONCE


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
    assert re.search(r":\d+\.\d+(\.\d+)?(-\w+)?$|:RELEASE\.[\dTZ-]+$", service["image"]), service["image"]
    assert service["security_opt"] == ["no-new-privileges:true"]


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
    stages = (INFRA / "Dockerfile").read_text().split("\nFROM ")[1:]
    assert [stage.split()[2] for stage in stages] == ["services", "worker"]
    for stage in stages:
        assert re.findall(r"^USER (\S+)", stage, re.M)[-1] == "1000:1000"
        assert "--constraint constraints.txt" in stage
    copied = re.findall(r"^COPY (.+) \S+$", "\n".join(stages), re.M)
    names = [name for line in copied for name in line.split()]
    assert names
    assert all((INFRA.parent / name).exists() for name in names)
    allowed = re.findall(r"^!(\S+)$", (INFRA / "Dockerfile.dockerignore").read_text(), re.M)
    assert sorted(names) == sorted(allowed)


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
