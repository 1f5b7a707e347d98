"""What cells have in common is done once: embeddings and labels anyway, and here equal first rounds.

Embeddings lie in a store and teachers' labels in the lake, for all campaigns of a dataset. A round 0 reads no other
round, so campaigns that differ only in what comes after it train the same student; the first that trains it is noted
under a key of everything that its training reads, and the others take over what it left.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from t2t.campaign.campaign import Campaign
from t2t.campaign.facts import RoundFiles, RoundScores, RoundStart, TrainFacts
from t2t.campaign.observer import Observer
from t2t.campaign.recipe import recipe_of
from t2t.campaign.steps.evaluate import evaluate
from t2t.campaign.steps.train import train
from t2t.core.files import atomic_folder, link_or_copy, remove_leftovers, sha256, sha256_file, write_text
from t2t.core.sums import SUMS, damaged, write_sums
from t2t.core.version import VERSION
from t2t.core.workspace import Workspace
from t2t.training.matrix import LabelMatrix

log = logging.getLogger("t2t")


class Sharing:
    """Runs the loop's steps (`t2t.campaign.loop`), and takes over what another campaign of the work folder has left of
    an equal first round. What it comes to is the same to the bit, apart from seconds, which are those of who worked.
    """

    def __init__(self, workspace: Workspace):
        self.work = workspace.work
        self.folder = workspace.work / "studies" / ".shared"  # which no study is called
        remove_leftovers(self.folder)

    def __call__(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        if function is train and arguments[1].round == 0:
            return self._train(*arguments)
        if function is evaluate and arguments[1].round == 0:
            return self._evaluate(*arguments)
        return function(*arguments)

    def _train(
        self, campaign: Campaign, start: RoundStart, matrix: LabelMatrix | None, began: float, observer: Observer
    ) -> TrainFacts:
        key = None if matrix is None or start.started_from is not None else training_key(campaign, matrix)
        if key is None:
            return train(campaign, start, matrix, began, observer)
        source = self._source(key, campaign, "student")
        if source is not None:
            _take_student(source / "student", campaign)
            log.info("Round 0: trained on the same as that of %s, whose student it takes over.", source.parent.name)
            facts = train(campaign, start, None, began, observer)
            observer.curve(campaign, 0, facts.curve)
            return facts
        self._note(key, campaign, "student")
        return train(campaign, start, matrix, began, observer)

    def _evaluate(self, campaign: Campaign, start: RoundStart) -> RoundScores:
        files = campaign.files(start.round)
        if not files.evaluation.is_dir():
            key = evaluation_key(campaign, start)
            source = self._source(key, campaign, "evaluation")
            if source is not None:
                with atomic_folder(files.evaluation) as folder:
                    shutil.copytree(source / "evaluation", folder, dirs_exist_ok=True)
                log.info("Round 0: measured as that of %s.", source.parent.name)
            else:
                self._note(key, campaign, "evaluation")
        return evaluate(campaign, start)

    def _note(self, key: str, campaign: Campaign, what: str) -> None:
        """Notes who does a piece of work, before it is done: whether it is, its folder says. The round notes which work
        it is, since a campaign can be removed and begin anew with other settings under the same name."""
        folder = campaign.files(0).folder
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"{what}.key", f"{key}\n")
        write_text(self.folder / key, f"{campaign.config.name}\n")

    def _source(self, key: str, campaign: Campaign, what: str) -> Path | None:
        """The first round of another campaign that has left a piece of work whole; None where nobody has."""
        try:
            name = (self.folder / key).read_text(encoding="utf-8").strip()
            folder = RoundFiles(self.work / "campaigns" / name / campaign.files(0).folder.name).folder
            of = (folder / f"{what}.key").read_text(encoding="utf-8").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        whole = of == key and (folder / what / SUMS).is_file() and damaged(folder / what) is None
        return folder if name != campaign.config.name and whole else None


def training_key(campaign: Campaign, matrix: LabelMatrix) -> str | None:
    """A digest of all that the training of a first round reads. None where that is more than is known here: weights
    that were fetched or lie in a folder.

    Args:
        matrix: the round's rows, saved.
    """
    embedded, files, config = campaign.embedded, campaign.files(0), campaign.config
    recipe = recipe_of(config, embedded.embeddings.frames, embedded.embeddings.dim, matrix)
    if getattr(getattr(recipe.student, "text", None), "pretrained", None):
        return None
    facts = {
        "versions": [VERSION, torch.__version__],
        "where": [config.engine, campaign.engine.device],
        "data": [config.dataset, campaign.dataset.fingerprint],
        "embeddings": [embedded.encoder, sha256(*embedded.keys), sha256(*embedded.sample_ids)],
        "encoder": config.encoder.model_dump(mode="json"),
        "matrix": [sha256_file(path) for path in sorted(files.labels.iterdir()) if path.name != SUMS],
        "scales": sha256_file(files.scales) if files.scales.is_file() else "",
        "recipe": [config.recipe, recipe.training.model_dump(mode="json")],
        "student": [type(recipe.student).__name__, recipe.student.model_dump(mode="json")],
        "seed": campaign.seed(0),
        "identity": campaign.lineup.identity(config.evaluation.identity, matrix.teachers),
        "validation": _pairs(campaign, "validation"),
    }
    return sha256("training", json.dumps(facts, sort_keys=True))


def evaluation_key(campaign: Campaign, start: RoundStart) -> str:
    """A digest of all that the evaluation of a first round reads."""
    files, config, embedded = campaign.files(0), campaign.config, campaign.embedded
    facts = {
        "versions": [VERSION, torch.__version__],
        "where": [config.engine, campaign.engine.device],
        "student": [sha256_file(files.weights), TrainFacts.read(files).model_dump(mode="json", exclude={"seconds"})],
        "shape": json.loads((files.student / "config.json").read_text(encoding="utf-8"))["student"],
        "data": [config.dataset, campaign.dataset.fingerprint, sorted(campaign.dataset.unseen)],
        "embeddings": [embedded.encoder, sha256(*embedded.keys), sha256(*embedded.sample_ids)],
        "scales": sha256_file(files.scales) if files.scales.is_file() else "",
        "evaluation": [config.recipe, config.evaluation.model_dump(mode="json")],
        # Students are asked as their teachers only where somebody watches how near they come to them.
        "measured": [config.watch.hacking is not None, campaign.dataset.config.exclusive],
        "teachers": [list(config.teachers), list(start.teachers)],
        "labels": [config.lake, campaign.lineup.label_commits(start.teachers, start.commit)],
        "pairs": [_pairs(campaign, split) for split in ("train", "validation", "test")],
    }
    return sha256("evaluation", json.dumps(facts, sort_keys=True))


def _pairs(campaign: Campaign, split: str) -> str:
    """A digest of the human-labeled pairs of a split, with their truth and groups."""
    pairs = campaign.human_pairs(split)
    codes = np.stack([pairs.sample, pairs.topic])
    groups = b"" if pairs.groups is None else pairs.groups.tobytes()
    names = json.dumps([list(pairs.sample_ids), list(pairs.topics)])
    return sha256(names, codes.tobytes(), pairs.target.tobytes(), groups)


def _take_student(source: Path, campaign: Campaign) -> None:
    """Takes another campaign's checkpoint over: its files linked or copied, the facts of its campaign this one's."""
    files = campaign.files(0)
    with atomic_folder(files.student) as folder:
        for path in sorted(path for path in source.rglob("*") if path.is_file() and path.name != SUMS):
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.name == files.weights.name:
                link_or_copy(path, target)  # weights are never written to, only replaced
            else:
                shutil.copyfile(path, target)
        path = folder / "config.json"
        content = json.loads(path.read_text(encoding="utf-8")) | {"campaign": campaign.config.name}
        path.write_text(json.dumps(content, indent=2), encoding="utf-8")
        write_sums(folder)
