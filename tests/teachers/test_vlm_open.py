"""Kind `vlm`, asked what it sees: a tiny model that was taught to name three colours, over pictures it never saw."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import yaml
from PIL import Image

from t2t.core.errors import DataError
from t2t.data.dataset import Dataset, DatasetConfig, read_dataset
from t2t.data.remote import open_remote
from t2t.data.remote.addresses import RemoteConfig
from t2t.lake import open_lake
from t2t.teachers import TeacherContext, build, parse_entry
from t2t.teachers.kinds import vlm as kind
from t2t.teachers.labeling import answers
from t2t.teachers.register import Registrar
from t2t.teachers.store import read_labels
from tests.helpers import image_text
from tests.helpers.cli import invoke
from tests.helpers.documented import refused
from tests.helpers.elsewhere import elsewhere
from tests.helpers.vlms import COLOURS, NAMES, SIDE, WHAT, WHICH, coloured, taught

TOPICS = ("Red Square", "green square", "a blue square", "zebra crossing")
MEANT = {"red": "Red Square", "green": "green square", "blue": "a blue square"}
EACH = 2
LISTED = "of\n{}"
OF_A_LIST = {LISTED.replace("{}", "\n".join(TOPICS)): {"red": "red square", "green": "zebra dog", "blue": "no"}}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("open") / "pictures"
    root.mkdir()
    taught(root / "seer", OF_A_LIST)
    generator = np.random.default_rng(99)
    rows = ["sample_id,path,modality,group,split"]
    for colour in COLOURS:
        for i in range(EACH):
            Image.fromarray(coloured(generator, colour)).save(root / f"{colour}-{i}.png")
            rows.append(f"{colour}-{i},{colour}-{i}.png,image,{colour}-{i},{'train' if i else 'unlabeled'}")
    (root / "samples.csv").write_text("\n".join(rows) + "\n")
    (root / "annotations.csv").write_text("sample_id,topic,annotator,relevance\nred-1,Red Square,x,1\n")
    (root / "topics.txt").write_text("\n".join(TOPICS) + "\n")
    return root


@pytest.fixture(scope="module")
def dataset(root) -> Dataset:
    return read_dataset(DatasetConfig(name="pictures", root="pictures"), root.parent)


def teacher(dataset: Dataset, work: Path, **changes: Any) -> kind.Teacher:
    content = {"id": "seer", "kind": "vlm", "model": "seer", "ask": "open", "prompt": WHAT, "frames": 1, "size": SIDE,
               "max_new_tokens": 12, **changes}  # fmt: skip
    return cast("kind.Teacher", build(parse_entry(content, "test"), TeacherContext(dataset, work)))


def labels(of: kind.Teacher, samples: pa.Table | None = None, topics: Any = None) -> dict[tuple[str, str], float]:
    dataset = of.context.dataset
    tables = list(answers(of, dataset.samples if samples is None else samples, topics or dataset.topics))
    table = pa.concat_tables(tables)
    keys = zip(table["sample_id"].to_pylist(), table["topic"].to_pylist(), strict=True)
    return dict(zip(keys, table["confidence"].to_pylist(), strict=True))


def proposed(work: Path) -> list[list[str]]:
    return list(csv.reader((work / "proposed" / "pictures" / "seer.csv").open(encoding="utf-8")))


def asked(of: kind.Teacher) -> list[int]:
    """Counts how often the model is asked, from now on."""
    say, times = of.model.say, []

    def counting(*arguments: Any) -> Any:
        times.append(1)
        return say(*arguments)

    of.model.say = counting  # type: ignore[method-assign]
    return times


def expected(topics: dict[str, str] = MEANT) -> set[tuple[str, str]]:
    return {(f"{colour}-{i}", topic) for colour, topic in topics.items() for i in range(EACH)}


@pytest.mark.parametrize("score", ["mean", "sum"])
def test_it_names_what_is_there_and_how_surely(dataset, root, tmp_path, score):
    """Rows for what is named only; the confidence computed with the model and its processor alone."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    of = teacher(dataset, tmp_path, text_score=score)
    found = labels(of)
    assert set(found) == expected()
    model = AutoModelForImageTextToText.from_pretrained(root / "seer", dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(root / "seer")
    content = [{"type": "image"}, {"type": "text", "text": WHAT}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    frames = np.array(Image.open(root / "green-1.png"))
    whole = processor(text=[text + NAMES["green"]], images=[frames], return_tensors="pt")
    # (Its name begins with an article, which is a part of what it wrote and of none that is compared.)
    name = processor.tokenizer(NAMES["green"], add_special_tokens=False)["input_ids"]
    assert whole["input_ids"][0, -len(name) :].tolist() == name
    with torch.no_grad():
        logits = model(**whole).logits[0, -len(name) - 1 : -1].double().log_softmax(-1)
    total = sum(float(row[token]) for row, token in zip(logits, name, strict=True))
    mean = total / len(name) if score == "mean" else total
    assert found["green-1", "green square"] == pytest.approx(math.exp(mean), abs=1e-4)
    assert of.remarks[0] == "6 answers name 6 texts: 6 by a topic's name."


def test_pictures_of_other_machines_are_named_like_ours(dataset, tmp_path):
    pytest.importorskip("aiohttp", reason="the extra `remote` is not installed")
    here = labels(teacher(dataset, tmp_path / "here"))
    with elsewhere() as there:
        for path in dataset.samples["path"].to_pylist():
            there.files[f"/{Path(path).name}"] = Path(path).read_bytes()
        open_remote([("http", f"127.0.0.1:{there.port}")], RemoteConfig(private=("127.0.0.1",)), tmp_path / "remote")
        paths = [there.url(f"/{Path(path).name}") for path in dataset.samples["path"].to_pylist()]
        far = dataset.samples.set_column(dataset.samples.column_names.index("path"), "path", pa.array(paths))
        assert labels(teacher(dataset, tmp_path / "there"), far) == here
        assert here


def test_what_stands_for_no_topic_is_proposed(dataset, tmp_path):
    of = teacher(dataset, tmp_path, ask="candidates", prompt=WHICH)
    assert set(labels(of)) == expected()
    header, row = proposed(tmp_path)
    assert header == ["text", "samples", "confidence", "examples"]
    assert (row[0], row[1], row[3]) == ("zebra", "6", "blue-0; blue-1; green-0")
    assert float(row[2]) > 0.9
    assert of.remarks[0] == "6 answers name 12 texts: 6 by a topic's name, 6 stand for no topic."
    assert of.remarks[-1].endswith("seer.csv: 'zebra' (6 samples, such as blue-0).")


def test_each_candidate_has_its_own_confidence(dataset, root, tmp_path):
    (root / "aliases.csv").write_text("text,topic\nThe Zebra,zebra crossing\n")
    of = teacher(dataset, tmp_path, ask="candidates", prompt=WHICH, aliases="aliases.csv")
    found = labels(of)
    assert set(found) == expected() | {(sample, "zebra crossing") for sample, _ in expected()}
    assert not (tmp_path / "proposed" / "pictures" / "seer.csv").exists()
    spoken = of.model.say(np.array(Image.open(root / "red-0.png"))[None], WHICH, 12)
    assert spoken.text == "red square\nzebra"
    before = [p for p, end in zip(spoken.logprobs, spoken.ends, strict=True) if end <= len("red square")]
    # (The line's end is a token of its own, and of neither name.)
    behind = spoken.logprobs[len(before) + 1 :]
    assert found["red-0", "Red Square"] == pytest.approx(math.exp(sum(before) / len(before)), abs=1e-6)
    assert found["red-0", "zebra crossing"] == pytest.approx(math.exp(sum(behind) / len(behind)), abs=1e-6)


def test_a_killed_run_asks_nothing_twice_and_counts_nothing_twice(dataset, tmp_path):
    how = {"ask": "candidates", "prompt": WHICH}
    whole = tmp_path / "whole"
    Registrar(open_lake("git", whole), dataset, whole).register(
        teacher(dataset, whole, **how), dataset.samples, dataset.topics
    )
    work = tmp_path / "work"
    lake = open_lake("git", work)
    for deaths in range(3):  # the second clip of the first part, then of the second one
        of = teacher(dataset, work, **how)
        of.shard_samples = 2  # type: ignore[misc]
        say, times = of.model.say, []

        def dying(*arguments: Any, say: Any = say, times: list[int] = times, deaths: int = deaths) -> Any:
            times.append(1)
            if deaths < 2 and len(times) == 2 + deaths:
                raise KeyboardInterrupt
            return say(*arguments)

        of.model.say = dying  # type: ignore[method-assign]
        if deaths < 2:
            with pytest.raises(KeyboardInterrupt):
                Registrar(lake, dataset, work).register(of, dataset.samples, dataset.topics)
        else:
            Registrar(lake, dataset, work).register(of, dataset.samples, dataset.topics)
            assert len(times) == len(dataset.samples) - 2
    assert proposed(work) == proposed(whole)
    assert read_labels(lake, "main", "pictures", "seer") == read_labels(
        open_lake("git", whole), "main", "pictures", "seer"
    )
    # Of one that is built anew, in another process, all is told.
    assert teacher(dataset, work, **how).remarks == [
        remark.replace(str(whole), str(work)) for remark in teacher(dataset, whole, **how).remarks
    ]
    assert not (work / "labeling").exists()


def test_a_kill_between_answers_and_their_table_loses_nothing(dataset, tmp_path, monkeypatch):
    def dying(*_: Any) -> None:
        raise KeyboardInterrupt

    how = {"ask": "candidates", "prompt": WHICH}
    first = teacher(dataset, tmp_path, **how)
    monkeypatch.setattr("t2t.teachers.naming.counts.Counts.write", dying)
    with pytest.raises(KeyboardInterrupt):
        labels(first)
    monkeypatch.undo()
    assert not (tmp_path / "proposed" / "pictures" / "seer.csv").exists()
    of = teacher(dataset, tmp_path, **how)
    times = asked(of)
    assert set(labels(of)) == expected()
    assert times == []
    assert [row[:2] for row in proposed(tmp_path)[1:]] == [["zebra", "6"]]


def test_a_proposed_topic_that_is_added_costs_no_question(dataset, tmp_path):
    how = {"ask": "candidates", "prompt": WHICH}
    first = teacher(dataset, tmp_path, **how)
    labels(first)
    grown = replace(dataset, topics=(*dataset.topics, "Zebra"))
    of = teacher(grown, tmp_path, **how)
    assert of.fingerprint() == first.fingerprint()
    times = asked(of)
    assert set(labels(of, topics=["Zebra"])) == {(sample, "Zebra") for sample, _ in expected()}
    assert times == []
    assert proposed(tmp_path)[1:] == []
    # A copy of a clip under another name is not asked about again, and is counted.
    copies = dataset.samples.slice(0, 1).set_column(0, "sample_id", [["copy"]])
    labels(of, copies)
    assert times == []
    assert of.remarks[0].startswith("7 answers")


def test_listed_topics_that_are_not_named_get_nothing(dataset, tmp_path):
    """Shown a topic and not naming it is a no; saying that nothing fits is a no to all; saying something else says
    nothing of any."""
    of = teacher(dataset, tmp_path, negatives="listed", prompt=LISTED, nothing=["no"])
    found = labels(of)
    assert set(found) == {
        (f"{colour}-{i}", topic) for colour in ("red", "blue") for i in range(EACH) for topic in TOPICS
    }
    assert {pair for pair, confidence in found.items() if confidence} == expected({"red": "Red Square"})
    assert proposed(tmp_path)[1][:2] == ["zebra dog", "2"]
    assert "2 say that nothing fits" in of.remarks[0]
    # Another list is another question, and another teacher.
    other = teacher(
        replace(dataset, topics=(*TOPICS, "a dog")), tmp_path, negatives="listed", prompt=LISTED, nothing=["no"]
    )
    assert other.fingerprint() != of.fingerprint()


def test_an_answer_that_is_cut_off_names_nothing_by_halves(dataset, tmp_path):
    of = teacher(dataset, tmp_path, max_new_tokens=1)
    assert labels(of) == {}
    assert {row[0][-3:] for row in proposed(tmp_path)[1:]} == {"..."}
    assert "6 texts end at max_new_tokens, and are not taken for a topic." in of.remarks


def test_the_nearest_topic_is_found_by_an_encoder(dataset, root, tmp_path):
    image_text.tiny("clip", root / "clip")
    bert(root / "bert")
    for encoder in ("clip", "bert"):
        # (Weights are random: what is near is the same text in other words of this tokenizer, which has few.)
        grown = replace(dataset, topics=("square red", "dog", "person"))
        of = teacher(grown, tmp_path / encoder, nearest=encoder, threshold=0.05, nothing=())
        vectors = of.encoder.embed(["red square", *grown.topics, "qqq"])
        cosine = vectors[1:-1] @ vectors[0]
        assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1, 1, 0], abs=1e-5)
        best = grown.topics[int(cosine.argmax())]
        assert labels(of)["red-0", best] > 0.9
        assert "by the nearest embedding" in of.remarks[0]
        above = teacher(grown, tmp_path / f"{encoder}-2", nearest=encoder, threshold=min(1.0, cosine.max() + 1e-4))
        assert ("red-0", best) not in labels(above)
        prints = {
            of.fingerprint(), above.fingerprint(), teacher(grown, tmp_path).fingerprint(),
            teacher(dataset, tmp_path, nearest=encoder, threshold=0.05, nothing=()).fingerprint(),
        }  # fmt: skip
        assert len(prints) == 4


def bert(folder: Path) -> None:
    """A text encoder without a pooler, as sentence encoders are saved by some."""
    import torch
    import transformers as hf

    torch.manual_seed(0)
    words = image_text.word_tokenizer()
    config = hf.BertConfig(vocab_size=len(words), hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                           num_attention_heads=2)  # fmt: skip
    hf.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    words.save_pretrained(folder)


def test_what_changes_the_fingerprint(dataset, root, tmp_path):
    (root / "some.csv").write_text("text,topic\nzebra,zebra crossing\n")
    (root / "same.csv").write_text("text,topic\nzebra,zebra crossing\n")
    one = teacher(dataset, tmp_path, aliases="some.csv").fingerprint()
    assert teacher(dataset, tmp_path, aliases="same.csv", description="x").fingerprint() == one
    assert teacher(replace(dataset, topics=(*TOPICS, "a dog")), tmp_path, aliases="some.csv").fingerprint() == one
    others = [
        {}, {"ask": "candidates"}, {"prompt": WHICH}, {"max_new_tokens": 13}, {"text_score": "sum"}, {"size": 40},
        {"nothing": ["nil"]}, {"prefill": "So:"}, {"ask": "closed", "prompt": "{}", "max_new_tokens": 64},
    ]  # fmt: skip
    seen = [one, *(teacher(dataset, tmp_path, **changes).fingerprint() for changes in others)]
    assert len(set(seen)) == len(seen)
    # Only what an answer depends on is a question of its own.
    same = [teacher(dataset, tmp_path, **changes).naming.question for changes in ({}, {"text_score": "sum"})]
    assert len(set(same)) == 1


def test_bad_entries_are_refused(dataset, tmp_path):
    for changes in (
        {"prompt": "What is {}?"}, {"negatives": "listed"}, {"prompt": "visual-evidence"}, {"score": "p_yes"},
        {"ask": "closed", "prompt": "names", "max_new_tokens": 64}, {"ask": "closed", "prompt": "{}"},
        {"nearest": "clip"}, {"threshold": 0.5}, {"nearest": "./nowhere", "threshold": 0.5},
        {"yes_words": ["oui"], "minimum_mass": 0.1},
    ):  # fmt: skip
        refused(lambda changes=changes: teacher(dataset, tmp_path, **changes))
    refused(lambda: teacher(dataset, tmp_path, aliases="gone.csv"), DataError)


def test_closed_questions_tell_what_is_there(dataset, tmp_path):
    """The same model through the same kind, asked yes or no about pictures that it never saw."""
    from sklearn.metrics import average_precision_score

    colours = replace(dataset, topics=tuple(COLOURS))
    content = {"ask": "closed", "prompt": "{}", "max_new_tokens": 64}
    of = teacher(colours, tmp_path, **content)
    found = labels(of)
    assert len(found) == len(dataset.samples) * len(COLOURS)
    truth = [sample.startswith(topic) for sample, topic in found]
    assert average_precision_score(truth, list(found.values())) > 0.95
    assert of.closed.shared
    assert "often begins with something else" not in of.remarks[0]


@pytest.mark.parametrize("ask", ["open", "candidates"])
def test_it_keeps_the_teachers_contract(root, tmp_path, ask):
    contract = pytest.importorskip("t2t.teachers.contract", reason="the teacher's contract is not here yet")
    small = contract.small_dataset(tmp_path, ("Red Square", "blue square", "zebra"))
    for number, colour in enumerate(("red", "blue", "green", "white")):
        shown = coloured(np.random.default_rng(number), colour if colour in COLOURS else "green")
        Image.fromarray(shown).save(small.root / f"{colour}.png")
    (small.root / "aliases.csv").write_text("text,topic\nscarlet,Red Square\n")
    case = contract.Case(
        {"id": "seer", "kind": "vlm", "model": str(root / "seer"), "ask": ask, "frames": 1, "size": SIDE,
         "prompt": WHAT if ask == "open" else WHICH, "max_new_tokens": 12},
        TeacherContext(small, tmp_path / "work"),
        same={"ways of saying no": {"description": "none"}},
        other={
            "the prompt": {"prompt": "else"}, "the score": {"text_score": "sum"}, "the length": {"max_new_tokens": 13},
            "the frames": {"frames": 2}, "aliases": {"aliases": "aliases.csv"}, "what says no": {"nothing": ["nil"]},
        },
        unreadable=["broken"],
    )  # fmt: skip
    for claim in contract.CLAIMS:
        claim(case)


def test_teachers_check_shows_what_is_proposed(root, tmp_path):
    registry, work = tmp_path / "registry", tmp_path / "work"
    for name, content in {
        "datasets/pictures": {"name": "pictures", "root": "pictures"},
        "teachers/seer": {"kind": "vlm", "model": "seer", "ask": "candidates", "prompt": WHICH, "frames": 1,
                          "size": SIDE, "max_new_tokens": 12},
        "teachers/closed": {"kind": "vlm", "model": "seer", "prompt": "{}", "frames": 1, "size": SIDE},
    }.items():  # fmt: skip
        (registry / name).parent.mkdir(parents=True, exist_ok=True)
        (registry / f"{name}.yaml").write_text(yaml.safe_dump(content))
    words = ["--registry", registry, "--data-root", root.parent, "--work", work, "teachers", "check"]
    checked = invoke(*words, "seer", "closed", "--dataset", "pictures")
    assert checked.exit_code == 0, checked.output
    said = " ".join(checked.output.split())
    assert "seer: 6 answers name 12 texts: 6 by a topic's name, 6 stand for no topic." in said
    assert "seer: 1 proposed topics, all in" in said
    assert "'zebra' (6 samples, such as blue-0)." in said
    assert re.search(
        r"closed: Yes has [01]\.\d{3} of the probability and no [01]\.\d{3}, in the median; together", said
    )
    assert len(proposed(work)) == 2
