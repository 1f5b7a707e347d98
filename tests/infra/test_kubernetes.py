"""The Kubernetes manifests, rendered by Kustomize: what they promise, and the schemas of their kinds."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from t2t.integrations.prefect.setup import POOL, without_command
from tests.helpers.worlds import ROOT

KUBERNETES = ROOT / "infra" / "kubernetes"
OVERLAYS = ["base", "overlays/gpu", "overlays/jobs", "overlays/ray"]
PRESERVE = "x-kubernetes-preserve-unknown-fields"
KUSTOMIZE = [["kubectl", "kustomize"], ["kustomize", "build"]]

pytestmark = pytest.mark.skipif(
    not any(shutil.which(command[0]) for command in KUSTOMIZE), reason="neither kubectl nor kustomize is installed"
)
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@functools.cache
def render(overlay: str) -> list[dict[str, Any]]:
    command = next(command for command in KUSTOMIZE if shutil.which(command[0]))
    done = subprocess.run([*command, str(KUBERNETES / overlay)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def kinds(overlay: str, kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in render(overlay) if one["kind"] == kind}


def templates(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and template of everything that makes pods."""
    for name, one in kinds(overlay, "Deployment").items():
        yield name, one["spec"]["template"]
    for one in kinds(overlay, "RayCluster").values():
        yield "ray head", one["spec"]["headGroupSpec"]["template"]
        for group in one["spec"]["workerGroupSpecs"]:
            yield f"ray {group['groupName']}", group["template"]


def containers(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, template in templates(overlay):
        for container in template["spec"]["containers"] + template["spec"].get("initContainers", []):
            yield f"{name}: {container['name']}", container


@every_overlay
def test_everything_is_there_and_in_one_namespace(overlay: str) -> None:
    assert set(kinds(overlay, "Deployment")) == {"prefect", "prefect-worker", "mlflow", "lakefs"}
    assert set(kinds(overlay, "Service")) == {"prefect", "mlflow", "lakefs"}
    for one in render(overlay):
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "t2t", one["metadata"]
    for name, service in kinds(overlay, "Service").items():
        template = kinds(overlay, "Deployment")[name]["spec"]["template"]
        assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()


@every_overlay
def test_pods_run_without_rights(overlay: str) -> None:
    for name, template in templates(overlay):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["enableServiceLinks"] is False, name
        assert "hostNetwork" not in spec
        token = overlay == "overlays/jobs" and name == "prefect-worker"
        assert name.startswith("ray") or spec["automountServiceAccountToken"] is token, name
    for name, container in containers(overlay):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
    (namespace,) = kinds(overlay, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@every_overlay
def test_containers_ask_for_resources_and_are_watched(overlay: str) -> None:
    for name, container in containers(overlay):
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
        assert "memory" in container["resources"]["limits"], name
        assert re.search(r":\d+\.\d+\.\d+$", container["image"]), container["image"]
        if not name.endswith(": prepare"):
            assert "readinessProbe" in container, name
    for name, deployment in kinds(overlay, "Deployment").items():
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            assert {"startupProbe", "livenessProbe"} <= set(container), name
            ports = {port["name"] for port in container["ports"]}
            assert container["readinessProbe"]["httpGet"]["port"] in ports


@every_overlay
def test_secrets_are_referred_to_and_never_written(overlay: str) -> None:
    assert not kinds(overlay, "Secret")
    for name, container in containers(overlay):
        for variable in container.get("env", []):
            if re.search(r"PASSWORD|SECRET|KEY|DATABASE_(POSTGRES|CONNECTION)|STORE_URI", variable["name"]):
                assert set(variable) == {"name", "valueFrom"}, f"{name}: {variable['name']}"
                assert "secretKeyRef" in variable["valueFrom"]
    for one in kinds(overlay, "ConfigMap").values():
        assert not [key for key in one["data"] if re.search(r"PASSWORD|SECRET|ACCESS_KEY", key)]


@every_overlay
def test_references_are_to_what_exists(overlay: str) -> None:
    """Config maps (whose names Kustomize ends with a hash, also where it does not know the kind) and volume claims."""
    known = set(kinds(overlay, "ConfigMap"))
    used = {
        source["configMapRef"]["name"]
        for _, container in containers(overlay)
        for source in container.get("envFrom", [])
        if "configMapRef" in source
    }
    assert used == known
    claims = set(kinds(overlay, "PersistentVolumeClaim"))
    for name, template in templates(overlay):
        volumes = template["spec"].get("volumes", [])
        wanted = {one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one}
        assert wanted <= claims, name
        mounted = {mount["name"] for one in template["spec"]["containers"] for mount in one.get("volumeMounts", [])}
        assert mounted == {volume["name"] for volume in volumes}, name


@every_overlay
def test_nobody_talks_to_anybody_without_need(overlay: str) -> None:
    policies = {name: policy["spec"] for name, policy in kinds(overlay, "NetworkPolicy").items()}
    assert policies["nobody"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    allowed: dict[str, set[tuple[str, int]]] = {}
    for spec in policies.values():
        for rule in spec.get("ingress", []):
            pods = [str(peer) for peer in rule["from"]]
            assert all("podSelector" in peer or "kuberay-operator" in peer for peer in pods)
            for name, template in templates(overlay):
                if spec["podSelector"].get("matchLabels", {}).items() <= template["metadata"]["labels"].items():
                    ports = {(pod, port["port"]) for pod in pods for port in rule.get("ports", [{"port": 0}])}
                    allowed.setdefault(name, set()).update(ports)
    clients = str({"podSelector": {"matchLabels": {"t2t/role": "client"}}})
    for name, port in (("prefect", 4200), ("mlflow", 5000), ("lakefs", 8000)):
        assert allowed[name] == {(clients, port)}
    assert "prefect-worker" not in allowed
    asking = {
        name for name, template in templates(overlay) if template["metadata"]["labels"].get("t2t/role") == "client"
    }
    ray = {"ray head", "ray gpu"} if overlay == "overlays/ray" else set()
    assert asking == {"prefect-worker", *ray}
    assert set(allowed) == {"prefect", "mlflow", "lakefs", *ray}


@every_overlay
def test_servers_have_a_login_and_know_their_names(overlay: str) -> None:
    for name, module in (
        ("prefect", "t2t.integrations.prefect.server:app"),
        ("mlflow", "t2t.integrations.mlflow.server"),
    ):
        (container,) = kinds(overlay, "Deployment")[name]["spec"]["template"]["spec"]["containers"]
        assert module in container["command"]
        variables = {variable["name"]: variable for variable in container["env"]}
        assert variables["T2T_SERVER_LOGIN"]["valueFrom"]["secretKeyRef"] == {
            "name": "t2t-services",
            "key": "server-login",
        }
        assert variables["T2T_SERVER_HOSTS"]["value"].split(",")[:2] == [name, f"{name}.t2t"]
    for name, container in containers(overlay):
        if name == "prefect-worker: worker":
            assert "--no-create-pool-if-not-found" in container["command"]


def test_a_flow_runs_job_has_no_rights_and_no_command_of_its_own() -> None:
    template = json.loads((KUBERNETES / "job-template.json").read_text())
    assert without_command(template) == template
    job = template["job_configuration"]["job_manifest"]["spec"]["template"]
    assert job["metadata"]["labels"]["t2t/role"] == "client"
    (container,) = job["spec"]["containers"]
    assert "args" not in container
    assert "command" not in container
    assert job["spec"]["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/tmp", "/home/t2t"} <= mounts
    assert {mount["name"] for mount in container["volumeMounts"]} == {one["name"] for one in job["spec"]["volumes"]}


def test_a_gpu_is_asked_for_where_one_is_used() -> None:
    def gpus(overlay: str) -> set[str]:
        return {
            name
            for name, container in containers(overlay)
            if container["resources"]["requests"].get("nvidia.com/gpu") == "1"
            and container["resources"]["limits"].get("nvidia.com/gpu") == "1"
        }

    assert gpus("base") == gpus("overlays/jobs") == set()
    assert gpus("overlays/gpu") == {"prefect-worker: worker"}
    assert gpus("overlays/ray") == {"ray gpu: ray-worker"}


def test_workers_serve_the_pool_that_is_made_for_them() -> None:
    for overlay in OVERLAYS:
        found = dict(containers(overlay))
        worker, prepare = (found[f"prefect-worker: {name}"]["command"] for name in ("worker", "prepare"))
        assert worker[worker.index("--pool") + 1] == POOL
        kind = worker[worker.index("--type") + 1]
        assert kind == ("kubernetes" if overlay == "overlays/jobs" else "process")
        if kind == "kubernetes":
            assert (KUBERNETES.parents[1] / prepare[prepare.index("--job-template") + 1]).exists()
        else:
            assert prepare == ["python", "-m", "infra.prepare"]


def test_versions_are_those_of_the_compose_file() -> None:
    compose = yaml.safe_load((KUBERNETES.parent / "compose.yaml").read_text())["services"]
    images = {container["image"] for overlay in OVERLAYS for _, container in containers(overlay)}
    assert images == {compose[name]["image"] for name in ("prefect", "worker", "lakefs")}


@every_overlay
def test_the_schemas_of_kubernetes_accept_it(overlay: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    version = validator.latest_version()
    checked = 0
    for one in render(overlay):
        if one["kind"] != "RayCluster":
            validator.validate(one, version, strict=True)
            checked += 1
    for name, template in templates(overlay):
        pods = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template}
        validator.validate(pods, version, strict=True)
        assert name
    assert checked >= 10


def test_the_schema_of_kuberay_accepts_the_cluster() -> None:
    """The definition of RayCluster is a file of KubeRay's: `config/crd/bases/ray.io_rayclusters.yaml`."""
    place = os.environ.get("T2T_TEST_RAYCLUSTER_CRD")
    if not place:
        pytest.skip("no KubeRay definitions: set T2T_TEST_RAYCLUSTER_CRD to its ray.io_rayclusters.yaml")
    import jsonschema

    definition = yaml.load(Path(place).read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    versions = {one["name"]: one for one in definition["spec"]["versions"]}
    (cluster,) = kinds("overlays/ray", "RayCluster").values()
    jsonschema.validate(cluster, strict(versions["v1"]["schema"]["openAPIV3Schema"]))


def strict(schema: Any) -> Any:
    """The schema with fields that it does not name refused, as the API server does (it drops them)."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if found.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if found.get("properties") and schema.get("type") == "object" and not found.get(PRESERVE):
        found.setdefault("additionalProperties", False)
    return found
