"""No document names a file, a module or a test that is not there, and every link leads somewhere."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.helpers.worlds import ROOT

pytestmark = pytest.mark.unit

# (The changelog may name what was there once.)
PLACES = (ROOT, ROOT / "docs", ROOT / "docs" / "teachers", ROOT / "docs" / "plugin")
PAGES = sorted(path for place in PLACES for path in place.glob("*.md") if path.name != "CHANGELOG.md")
TOP = {"t2t", "flows", "infra", "registry", "tests", "docs", "benchmarks"}
ROOMS = sorted(path.name for path in (ROOT / "t2t").iterdir() if path.is_dir() and path.name != "__pycache__")
# Suffixes of files that this repository has. Others, as `topics.csv`, are a user's or a run's.
OURS = (".py", ".md", ".toml", ".sh", ".svg", ".ipynb")
# Names that begin as a module does and are none: events of Prefect.
EVENTS = {"t2t.round.rejected", "t2t.round.waiting"}
# Entries that people make for themselves, in examples; and what a registry may have.
EXAMPLES = re.compile(r"[<*{$…]|registry/(campaigns|datasets|teachers)/(x|mine|name|my-\w+|vendor-b)\.yaml")
# What benchmarks wrote down keeps the names of its day.
MEASURED = re.compile(r"<!-- measured: .*?<!-- end -->", re.DOTALL)
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def text_of(page: Path) -> str:
    return MEASURED.sub("", page.read_text(encoding="utf-8"))


def prose_of(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", text_of(page))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE):
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return found


@cache
def names_in(path: Path) -> set[str]:
    """What a module defines at its top, or imports there."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
    return found


@cache
def seams() -> set[str]:
    """The entry-point groups, as the code has them."""
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "t2t").rglob("*.py"))
    return set(re.findall(r'"(t2t\.\w+)"', text))


@cache
def faces() -> set[str]:
    """What `t2t` itself offers."""
    tree = ast.parse((ROOT / "t2t" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__":
            return set(ast.literal_eval(node.value))
    raise AssertionError("t2t has no __all__")


def is_there(name: str) -> bool:
    """Whether `t2t.x.y` is a module, or begins with one that has what comes next."""
    if name in EVENTS or name in seams():
        return True
    parts = name.split(".")[1:]
    if parts[0] in faces():
        return True
    # In the wheel the flows are inside of t2t; here they lie beside it.
    folder = ROOT if parts[0] == "flows" else ROOT / "t2t"
    for position, part in enumerate(parts):
        if (folder / part).is_dir():
            folder = folder / part
            continue
        module = folder / f"{part}.py"
        if not module.is_file():
            return part in names_in(folder / "__init__.py")
        left = parts[position + 1 :]
        return not left or left[0] in names_in(module)
    return True


def marked(page: Path) -> Iterator[str]:
    """What stands between backticks."""
    yield from re.findall(r"``? ?([^`\n]+?) ?``?", prose_of(page))


def paths_in(page: Path) -> Iterator[tuple[str, str]]:
    """(path, test or "") of what looks like a path in this repository."""
    for quoted in marked(page):
        for word in quoted.split():
            path, _, test = word.strip(",.;:()'\"").partition("::")
            parts = path.split("/")
            file = path.endswith(OURS) and "/" in path and parts[0] not in ("work", "data", "")
            if (parts[0] in TOP and len(parts) > 1) or file:
                yield path, test


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_is_there(page):
    missing = []
    for path, test in paths_in(page):
        if EXAMPLES.search(path):
            continue
        # docs/bad-input.md names tests from `tests/`; a page may name a file as its neighbours do, or from its room.
        places = [ROOT / path, page.parent / path, ROOT / "tests" / path, ROOT / "t2t" / path]
        found = next((place for place in places if place.exists()), None)
        if found is None or (test and f"def {test.partition('[')[0]}(" not in found.read_text(encoding="utf-8")):
            missing.append(f"{path}::{test}" if test else path)
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_is_there(page):
    text = text_of(page)
    names = set(re.findall(r"(?<![\w./`-])`?(t2t(?:\.\w+)+)", text))
    assert sorted(name for name in names if not is_there(name)) == []
    run = re.findall(r"python -m ((?:t2t|infra|tests|benchmarks)[\w.]*)", text)
    places = [ROOT.joinpath(*name.strip(".").split(".")) for name in run]
    assert [str(place) for place in places if not (place.with_suffix(".py").is_file() or place.is_dir())] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (anchor and place.suffix == ".md" and anchor not in anchors(place)):
            broken.append(target)
    assert broken == []


def test_every_page_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES if page.parent.name == "docs" and f"docs/{page.name}" not in readme] == []


def test_every_kinds_page_is_linked():
    """From the README, or from the page that says what a kind of teacher is."""
    from_readme, from_extend = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/extend.md"))
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.parent.parent == ROOT / "docs"]
    assert [page for page in pages if f"(docs/{page}" not in from_readme and f"({page}" not in from_extend] == []


def test_the_readmes_tree_is_the_repositorys():
    """Each line of the tree is there, and each room has a line."""
    block = next(body for _, body in FENCE.findall((ROOT / "README.md").read_text()) if body.startswith("flows/"))
    above: list[str] = []
    listed = []
    for line in block.splitlines():
        name = line.split()[0]
        above[(len(line) - len(line.lstrip())) // 2 :] = [name.rstrip("/")]
        listed.append("/".join(above))
        assert ROOT.joinpath(*above).exists(), line
        assert ROOT.joinpath(*above).is_dir() == name.endswith("/"), line
        for file in re.findall(r"\b[\w]+\.py\b", line):
            place = ROOT.joinpath(*above)
            assert (place / file).is_file() or (place.parent / file).is_file(), f"{file}: {line}"
    assert [room for room in ROOMS if f"t2t/{room}" not in listed] == []


def test_the_tours_layers_are_import_linters():
    """The tour draws the layers as pyproject.toml has them, one a line."""
    block = next(body for _, body in FENCE.findall((ROOT / "docs" / "tour.md").read_text()) if "__main__" in body)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    name = re.compile(r"t2t\.\w+|^flows")
    assert [name.findall(line) for line in block.strip().splitlines()] == [name.findall(layer) for layer in layers]
