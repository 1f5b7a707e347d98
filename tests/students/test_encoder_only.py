"""The encoder-only student: what is shared changes nothing, and labels are those of what it reads."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from t2t.core.errors import T2TError
from t2t.students import build_student
from t2t.students.config import EncoderOnlyConfig, TaggingConfig
from t2t.students.encoder_only import EncoderOnly
from t2t.students.reader import _chunks
from t2t.students.tagging import tag
from tests.helpers.contracts import NEW, student_of
from tests.helpers.students import DIM, TEACHERS, TOPICS, TOWER, random_clips

CLIPS = random_clips([4, 1, 3, 2, 5])


def config(**changes: object) -> EncoderOnlyConfig:
    reader = {**TOWER, "layers": 2}
    return EncoderOnlyConfig.model_validate({"kind": "encoder-only", "dim": 8, "reader": reader, **changes})


def rows(student: EncoderOnly, clips: int, topics: int) -> tuple[torch.Tensor, ...]:
    """Every topic under every identity for every clip but one, which has one row; mixed up."""
    text_topic, text_teacher = (part.ravel() for part in np.meshgrid(np.arange(topics), np.arange(len(TEACHERS))))
    sample = np.repeat(np.arange(clips), len(text_topic))
    text = np.tile(np.arange(len(text_topic)), clips)
    keep = (sample > 0) | (text == 2)
    order = np.random.default_rng(0).permutation(int(keep.sum()))
    asked = student.texts(student.topic_tokens((*TOPICS, *NEW)[:topics]), text_topic, text_teacher)
    return *map(torch.from_numpy, asked), torch.from_numpy(sample[keep][order]), torch.from_numpy(text[keep][order])


@pytest.mark.parametrize(("layers", "match"), [(1, False), (2, False), (3, False), (1, True), (2, True)])
def test_what_is_shared_comes_to_what_each_row_by_itself_does(
    layers: int, match: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits, and the gradients of everything, in single precision."""
    student = student_of(config(reader={**TOWER, "layers": layers, "distance": 2, "match": match}))
    frames, mask = (torch.from_numpy(part) for part in CLIPS.gather(np.arange(5)))
    prepared = student.frontend(frames.float(), mask)
    *texts, row_sample, row_text = rows(student, 5, 6)
    reader = student.reader
    x, text_mask = reader._embedded(*texts)

    def gradients(logits: torch.Tensor) -> dict[str, torch.Tensor]:
        student.zero_grad()
        (logits.tanh() * torch.linspace(-1, 1, len(logits))).sum().backward(retain_graph=True)
        return {name: value.grad.clone() for name, value in reader.named_parameters() if value.grad is not None}

    shared = reader.row_logits(prepared, mask, texts, row_sample, row_text)
    each = reader.dense(reader.project(prepared), mask, x, text_mask, row_sample, row_text, full=False)
    torch.testing.assert_close(shared, each, rtol=0, atol=1e-5)
    expected = gradients(each)
    # The last layer of a row by itself has queries of all its tokens, which are worth nothing.
    for name, value in gradients(shared).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5, msg=name)
    # In small chunks, and computed a second time for the backward pass, it is the same.
    monkeypatch.setattr("t2t.students.reader.CHUNK_TOKENS", {"cpu": 40})
    student.recompute = True
    again = reader.row_logits(prepared, mask, texts, row_sample, row_text)
    torch.testing.assert_close(again, shared, rtol=0, atol=1e-6)
    for name, value in gradients(again).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5, msg=name)
    # Frames that look at the text, too, are another student.
    full = reader.dense(reader.project(prepared), mask, x, text_mask, row_sample, row_text, full=True)
    assert (layers == 1 and not match) or float((full - each).abs().max()) > 1e-3


def test_what_was_read_meets_the_mean_of_the_clips_frames() -> None:
    """The product by hand; without it the same weights give the linear part alone."""
    student = student_of(config(reader={**TOWER, "layers": 1, "match": True}))
    reader, (frames, mask) = student.reader, (torch.from_numpy(part) for part in CLIPS.gather(np.arange(5)))
    prepared = student.frontend(frames.float(), mask)
    *texts, row_sample, row_text = rows(student, 5, 3)
    with_it = reader.row_logits(prepared, mask, texts, row_sample, row_text)
    met = reader._met(reader.blocks[0].frames(reader.project(prepared), mask)[2], mask)
    meet, reader.meet = reader.meet, None
    plain = reader.row_logits(prepared, mask, texts, row_sample, row_text)
    assert meet is not None
    assert met is not None
    behind = reader.blocks[0].frames(reader.project(prepared), mask)[2]
    by_hand = torch.stack([meet(behind[v, mask[v]].mean(0)) for v in range(5)])
    torch.testing.assert_close(met, by_hand)
    read: list[torch.Tensor] = []
    head, reader.head = reader.head, torch.nn.Identity()
    reader.head.register_forward_hook(lambda _, inputs, out: read.append(inputs[0]))
    reader.row_logits(prepared, mask, texts, row_sample, row_text)
    reader.head = head
    product = (read[0] * met[row_sample]).sum(-1) / read[0].shape[-1] ** 0.5
    torch.testing.assert_close(with_it - plain, reader.scale.exp() * product, rtol=1e-4, atol=1e-5)


def test_rows_are_cut_by_clips_that_have_about_as_many() -> None:
    counts = [0, 1, 200, 190, 3, 0, 110, 1]
    row_sample = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))[torch.randperm(sum(counts))]
    seen: list[int] = []
    for chosen, clips, places in _chunks(row_sample, len(counts), 4):
        inside = row_sample[chosen]
        own = inside.bincount(minlength=len(counts))[clips]
        assert int(own.min()) * 2 >= int(own.max()) == places.most
        assert set(clips.tolist()) == set(inside.tolist())
        torch.testing.assert_close(clips[places.slot // places.most], inside)
        assert len(set(places.slot.tolist())) == len(chosen)
        seen += chosen.tolist()
    assert sorted(seen) == list(range(sum(counts)))


def labels(student: EncoderOnly, k: int, r: int, topics: tuple[str, ...], block: int = 1024) -> pa.Table:
    names = [f"s{i}" for i in range(5)]
    settings = TaggingConfig(top_k=k, random=r, block=block)
    return pa.concat_tables(tag(student, CLIPS, names, topics, "self-0", settings))


def test_it_labels_what_it_reads_and_not_what_its_embeddings_say() -> None:
    topics = (*TOPICS, *NEW)
    student = student_of(config(shortlist=6))
    scores = student.predict(CLIPS, np.arange(5), topics)
    table = labels(student, 2, 1, topics)
    confidence = table["confidence"].to_numpy().reshape(5, 3)
    chosen = np.array([topics.index(name) for name in table["topic"].to_pylist()]).reshape(5, 3)
    np.testing.assert_allclose(confidence, np.take_along_axis(scores, chosen, 1), rtol=0, atol=1e-6)
    # As many as there are on the list: the best two of all that it reads.
    np.testing.assert_array_equal(np.sort(chosen[:, :2]), np.sort(np.argsort(-scores, axis=1)[:, :2]))
    again = labels(student, 2, 1, topics, block=2)
    assert again["topic"].to_pylist() == table["topic"].to_pylist()
    np.testing.assert_allclose(again["confidence"].to_numpy(), table["confidence"].to_numpy(), rtol=0, atol=1e-6)


def test_a_short_list_is_what_the_embeddings_find_likely() -> None:
    topics = (*TOPICS, *NEW)
    student = student_of(config(shortlist=3))
    first = student.embed(CLIPS, np.arange(5)) @ student.encode_topics(topics).T
    likely = np.sort(first.topk(3).indices.numpy(), axis=1)
    scores = np.take_along_axis(student.predict(CLIPS, np.arange(5), topics), likely, 1)
    expected = np.take_along_axis(likely, np.argsort(-scores, axis=1)[:, :2], 1)
    chosen = [topics.index(name) for name in labels(student, 2, 0, topics)["topic"].to_pylist()]
    np.testing.assert_array_equal(np.reshape(chosen, (5, 2)), expected)


def test_too_large_a_reader_is_refused() -> None:
    with pytest.raises(ValueError, match="are the most"):
        config(reader={"layers": 256, "d_model": 65_536, "d_ff": 65_536})
    with pytest.raises(T2TError, match="colur"):
        build_student(config(), DIM, TOPICS, TEACHERS, 0).predict(CLIPS, np.arange(5), TOPICS, "colur")
