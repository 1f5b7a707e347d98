"""A monotone change of a teacher's confidences leaves the student nearly unchanged: only their order teaches."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import softmax
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score

from t2t.data.coding import code
from t2t.data.embeddings.store import Embeddings
from t2t.data.labels import HUMAN, LABEL_SCHEMA
from t2t.evaluation.scales import scales_of
from t2t.students import build_student
from t2t.students.config import fitting
from t2t.training.config import TrainingConfig
from t2t.training.loop import train
from t2t.training.matrix import assemble
from t2t.training.recipe import TrainingFacts, choose

TOPICS = tuple(f"thing number {i}" for i in range(8))
PEOPLE, TRAINED, ALL, DIM = 60, 300, 700, 24
GENERATOR = np.random.default_rng(0)
CLASS = GENERATOR.integers(0, len(TOPICS), ALL)
FRAMES = (GENERATOR.normal(size=(len(TOPICS), DIM))[CLASS] + 1.6 * GENERATOR.normal(size=(ALL, DIM))).astype(np.float16)
TRUTH = (CLASS[:, None] == np.arange(len(TOPICS))).astype(np.float32)
# A classifier that is wrong now and then, and timid: it never says more than a half or so.
LOGITS = 0.8 * TRUTH + 0.45 * GENERATOR.normal(size=TRUTH.shape)
IDS = [f"s{i}" for i in range(ALL)]

SAID = {
    "p": softmax(LOGITS, axis=1),
    "p squared": softmax(LOGITS, axis=1) ** 2,
    "softmax at T = 3": softmax(LOGITS / 3, axis=1),
    "rank": rankdata(softmax(LOGITS, axis=1)).reshape(LOGITS.shape) / LOGITS.size,
}


def student_of(said: np.ndarray, scaled: bool = True) -> float:
    """PR-AUC, on samples that nobody labeled, of a student of a few people and one teacher."""
    tables = []
    for teacher, samples, confidence in ((HUMAN, PEOPLE, TRUTH), ("teacher", TRAINED, said)):
        columns = [pa.array(np.repeat(IDS[:samples], len(TOPICS))), pa.array(np.tile(TOPICS, samples))]
        columns += [pa.repeat(pa.scalar(teacher), samples * len(TOPICS))]
        columns += [pa.array(confidence[:samples].ravel().astype(np.float32))]
        tables.append(pa.table(columns, schema=LABEL_SCHEMA))
    coded = code(tables, IDS[:TRAINED], TOPICS, (HUMAN, "teacher"))
    scales = scales_of(coded, np.arange(TRAINED)) if scaled else {}
    matrix = assemble(coded).scaled(scales)
    facts = TrainingFacts(TRAINED, PEOPLE * len(TOPICS), TRAINED * len(TOPICS), 1, DIM)
    recipe, _ = choose(TrainingConfig(steps=150, evaluate_every=150), facts)
    embeddings = Embeddings.of([frame[None] for frame in FRAMES])
    student = build_student(fitting(1, TRAINED), DIM, TOPICS, matrix.teachers, 0, float(matrix.confidence.mean()))
    student.frontend.fit(embeddings, np.arange(TRAINED))
    train(student, matrix, embeddings.take(np.arange(TRAINED)), recipe, 0, lambda _: 0.5)
    scores = student.predict(embeddings, np.arange(TRAINED, ALL), TOPICS)
    return float(average_precision_score(TRUTH[TRAINED:].ravel(), scores.ravel()))


@pytest.fixture(scope="module")
def plain() -> float:
    return student_of(SAID["p"])


@pytest.mark.parametrize("change", [name for name in SAID if name != "p"])
def test_only_the_order_of_a_teachers_confidences_teaches(change: str, plain: float) -> None:
    assert student_of(SAID[change]) == pytest.approx(plain, abs=0.01)


def test_with_raw_confidences_their_numbers_teach_too(plain: float) -> None:
    """What the common scale is for; else the test above would hold of anything."""
    raw = [student_of(SAID[name], scaled=False) for name in SAID]
    assert max(raw) - min(raw) > 0.02
    assert min(raw) < plain - 0.02
