"""What tuning a frame encoder is worth: campaigns of one round on the same data, frozen, and tuned in several ways.

    T2T_DATA=… T2T_WEIGHTS=… .venv/bin/python -m benchmarks.tuning caltech jhmdb --seeds 3

Each is a whole campaign as `t2t run` runs it; its student is measured on the test split, on topics that were trained on
and on topics that nobody labels in training. `frozen, more` is the control of equal cost: as many seconds go into more
students behind the frozen encoder. `probe` is what the features alone are worth on topics: a logistic regression on
people's labels of the validation split, measured on test, as the mean over topics. Every campaign is kept
(work/bench/tuning), so that a run goes on where one ended.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

import t2t.data.demo
from t2t.campaign import loop
from t2t.campaign.campaign import Campaign
from t2t.campaign.observer import Observer
from t2t.campaign.tuned import all_tuned
from t2t.core.workspace import Workspace
from t2t.data.pairs import Pairs

WORK = Path(__file__).parents[1] / "work" / "bench" / "tuning"
FROZEN = "frozen"
# Smaller pictures, and of a clip fewer, than the registry's campaigns have: minutes instead of an hour on two cores.
SMALLER = ("encoder.size=128", "encoder.frames=4")
# The demo's own encoder has no weights. Its topics are made of words that others have too, so unseen ones can be told.
WEIGHTS = Path(os.environ.get("T2T_WEIGHTS", "")) / "mobilenetv2_100.safetensors"
MOBILENET = (
    f"encoder={{kind: timm, model: mobilenetv2_100, weights: '{WEIGHTS}', "
    "model_kwargs: {pad_type: same}, interpolation: bilinear, mean: 0.5, std: 0.5, size: 96, frames: 2}"
)
WORLDS = {"demo": (MOBILENET, "teachers=[colour-expert, shape-expert, vendor]")}
TUNE = "encoder.tune={by: %s, steps: 200, samples: 32, blocks: %s, tie: %s, learning_rate: %s}"
VARIANTS: dict[str, tuple[str, ...]] = {
    FROZEN: (),
    "frozen, more": ("student.members=8",),
    "last blocks, tie 1": (TUNE % ("last-blocks", 2, 1, 1e-4),),
    "last blocks, tie": (TUNE % ("last-blocks", 2, 0.1, 1e-4),),
    "last blocks, no tie": (TUNE % ("last-blocks", 2, 0, 1e-4),),
    "lora, tie": (TUNE % ("lora", 4, 0.1, 1e-3),),
    "lora, no tie": (TUNE % ("lora", 4, 0, 1e-3),),
}


def measured(name: str, variant: str, settings: Sequence[str], seed: int, threads: int) -> dict[str, Any]:
    """One campaign's numbers; from its folder where it is done."""
    label = "".join(sign if sign.isalnum() else "-" for sign in variant)
    path = WORK / "numbers" / f"{name}-{label}-{seed}.json"
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    torch.set_num_threads(threads)
    data = WORK / "data" if name == "demo" else None
    if data is not None:
        t2t.data.demo.make(data / "demo", readers=False)
    place = Workspace.find(None, data, WORK / "work")
    given = [*WORLDS.get(name, SMALLER), "rounds.max=1", "gate=always", f"seed={seed}", *settings]
    campaign = Campaign.open(name, place, f"{name}-{label}-{seed}", given)
    began = time.monotonic()
    loop.run(campaign, Observer())
    seconds = time.monotonic() - began
    (record,) = campaign.ledger.records()
    numbers = {"seconds": seconds, "validation": record.validation, "test": record.test}
    numbers["probe"] = {"seen": probe(campaign, False), "unseen": probe(campaign, True)}
    if campaign.encoder is not campaign.config.encoder:
        tuned = all_tuned(campaign.ledger)[0]
        numbers["tuned"] = {"best_step": tuned.best_step, "curve": tuned.curve, "seconds": tuned.seconds}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(numbers, indent=1))
    return numbers


def probe(campaign: Campaign, unseen: bool) -> float:
    """What the features that rounds see are worth for topics, seen or unseen: mean PR-AUC over those that have enough
    labels."""
    topics = [name in campaign.dataset.unseen for name in campaign.dataset.topics]
    fitted, asked = (_means(campaign, split) for split in ("validation", "test"))
    scores = []
    for topic in [i for i, is_unseen in enumerate(topics) if is_unseen is unseen]:
        (x, y), (x_test, y_test) = (
            (frames[pairs.sample[here]], pairs.positive[here])
            for frames, pairs in (fitted, asked)
            for here in [pairs.topic == topic]
        )
        if min(y.sum(), (~y).sum(), y_test.sum(), (~y_test).sum()) < 2:
            continue
        mean, std = x.mean(0), x.std(0) + 1e-6
        model = LogisticRegression(C=0.01, max_iter=500).fit((x - mean) / std, y)
        scores.append(average_precision_score(y_test, model.decision_function((x_test - mean) / std)))
    return float(np.mean(scores)) if scores else float("nan")


def _means(campaign: Campaign, split: str) -> tuple[np.ndarray, Pairs]:
    pairs = campaign.human_pairs(split)
    frames, mask = campaign.embedded.embeddings.gather(campaign.positions(pairs.sample_ids))
    return frames.sum(axis=1, dtype=np.float32) / mask.sum(axis=1)[:, None], pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("worlds", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--also", default="", help="name=setting;name=setting, tuned in further ways")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    variants = {name: settings for name, settings in VARIANTS.items() if not given.only or name in given.only}
    for text in filter(None, given.also.split("|")):
        name, _, setting = text.partition("=")
        variants[name] = (setting,)
    for world in given.worlds:
        print(f"\n{world}: PR-AUC on test, mean of {given.seeds} seeds (standard deviation)")
        for variant, settings in variants.items():
            all_of = [measured(world, variant, settings, seed, given.threads) for seed in range(given.seeds)]
            print(f"{variant:24}", _line(all_of), flush=True)


def _line(found: Sequence[dict[str, Any]]) -> str:
    parts = []
    for split in ("validation", "test"):
        for key in ("pr_auc", "pr_auc_seen", "pr_auc_unseen"):
            values = [one[split].get(key, float("nan")) for one in found]
            parts.append(f"{split} {key} {np.mean(values):.4f} ({np.std(values):.4f})")
    for key in ("seen", "unseen"):
        values = [one.get("probe", {}).get(key, float("nan")) for one in found]
        parts.append(f"probe {key} {np.mean(values):.4f} ({np.std(values):.4f})")
    steps = [one["tuned"]["best_step"] for one in found if "tuned" in one]
    return "; ".join([*parts, f"{np.mean([one['seconds'] for one in found]):.0f} s", f"best steps {steps}"])


if __name__ == "__main__":
    main()
