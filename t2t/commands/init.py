"""`t2t init`: a project to begin with, for those who installed t2t and have no clone of its repository."""

from __future__ import annotations

import shlex
from pathlib import Path

from t2t.commands.schemas import FILES, has_plugins, write_schemas
from t2t.commands.tables import console
from t2t.core.errors import T2TError
from t2t.core.files import write_text
from t2t.core.version import ROOT

# The demo's entries of the registry. pyproject.toml puts these into the wheel, and no others.
ENTRIES = (
    "campaigns/demo.yaml",
    "datasets/demo.yaml",
    "distillations/demo.yaml",
    "studies/demo-students.yaml",
    "teachers/colour-expert.yaml",
    "teachers/shape-expert.yaml",
    "teachers/tiny-align.yaml",
    "teachers/tiny-vlm.yaml",
    "teachers/vendor.yaml",
)
# What lies beside the registry, by its name here; a dot would hide it from the wheel.
OTHERS = {"README.md": "README.md", "prefect.yaml": "prefect.yaml", "gitignore": ".gitignore"}
PROJECT = Path(__file__).parent / "project"
# So many names of what is in the way are told.
SHOWN = 5


def init(folder: Path) -> list[str]:
    """Writes a project: the demo's registry, schemas for editors, deployments for Prefect, a README.

    Returns: the files' names in `folder`.

    Raises T2TError where `folder` is not empty (but for `.git`), is no folder, or cannot be written.
    """
    try:
        _check_empty(folder)
        written = []
        for source, name in _files().items():
            write_text(folder / name, source.read_text(encoding="utf-8"))
            written.append(name)
        if has_plugins():
            write_schemas(folder / "registry")
    except OSError as error:
        raise T2TError(f"{folder}: no project can be written there: {error.strerror}.") from error
    return written


def print_schemas(registry: Path) -> None:
    """Writes the schemas of a registry's entries anew, with the kinds of the plug-ins that are installed here."""
    if not registry.is_dir():
        raise T2TError(f"{registry}: no registry here. Run t2t where `registry/` is, or set T2T_REGISTRY.")
    for path in write_schemas(registry):
        console.print(f"Wrote {path}", markup=False, soft_wrap=True)
    console.print(
        "An editor reads them by an entry's first line, as # yaml-language-server: $schema=../campaign.schema.json"
    )


def print_init(folder: Path) -> None:
    """Writes a project and says what it wrote, and what to type next."""
    written = init(folder)
    console.print(f"Wrote into {folder}:", markup=False, soft_wrap=True)
    for name in written:
        console.print(f"  {name}", markup=False)
    steps = {
        "t2t demo": "renders the demo's clips and trains its teachers: a minute or two",
        "t2t run demo": "up to four rounds, a few minutes on two cores",
        "t2t rounds demo": "the table of rounds",
    }
    console.print("\nNext:")
    if folder.resolve() != Path.cwd():
        console.print(f"  cd {shlex.quote(str(folder))}", markup=False, soft_wrap=True)
    for command, what in steps.items():
        console.print(f"  {command:<16} # {what}", markup=False)


def _files() -> dict[Path, str]:
    """Where each file is, and its name in a project."""
    # In the wheel the demo's registry lies beside the demo; a clone has it in its root, with other entries.
    shipped = Path(__file__).parents[1] / "data" / "demo" / "registry"
    registry = shipped if shipped.is_dir() else ROOT / "registry"
    entries = {registry / entry: f"registry/{entry}" for entry in (*ENTRIES, *FILES.values())}
    return entries | {PROJECT / source: name for source, name in OTHERS.items()}


def _check_empty(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise T2TError(f"{folder} is a file. Name a new folder.")
    there = sorted(path.name for path in folder.iterdir() if path.name != ".git")  # many begin with `git init`
    if there:
        more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
        raise T2TError(f"{folder} is not empty, it has {', '.join(there[:SHOWN])}{more}. Name a new folder.")
