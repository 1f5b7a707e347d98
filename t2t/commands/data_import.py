"""`t2t data import`: other programs' labels become a dataset, or are added to one."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import yaml
from rich.markup import escape

from t2t.campaign.entries import changing, teacher_entry
from t2t.commands.import_request import NOTE, Place, Request, key_of, noted, place_of
from t2t.commands.schemas import FILES, schema_line
from t2t.commands.tables import console
from t2t.commands.teachers import commented
from t2t.commands.votes_import import FORMAT as CLASS_VOTES
from t2t.commands.votes_import import import_votes
from t2t.core.config import parse
from t2t.core.errors import DataError, T2TError, listed, nearest, one_line
from t2t.core.files import sha256, write_text
from t2t.core.progress import progress
from t2t.core.workspace import Workspace
from t2t.data.copies import same_videos
from t2t.data.dataset import MODALITIES
from t2t.data.formats.media import Finder, name_in, written
from t2t.data.formats.merge import TEACHERS, Tables, answers_of, plain_topics, predictions_of, write_tables
from t2t.data.formats.model import SPLITS, Content, Sample
from t2t.data.formats.places import place
from t2t.data.formats.table import FORMATS
from t2t.data.remote import identity, is_remote, shown
from t2t.data.tables import read_lines
from t2t.teachers.kinds.labels import Entry

# Share of a file's media that may be missing without anybody's saying so.
MISSING = 0.05


def import_data(workspace: Workspace, request: Request) -> list[Path]:
    """Reads a file of another program, writes the dataset's tables and entries, and says what they hold.

    Returns: the files that were written.

    Raises T2TError for what cannot be read, a dataset that is there (without `mode`), media that are missing, and
    versions whose teachers are there with other labels. Nothing is written then.
    """
    if request.format not in {*FORMATS, CLASS_VOTES}:
        known = nearest(request.format, [*FORMATS, CLASS_VOTES])
        raise T2TError(f"{one_line(request.format, 40)}: no format that is read.{known}")
    if not request.source.exists():
        raise T2TError(f"{request.source}: no such file or folder.")
    with changing(workspace, request.dataset):
        if request.format == CLASS_VOTES:
            return import_votes(workspace, request)
        return _import(workspace, request)


def _import(workspace: Workspace, request: Request) -> list[Path]:
    at = place_of(workspace, request)
    key = key_of(request)
    if at.before.samples and not request.mode:
        if key in noted(at.root):
            console.print(f"{escape(str(request.source))} is imported into {at.config.name} already: nothing to do.")
            return []
        raise T2TError(
            f"Dataset {at.config.name!r} is there ({at.root}): add to it by --add, replace its tables by --replace, or "
            "choose another name."
        )
    options = replace(request.options, limits=at.config.table_limits, store=at.root / "media")
    content = FORMATS[request.format].read(request.source, options)
    if not content.samples:
        raise T2TError(f"{request.source}: no sample in there.")
    said = [*content.remarks]
    paths = _find(content, at, request, said)
    tables = _tables(content, paths, at, request, said)
    _check_teachers(workspace, at.config.name, tables)
    files = write_tables(tables, at.before, at.config, at.root, workspace.data)
    files += _write_entries(workspace, at, tables, request)
    write_text(at.root / NOTE, json.dumps([*noted(at.root), key] if key not in noted(at.root) else noted(at.root)))
    _print(at, tables, content, said, files)
    return files


# -- media -----------------------------------------------------------------------------------------------------------


def _folder(request: Request) -> Path:
    """The source's own folder."""
    return request.source if request.source.is_dir() else request.source.parent


def _find(content: Content, at: Place, request: Request, said: list[str]) -> dict[str, str]:
    """The file or address of each sample; those without one are taken out of the content."""
    for folder in request.media:
        if not folder.is_dir():
            raise T2TError(f"--media {folder}: no such folder.")
    finder = Finder([*request.media, at.root, _folder(request)], at.config.schemes)
    samples, found = content.samples.values(), {}
    with progress("Looking for media", len(samples), "files") as advance:
        for sample in samples:
            if (path := finder.find(sample.media, sample.others)) is not None:
                found[sample.id] = path
            advance()
    missing = [sample for sample in samples if sample.id not in found]
    if missing:
        first, total = missing[0], len(content.samples)
        # A record may be named by its file.
        where = f"{first.record.replace(first.media, shown(first.media))}: " if first.record else ""
        looked = listed([str(folder) for folder in finder.folders], 3)
        what = (
            f"{len(missing):,} of {total:,} samples have no file here, the first is {where}"
            f"{one_line(repr(shown(first.media)), 120)}; looked in {looked}."
        )
        far = next((name for name in (first.media, *first.others) if is_remote(name)), None)
        if far is not None:
            allowed = ", ".join([*at.config.schemes, far.partition("://")[0]])
            what += f" Addresses are taken where {at.entry} allows their scheme: `schemes: [{allowed}]`."
        if len(missing) == total or (len(missing) / total > MISSING and not request.allow_missing):
            remedy = "" if len(missing) == total else ", or leave such samples out by --allow-missing"
            raise T2TError(f"{request.source}: {what} Name the folder that holds them by --media{remedy}.")
        said.append(f"Left out: {what}")
        content.keep(found)
    return found


def _rename(content: Content, paths: dict[str, str], at: Place, request: Request) -> dict[str, str]:
    """Names each sample that its file did not name: as the dataset's one with the same file, else by its path."""
    known: dict[str, str] = {}
    if at.opened is not None:
        ids, there = (at.opened.samples[name].to_pylist() for name in ("sample_id", "path"))
        known = {identity(path): name for path, name in zip(there, ids, strict=True)}
        by_id = dict(zip(ids, there, strict=True))
        for sample in content.samples.values():
            here = paths[sample.id]
            if sample.named and identity(by_id.get(sample.id, here)) != identity(here):
                raise DataError(
                    f"{request.source}, {sample.record.replace(sample.media, shown(sample.media))}",
                    f"sample {sample.id!r} is {shown(here)} here and {shown(by_id[sample.id])} in the dataset; give "
                    "one of the two another id.",
                )
    folders = [folder.resolve() for folder in (at.root, *request.media, _folder(request))]
    names, taken = {}, {sample.id for sample in content.samples.values() if sample.named} | set(known.values())
    for sample in content.samples.values():
        if sample.named:
            known.setdefault(identity(paths[sample.id]), sample.id)
    for sample in content.samples.values():
        path = identity(paths[sample.id])
        if not sample.named and path not in known:
            name = name_in(path, folders).strip()
            known[path] = f"{name} {sha256(path)[:8]}" if name in taken else name
            taken.add(known[path])
        names[sample.id] = sample.id if sample.named else known[path]
    content.rename(names)
    return {names[sample]: path for sample, path in paths.items()}


# -- tables ----------------------------------------------------------------------------------------------------------


def _tables(content: Content, paths: dict[str, str], at: Place, request: Request, said: list[str]) -> Tables:
    paths = _rename(content, paths, at, request)
    listed_topics = read_lines(request.topics, at.config.table_limits) if request.topics else []
    first = {topic.strip(): None for topic in listed_topics if topic.strip()}
    content.topics = first | content.topics
    names = plain_topics(content, at.before.topics)
    if request.options.complete or request.options.exclusive:
        table = at.root / at.config.annotations
        at.config.table_limits.refuse_rows(table, len(content.reviewed) * len(set(names.values())))
    answers, told = answers_of(content, names, request.options.complete, request.options.exclusive)
    labels, versions = predictions_of(content.predictions, names, request.teachers)
    before = at.before
    tables = Tables(
        samples=dict(before.samples),
        topics=before.topics | dict.fromkeys(names.values()),
        annotations=dict(before.annotations),
        teachers=labels,
        versions=versions,
    )
    said += told + _place_samples(content, paths, {sample for sample, _, _ in answers}, at, request, tables)
    differ = [key for key, value in answers.items() if before.annotations.get(key, value) != value]
    for key, value in answers.items():
        if request.take or key not in before.annotations:
            tables.annotations[key] = value
    if differ:
        kept = "the new ones were taken" if request.take else "the old ones were kept; --take takes the new ones"
        sample, topic, who = differ[0]
        said.append(
            f"Conflicts: {len(differ):,} answers differ from those in the dataset ({who!r} of {sample!r}, {topic!r}: "
            f"{_shown(before.annotations[differ[0]])} there, {_shown(answers[differ[0]])} here); {kept}."
        )
    for teacher in labels:
        _add_labels(teacher, tables, before, at.root / TEACHERS / f"{teacher}.csv", request.mode)
    return tables


def _shown(relevance: float | None) -> str:
    return "no answer" if relevance is None else f"{relevance:g}"


def _place_samples(
    content: Content, paths: Mapping[str, str], answered: set[str], at: Place, request: Request, tables: Tables
) -> list[str]:
    """Adds the new samples, each with a group and a split."""
    before = at.before.samples
    new = [sample for sample in content.samples.values() if sample.id not in before]
    for sample in new:
        where = f"{request.source}, {sample.record}"
        if sample.split and sample.split.lower() not in SPLITS:
            raise DataError(where, f"unknown split {sample.split!r}.{nearest(sample.split, SPLITS)}")
        if sample.modality not in MODALITIES:
            raise DataError(where, f"unknown modality {sample.modality!r}.{nearest(sample.modality, MODALITIES)}")
        sample.split = SPLITS[sample.split.lower()] if sample.split else ""
    told = place(
        request.source,
        new,
        {sample.id: written(paths[sample.id], at.root) for sample in new},
        _copies(new, paths, at),
        answered,
        {row["group"]: row["split"] for row in before.values()},
        request.rule,
    )
    for sample in new:
        own = {"sample_id": sample.id, "path": written(paths[sample.id], at.root), "modality": sample.modality}
        tables.samples[sample.id] = own | {"group": sample.group, "split": sample.split} | sample.further
    return told


def _copies(new: Sequence[Sample], paths: Mapping[str, str], at: Place) -> dict[str, str]:
    """The group that samples are of whose files are copies of one another, or of the dataset's."""
    there = [] if at.opened is None else at.opened.samples.select(["path", "group", "split"]).to_pylist()
    places = [row["path"] for row in there] + [paths[sample.id] for sample in new]
    groups: dict[str, str] = {}
    for same in same_videos(places):
        members = [new[number - len(there)] for number in same if number >= len(there)]
        old = [there[number]["group"] for number in same if number < len(there)]
        if not any(sample.split or sample.group for sample in members):
            groups |= dict.fromkeys((sample.id for sample in members), min(old or [sample.id for sample in members]))
    return groups


def _add_labels(teacher: str, tables: Tables, before: Tables, file: Path, mode: str) -> None:
    """Puts a teacher's labels behind those that its file has. Raises T2TError where one of these would change."""
    if mode == "replace" or not file.is_file():
        return
    there = Tables.labels(file)
    before.teachers[teacher] = there
    changed = [pair for pair, value in tables.teachers[teacher].items() if there.get(pair, value) != value]
    if changed:
        version = tables.versions[teacher]
        raise T2TError(
            f"{file}: teacher {teacher!r} says {there[changed[0]]:g} of sample {changed[0][0]!r} and topic "
            f"{changed[0][1]!r}, and {tables.teachers[teacher][changed[0]]:g} here; {len(changed):,} labels differ. An "
            f"identity never changes its labels: choose a new id by --teacher '{version}=NEW-ID'."
        )
    tables.teachers[teacher] = there | tables.teachers[teacher]


# -- entries ---------------------------------------------------------------------------------------------------------


def _teacher(tables: Tables, teacher: str) -> Entry:
    version = tables.versions[teacher]
    return Entry(
        id=teacher,
        description=f"Predictions of {one_line(version, 200)}.",
        path=f"${{data}}/{TEACHERS}/{teacher}.csv",
    )


def _check_teachers(workspace: Workspace, dataset: str, tables: Tables) -> None:
    """Raises T2TError where a teacher's id is taken by another one, before anything is written."""
    for teacher in tables.teachers:
        parse(Entry, _teacher(tables, teacher).model_dump(), f"--teacher ...={teacher}")
        if teacher not in workspace.names("teachers"):
            continue
        there = teacher_entry(workspace, teacher)
        if getattr(there, "path", None) != _teacher(tables, teacher).path:
            raise T2TError(
                f"{workspace.registry / 'teachers' / teacher}.yaml is another teacher: give the one of dataset "
                f"{dataset!r} an id of its own by --teacher '{tables.versions[teacher]}=NEW-ID'."
            )


def _write_entries(workspace: Workspace, at: Place, tables: Tables, request: Request) -> list[Path]:
    files = []
    for teacher in tables.teachers:
        path = workspace.registry / "teachers" / f"{teacher}.yaml"
        if not path.is_file():
            content = _teacher(tables, teacher).model_dump()
            write_text(path, commented(content, Entry, (workspace.registry / FILES["teacher"]).is_file()))
            files.append(path)
    if not at.entry.is_file():
        keys = at.config.model_dump(include={"name", "description", "root"})
        head = schema_line("dataset") if (workspace.registry / FILES["dataset"]).is_file() else ""
        write_text(at.entry, head + yaml.safe_dump(keys, sort_keys=False, allow_unicode=True, width=1000))
        files.append(at.entry)
    return files


def _print(at: Place, tables: Tables, content: Content, said: Sequence[str], files: Sequence[Path]) -> None:
    def tell(line: str) -> None:
        console.print(escape(line), soft_wrap=True)

    by_split: dict[str, int] = defaultdict(int)
    for row in tables.samples.values():
        by_split[row["split"]] += 1
    splits = ", ".join(f"{split} {count:,}" for split, count in sorted(by_split.items()))
    new = len(tables.samples) - len(at.before.samples)
    tell(f"Dataset {at.config.name}: {len(tables.samples):,} samples ({splits}; {new:,} of them new), "
         f"{len(tables.topics):,} topics.")  # fmt: skip
    people = {who for _, _, who in tables.annotations}
    asked, positive = tables.pairs()
    every = len(tables.samples) * len(tables.topics)
    tell(f"People: {len(people):,} annotators, {len(tables.annotations):,} answers "
         f"({len(tables.annotations) - len(at.before.annotations):,} of them new).")  # fmt: skip
    tell(f"Pairs: {positive:,} positive, {asked - positive:,} negative, {every - asked:,} not asked.")
    for teacher, labels in tables.teachers.items():
        version = tables.versions[teacher]
        tell(f"Teacher {teacher}: {len(labels):,} labels" + ("" if version == teacher else f" of version {version!r}"))
    for what, count in content.counts.items():
        tell(f"Passed over or mended: {count:,} {what}.")
    for line in said:
        tell(line)
    for path in files:
        tell(f"Wrote {path}")
    if not files:
        tell("Nothing is new: nothing was written.")
    tell(f"Next: t2t data check {at.config.name}")
