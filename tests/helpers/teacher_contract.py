"""A case for each kind of teacher that comes with t2t, for the claims of `t2t.teachers.contract`.

Real parts: tiny checkpoints of real classes, programs, and servers in this process, over a real, small dataset.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import timm
import torch
from safetensors.torch import save_file

from t2t.core.files import sha256_file
from t2t.data.dataset import DatasetConfig, read_dataset
from t2t.data.embeddings.encoders import build_encoder
from t2t.data.embeddings.pixels import PixelsConfig
from t2t.students import build_student
from t2t.students.checkpoint import save
from t2t.teachers import Teacher, TeacherContext, build, parse_entry
from t2t.teachers.contract import Case, small_dataset
from tests.helpers import image_text, vlms
from tests.helpers.openai_server import KEY, fake_server
from tests.helpers.programs import HELLO, LANDLOCK, python
from tests.helpers.services import Reply, say, serving
from tests.helpers.students import TEACHERS, tiny_config

TOPICS = ("red square", "blue circle", "a dog")
SECRET = "do-not-tell-4711"
Make = Callable[[Path, ExitStack], Case]


def place(folder: Path) -> TeacherContext:
    return TeacherContext(small_dataset(folder, TOPICS), folder / "work")


def elsewhere(case: Case, context: TeacherContext, **changes: Any) -> Callable[[], Teacher]:
    """Builds the case's teacher in another place."""
    return lambda: build(parse_entry({**case.entry, **changes}, "entry"), context)


def changed(case: Case, folder: Path, change: Callable[[Path], object], **changes: Any) -> Callable[[], Teacher]:
    """Builds the case's teacher over a changed copy of its dataset's folder."""

    def make() -> Teacher:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(case.context.data, folder / "small")
        change(folder / "small")
        dataset = read_dataset(DatasetConfig(name="small", root="small"), folder)
        return elsewhere(case, TeacherContext(dataset, folder / "work"), **changes)()

    return make


def annotations(folder: Path, stack: ExitStack) -> Case:
    case = Case({"id": "human", "kind": "annotations"}, place(folder))
    text = 'sample_id,topic,annotator,relevance\nred,"red square",x,0\n'
    other = changed(case, folder / "b", lambda root: (root / "annotations.csv").write_text(text))
    return replace(case, same={"a copy": changed(case, folder / "a", bool)}, other={"an annotation": other})


def labels(folder: Path, stack: ExitStack) -> Case:
    case = Case({"id": "vendor", "kind": "labels", "path": "${data}/labels.csv"}, place(folder))
    lines = ["sample_id,topic,confidence", "red,red square,0.75", "blue,a dog,0.1", "blue,red square,0.2"]
    (case.context.data / "labels.csv").write_text("\n".join(lines) + "\n")
    case = replace(case, entry={**case.entry, "path": "labels.csv"})
    more = "\n".join([*lines, "green,a dog,0.5"]) + "\n"
    return replace(
        case,
        same={
            "its full path": {"path": str(case.context.data / "labels.csv")},
            "another name": changed(case, folder / "a", lambda r: (r / "labels.csv").rename(r / "x.csv"), path="x.csv"),
        },
        other={"a row": changed(case, folder / "b", lambda r: (r / "labels.csv").write_text(more))},
    )


def altered(folder: Path, stack: ExitStack) -> Case:
    plain = labels(folder, stack)
    of = {**plain.entry, "id": "vendor"}
    base = {"id": "worse", "kind": "altered", "of": of, "noise": 0.5, "contradict": 0.25, "loudness": 0.5}
    more = "sample_id,topic,confidence\nred,red square,0.75\n"
    case = Case(base, plain.context)
    return replace(
        case,
        same={"a copy": changed(case, folder / "c", bool)},
        other={
            "less noise": {"noise": 0.4},
            "no contradiction": {"contradict": 0},
            "loud": {"loudness": 2},
            "fewer topics": {"topics": 0.4},
            "named topics": {"topics": ["a dog"]},
            "fewer samples": {"samples": 0.5},
            "the seed": {"seed": 1},
            "what the other one says": changed(case, folder / "d", lambda r: (r / "labels.csv").write_text(more)),
        },
    )


def frames(folder: Path, stack: ExitStack) -> Case:
    torch.manual_seed(3)
    model = timm.create_model("resnet10t", num_classes=4)
    torch.nn.init.normal_(cast("torch.nn.Linear", model.fc).weight, std=2)
    context = place(folder)
    save_file(model.state_dict(), context.data / "model.safetensors")
    (context.data / "classes.txt").write_text("Red_square\na dog\nhen\nship\n")
    (context.data / "topics.csv").write_text("class,topic\nhen,a dog\n")
    entry = {
        "id": "frames", "kind": "timm", "model": "resnet10t", "weights": "model.safetensors", "num_classes": 4,
        "classes": "classes.txt", "size": 32, "frames": 4,
    }  # fmt: skip
    case = Case(entry, context, unreadable=["broken"])
    torch.nn.init.normal_(cast("torch.nn.Linear", model.fc).weight, std=2)
    return replace(
        case,
        same={"a copy": changed(case, folder / "a", bool), "frames at once": {"batch_size": 3}},
        other={
            "weights": changed(case, folder / "b", lambda r: save_file(model.state_dict(), r / "model.safetensors")),
            "classes": changed(case, folder / "c", lambda r: (r / "classes.txt").write_text("a dog\nx\ny\nz\n")),
            "topics": {"topics": "topics.csv"},
            "the size": {"size": 64},
            "the frames": {"frames": 2},
            "sigmoids": {"activation": "sigmoid"},
        },
    )


def student(folder: Path, stack: ExitStack) -> Case:
    context = place(folder)
    encoder = {"kind": "pixels", "frames": 2, "grid": 1}
    dim = build_encoder(PixelsConfig.model_validate(encoder), "cpu").dim
    weights = {}
    for seed in (0, 1):
        made = build_student(tiny_config(), dim, TOPICS, TEACHERS, seed)
        save(made, context.work / f"student-{seed}", {"encoder": encoder})
        weights[seed] = sha256_file(context.work / f"student-{seed}" / "model.safetensors")
    shutil.copytree(context.work / "student-0", context.work / "copy")
    entry = {
        "id": "self-0", "kind": "student", "campaign": "demo", "round": 0, "checkpoint": "student-0",
        "weights_sha256": weights[0], "tagging": {"top_k": 1, "random": 1}, "seed": 0,
        "parents": [{"id": "vendor", "fingerprint": "0" * 64}],
    }  # fmt: skip
    return Case(
        entry,
        context,
        same={"a copy": {"checkpoint": "copy"}},
        other={
            "weights": {"checkpoint": "student-1", "weights_sha256": weights[1]},
            "the seed": {"seed": 1},
            "its identity": {"tagging": {"top_k": 1, "random": 1, "identity": "colour"}},
            "the pairs": {"tagging": {"top_k": 2, "random": 1}},
        },
        unreadable=["broken"],
        # A block of samples is one product of matrices, whose rounding depends on its shape.
        rounding=1e-6,
        # The likeliest topics of a sample are those of all that are asked.
        topics_stand_alone=False,
    )


def zero_shot(folder: Path, stack: ExitStack) -> Case:
    context = place(folder)
    image_text.tiny("clip", context.data / "clip")
    image_text.tiny("clip", context.data / "seed-1", seed=1)
    shutil.copytree(context.data / "clip", folder / "copy")
    return Case(
        {"id": "seer", "kind": "zero-shot", "model": "clip", "frames": 4},
        context,
        same={"a copy": {"model": str(folder / "copy")}, "frames at once": {"batch_size": 3}},
        other={
            "weights": {"model": "seed-1"},
            "templates": {"templates": ["a picture of {}"]},
            "the pool": {"pool": "max"},
            "the frames": {"frames": 2},
            "rivals": {"background": ["a cat", "people"]},
            "a softmax": {"confidence": "softmax"},
        },
        unreadable=["broken"],
    )


def vlm(folder: Path, stack: ExitStack) -> Case:
    context = place(folder)
    vlms.tiny("llava", context.data / "llava")
    vlms.tiny("llava", context.data / "seed-1", seed=1)
    shutil.copytree(context.data / "llava", folder / "copy")
    entry = {"id": "seer", "kind": "vlm", "model": "llava", "frames": 2, "size": vlms.SIDE, "minimum_mass": 0}
    return Case(
        {**entry, "topics_per_block": 2},
        context,
        same={"a copy": {"model": str(folder / "copy")}, "what is refused": {"minimum_mass": 1e-9}},
        other={
            "weights": {"model": "seed-1"},
            "the prompt": {"prompt": "Is it there? {}"},
            "the words": {"yes_words": ["red"]},
            "the score": {"score": "p_yes"},
            "the block": {"topics_per_block": 3},
        },
        unreadable=["broken"],
    )


def openai(folder: Path, stack: ExitStack) -> Case:
    pytest.importorskip("openai", reason="needs the package openai: pip install 'teacher2task[openai]'")
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setenv("OPENAI_API_KEY", KEY)
    patch.delenv("T2T_BUDGET", raising=False)
    one, two = stack.enter_context(fake_server()), stack.enter_context(fake_server())
    return Case(
        {"id": "asked", "kind": "openai", "model": "fake", "base_url": one.url, "frames": 1, "size": 32},
        place(folder),
        same={"the server": {"base_url": two.url}, "the pace": {"concurrency": 1, "requests_per_minute": 1e6}},
        other={
            "the model": {"model": "another"},
            "the prompt": {"prompt": "{topic}?"},
            "the score": {"score": "hard"},
            "the texts": {"columns": ["title"]},
            "the frames": {"frames": 2},
        },
        unreadable=["broken"],
        secrets=[KEY],
    )


def command(folder: Path, stack: ExitStack) -> Case:
    stack.enter_context(pytest.MonkeyPatch.context()).setenv("T2T_CONTRACT_KEY", SECRET)
    context = place(folder)
    body = "for s, t in pairs: say(sample_id=s, topic=t, confidence=len(s + t) / 99)\n"
    body += "say(done=asked['id'], rows=len(pairs))"
    python(context.data, body)
    entry = {"id": "mine", "kind": "command", "command": [sys.executable, "-S", "teacher.py"], "files": ["teacher.py"]}
    case = Case(
        {**entry, "environment": ["T2T_CONTRACT_KEY"], "confine": LANDLOCK, "batch_samples": 2},
        context,
        secrets=[SECRET],
    )
    later = HELLO.replace('"version": "1"', '"version": "2"')
    return replace(
        case,
        same={"a copy": changed(case, folder / "a", bool), "samples at once": {"batch_samples": 1}},
        other={
            "the program": changed(case, folder / "b", lambda root: python(root, body + "\n# mended")),
            "its version": changed(case, folder / "c", lambda root: python(root, body, later)),
        },
    )


def http(folder: Path, stack: ExitStack) -> Case:
    stack.enter_context(pytest.MonkeyPatch.context()).setenv("T2T_CONTRACT_HEADER", f"Bearer {SECRET}")

    def service(version: str) -> str:
        def describe(_: dict[str, Any], __: dict[str, str]) -> Reply:
            return say({**json.loads(HELLO), "version": version})

        def label(asked: dict[str, Any], headers: dict[str, str]) -> Reply:
            assert headers["Authorization"] == f"Bearer {SECRET}"
            pairs = [(sample["sample_id"], topic) for sample in asked["samples"] for topic in asked["topics"]]
            rows = [{"sample_id": s, "topic": t, "confidence": len(s + t) / 99} for s, t in pairs]
            return say(*rows, {"done": asked["id"], "rows": len(rows)})

        return stack.enter_context(serving(describe=describe, label=label))[0]

    entry = {"id": "mine", "kind": "http", "url": service("1"), "authorization": "T2T_CONTRACT_HEADER"}
    return Case(
        {**entry, "batch_samples": 2},
        place(folder),
        same={"another address": {"url": service("1")}, "samples at once": {"batch_samples": 1}},
        other={"its version": {"url": service("2")}},
        secrets=[SECRET],
    )


def with_keys(make: Make, stands_alone: bool = True, drop: tuple[str, ...] = (), **keys: Any) -> Make:
    """The case of a kind, asked in another way; without the changes in `drop`, which would change nothing then, and
    without those that build the teacher as the kind's own case has it."""

    def made(folder: Path, stack: ExitStack) -> Case:
        case = make(folder, stack)
        same = {name: change for name, change in case.same.items() if not callable(change)}
        other = {name: change for name, change in case.other.items() if name not in drop and not callable(change)}
        return replace(case, entry={**case.entry, **keys}, same=same, other=other, topics_stand_alone=stands_alone)

    return made


def siglip(folder: Path, stack: ExitStack) -> Case:
    context = place(folder)
    image_text.tiny("siglip", context.data / "siglip")
    other = {"templates": {"templates": ["{}"]}, "capitals": {"lowercase": False}, "a prior": {"confidence": "softmax"}}
    entry = {"id": "seer", "kind": "zero-shot", "model": "siglip", "frames": 3, "pool": "max"}
    return Case(entry, context, other=other, unreadable=["broken"])


def label_studio(folder: Path, stack: ExitStack) -> Case:
    """A Label Studio ML backend."""

    def predict(asked: dict[str, Any], _: Any) -> Reply:
        said = [
            {"from_name": "topic", "to_name": "sample", "type": "choices", "score": len(task["data"]["sample_id"]) / 9,
             "value": {"choices": [TOPICS[len(task["data"]["sample_id"]) % 2]]}}
            for task in asked["tasks"]
        ]  # fmt: skip
        return say({"results": [{"result": [row], "score": row["score"]} for row in said]})

    def backend(version: str) -> str:
        def setup(*_: Any) -> Reply:
            return say({"model_version": version})

        up = say({"status": "UP"})
        return stack.enter_context(serving(health=lambda *_: up, setup=setup, predict=predict))[0]

    return Case(
        {"id": "backend", "kind": "http", "dialect": "label-studio", "url": backend("1"), "unnamed": "zero"},
        place(folder),
        same={"another address": {"url": backend("1")}},
        other={"its version": {"url": backend("2")}, "what it leaves out": {"unnamed": "none"}},
    )


# Other ways in which some kinds are asked.
WAYS: dict[str, Make] = {
    "http: label-studio": label_studio,
    "openai: numbers, two topics a request": with_keys(
        openai, False, ("the score", "the prompt"), score="number", topics_per_request=2
    ),
    "openai: sampled": with_keys(openai, score="sampled", draws=3),
    "timm: sigmoid": with_keys(frames, drop=("sigmoids",), activation="sigmoid"),
    "zero-shot: prior": with_keys(zero_shot, drop=("a softmax", "rivals"), confidence="prior", prior=0.2),
    "zero-shot: siglip, the best frame": siglip,
    "zero-shot: softmax": with_keys(zero_shot, drop=("a softmax", "rivals"), confidence="softmax"),
}
CASES: dict[str, Make] = {
    "altered": altered,
    "annotations": annotations,
    "command": command,
    "http": http,
    "labels": labels,
    "openai": openai,
    "student": student,
    "timm": frames,
    "vlm": vlm,
    "zero-shot": zero_shot,
}
