"""The repository's own files, as those read them who come by: the citation, the hooks, the pinned versions."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from itertools import chain

import pytest
import yaml

from t2t.core.version import VERSION
from tests.helpers.worlds import ROOT

pytestmark = pytest.mark.unit

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))


def plain(name: str) -> str:
    """A distribution's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_citation_is_valid_and_of_this_version():
    schemas = pytest.importorskip("check_jsonschema.builtin_schemas", reason="check-jsonschema is not installed")
    import jsonschema

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    jsonschema.validate(citation, schemas.get_builtin_schema("vendor.citation-file-format"))
    assert citation["version"] == VERSION
    assert citation["license"] == PROJECT["license"]
    assert citation["references"][0]["url"] == PROJECT["urls"]["Method"]
    released = date.fromisoformat(citation["date-released"])
    assert f"## [{VERSION}] - {released}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_hooks_are_the_commands_of_make_lint():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    hooks = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in repository["hooks"]}
    rule = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert rule is not None
    assert hooks == set(re.findall(r"^\t\$\(BIN\)/([\w-]+)", rule[1], re.M))


def test_every_dependency_is_pinned_once_and_in_order():
    names = [plain(name) for name in PINNED]
    assert len(names) == len(set(names))
    assert len(PINNED) == len((ROOT / "constraints.txt").read_text().splitlines()) - 1
    wanted = [*PROJECT["dependencies"], *chain.from_iterable(PROJECT["optional-dependencies"].values())]
    declared = {plain(re.match(r"[A-Za-z0-9._-]+", line)[0]) for line in wanted} - {PROJECT["name"]}
    # What nothing here installs: the worker of a Kubernetes pool, in an image of its own; object stores for samples,
    # since s3fs goes with an older botocore than MLflow's artifacts.
    assert declared - set(names) == {"prefect-kubernetes", "s3fs", "gcsfs"}
