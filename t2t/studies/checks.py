"""What a study would be refused for, said within seconds and without torch; whose campaign is whose."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from t2t.campaign.config import seed_name
from t2t.campaign.preflight import check_data, check_settings, preflight
from t2t.core.errors import T2TError
from t2t.core.files import write_text
from t2t.core.locks import Exclusive
from t2t.core.workspace import Workspace
from t2t.studies.cells import Job, Study

# In a campaign's folder: the study, cell and seed that it belongs to.
NOTE = "study.json"


def study_lock(study: Study, workspace: Workspace) -> Exclusive:
    """Held by the process that works on a study."""
    return Exclusive(study_folder(workspace, study.name) / "run.lock", f"Study {study.name!r}")


def study_folder(workspace: Workspace, name: str) -> Path:
    """What a study leaves besides its campaigns, in the work folder."""
    return workspace.work / "studies" / name


def check_study(study: Study, workspace: Workspace, jobs: Sequence[Job] | None = None) -> None:
    """Raises T2TError for what a run would be refused for, as far as that can be said within seconds: data and teachers
    that are not there, and campaigns that began with other settings."""
    teachers: set[tuple[str, tuple[str, ...], str]] = set()
    settled: set[str] = set()
    data: set[tuple[str, str, bool]] = set()
    registered = set(workspace.names("campaigns"))
    for job in study.jobs() if jobs is None else jobs:
        config = job.config
        if job.campaign in registered:
            raise T2TError(
                f"{study.path}: cell {job.cell.name!r} would be run as {job.campaign!r}, which is a campaign of the "
                "registry; name the cell, the study or that campaign otherwise."
            )
        if (other := study_of(workspace, job.campaign)) not in (None, study.name):
            raise T2TError(f"{study.path}: {job.campaign!r} is a campaign of the study {other!r}; name one otherwise.")
        try:
            begun, asked = False, (config.dataset, config.teachers, config.lake)
            if asked not in teachers or (workspace.work / "campaigns" / job.campaign).is_dir():
                begun = preflight(workspace, config)
            elif job.cell.slug not in settled:
                check_settings(config)
            read = config.dataset, config.encoder.model_dump_json(), begun
            if read not in data:
                check_data(workspace, config, begun)
        except T2TError as error:
            raise T2TError(f"{study.path}, cell {job.cell.name!r}: {_other_study(error, study)}") from None
        teachers.add(asked)
        settled.add(job.cell.slug)
        data.add(read)


def study_of(workspace: Workspace, campaign: str) -> str | None:
    """The study that a campaign is a part of; None where it is none's."""
    try:
        return str(json.loads((workspace.work / "campaigns" / campaign / NOTE).read_text(encoding="utf-8"))["study"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def refuse_part(workspace: Workspace, campaign: str) -> None:
    """Raises T2TError, naming what to run instead, for a campaign that is only a part of a study or a further seed of
    another one: it has no file in the registry to be run by."""
    if campaign in (known := workspace.names("campaigns")):
        return
    if (study := study_of(workspace, campaign)) is not None:
        raise T2TError(f"Campaign {campaign!r} is a part of the study {study!r}, which goes on with: t2t study {study}")
    base = re.sub(seed_name("", r"\d+") + "$", "", campaign)
    if base != campaign and base in known:
        raise T2TError(
            f"Campaign {campaign!r} is a seed of {base!r}, which goes on with all of its seeds: t2t run {base} "
            "--set seeds=N, where its file does not say how many."
        )


def remember_study(workspace: Workspace, study: Study, job: Job) -> None:
    """Notes of a campaign that begins which study, cell and seed it belongs to."""
    folder = workspace.work / "campaigns" / job.campaign
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    note = {"study": study.name, "cell": job.cell.name, "seed": job.seed}
    write_text(folder / NOTE, json.dumps(note, indent=1, ensure_ascii=False))


def _other_study(error: T2TError, study: Study) -> str:
    """A refusal's words for a campaign, as they fit a study."""
    return str(error).replace("run it under another name (--name).", "run the study under another name (--name).")
