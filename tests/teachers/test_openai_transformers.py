"""Kind `openai` and `transformers serve`, with a model that is trained on the spot until it knows the answers."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from t2t.integrations.services import free_port
from tests.helpers.documented import refused
from tests.helpers.model_servers import model_server, trained_llama
from tests.helpers.openai_teacher import NEEDS_PACKAGE, labels, teacher

pytestmark = [
    pytest.mark.services,
    NEEDS_PACKAGE,
    pytest.mark.skipif(
        importlib.util.find_spec("accelerate") is None, reason="needs accelerate; make test-services installs it"
    ),
]
TOPICS = ("dog", "bread", "snow", "guitar")
PROMPT = "{topic}?"


def samples() -> pa.Table:
    return pa.table({"sample_id": list(TOPICS), "path": list(TOPICS), "title": [f"a {topic}" for topic in TOPICS]})


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[str, str]]:
    folder = tmp_path_factory.mktemp("model")
    pairs = [(title, topic) for title in TOPICS for topic in TOPICS]
    answers = {f"title: a {title}\n\n{topic}?": "Yes" if title == topic else "No" for title, topic in pairs}
    trained_llama(folder, answers)
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--host", "127.0.0.1"]
    with model_server([*command, "--port", str(port), "--device", "cpu"], port, folder / "log", "health") as url:
        yield url, str(folder)


def asked(work: Path, served: tuple[str, str], **changes):
    url, model = served
    settings = {"api_key_env": None, "model": model, "prompt": PROMPT, "timeout": 120, "concurrency": 2}
    return teacher(work, samples(), url, **settings | changes)


def test_its_words_become_the_labels_that_the_model_was_taught(tmp_path, served):
    hard = asked(tmp_path, served, score="hard")
    found = labels(hard, samples(), TOPICS)
    assert found == {(title, topic): float(title == topic) for title in TOPICS for topic in TOPICS}
    assert hard.tally.counts.sent == 16
    assert labels(asked(tmp_path, served, score="hard"), samples(), TOPICS) == found


def test_it_gives_no_logprobs_and_that_is_said(tmp_path, served):
    assert "gives no logprobs" in refused(lambda: labels(asked(tmp_path, served), samples(), TOPICS))
