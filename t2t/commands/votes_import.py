"""`t2t data import class-votes`: vectors with labeling functions' votes and true classes become a dataset, and each
function a teacher that may abstain.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import yaml

from t2t.commands.import_request import Request, place_of
from t2t.commands.schemas import FILES, schema_line
from t2t.commands.tables import console
from t2t.core.config import read_yaml
from t2t.core.errors import DataError, T2TError, listed, one_line
from t2t.core.files import atomic_file, write_text
from t2t.core.workspace import Workspace
from t2t.data.dataset import read_dataset
from t2t.data.embeddings.config import VectorsConfig
from t2t.data.embeddings.vectors import check_samples
from t2t.data.formats.class_votes import ABSTAINED, PARTS, Votes, read_votes
from t2t.data.formats.media import written
from t2t.data.labels import write_parquet
from t2t.data.vector_files import VECTORS
from t2t.teachers.members import ID, members_of

FORMAT = "class-votes"
# Of the rows whose class people gave, every so-manieth is for validation: every fourth, or as many fewer as leave so
# many rows to choose the step by; what is there beyond them teaches more (docs/vectors.md).
EVERY, ENOUGH = 4, 60
ANNOTATOR = "gold"


def import_votes(workspace: Workspace, request: Request) -> list[Path]:
    """Writes the dataset's tables, the teachers' table, and entries for both where there are none.

    `train` becomes the split unlabeled, `valid` train and, every fourth row or a smaller part, validation; the vectors
    stay where they are. A function's vote is 1 for its class and 0 for the others; where it abstains it says nothing.
    """
    folder, at = request.source, place_of(workspace, request)
    if request.mode == "add":
        raise T2TError(f"--add: {FORMAT} makes a dataset of its own; leave --add out.")
    if (at.root / at.config.samples).is_file() and request.mode != "replace":
        raise T2TError(f"Dataset {at.config.name!r} is there ({at.root}): write its tables anew by --replace.")
    if not folder.is_dir():
        raise T2TError(f"{folder}: {FORMAT} is a folder with classes.txt and, of each split, vectors, votes and gold.")
    votes, silent = _heard(read_votes(folder.resolve(), at.config.table_limits))
    teachers = f"{at.config.name}-functions"
    for name in votes.functions:
        if ".." in name or not re.fullmatch(ID, name) or not re.fullmatch(ID, f"{teachers}.{name}"):
            raise DataError(
                folder / f"{PARTS[0]}_votes.csv",
                f"a function's name becomes a teacher's, {teachers}.NAME, of 64 letters, digits, '.', '_' and '-' at "
                f"most; rename {one_line(repr(name), 80)}, or give the dataset a shorter name.",
            )
    entry = workspace.registry / "teachers" / f"{teachers}.yaml"
    told = _told_teachers(entry, _teachers(teachers, votes))
    ids = {part: [f"{part}-{row}" for row in range(len(votes.parts[part].votes))] for part in PARTS}
    for part in PARTS:
        rows = [f"{votes.parts[part].vectors}#{row}" for row in range(len(ids[part]))]
        named = pa.table({"sample_id": ids[part], "path": rows, "modality": [VECTORS] * len(rows)})
        check_samples(named, VectorsConfig(dim=votes.dim))
    files = [at.root / name for name in (at.config.samples, at.config.annotations, at.config.topics)]
    table = at.root / "teachers" / "functions.parquet"
    table.parent.mkdir(parents=True, exist_ok=True)
    _write_csv(files[0], _samples(votes, ids, at.root))
    _write_csv(files[1], _annotations(votes, ids))
    write_text(files[2], "".join(f"{name}\n" for name in votes.classes))
    write_parquet(_labels(votes, ids), table)
    read_dataset(at.config, workspace.data)
    keys = {"name": at.config.name, "root": at.config.root, "description": at.config.description, "exclusive": True}
    made = [*files, table]
    for path, kind, content in ((at.entry, "dataset", keys), (entry, "teacher", told)):
        if content is not None and not (kind == "dataset" and path.is_file()):
            head = schema_line(kind) if (workspace.registry / FILES[kind]).is_file() else ""
            write_text(path, head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000))
            made.append(path)
    said = int((np.concatenate([votes.parts[part].votes for part in PARTS]) != ABSTAINED).sum())
    console.print(
        f"{at.config.name}: {sum(map(len, ids.values())):,} samples of {votes.dim} numbers, {len(votes.classes)} "
        f"classes, {len(votes.functions)} labeling functions with {said:,} votes (teachers: {teachers})."
    )
    if silent:
        console.print(f"Left out, since they never vote: {listed(silent)}.", highlight=False)
    console.print(f"A campaign on it has: encoder: {{kind: vectors, dim: {votes.dim}}}", highlight=False)
    for path in made:
        console.print(f"wrote {path}", highlight=False)
    return made


def _heard(votes: Votes) -> tuple[Votes, list[str]]:
    """The votes without functions that abstain everywhere, and their names."""
    said = np.any([(part.votes != ABSTAINED).any(axis=0) for part in votes.parts.values()], axis=0)
    if not said.any():
        raise DataError(votes.parts["train"].vectors.parent, "no labeling function votes for anything.")
    parts = {name: replace(part, votes=part.votes[:, said]) for name, part in votes.parts.items()}
    names = np.array(votes.functions, object)
    return replace(votes, functions=tuple(names[said]), parts=parts), names[~said].tolist()


def _samples(votes: Votes, ids: dict[str, list[str]], root: Path) -> pa.Table:
    names, paths, splits = [], [], []
    for part in PARTS:
        file = written(str(votes.parts[part].vectors), root)
        names += ids[part]
        paths += [f"{file}#{row}" for row in range(len(ids[part]))]
        every = max(EVERY, len(ids[part]) // ENOUGH)
        splits += [_split(part, row, every) for row in range(len(ids[part]))]
    columns = {"sample_id": names, "path": paths, "modality": [VECTORS] * len(names), "group": names, "split": splits}
    return pa.table(columns)


def _split(part: str, row: int, every: int) -> str:
    if part == "valid":
        return "train" if row % every else "validation"
    return "unlabeled" if part == "train" else part


def _annotations(votes: Votes, ids: dict[str, list[str]]) -> pa.Table:
    tables = []
    for part in PARTS:
        if (gold := votes.parts[part].gold) is not None:
            tables.append(_pairs(votes, ids[part], gold, "relevance", pa.int64(), "annotator", ANNOTATOR))
    return pa.concat_tables(tables).select(["sample_id", "topic", "annotator", "relevance"])


def _labels(votes: Votes, ids: dict[str, list[str]]) -> pa.Table:
    tables = []
    for i, function in enumerate(votes.functions):
        for part in PARTS:
            said = votes.parts[part].votes[:, i]
            rows = np.flatnonzero(said != ABSTAINED)
            names = [ids[part][row] for row in rows]
            tables.append(_pairs(votes, names, said[rows], "confidence", pa.float32(), "teacher", function))
    return pa.concat_tables(tables).combine_chunks()


def _pairs(
    votes: Votes, names: list[str], said: np.ndarray, value: str, kind: pa.DataType, who: str, whose: str
) -> pa.Table:
    """A row for each of some samples and each class: 1 for the one that was named, 0 for the others."""
    classes = len(votes.classes)
    columns = {
        "sample_id": pa.array(np.repeat(np.array(names, object), classes), pa.string()),
        "topic": pa.array(list(votes.classes) * len(names), pa.string()),
        value: pa.array((said[:, None] == np.arange(classes)).ravel()).cast(kind),
        who: pa.repeat(pa.scalar(whose), len(names) * classes),
    }
    return pa.table(columns)


def _write_csv(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        pa.csv.write_csv(table, temporary, pa.csv.WriteOptions(quoting_style="needed"))


def _told_teachers(path: Path, new: dict[str, object]) -> dict[str, object] | None:
    """What is to be written into the teachers' entry: its functions may be others than at an earlier import. None where
    it says what it is to say. Raises T2TError where it is other teachers'."""
    if not path.is_file():
        return new
    there = read_yaml(path)
    if any(there.get(key) != new[key] for key in ("kind", "path")):
        raise T2TError(f"{path}: are other teachers than {FORMAT} writes there; import under another name (--dataset).")
    if members_of(there, path) == members_of(new, path):
        return None
    return {**there, "description": new["description"], "members": new["members"]}


def _teachers(name: str, votes: Votes) -> dict[str, object]:
    return {
        "id": name,
        "kind": "labels",
        "description": f"{len(votes.functions)} labeling functions, each a teacher that may abstain.",
        "path": "${data}/teachers/functions.parquet",
        "members": _ranges(votes.functions),
    }


def _ranges(names: tuple[str, ...]) -> str | list[str]:
    """Names as a range, where they count up."""
    first = re.fullmatch(r"(.*?)(\d+)", names[0])
    if first is not None and len(names) > 1:
        head, start = first[1], int(first[2])
        if list(names) == [f"{head}{start + i:0{len(first[2])}}" for i in range(len(names))]:
            return f"{names[0]}..{names[-1]}"
    return list(names)
