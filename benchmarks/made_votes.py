"""Made worlds in the form of WRENCH's data sets with more than two classes (trec: 6, semeval: 9), and four marks.

    python -m benchmarks.made_votes             # makes those that are not there, and prints each one's marks

Many functions that abstain nearly everywhere, each with one class to vote for (a few with two), right in 40 to 95 of a
hundred votes. `words6` and `words9` are sentences of docstrings, as tf-idf reduced to 256 numbers, whose class is the
package they are from, and functions are words; `pictures6` are caltech's pictures in six classes of ten topics each,
`pictures9` in nine of six or seven, under noise, `videos7` are jhmdb's 21 topics in threes, and functions are poor
models of few numbers. Of pictures and videos people's answers are divided anew; some fit the functions and are in no
split. Topics are put into classes by lot, so that a class is many things, as "entity" is.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import typer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from benchmarks.worlds import MADE, WORK, mean_frames, open_world

# Modules that hold no words of their own, or that importing takes long or complains about.
SKIPPED = (
    r"test|conftest|_pb2|setup|\b_|benchmark|__main__|cuda|deprecat|compatibility|core.trace|distributed|onnx|dialects"
    r"|backends"
)
LOOKED = 600  # sentences that the functions' authors saw
FOLDER = WORK / "made-votes"
QUARTERS = (0, 0.25, 0.5, 0.75, 1)
SPLITS = ("train", "valid", "test")
PACKAGES = ("numpy", "scipy", "sklearn", "pandas", "torch", "sqlalchemy", "matplotlib", "networkx", "sympy")


def made(name: str) -> Path:
    """The folder of a made world, made where it is not there."""
    folder = FOLDER / name
    if not (folder / "classes.txt").is_file():
        vectors, votes, gold, classes = {
            "words6": lambda: _words(6, 68, (2700, 500, 500), 0.5),
            "words9": lambda: _words(9, 164, (1749, 178, 600), 0.2),
            "pictures6": lambda: _pictures(6),
            "pictures9": lambda: _pictures(9),
            "videos7": _videos,
        }[name]()
        folder.mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            np.save(folder / f"{split}_vectors.npy", vectors[split].astype(np.float16))
            names = [f"lf{i:03}" for i in range(votes[split].shape[1])]
            np.savetxt(folder / f"{split}_votes.csv", votes[split], "%d", ",", header=",".join(names), comments="")
            if gold[split] is not None:
                np.savetxt(folder / f"{split}_gold.csv", gold[split], "%d", header="label", comments="")
        (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    return folder


Made = tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any], list[str]]


def _sentences(package: str, most: int = 4000) -> list[str]:
    """First sentences of a package's docstrings, in the order of its modules, without the package's name."""
    found: dict[str, None] = {}
    for module in _modules(package):
        for _, thing in sorted(vars(module).items(), key=lambda item: item[0]):
            for each in [thing, *(vars(thing).values() if inspect.isclass(thing) else ())]:
                if not (inspect.isroutine(each) or inspect.isclass(each)):
                    continue
                if not str(getattr(each, "__module__", "") or "").startswith(package):
                    continue
                text = re.split(r"\.\s|\n\s*\n", inspect.getdoc(each) or "")[0].strip()
                text = " ".join(re.sub(rf"(?i)\b({'|'.join(PACKAGES)})\b", " ", text).split())
                if 4 <= len(text.split()) <= 30 and text.isascii():
                    found[text] = None
        if len(found) >= most:
            break
    return list(found)


def _modules(package: str) -> Iterator[Any]:
    top = importlib.import_module(package)
    yield top
    for _, name, _ in pkgutil.walk_packages(top.__path__, f"{package}.", onerror=lambda _: None):
        if re.search(SKIPPED, name):
            continue
        try:
            module = importlib.import_module(name)
        except BaseException:  # whatever an optional module misses
            continue
        yield module


def _words(classes: int, functions: int, rows: tuple[int, ...], often: float) -> Made:
    draw = np.random.default_rng(classes)
    total = sum(rows)
    texts: list[str] = []
    labels: list[int] = []
    shares = draw.dirichlet(np.full(classes, 6.0))  # classes of unlike size, as they come
    for at, package in enumerate(PACKAGES[:classes]):
        own = _sentences(package)
        chosen = draw.permutation(len(own))[: int(np.ceil(total * 1.4 * shares[at]))]
        texts += [own[i] for i in chosen]
        labels += [at] * len(chosen)
    order = draw.permutation(len(texts))[: total + LOOKED]
    texts, gold = [texts[i] for i in order], np.array(labels)[order]
    ends = np.cumsum([LOOKED, *rows])  # the first are what the functions' authors looked at
    tfidf = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    tfidf.fit(texts[ends[0] : ends[1]])
    # Weights of 256 numbers fitted on train alone, as those of the data sets that they stand for.
    reduced = TruncatedSVD(256, random_state=0).fit(tfidf.transform(texts[ends[0] : ends[1]]))
    vectors = reduced.transform(tfidf.transform(texts))
    said = [set(re.findall(r"[a-z]{3,}", text.lower())) for text in texts]
    words = sorted({word for some in said[: ends[0]] for word in some})
    has = np.array([[word in some for word in words] for some in said])
    cover = has.mean(axis=0)
    votes: list[np.ndarray] = []
    taken: set[int] = set()
    while len(votes) < functions:
        target = int(draw.choice(classes, p=(shares + 0.1) / (shares + 0.1).sum()))
        # Somebody thinks of words of a class: of those that the looked at ones let one think of, and at times others.
        looked = has[:LOOKED]
        lift = (looked & (gold[:LOOKED] == target)[:, None]).sum(0) / np.maximum(looked.sum(0), 1)
        good = (cover > 0.001) & (cover < 0.25) & (lift > 0.3)
        free = [i for i in np.flatnonzero(good) if i not in taken]
        if not free:
            break
        picked = draw.permutation(free)[: 1 + int(draw.random() < often) * draw.integers(1, 4)]
        taken |= set(map(int, picked))
        fires = has[:, picked].any(axis=1)
        right = (gold[fires] == target).mean()
        if not 0.4 <= right <= 0.97:
            continue
        votes.append(np.where(fires, target, -1))
    table = np.stack(votes, axis=1)
    parts = {split: slice(ends[i], ends[i + 1]) for i, split in enumerate(SPLITS)}
    return (
        {split: vectors[rows] for split, rows in parts.items()},
        {split: table[rows] for split, rows in parts.items()},
        {split: gold[rows] for split, rows in parts.items()},
        list(PACKAGES[:classes]),
    )


def _answered(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A campaign's samples: 256 principal components, float [N, 256], and the topic of each, -1 where people said
    nothing of it, or yes to none."""
    world = open_world(name)
    positions: list[int] = []
    topic: list[int] = []
    for split in ("train", "validation", "test"):
        pairs = world.pairs[split]
        yes = np.flatnonzero(pairs.positive)
        sample, first = np.unique(pairs.sample[yes], return_index=True)
        positions += world.at[split][sample].tolist()
        topic += [world.topics.index(pairs.topics[pairs.topic[yes[at]]]) for at in first]
    rest = np.setdiff1d(world.where, np.concatenate(list(world.at.values())))
    frames = mean_frames(world, np.concatenate([positions, rest]).astype(np.int64))
    frames = (frames - frames.mean(0)) / (frames.std(0) + 1e-6)
    vectors = TruncatedSVD(256, random_state=0).fit_transform(frames)
    return vectors / np.linalg.norm(vectors, axis=1).mean(), np.array(topic + [-1] * len(rest))


def _models(
    vectors: np.ndarray, gold: np.ndarray, fit: np.ndarray, judge: np.ndarray, classes: int, count: int, draw: Any
) -> np.ndarray:
    """Votes of poor models of few numbers, each for one class (a few for two): int [N, count]."""
    votes: list[np.ndarray] = []
    scaled = vectors / (vectors.std(0) + 1e-9)
    for _ in range(40 * count):
        target = int(draw.integers(classes))
        dims = draw.choice(64, size=int(draw.integers(4, 13)), replace=False)
        some = draw.permutation(fit)[: max(len(fit) // 2, 30)]
        truth = gold[some] == target
        if truth.sum() < 3:
            continue
        score = LogisticRegression(C=0.3).fit(scaled[some][:, dims], truth).decision_function(scaled[:, dims])
        share = float(draw.uniform(0.03, 0.15))
        said = np.where(score > np.quantile(score, 1 - share), target, -1)
        if draw.random() < 0.15:
            other = int(draw.integers(classes))
            said = np.where(score < np.quantile(score, share), other, said)
        heard = judge[said[judge] >= 0]
        if len(heard) < 8 or not 0.4 <= (said[heard] == gold[heard]).mean() <= 0.95:
            continue
        votes.append(said)
        if len(votes) == count:
            break
    return np.stack(votes, axis=1)


def _divided(
    vectors: np.ndarray, gold: np.ndarray, classes: list[str], count: int, parts: tuple[int, int], draw: Any
) -> Made:
    """Of those that people answered: some fit the functions, some are valid, some test; the rest is train."""
    known = draw.permutation(np.flatnonzero(gold >= 0))
    fit, valid, test = np.split(known[: sum(parts) + (len(known) - sum(parts)) // 2], np.cumsum(parts))
    train = np.concatenate([known[sum(parts) + (len(known) - sum(parts)) // 2 :], np.flatnonzero(gold == -1)])
    table = _models(vectors, gold, fit, np.concatenate([valid, test]), len(classes), count, draw)
    rows = {"train": train, "valid": valid, "test": test}
    return (
        {split: vectors[at] for split, at in rows.items()},
        {split: table[at] for split, at in rows.items()},
        {split: gold[at] if (gold[at] >= 0).all() else None for split, at in rows.items()},
        classes,
    )


def _pictures(classes: int) -> Made:
    draw = np.random.default_rng(classes)
    vectors, topic = _answered("caltech")
    lots = draw.permutation(60)
    gold = np.where(topic >= 0, (lots // 10 if classes == 6 else lots % 9)[topic], -1)
    if classes == 9:
        vectors = vectors + draw.normal(size=vectors.shape) * vectors.std(0).mean() * 0.7
    names = [f"kind {i + 1}" for i in range(classes)]
    return _divided(vectors, gold, names, *((68, (200, 220)) if classes == 6 else (120, (250, 180))), draw)


def _videos() -> Made:
    draw = np.random.default_rng(12)
    vectors, topic = _answered("jhmdb")
    which = draw.permutation(21) // 3
    gold = np.where(topic >= 0, which[topic], -1)
    return _divided(vectors, gold, [f"kind {i + 1}" for i in range(7)], 60, (80, 120), draw)


def read(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Of each split vectors, votes and gold (None where there is none)."""
    found = {}
    for split in SPLITS:
        gold = folder / f"{split}_gold.csv"
        found[split] = (
            np.load(folder / f"{split}_vectors.npy").astype(np.float32),
            np.loadtxt(folder / f"{split}_votes.csv", int, delimiter=",", skiprows=1),
            np.loadtxt(gold, int, skiprows=1) if gold.is_file() else None,
        )
    return found


def marks(folder: Path) -> dict[str, tuple[float, float]]:
    """Accuracy and mean F1 on test of: the majority vote (ties by lot, mean of 20), and logistic regression (C = 10)
    on its soft labels, on people's rows, on both with people's weighing five times, and on train's gold."""
    data = read(folder)
    classes = len((folder / "classes.txt").read_text().split("\n")) - 1
    (x, votes, gold), (xv, _, gv), (xt, test_votes, gt) = (data[split] for split in SPLITS)
    assert gv is not None
    assert gt is not None

    def counted(some: np.ndarray) -> np.ndarray:
        return np.stack([(some == c).sum(axis=1) for c in range(classes)], axis=1)

    def scored(said: np.ndarray) -> tuple[float, float]:
        f1 = f1_score(gt, said, average="binary") if classes == 2 else f1_score(gt, said, average="macro")
        return float((said == gt).mean()), float(f1)

    def fitted(rows: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
        return scored(LogisticRegression(C=10, max_iter=2000).fit(rows, labels, weight).predict(xt))

    draw = np.random.default_rng(0)
    tally = counted(test_votes)
    lots = [scored((tally + draw.random(tally.shape) * 0.5).argmax(axis=1)) for _ in range(20)]
    found = {"majority vote": tuple(np.mean(lots, axis=0).tolist())}
    tally = counted(votes).astype(float)
    heard = tally.sum(axis=1) > 0
    soft = tally[heard] / tally[heard].sum(axis=1, keepdims=True)
    row, label = np.nonzero(soft)
    some, weight = x[heard][row], soft[row, label]
    found["soft votes"] = fitted(some, label, weight)
    found["people"] = fitted(xv, gv, np.ones(len(gv)))
    both = np.concatenate([some, xv]), np.concatenate([label, gv]), np.concatenate([weight, np.full(len(gv), 5.0)])
    found["both"] = fitted(*both)
    if gold is not None:
        found["all gold"] = fitted(x, gold, np.ones(len(gold)))
    return found


def main(names: list[str] = typer.Argument(None)) -> None:
    """Makes worlds, and prints their marks."""
    for name in names or MADE:
        folder = Path(name) if "/" in name else made(name)
        data = read(folder)
        shape = " / ".join(str(len(data[split][0])) for split in SPLITS)
        votes = data["train"][1]
        truth = data["test"][2]
        assert truth is not None
        right: list[float] = []
        for function in data["test"][1].T:
            heard = function >= 0
            right += [float((function[heard] == truth[heard]).mean())] if heard.any() else []
        print(
            f"{folder.name}: {shape}, {votes.shape[1]} functions, each votes on {(votes >= 0).mean():.1%}, "
            f"some vote on {(votes >= 0).any(1).mean():.0%}, right {np.quantile(right, QUARTERS).round(2)}"
        )
        said = [f"{mark} {accuracy:.3f} (F1 {f1:.3f})" for mark, (accuracy, f1) in marks(folder).items()]
        print("  " + ", ".join(said))


if __name__ == "__main__":
    typer.run(main)
