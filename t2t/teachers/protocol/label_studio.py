"""A Label Studio ML backend as the other side: `/health` and `/setup` are its handshake, `/predict` its answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

from t2t.core.errors import one_line
from t2t.teachers.protocol.messages import Answer, Fault, Handshake, Question, read_json
from t2t.teachers.protocol.service import Service

ASKED = 1 << 16


@dataclass
class LabelStudio:
    """Its choices are topics, a choice's `score` (else its prediction's) is the confidence.

    value: the key of a task's `data` that holds the sample's path. tag: Label Studio's object tag for it. unnamed:
    whether a topic that a prediction does not name has confidence 0, or no row. topics: the labels that the backend is
    set up with, always those of the dataset. hard: the confidence of a choice without a score, None to refuse it.
    model_version: what each prediction says, None: the same as /setup; a backend's model may have a version beside the
    backend's. learns: whether, where None, the first prediction's counts, as for the test kit.
    """

    service: Service
    topics: Sequence[str]
    tag: str = "Video"
    value: str = "video"
    label_config: str | None = None
    unnamed: bool = False
    hard: float | None = None
    model_version: str | None = None
    learns: bool = False
    _version: str = ""

    def config(self) -> str:
        if self.label_config is not None:
            return self.label_config
        choices = "".join(f"<Choice value={quoteattr(topic)}/>" for topic in self.topics)
        return (
            f'<View><{self.tag} name="sample" value="${self.value}"/>'
            f'<Choices name="topic" toName="sample" choice="multiple">{choices}</Choices></View>'
        )

    def hello(self) -> Handshake:
        service = self.service
        health = read_json(service.call("GET", "/health", None, ASKED, service.start_timeout), "/health")
        if health.get("status") != "UP":
            raise Fault(f"/health says {one_line(repr(health), 100)}, and not that its status is UP.")
        setup = {"project": "t2t", "schema": self.config(), "hostname": "", "access_token": "", "extra_params": {}}
        body = service.call("POST", "/setup", json.dumps(setup).encode(), ASKED, service.start_timeout)
        self._version = _version(read_json(body, "/setup").get("model_version"))
        name = _version(health.get("model_class")) or "label-studio"
        return Handshake(protocol="t2t-teacher/1", name=name, version=self._version or "unversioned")

    def ask(self, question: Question) -> Answer:
        service = self.service
        answer = Answer(question, service.answer_megabytes << 20)
        tasks = [
            {"id": number, "data": {self.value: sample["path"], "sample_id": sample["sample_id"]}}
            for number, sample in enumerate(question.samples)
        ]
        content = {"tasks": tasks, "project": "t2t", "label_config": self.config(), "params": {}}
        body = service.call("POST", "/predict", json.dumps(content).encode(), answer.left, service.timeout)
        reply = read_json(body, "/predict")
        results = reply.get("results")
        if not isinstance(results, list) or len(results) != len(tasks):
            many = f"{len(results):,} results" if isinstance(results, list) else "no list of `results`"
            raise Fault(f"/predict gives {many} for {len(tasks):,} tasks.")
        again = reply.get("model_version")
        if again is not None and _version(again) != self._version:
            raise _changed("its model_version is", _version(again), f"{self._version!r} in /setup")
        topics = {topic: number for number, topic in enumerate(question.topics)}
        for number, prediction in enumerate(results):
            where = f"/predict, sample {one_line(repr(question.samples[number]['sample_id']), 100)}"
            if prediction is None or prediction == [] or prediction == {}:
                continue  # it has no prediction of this one, which is not the same as 0
            self._prediction(answer, number, prediction, topics, where)
        answer.done = True
        return answer

    def _prediction(self, answer: Answer, sample: int, prediction: Any, topics: dict[str, int], where: str) -> None:
        if not isinstance(prediction, Mapping) or not isinstance(prediction.get("result"), list):
            raise Fault(f"{where}: {one_line(json.dumps(prediction), 80)} is no prediction with a `result`.")
        self._same(prediction.get("model_version"))
        named: dict[str, object] = {}
        for region in prediction["result"]:
            if not isinstance(region, Mapping) or region.get("type") != "choices":
                continue  # boxes and the like say nothing of the whole sample
            value = region.get("value")
            choices = value.get("choices") if isinstance(value, Mapping) else None
            if not isinstance(value, Mapping) or not isinstance(choices, list):
                raise Fault(f"{where}: a result of type choices without a list of `choices`.")
            for choice in choices:
                if not isinstance(choice, str):
                    raise Fault(f"{where}: the choice {one_line(repr(choice), 100)} is no text.")
                score = next((at["score"] for at in (region, value, prediction) if at.get("score") is not None), None)
                score = self.hard if score is None else score
                if choice in named:
                    raise Fault(f"{where}, topic {one_line(repr(choice), 100)}: answered more than once.")
                named[choice] = score
        unknown = [name for name in named if name not in topics and name not in self.topics]
        if unknown:
            raise Fault(f"{where}: the choice {one_line(repr(unknown[0]), 100)} is no topic of the dataset.")
        for topic, position in topics.items():
            if topic in named:
                at = f"{where}, topic {one_line(repr(topic), 100)}"
                if named[topic] is None:
                    raise Fault(f"{at}: no score. Have the backend give one, or set `hard` to the confidence of a yes.")
                answer.put(sample, position, named[topic], at)
            elif self.unnamed:
                answer.put(sample, position, 0.0, where)

    def _same(self, found: object) -> None:
        if found is None:
            return
        version = _version(found)
        if self.learns and self.model_version is None:
            self.model_version = version
        if self.model_version is None and version != self._version:
            raise Fault(
                f"its predictions say model_version {version!r}, and /setup said {self._version!r}. Write "
                f"`model_version: {version}` into the entry; it is part of the fingerprint."
            )
        if self.model_version is not None and version != self.model_version:
            raise _changed("its predictions say model_version", version, repr(self.model_version))


def _changed(what: str, now: str, before: str) -> Fault:
    return Fault(
        f"{what} {now!r} now and was {before}. A teacher never changes while it labels: choose a new id for the new "
        "version."
    )


def _version(found: object) -> str:
    return one_line("" if found is None else found, 150)
