"""Training: batches leave no row out, grouping changes no gradient, and the best step is what stays."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from t2t import training
from t2t.batches import Batch, Batches, row_weights
from t2t.errors import T2TError
from t2t.evaluation import Pairs, average_precision
from t2t.labels import LabelMatrix, build_matrix
from t2t.lake.tables import LABEL_SCHEMA
from t2t.media.store import Embeddings
from t2t.students.dual_encoder import Student
from t2t.students.text import TopicTokens
from t2t.training import (
    Prepared,
    Trained,
    TrainingConfig,
    augment,
    grouped_loss,
    learning_rate,
    train,
)
from tests.students import TEACHERS, TOPICS, random_clips, tiny_config, tiny_student


def random_matrix(seed: int = 0, samples: int = 9, most: int = 8) -> LabelMatrix:
    """Rows of random pairs; some samples have none, and confidences are distinct, so that a row can be told."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, most + 1, samples)
    counts[0] = most
    rows = int(counts.sum())
    return LabelMatrix(
        [f"s{i}" for i in range(samples)],
        TOPICS,
        TEACHERS,
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        generator.integers(0, len(TOPICS), rows).astype(np.int32),
        generator.integers(0, len(TEACHERS), rows).astype(np.int16),
        (generator.permutation(rows) / rows).astype(np.float32),
    )


def epochs(matrix: LabelMatrix, config: TrainingConfig, weight: np.ndarray, seed: int) -> Iterator[list[Batch]]:
    """The batches, epoch by epoch; fails when one reaches over an epoch's end."""
    labeled = int((np.diff(matrix.indptr) > 0).sum())
    source = Batches(matrix, config, weight, seed)
    while True:
        epoch: list[Batch] = []
        while (seen := sum(len(batch.samples) for batch in epoch)) < labeled:
            epoch.append(next(source))
        assert seen == labeled
        yield epoch


Key = tuple[int, int, int, float, float]


def rows_of(batch: Batch) -> list[Key]:
    sample, text = batch.samples[batch.row_sample], batch.row_text
    columns = (sample, batch.text_teacher[text], batch.text_topic[text], batch.target, batch.weight)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def rows_of_matrix(matrix: LabelMatrix, weight: np.ndarray) -> list[Key]:
    owner = np.repeat(np.arange(len(matrix.sample_ids)), np.diff(matrix.indptr))
    columns = (owner, matrix.teacher, matrix.topic, matrix.confidence, weight[matrix.teacher])
    return list(zip(*(column.tolist() for column in columns), strict=True))


WEIGHT = np.array([0.5, 1.0, 2.0], np.float32)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 50), st.integers(1, 40), st.integers(0, 5))
def test_an_epoch_holds_every_row_once_and_every_batch_reaches_its_size(size: int, rows: int, seed: int) -> None:
    matrix = random_matrix(size)
    for epoch in islice(epochs(matrix, TrainingConfig(batch_rows=rows), WEIGHT, seed), 3):
        assert Counter(row for batch in epoch for row in rows_of(batch)) == Counter(rows_of_matrix(matrix, WEIGHT))
        for i, batch in enumerate(epoch):
            last_samples = int((batch.row_sample == len(batch.samples) - 1).sum())
            assert len(batch.target) - last_samples < rows
            assert len(batch.target) >= rows or i == len(epoch) - 1


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 50), st.integers(1, 40), st.integers(1, 10))
def test_texts_are_distinct_in_a_batch_and_all_are_used(size: int, rows: int, limit: int) -> None:
    config = TrainingConfig(batch_rows=rows, rows_per_sample=limit)
    for batch in islice(Batches(random_matrix(size), config, WEIGHT, 0), 6):
        texts = list(zip(batch.text_teacher.tolist(), batch.text_topic.tolist(), strict=True))
        assert len(set(texts)) == len(texts)
        assert set(batch.row_text.tolist()) == set(range(len(texts)))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 50), st.integers(1, 40), st.integers(1, 10))
def test_the_row_limit_takes_distinct_rows_of_each_sample(size: int, rows: int, limit: int) -> None:
    matrix = random_matrix(size)
    known = Counter(rows_of_matrix(matrix, WEIGHT))
    config = TrainingConfig(batch_rows=rows, rows_per_sample=limit)
    for epoch in islice(epochs(matrix, config, WEIGHT, 1), 2):
        found = Counter(row for batch in epoch for row in rows_of(batch))
        assert found <= known
        per_sample = Counter(row[0] for row in found.elements())
        lengths = np.diff(matrix.indptr)
        assert per_sample == {i: min(limit, int(n)) for i, n in enumerate(lengths) if n}


def test_the_sample_limit_cuts_batches_and_loses_no_row() -> None:
    matrix, config = random_matrix(0, samples=30), TrainingConfig(batch_rows=20, batch_samples=3)
    for epoch in islice(epochs(matrix, config, WEIGHT, 0), 3):
        assert max(len(batch.samples) for batch in epoch) == 3
        assert Counter(row for batch in epoch for row in rows_of(batch)) == Counter(rows_of_matrix(matrix, WEIGHT))


def test_in_time_the_row_limit_shows_every_row_as_often_as_the_others() -> None:
    matrix = random_matrix(3, samples=1, most=8)
    config = TrainingConfig(rows_per_sample=2)
    shown = Counter(row for batch in islice(Batches(matrix, config, WEIGHT, 0), 2000) for row in batch.target.tolist())
    assert set(shown) == set(matrix.confidence.tolist())
    # Each of 8 rows is shown with probability 1/4: five standard deviations around 500.
    assert max(abs(count - 500) for count in shown.values()) < 5 * math.sqrt(2000 * 1 / 4 * 3 / 4)


def test_the_seed_orders_the_epochs_and_no_two_are_alike() -> None:
    matrix, config = random_matrix(0, samples=30), TrainingConfig(batch_rows=10**6)

    def orders(seed: int) -> list[list[int]]:
        return [batch.samples.tolist() for batch in islice(Batches(matrix, config, WEIGHT, seed), 2)]

    assert orders(0) == orders(0)
    assert orders(0) != orders(1)
    first, second = orders(0)
    assert first != second
    assert sorted(first) == sorted(second) == np.flatnonzero(np.diff(matrix.indptr)).tolist()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 50), st.floats(0, 1), st.lists(st.floats(0.1, 10), min_size=3, max_size=3))
def test_weights_have_mean_one_over_the_rows(size: int, balance: float, given_weights: list[float]) -> None:
    matrix = random_matrix(size)
    config = TrainingConfig(balance=balance, task_weight=dict(zip(TEACHERS, given_weights, strict=True)))
    weight = row_weights(matrix, config)
    assert weight.dtype == np.float32
    assert weight[matrix.teacher].mean() == pytest.approx(1, abs=1e-5)


def test_every_row_counts_the_same_unless_told_otherwise() -> None:
    assert row_weights(random_matrix(), TrainingConfig()).tolist() == [1, 1, 1]


@pytest.mark.parametrize("task_weight", [{}, {"human": 4.0}])
def test_balance_makes_identities_count_by_their_task_weight_alone(task_weight: dict[str, float]) -> None:
    matrix = random_matrix(5, samples=40)
    counts = np.array(list(matrix.rows_by_teacher().values()))
    assert len(set(counts)) > 1
    total = row_weights(matrix, TrainingConfig(balance=1, task_weight=task_weight)) * counts
    np.testing.assert_allclose(total / total[1], [task_weight.get("human", 1.0), 1, 1], rtol=1e-5)


def test_a_task_weight_is_a_factor() -> None:
    weight = row_weights(random_matrix(), TrainingConfig(task_weight={"shape": 3.0}))
    assert weight[2] / weight[0] == pytest.approx(3)
    assert weight[0] == weight[1]


def test_an_identity_without_rows_has_a_finite_weight() -> None:
    matrix = build_matrix(
        [pa.table([["s0"], ["red ball"], ["human"], [0.5]], schema=LABEL_SCHEMA)], ["s0"], TOPICS, TEACHERS
    )
    weight = row_weights(matrix, TrainingConfig(balance=1))
    assert np.isfinite(weight).all()
    assert weight[0] == 1


def test_a_task_weight_of_nobody_is_refused() -> None:
    with pytest.raises(T2TError, match="task_weight names 'humn', which is no teacher here: human, colour, shape"):
        row_weights(random_matrix(), TrainingConfig(task_weight={"humn": 2.0}))


def plain_loss(student: Student, matrix: LabelMatrix, embeddings: Embeddings, weight: np.ndarray, kind: str) -> Tensor:
    """The loss as the paper writes it: one row after the other, each with a sample and a text of its own."""
    tokens = TopicTokens(student.tokenizer, matrix.topics)
    total, weights = torch.zeros((), dtype=torch.float64), 0.0
    for sample in range(len(matrix.sample_ids)):
        frames, mask = embeddings.take(np.array([sample])).gather(np.array([0]))
        for row in range(matrix.indptr[sample], matrix.indptr[sample + 1]):
            identity = student.token_ids([matrix.teachers[matrix.teacher[row]]])
            ids, ids_mask = tokens.texts(matrix.topic[[row]], identity)
            clip = student.encode_samples(torch.from_numpy(frames).double(), torch.from_numpy(mask))
            text = student.encode_texts(torch.from_numpy(ids), torch.from_numpy(ids_mask))
            chance = torch.sigmoid(student.scale.exp() * (clip[0] @ text[0]) + student.bias)
            target = float(matrix.confidence[row])
            if kind == "mse":
                loss = (chance - target) ** 2
            else:
                loss = -(target * chance.log() + (1 - target) * (1 - chance).log())
            total = total + float(weight[matrix.teacher[row]]) * loss
            weights += float(weight[matrix.teacher[row]])
    return total / weights


@pytest.mark.parametrize("kind", ["mse", "bce"])
@pytest.mark.parametrize("weight", [np.ones(3, np.float32), WEIGHT])
def test_grouping_changes_neither_the_loss_nor_any_gradient(kind: str, weight: np.ndarray) -> None:
    matrix = random_matrix(1, samples=5, most=6)
    embeddings = random_clips([3, 1, 4, 2, 2])
    student = tiny_student(tiny_config({"identity_std": 1.0}, frontend={"variation": True})).double()
    (batch,) = next(epochs(matrix, TrainingConfig(batch_rows=10**6), weight, seed=0))
    # The texts really are shared, and the samples are.
    assert len(batch.text_topic) < matrix.rows
    assert len(batch.samples) < matrix.rows
    tokens = TopicTokens(student.tokenizer, matrix.topics)
    ids, ids_mask = tokens.texts(batch.text_topic, student.token_ids(matrix.teachers)[batch.text_teacher])
    prepared, mask = Prepared(student, embeddings)(batch.samples)
    grouped = grouped_loss(
        student, batch, prepared.double(), mask, torch.from_numpy(ids), torch.from_numpy(ids_mask), kind
    )
    grouped.backward()
    gradients = {name: value.grad.clone() for name, value in student.named_parameters() if value.grad is not None}
    student.zero_grad()
    plain = plain_loss(student, matrix, embeddings, weight, kind)
    plain.backward()
    assert grouped.item() == pytest.approx(plain.item(), rel=1e-6)
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    assert largest > 1e-3
    # Attention and norms compute in single precision, whatever the weights are in.
    for name, value in student.named_parameters():
        if value.grad is None:
            assert name not in gradients
        else:
            torch.testing.assert_close(gradients[name], value.grad, rtol=0, atol=1e-6 * largest, msg=name)


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    config = TrainingConfig(steps=200, warmup=0.1, learning_rate=0.5)
    rates = [learning_rate(step, config) for step in range(201)]
    assert rates[0] == pytest.approx(0.5 / 20)
    assert rates[19] == rates[20] == 0.5
    assert rates[110] == pytest.approx(0.25)
    assert rates[200] == pytest.approx(0, abs=1e-12)
    assert np.all(np.diff(rates[:20]) > 0)
    assert np.all(np.diff(rates[20:]) < 0)


@pytest.mark.parametrize("steps", [1, 2, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.5])
def test_the_learning_rate_is_never_zero_within_the_steps(steps: int, warmup: float) -> None:
    config = TrainingConfig(steps=steps, warmup=warmup, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in range(steps)]
    assert min(rates) > 0
    assert max(rates) == 1


def toy() -> tuple[LabelMatrix, Embeddings]:
    """A clip's brightest dimension is its topic; people label all pairs, and so does a teacher at most 0.4 sure."""
    generator = np.random.default_rng(0)
    kinds = np.arange(24) % len(TOPICS)
    clips = [
        (2 * np.eye(6)[kind] + 0.1 * generator.standard_normal((1 + i % 3, 6))).astype(np.float16)
        for i, kind in enumerate(kinds)
    ]
    names = [f"s{i}" for i in range(len(kinds))]
    rows = [
        (name, topic, teacher, (1.0 if teacher == "human" else 0.4) * (TOPICS[kind] == topic))
        for name, kind in zip(names, kinds, strict=True)
        for topic in TOPICS
        for teacher in ("human", "cautious")
    ]
    table = pa.table([list(column) for column in zip(*rows, strict=True)], schema=LABEL_SCHEMA)
    return build_matrix([table], names, TOPICS, ("human", "cautious")), Embeddings.of(clips)


def pr_auc(student: Student, embeddings: Embeddings, identity: str = "human") -> float:
    kinds = np.arange(len(embeddings)) % len(TOPICS)
    sample, topic = (index.ravel() for index in np.indices((len(embeddings), len(TOPICS))))
    score = student.predict(embeddings, np.arange(len(embeddings)), TOPICS, identity)[sample, topic]
    target = (kinds[sample] == topic).astype(np.float32)
    return average_precision(Pairs(tuple(map(str, kinds)), TOPICS, sample, topic, target, score))


def run_toy(
    seed: int = 0, validate: Callable[[Student], float] | None = None, **changes: Any
) -> tuple[Student, Trained]:
    matrix, embeddings = toy()
    student = tiny_student(tiny_config(scale=3.0), teachers=("human", "cautious"))
    settings = {"steps": 12, "batch_rows": 64, "evaluate_every": 5, "learning_rate": 0.01, **changes}
    validate = validate or (lambda student: pr_auc(student, embeddings))
    return student, train(student, matrix, embeddings, TrainingConfig(**settings), seed, validate)


@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_training_learns_each_identitys_own_view(loss: str) -> None:
    embeddings = toy()[1]
    looks = iter(range(100))
    student, trained = run_toy(validate=lambda student: next(looks), steps=120, evaluate_every=20, loss=loss)
    losses = [point["loss"] for _, point in trained.curve]
    # Cross-entropy on a confidence of 0.4 does not end at zero.
    assert losses[-1] < (0.2 if loss == "mse" else 0.5) * losses[0]
    assert not student.training
    # Both mean the same topics, and neither moves the other's confidence: nothing is averaged.
    right = np.arange(len(embeddings)) % len(TOPICS)
    for identity, confidence in (("human", 1.0), ("cautious", 0.4)):
        assert pr_auc(student, embeddings, identity) > 0.95
        scores = student.predict(embeddings, np.arange(len(embeddings)), TOPICS, identity)
        assert scores[np.arange(len(embeddings)), right].mean() == pytest.approx(confidence, abs=0.1)


NOISY = {"frame_dropout": 0.3, "noise": 0.2, "ema": 0.9, "rows_per_sample": 5}


@pytest.mark.parametrize("changes", [{}, NOISY])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(changes: dict[str, Any]) -> None:
    torch.manual_seed(1)
    first, trained = run_toy(**changes)
    torch.manual_seed(2)
    second, again = run_toy(**changes)
    other, _ = run_toy(seed=1, **changes)
    assert trained == again
    state = first.state_dict()
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in state.items())
    assert not torch.equal(state["project.weight"], other.state_dict()["project.weight"])


def test_bfloat16_arithmetic_comes_to_the_same_student() -> None:
    settings = {"steps": 60, "evaluate_every": 60}
    exact, _ = run_toy(**settings)
    rough, trained = run_toy(**settings, precision="bfloat16")
    embeddings = toy()[1]
    every = np.arange(len(embeddings))
    assert all(value.dtype == torch.float32 for value in rough.state_dict().values())
    difference = rough.predict(embeddings, every, TOPICS) - exact.predict(embeddings, every, TOPICS)
    assert 0 < np.abs(difference).max() < 2e-2
    assert abs(pr_auc(rough, embeddings) - pr_auc(exact, embeddings)) < 0.005
    assert trained.curve[-1][1]["loss"] < 0.2


def test_the_curve_has_a_point_for_every_look_and_the_last_step() -> None:
    matrix, embeddings = toy()
    told: list[tuple[int, dict[str, float]]] = []
    config = TrainingConfig(steps=12, evaluate_every=5)
    student = tiny_student(teachers=("human", "cautious"))
    trained = train(
        student, matrix, embeddings, config, 0, lambda student: 0.5, report=lambda *point: told.append(point)
    )
    assert [step for step, _ in trained.curve] == [5, 10, 12]
    assert told == trained.curve
    for step, point in trained.curve:
        assert point["learning_rate"] == learning_rate(step, config)
        assert point["validation_pr_auc"] == 0.5
        assert 0 < point["loss"] < 1
    # Of equal scores the first stays.
    assert trained.best_step == 5


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9}])
def test_the_best_step_is_what_stays(changes: dict[str, Any]) -> None:
    seen: list[dict[str, Tensor]] = []
    scores = iter([0.1, 0.9, 0.3, 0.2])

    def validate(student: Student) -> float:
        seen.append({name: value.clone() for name, value in student.state_dict().items()})
        return next(scores)

    student, trained = run_toy(validate=validate, steps=16, evaluate_every=4, **changes)
    assert (trained.best_step, trained.best_score) == (8, 0.9)
    assert len(seen) == 4
    state = student.state_dict()
    assert all(torch.equal(value, seen[1][name]) for name, value in state.items())
    assert not torch.equal(state["project.weight"], seen[3]["project.weight"])


@pytest.mark.parametrize("changes", [{}, NOISY])
def test_the_returned_student_scores_what_training_says(changes: dict[str, Any]) -> None:
    student, trained = run_toy(steps=20, **changes)
    assert pr_auc(student, toy()[1]) == trained.best_score
    assert trained.best_score == max(point["validation_pr_auc"] for _, point in trained.curve)
    assert dict(trained.curve)[trained.best_step]["validation_pr_auc"] == trained.best_score


def test_the_moving_average_is_one_of_the_weights_that_were() -> None:
    def path(**changes: Any) -> list[Tensor]:
        seen: list[Tensor] = []

        def validate(student: Student) -> float:
            seen.append(student.project.weight.detach().clone())
            return 0.0

        run_toy(validate=validate, steps=10, evaluate_every=1, **changes)
        return seen

    raw, kept = path(), path(ema=0.25)
    average = tiny_student(teachers=("human", "cautious")).project.weight.detach()
    for step in range(10):
        decay = min(0.25, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * raw[step]
        torch.testing.assert_close(kept[step], average, rtol=0, atol=1e-6)
    assert (kept[-1] - raw[-1]).abs().max() > 1e-5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_a_number_stops_training_in_words(value: float) -> None:
    matrix, embeddings = toy()
    clips = [np.full((2, 6), value, np.float16)] * len(embeddings)
    student = tiny_student(teachers=("human", "cautious"))
    with pytest.raises(T2TError, match=r"Round 3: the loss is nan at step 0\. Lower training\.learning_rate"):
        train(student, matrix, Embeddings.of(clips), TrainingConfig(steps=3), 0, lambda student: 0.0, title="Round 3")


def test_an_infinite_loss_stops_training_in_words() -> None:
    matrix, embeddings = toy()
    student = tiny_student(teachers=("human", "cautious"))
    with torch.no_grad():
        student.bias.fill_(3e38)
    config = TrainingConfig(steps=3, loss="bce")
    with pytest.raises(T2TError, match="the loss is inf at step 0"):
        train(student, matrix, embeddings, config, 0, lambda student: 0.0)


def test_a_teacher_the_student_does_not_know_is_refused() -> None:
    matrix, embeddings = toy()
    with pytest.raises(T2TError, match="no identity 'cautious'"):
        train(tiny_student(), matrix, embeddings, TrainingConfig(steps=1), 0, lambda student: 0.0)


@pytest.mark.parametrize("frontend", [{}, {"whiten": 4, "variation": True}])
def test_prepared_frames_are_the_frontends_whether_they_are_kept_or_not(
    frontend: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings = random_clips([3, 1, 4, 2, 2, 1, 4])
    student = tiny_student(tiny_config(frontend=frontend))
    student.frontend.fit(embeddings, np.arange(7))
    frames, mask = (torch.from_numpy(a) for a in embeddings.gather(np.array([5, 2, 2])))
    expected = student.frontend(frames.float(), mask)
    monkeypatch.setattr(training, "PREPARE_BLOCK", 2)
    kept = Prepared(student, embeddings)
    monkeypatch.setattr(training, "PREPARED_BYTES", 0)
    computed = Prepared(student, embeddings)
    assert kept.frames is not None
    assert computed.frames is None
    for prepare in (kept, computed):
        prepared, prepared_mask = prepare(np.array([5, 2, 2]))
        torch.testing.assert_close(prepared, expected, rtol=0, atol=1e-5)
        assert torch.equal(prepared_mask, mask)


MASK = torch.arange(5) < torch.tensor([5, 1, 3]).repeat(200)[:, None]
FRAMES = torch.randn(600, 5, 6, generator=torch.Generator().manual_seed(0)) * MASK.unsqueeze(-1)


def test_without_dropout_and_noise_frames_stay_as_they_are() -> None:
    frames, mask = augment(FRAMES, MASK, TrainingConfig(), torch.Generator())
    assert torch.equal(frames, FRAMES)
    assert torch.equal(mask, MASK)


def test_hidden_frames_are_zero_and_no_sample_loses_all_of_its() -> None:
    config = TrainingConfig(frame_dropout=0.6)
    frames, mask = augment(FRAMES, MASK, config, torch.Generator().manual_seed(0))
    assert not (mask & ~MASK).any()
    assert mask.any(dim=1).all()
    assert torch.equal(frames, FRAMES * mask.unsqueeze(-1))
    # Of five frames 0.4 stay, but for the 0.6 ** 5 of the clips that would lose all and keep one.
    assert mask[::3].float().mean().item() == pytest.approx(0.4 + 0.6**5 / 5, abs=0.06)


def test_noise_has_its_size_and_stays_out_of_padding() -> None:
    frames, mask = augment(FRAMES, MASK, TrainingConfig(noise=0.5), torch.Generator().manual_seed(0))
    assert torch.equal(mask, MASK)
    assert (frames[~MASK] == 0).all()
    assert (frames - FRAMES)[MASK].std().item() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 0},
        {"step": 1},
        {"batch_rows": 0},
        {"batch_samples": 0},
        {"rows_per_sample": 0},
        {"loss": "mae"},
        {"learning_rate": 0},
        {"warmup": 1},
        {"balance": 1.5},
        {"frame_dropout": 1},
        {"noise": -1},
        {"ema": 1},
        {"evaluate_every": 0},
    ],
)
def test_what_the_configuration_refuses(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        TrainingConfig(**values)
