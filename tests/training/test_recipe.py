"""What `recipe: auto` chooses, and what it uses: shares of the loss, mixed samples, an end when flat."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from t2t.students.config import FEW_SAMPLES, MEMBERS, fitting
from t2t.students.text import TopicTokens
from t2t.training.batches import Batches, row_weights
from t2t.training.config import TrainingConfig
from t2t.training.loop import train, training_identity
from t2t.training.loss import grouped_loss
from t2t.training.matrix import LabelMatrix
from t2t.training.prepared import Prepared, mixed
from t2t.training.recipe import HUMAN_SHARE, STEPS, TrainingFacts, choose
from tests.helpers.students import random_clips, tiny_config, tiny_student
from tests.helpers.training import random_matrix, toy
from tests.helpers.worlds import ROOT


def chosen(samples: int = 1000, human: int = 300, others: int = 30_000, **given: object) -> TrainingConfig:
    return choose(TrainingConfig.model_validate(given), TrainingFacts(samples, human, others, 8, 100))[0]


def test_what_is_given_stays_and_the_rest_is_chosen_with_a_reason() -> None:
    config, choices = choose(TrainingConfig(steps=7, noise=0.0), TrainingFacts(1000, 300, 30_000, 8, 100))
    assert (config.steps, config.noise) == (7, 0.0)
    assert config.evaluate_every == 1
    keys = [choice.key for choice in choices]
    assert "steps" not in keys
    assert "noise" not in keys
    assert len(set(keys)) == len(keys)
    for choice in choices:
        assert getattr(config, choice.key) == choice.value
        assert choice.why


@pytest.mark.parametrize(("samples", "batch"), [(10, 128), (2_000, 200), (1_000_000, 1024)])
def test_batches_grow_with_the_samples_and_steps_with_the_passes(samples: int, batch: int) -> None:
    config = chosen(samples)
    assert config.batch_samples == batch
    assert STEPS[0] <= config.steps <= STEPS[1]
    assert config.patience


def test_several_sizes_in_one_training_have_more_steps() -> None:
    given = TrainingConfig()
    one, several = (choose(given, TrainingFacts(1000, 300, 30_000, 8, 100, sizes))[0] for sizes in (False, True))
    assert several.steps == 2 * one.steps
    assert several.evaluate_every == 2 * one.evaluate_every


def test_people_keep_their_share_however_few_and_have_their_own_where_they_are_many() -> None:
    assert chosen(human=300, others=30_000).human_share == HUMAN_SHARE
    assert chosen(human=300, others=3_000_000).human_share == HUMAN_SHARE
    assert chosen(human=1_000_000, others=1_000_000).human_share == 0.5
    assert chosen(human=0).human_share is None
    assert chosen(others=0).human_share is None


def test_the_share_of_the_loss_is_what_it_says_with_one_teacher_and_with_a_hundred() -> None:
    for teachers in (2, 11, 101):
        generator = np.random.default_rng(0)
        teacher = np.concatenate([np.zeros(40), generator.integers(1, teachers, 4000)]).astype(np.int16)
        names = ("human", *(f"t{i}" for i in range(1, teachers)))
        rows = len(teacher)
        columns = np.zeros(rows, np.int32), teacher, np.zeros(rows, np.float32)
        matrix = LabelMatrix(["s"], ("topic",), names, np.array([0, rows]), *columns)
        weight = row_weights(matrix, TrainingConfig(human_share=0.25))[teacher].astype(np.float64)
        assert weight[:40].sum() / weight.sum() == pytest.approx(0.25)
        # Every row of a teacher counts as any other teacher's.
        assert np.ptp(weight[40:]) == pytest.approx(0, abs=1e-6)
        assert weight.mean() == pytest.approx(1)


def test_a_share_needs_both_sides() -> None:
    matrix = random_matrix(1)
    alone = matrix.without(["colour", "shape"])
    np.testing.assert_array_equal(row_weights(alone, TrainingConfig(human_share=0.25)), [1.0])
    others = matrix.without(["human"])
    np.testing.assert_allclose(row_weights(others, TrainingConfig(human_share=0.25)), [1.0, 1.0])


def test_a_matrix_without_some_identities_keeps_the_others_rows() -> None:
    matrix = random_matrix(3)
    left = matrix.without(["colour"])
    assert left.teachers == ("human", "shape")
    kept = matrix.teacher != 1
    np.testing.assert_array_equal(left.confidence, matrix.confidence[kept])
    np.testing.assert_array_equal(left.topic, matrix.topic[kept])
    assert [left.teachers[t] for t in left.teacher] == [matrix.teachers[t] for t in matrix.teacher[kept]]
    for sample in range(len(matrix.sample_ids)):
        rows = slice(matrix.indptr[sample], matrix.indptr[sample + 1])
        assert left.indptr[sample + 1] - left.indptr[sample] == kept[rows].sum()


def test_a_mixed_batch_has_the_loss_of_mixed_confidences() -> None:
    """BCE is linear in the target: both samples' rows, weighted, are the mixed target where both have the pair."""
    matrix, embeddings = toy()
    student = tiny_student(tiny_config({"identity": "gate"}), matrix.teachers).eval()
    batch = next(Batches(matrix, TrainingConfig(batch_samples=6, batch_rows=10**6), np.ones(2, np.float32), 0))
    prepared, mask = Prepared(student, embeddings)(batch.samples)
    rows, frames, seen = mixed(batch, prepared, mask, TrainingConfig(mixup=0.5), np.random.default_rng(4))
    share = float(rows.weight[0] / batch.weight[0])
    assert 0.5 <= share < 1
    assert rows.weight.sum() == pytest.approx(batch.weight.sum(), rel=1e-6)
    other = np.random.default_rng(4)
    other.beta(0.5, 0.5)
    partner = other.permutation(len(batch.samples))
    torch.testing.assert_close(frames, share * prepared + (1 - share) * prepared[partner])
    assert torch.equal(seen, mask | mask[partner])
    # In the toy world everybody labels every pair, so each row has its counterpart.
    key = [(s, t) for s, t in zip(batch.row_sample.tolist(), batch.row_text.tolist(), strict=True)]
    target = dict(zip(key, batch.target.tolist(), strict=True))
    blend = [share * target[s, t] + (1 - share) * target[int(partner[s]), t] for s, t in key]
    plain = replace(batch, target=np.array(blend, np.float32))
    texts = student.texts(TopicTokens(student.tokenizer, matrix.topics), batch.text_topic, batch.text_teacher)
    tensors = [torch.from_numpy(part) for part in texts]
    ours = grouped_loss(student, rows, [frames], seen, "bce", *tensors)
    theirs = grouped_loss(student, plain, [frames], seen, "bce", *tensors)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_without_mixup_or_with_one_sample_nothing_is_mixed() -> None:
    matrix, embeddings = toy()
    student = tiny_student(None, matrix.teachers)
    batch = next(Batches(matrix, TrainingConfig(batch_samples=1, batch_rows=10**6), np.ones(2, np.float32), 0))
    prepared, mask = Prepared(student, embeddings)(batch.samples)
    for mixup in (0.0, 0.5):
        same = mixed(batch, prepared, mask, TrainingConfig(mixup=mixup), np.random.default_rng(0))
        assert same == (batch, prepared, mask)


def test_a_training_ends_once_validation_is_flat_and_goes_on_to_the_same_end(tmp_path: Path) -> None:
    matrix, embeddings = toy()
    scores = iter([0.1, 0.3, 0.2, 0.25, 0.9])
    recipe = TrainingConfig(steps=100, evaluate_every=10, patience=2, mixup=0.3, snapshot_steps=10, batch_rows=64)
    student = tiny_student(None, matrix.teachers)
    trained = train(student, matrix, embeddings, recipe, 0, lambda s: next(scores), snapshot=tmp_path / "snapshot")
    assert [step for step, _ in trained.curve] == [10, 20, 30, 40]
    assert (trained.best_step, trained.best_score) == (20, 0.3)
    again = tiny_student(None, matrix.teachers)

    def never(_: object) -> float:
        raise AssertionError("a training that has ended does not look again")

    resumed = train(again, matrix, embeddings, recipe, 0, never, snapshot=tmp_path / "snapshot")
    assert resumed.curve == trained.curve
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), again.parameters(), strict=True))


def test_a_training_ends_after_so_many_steps_as_if_it_went_on() -> None:
    matrix, embeddings = toy()
    recipe = TrainingConfig(steps=40, evaluate_every=10, batch_rows=64)
    rates = []
    for change in ({}, {"stop_after": 20}):
        student = tiny_student(None, matrix.teachers)
        trained = train(student, matrix, embeddings, recipe.model_copy(update=change), 0, lambda s: 0.5)
        rates.append([point["learning_rate"] for _, point in trained.curve])
    assert rates[1] == rates[0][:2]


def test_settings_that_came_later_leave_the_identity_of_a_training_alone() -> None:
    """A snapshot of before goes on."""
    matrix, _ = toy()
    student = tiny_student(None, matrix.teachers)
    plain = training_identity(student, matrix, TrainingConfig(steps=3), 0)
    assert plain == training_identity(student, matrix, TrainingConfig(steps=3, human_share=None, mixup=0.0), 0)
    assert plain != training_identity(student, matrix, TrainingConfig(steps=3, mixup=0.1), 0)


def test_a_student_fits_its_frames() -> None:
    assert fitting(1, 100).frontend.variation is False
    assert fitting(8, 100).frontend.variation is True
    assert fitting(8, 100).text.identity == "gate"


def test_few_samples_have_several_students_as_one() -> None:
    assert fitting(8, FEW_SAMPLES).members == MEMBERS > 1
    assert fitting(8, FEW_SAMPLES + 1).members == 1


@pytest.mark.parametrize(("frames", "dim", "noise"), [(1, 256, 0.64), (1, 1280, 1.43), (8, 147, 1.37), (8, 1280, 4.05)])
def test_noise_goes_by_how_many_numbers_a_sample_has(frames: int, dim: int, noise: float) -> None:
    recipe, _ = choose(TrainingConfig(), TrainingFacts(1000, 300, 30_000, frames, dim))
    assert recipe.noise == pytest.approx(noise)


@pytest.mark.parametrize("path", sorted((ROOT / "registry" / "campaigns").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_campaign_has_no_numbers_of_its_own(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert not {"student", "training", "scale"} & set(content)
    assert content.get("recipe", "auto") == "auto"


def test_random_clips_of_one_frame_train_too() -> None:
    matrix = random_matrix(2, samples=6)
    recipe = chosen(samples=6, human=5, others=20, steps=4)
    student = tiny_student(fitting(1, 100), matrix.teachers)
    trained = train(student, matrix, random_clips([1] * 6), recipe, 0, lambda s: 0.1)
    assert trained.curve[-1][0] == 4


def test_a_trainings_numbers_do_not_hang_on_the_machines_threads() -> None:
    before = torch.get_num_threads()
    matrix, embeddings = toy()
    weights = []
    try:
        for machine in (1, 4):
            torch.set_num_threads(machine)
            student = tiny_student(fitting(3, 100), matrix.teachers)
            seen: list[int] = []

            def look(_: object, seen: list[int] = seen) -> float:
                seen.append(torch.get_num_threads())
                return 0.5

            train(student, matrix, embeddings, TrainingConfig(steps=5, threads=1, batch_rows=64), 0, look)
            assert seen == [1]
            assert torch.get_num_threads() == machine
            weights.append([value.clone() for value in student.state_dict().values()])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
