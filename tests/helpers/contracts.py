"""What every implementation behind a seam keeps, ours or a plug-in's: students, frame encoders, label baselines.

Each claim is a function that fails where it does not hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from t2t.core.errors import T2TError
from t2t.data.embeddings.encoders import FrameEncoder
from t2t.data.labels import HUMAN
from t2t.data.pairs import Pairs
from t2t.students import build_student
from t2t.students.checkpoint import load, save
from t2t.training.config import TrainingConfig
from t2t.training.loop import train
from t2t.training.matrix import LabelMatrix
from tests.helpers.students import DIM, TEACHERS, TOPICS, random_clips
from tests.helpers.training import random_matrix

CLIPS = random_clips([4, 1, 3, 2])
EVERY = np.arange(len(CLIPS))
# Topics that no tokenizer here was fitted on, one longer than all others.
NEW = ("a green hexagon", "naïve café, with a good deal more to say than any other topic has")


# -- students --------------------------------------------------------------------------------------------------------


def student_of(config: Any, teachers: tuple[str, ...] = TEACHERS, seed: int = 0) -> Any:
    """A student of a kind, fitted, with other weights than any starts with, as training leaves them."""
    student = build_student(config, DIM, TOPICS, teachers, seed)
    student.frontend.fit(CLIPS, EVERY)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return student.eval()


def askable(student: Any) -> tuple[str, ...]:
    """Topics to ask: new ones too, where the kind reads texts."""
    return (*TOPICS, *NEW) if student.vocabulary is None else TOPICS


def comes_back_bit_for_bit(config: Any, folder: Path) -> None:
    student = student_of(config)
    save(student, folder / "first", {"campaign": "demo"})
    back = load(folder / "first")
    assert type(back) is type(student)
    assert back.config == student.config
    assert (back.teachers, back.input_dim) == (list(TEACHERS), DIM)
    for name in TEACHERS:
        np.testing.assert_array_equal(
            back.predict(CLIPS, EVERY, askable(student), name), student.predict(CLIPS, EVERY, askable(student), name)
        )
    save(back, folder / "second")
    first, second = ((folder / name / "model.safetensors").read_bytes() for name in ("first", "second"))
    assert first == second


def a_new_teacher_leaves_old_scores_bit_equal(config: Any, folder: Path) -> None:
    before = build_student(config, DIM, TOPICS, TEACHERS, 0).eval()
    after = build_student(config, DIM, TOPICS, ("demo-self-0", *TEACHERS), 0).eval()
    # Trained ones, too: a round that goes on from the one before has one teacher more.
    trained = student_of(config)
    grown = build_student(config, DIM, TOPICS, (*TEACHERS, "demo-self-0"), 7).eval()
    grown.start_from(trained)
    for name in TEACHERS:
        for old, new in ((before, after), (trained, grown)):
            np.testing.assert_array_equal(
                new.predict(CLIPS, EVERY, TOPICS, name), old.predict(CLIPS, EVERY, TOPICS, name)
            )
    assert grown.predict(CLIPS, EVERY, TOPICS, "demo-self-0").shape == (len(CLIPS), len(TOPICS))


def a_new_topic_leaves_old_scores_as_they_are(config: Any, folder: Path) -> None:
    """Bit for bit once it was asked for; asked together, up to the rounding of another batch's shape. A kind that
    reads no texts refuses it, and built with it scores the others as before."""
    student = student_of(config)
    if student.vocabulary is not None:
        with pytest.raises(T2TError, match="a green hexagon"):
            student.predict(CLIPS, EVERY, [*TOPICS, *NEW])
        before = build_student(config, DIM, TOPICS, TEACHERS, 0).eval()
        after = build_student(config, DIM, (NEW[0], *TOPICS, NEW[1]), TEACHERS, 0).eval()
        for name in TEACHERS:
            expected = before.predict(CLIPS, EVERY, TOPICS, name)
            np.testing.assert_array_equal(after.predict(CLIPS, EVERY, TOPICS, name), expected)
        return
    alone = student.predict(CLIPS, EVERY, TOPICS)
    together = student.predict(CLIPS, EVERY, [*NEW, *TOPICS])
    np.testing.assert_allclose(together[:, len(NEW) :], alone, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(student.predict(CLIPS, EVERY, TOPICS), alone)


def pairs_are_scored_as_the_matrix_is(config: Any, folder: Path) -> None:
    student = student_of(config)
    backwards = EVERY[::-1].copy()
    sample, topic = np.array([1, 0, 1, 3, 1]), np.array([3, 1, 1, 0, 3])
    blank = np.zeros(len(sample), np.float32)
    pairs = Pairs(tuple("abcd"), TOPICS, sample, topic, blank, blank)
    for name in TEACHERS:
        scored = student.predict_pairs(CLIPS, backwards, pairs, name)
        assert scored.score.dtype == np.float32
        whole = student.predict(CLIPS, backwards, TOPICS, name)
        np.testing.assert_allclose(scored.score, whole[sample, topic], rtol=0, atol=1e-6)
        assert (scored.sample is sample, scored.topic is topic, scored.target is blank) == (True, True, True)
    assert len(student.predict_pairs(CLIPS, backwards, pairs.where(np.zeros(len(sample), bool))).score) == 0


def any_identity_can_be_asked(config: Any, folder: Path) -> None:
    student = student_of(config)
    scores = {name: student.predict(CLIPS, EVERY, TOPICS, name) for name in student.teachers}
    assert list(scores) == list(TEACHERS)
    for found in scores.values():
        assert (found.dtype, found.shape) == (np.float32, (len(CLIPS), len(TOPICS)))
        assert found.min() >= 0
        assert found.max() <= 1
    assert len({found.tobytes() for found in scores.values()}) == len(TEACHERS)
    np.testing.assert_array_equal(student.predict(CLIPS, EVERY, TOPICS), scores[HUMAN])


def an_unknown_identity_is_refused(config: Any, folder: Path) -> None:
    student = student_of(config)
    blank = np.zeros(1, np.float32)
    pairs = Pairs(("a",), TOPICS, np.array([0]), np.array([0]), blank, blank)
    with pytest.raises(T2TError, match=r"colur.*Did you mean 'colour'"):
        student.predict(CLIPS, EVERY, TOPICS, "colur")
    with pytest.raises(T2TError, match="colur"):
        student.predict_pairs(CLIPS, EVERY, pairs, "colur")


def rows_are_scored_as_each_alone(config: Any, folder: Path) -> None:
    """Many rows at once: the logits, and the gradients of what is made of them, of one row after the other."""
    student = student_of(config).double()
    sample, text = np.array([1, 0, 1, 3, 1, 0, 2]), np.array([2, 1, 0, 3, 3, 1, 4])
    topic, teacher = np.array([1, 0, 3, 2, 1]), np.array([0, 2, 1, 1, 0])
    worth = torch.linspace(-1, 1, len(sample), dtype=torch.float64)
    frames, mask = (torch.from_numpy(part) for part in CLIPS.gather(EVERY))
    prepared = student.frontend(frames.double(), mask)
    tokens = student.topic_tokens(TOPICS)

    def logits(rows: slice) -> torch.Tensor:
        samples, row_sample = np.unique(sample[rows], return_inverse=True)
        texts, row_text = np.unique(text[rows], return_inverse=True)
        asked = [torch.from_numpy(part) for part in student.texts(tokens, topic[texts], teacher[texts])]
        at = torch.from_numpy(samples)
        places = torch.from_numpy(row_sample), torch.from_numpy(row_text)
        parts = [member.row_logits(prepared[at], mask[at], asked, *places) for member in student.members]
        return torch.stack(parts)

    def gradients(found: torch.Tensor) -> dict[str, torch.Tensor]:
        student.zero_grad()
        (found.tanh() * worth).sum().backward()
        return {name: value.grad.clone() for name, value in student.named_parameters() if value.grad is not None}

    together = logits(slice(None))
    grouped = gradients(together)
    alone = torch.cat([logits(slice(row, row + 1)) for row in range(len(sample))], dim=-1)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    one_by_one = gradients(alone)
    assert grouped.keys() == one_by_one.keys()
    largest = max(float(value.abs().max()) for value in one_by_one.values())
    assert largest > 1e-3
    for name, value in one_by_one.items():
        # Attention and norms compute in single precision, whatever the weights are in.
        torch.testing.assert_close(grouped[name], value, rtol=0, atol=1e-6 * max(largest, 1), msg=name)


def a_loaded_one_trains_alike(config: Any, folder: Path) -> None:
    """Bit for bit: a helper's process, or a cluster's node, trains the student that it loads."""
    matrix = random_matrix(0, samples=len(CLIPS))
    recipe = TrainingConfig(steps=3, batch_rows=10, evaluate_every=3, noise=0.1, ema=0.9, learning_rate=0.01)
    here = build_student(config, DIM, TOPICS, TEACHERS, 0)
    here.frontend.fit(CLIPS, EVERY)
    here.trained_topics = TOPICS
    save(here, folder / "start")
    there, before = load(folder / "start"), here.eval().predict(CLIPS, EVERY, TOPICS)
    for student in (here, there):
        train(student, matrix, CLIPS, recipe, 0, lambda now: 0.0)
    after = here.predict(CLIPS, EVERY, TOPICS)
    assert np.abs(after - before).max() > 1e-4
    np.testing.assert_array_equal(there.predict(CLIPS, EVERY, TOPICS), after)


STUDENT_CLAIMS = (
    rows_are_scored_as_each_alone,
    comes_back_bit_for_bit,
    a_new_teacher_leaves_old_scores_bit_equal,
    a_new_topic_leaves_old_scores_as_they_are,
    pairs_are_scored_as_the_matrix_is,
    any_identity_can_be_asked,
    an_unknown_identity_is_refused,
    a_loaded_one_trains_alike,
)


# -- frame encoders --------------------------------------------------------------------------------------------------


def frames_of(encoder: FrameEncoder, count: int, seed: int = 0) -> np.ndarray:
    shape = (count, encoder.size, encoder.size, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def gives_float16_for_uint8(encoder: FrameEncoder) -> None:
    frames = frames_of(encoder, 5)
    kept = frames.copy()
    out = encoder.encode(frames)
    assert (out.dtype, out.shape) == (np.float16, (5, encoder.dim))
    assert np.isfinite(out).all()
    assert len({row.tobytes() for row in out}) == 5
    np.testing.assert_array_equal(frames, kept)
    assert len(encoder.fingerprint) == 64
    assert encoder.frames >= 1
    assert encoder.batch_size >= 1


def takes_no_frame_at_all(encoder: FrameEncoder) -> None:
    out = encoder.encode(frames_of(encoder, 0))
    assert (out.dtype, out.shape) == (np.float16, (0, encoder.dim))


def does_not_depend_on_the_batch(encoder: FrameEncoder) -> None:
    """On the CPU, bit for bit: more frames than go at once, some of them, another order."""
    count = min(encoder.batch_size, 64) + 3
    frames = frames_of(encoder, count)
    whole = encoder.encode(frames)
    assert encoder.encode(frames[2:5]).tobytes() == whole[2:5].tobytes()
    assert encoder.encode(frames[-1:]).tobytes() == whole[-1:].tobytes()
    assert encoder.encode(frames[::-1].copy()).tobytes() == whole[::-1].tobytes()


def refuses_other_frames(encoder: FrameEncoder) -> None:
    for frames in (frames_of(encoder, 1).astype(np.float32), frames_of(encoder, 1)[:, :-1]):
        with pytest.raises(ValueError, match="expected uint8"):
            encoder.encode(frames)


ENCODER_CLAIMS = (
    gives_float16_for_uint8,
    takes_no_frame_at_all,
    does_not_depend_on_the_batch,
    refuses_other_frames,
)


# -- label baselines -------------------------------------------------------------------------------------------------


def check_baseline_matrix(before: LabelMatrix, after: LabelMatrix) -> None:
    """What a baseline makes of a matrix can be trained on, and has one label a pair."""
    assert after.teachers == (HUMAN,)
    assert (list(after.sample_ids), after.topics) == (list(before.sample_ids), before.topics)
    types = {name: getattr(after, name).dtype for name in ("indptr", "topic", "teacher", "confidence")}
    assert types == {"indptr": np.int64, "topic": np.int32, "teacher": np.int16, "confidence": np.float32}
    assert (after.indptr[0], after.indptr[-1], len(after.indptr)) == (0, after.rows, len(before.indptr))
    assert (np.diff(after.indptr) >= 0).all()
    assert (after.teacher == 0).all()
    assert after.confidence.min() >= 0
    assert after.confidence.max() <= 1
    pairs = pairs_of_rows(after)
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) == set(pairs_of_rows(before))


def pairs_of_rows(matrix: LabelMatrix) -> list[tuple[int, int]]:
    """Sample and topic of each row, in order."""
    owner = np.repeat(np.arange(len(matrix.sample_ids)), np.diff(matrix.indptr))
    return list(zip(owner.tolist(), matrix.topic.tolist(), strict=True))
