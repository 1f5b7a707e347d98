"""Campaigns whose frame encoder is tuned on their labels first: `encoder: {tune: ...}`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
from safetensors.torch import load_file

from t2t.campaign import loop as campaign_loop
from t2t.campaign.campaign import Campaign
from t2t.campaign.observer import Observer, Observers
from t2t.campaign.tuned import WEIGHTS, TunedEncoder, all_tuned, encoder_folder
from t2t.commands.plan.estimate import plan
from t2t.commands.plan.show import plan_json
from t2t.core.errors import T2TError
from t2t.data.embeddings.config import TuneConfig
from t2t.data.embeddings.encoders import build_encoder
from t2t.students.checkpoint import ENCODER, read_encoder
from t2t.students.scorer import load_student
from t2t.teachers.retraction import retract
from t2t.tuning import loop
from tests.helpers.campaigns import Stopped, run, run_until
from tests.helpers.trackers import told

TUNE = {"by": "last-blocks", "steps": 4, "evaluate_every": 2, "samples": 4, "learning_rate": 0.01}
VIT = {"kind": "timm", "model": "test_vit", "pretrained": False, "frames": 2, "mean": 0.5, "std": 0.5}
VIT |= {"size": 32, "model_kwargs": {"img_size": 32}}


def encoder(**tune: Any) -> dict[str, Any]:
    return {**VIT, "tune": {**TUNE, **tune}}


@pytest.mark.parametrize(("by", "rounds"), [("last-blocks", 2), ("lora", 1)])
def test_rounds_rest_on_the_tuned_encoder(by: str, rounds: int, campaign: Callable[..., Campaign]) -> None:
    made = campaign(encoder=encoder(by=by), rounds={"max": rounds})
    records = run(made)
    (tuned,) = all_tuned(made.ledger)
    frozen = build_encoder(made.config.encoder)
    assert tuned.of == frozen.fingerprint
    assert [step for step, _ in tuned.curve] == [0, 2, 4]
    assert [ref.id for ref in tuned.teachers] == ["human", "vendor"]
    assert made.embedded.encoder == tuned.fingerprint
    if tuned.best_step:
        assert tuned.fingerprint != tuned.of
    # What is saved is timm's own model, whole, with no change left beside it.
    weights = encoder_folder(made.folder, 0) / WEIGHTS
    timm.create_model("test_vit", num_classes=0, img_size=32).load_state_dict(load_file(weights), strict=True)
    # Every checkpoint carries it, so that it answers wherever it is.
    for record in records:
        assert record.encoder == tuned.fingerprint
        folder = made.checkpoint(record)
        assert (folder / ENCODER).read_bytes() == weights.read_bytes()
        assert read_encoder(folder).tune is None  # type: ignore[union-attr]
        scorer = load_student(folder, "cpu")
        assert scorer.encoder.fingerprint == tuned.fingerprint
    sample = made.samples("test").slice(0, 1)
    scores = scorer.score(sample["path"].to_pylist(), made.dataset.topics)
    place = made.positions(sample["sample_id"])
    stored = scorer.student.predict(made.embedded.embeddings, place, made.dataset.topics, "human")
    assert np.abs(scores - stored).max() < 2e-3
    # And the student that became a teacher labeled by it.
    expected = {"human", "vendor"} | ({"tiny-self-0"} if rounds > 1 else set())
    assert {ref.id for ref in records[-1].teachers} == expected


def test_a_tuning_that_was_killed_is_gone_on_with_and_one_that_is_done_is_not_repeated(
    campaign: Callable[..., Campaign], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = campaign("whole", encoder=encoder(), rounds={"max": 1})
    run_until(whole, "tune")
    killed = campaign("killed", encoder=encoder(), rounds={"max": 1})
    with monkeypatch.context() as patch:
        patch.setattr(loop._Tuning, "end", stop)
        with pytest.raises(Killed):
            run_until(killed, "tune")
    assert all_tuned(killed.ledger) == []
    steps: list[int] = []
    step = loop._Tuning.step
    monkeypatch.setattr(loop._Tuning, "step", lambda self, number: steps.append(number) or step(self, number))
    again = campaign("killed", encoder=encoder(), rounds={"max": 1})
    run_until(again, "tune")
    assert steps == []  # its last snapshot was there
    assert all_tuned(again.ledger)[0].weights_sha256 == all_tuned(whole.ledger)[0].weights_sha256
    assert sorted(path.name for path in encoder_folder(again.folder, 0).iterdir() if path.name[0] != ".") == [
        "begun.json",
        WEIGHTS,
    ]
    # A run that comes later takes it as it is.
    (record,) = run(campaign("killed", encoder=encoder(), rounds={"max": 1}))
    assert record.round == 0
    assert len(all_tuned(again.ledger)) == 1


class Killed(Exception):
    """As a process that is killed."""


def stop(self: object) -> None:
    raise Killed


def test_an_encoder_that_learned_from_a_retracted_teacher_is_tuned_anew(campaign: Callable[..., Campaign]) -> None:
    settings: dict[str, Any] = {"encoder": encoder(steps=2)}
    made = campaign(**settings, rounds={"max": 1})
    run(made)
    (first,) = all_tuned(made.ledger)
    retract(made.lake, "demo", "vendor", "a mistake")
    made = campaign(**settings)
    assert [record.status for record in made.ledger.records()] == ["retracted"]
    run_until(made, "tune")
    one, two = all_tuned(made.ledger)
    assert (one, [ref.id for ref in two.teachers]) == (first, ["human"])
    assert made.embedded.encoder == two.fingerprint
    assert made.tuned_weights == encoder_folder(made.folder, 1) / WEIGHTS
    # Taken back, the first one counts again.
    retract(made.lake, "demo", "vendor", undo=True)
    assert campaign(**settings).tuned_weights == encoder_folder(made.folder, 0) / WEIGHTS


def test_lost_weights_are_found_in_a_checkpoint_and_missed_in_one_line(campaign: Callable[..., Campaign]) -> None:
    settings = {"encoder": encoder(), "rounds": {"max": 1}}
    made = campaign(**settings)
    (record,) = run(made)
    weights = encoder_folder(made.folder, 0) / WEIGHTS
    weights.unlink()
    again = campaign(**settings)
    assert again.embedded.encoder == all_tuned(made.ledger)[0].fingerprint
    (made.checkpoint(record) / ENCODER).write_bytes(b"another")
    with pytest.raises(T2TError, match=r"the weights of its tuned encoder are lost: no encoder.safetensors of its"):
        _ = campaign(**settings).encoder


def test_an_encoder_that_is_lost_before_a_round_rests_on_it_is_tuned_again(campaign: Callable[..., Campaign]) -> None:
    settings = {"encoder": encoder(steps=2), "rounds": {"max": 1}}
    made = campaign(**settings)
    run_until(made, "tune")
    (encoder_folder(made.folder, 0) / WEIGHTS).unlink()
    again = campaign(**settings)
    run_until(again, "tune")
    first, second = all_tuned(again.ledger)
    assert again.embedded.encoder == second.fingerprint == first.fingerprint


def test_a_campaign_without_it_is_written_down_as_ever(campaign: Callable[..., Campaign]) -> None:
    plain = campaign(encoder={**VIT})
    assert "tune" not in plain.config.model_dump_json()
    names: list[str] = []
    with pytest.raises(Stopped):
        run_steps(plain, names)
    assert names == ["prepare", "round 0: begin"]


def run_steps(made: Campaign, names: list[str]) -> None:
    def step(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        names.append(name)
        if name == "round 0: begin":
            raise Stopped
        return function(*arguments)

    campaign_loop.run(made, Observer(), step)


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ({"blocks": 9}, "encoder.tune.blocks: test_vit has 6 blocks, not 9."),
        ({"by": "lora", "blocks": 0}, "encoder.tune.blocks"),
        ({"by": "everything"}, "encoder.tune.by"),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_anything_is_embedded(
    tune: dict[str, Any], message: str, campaign: Callable[..., Campaign]
) -> None:
    with pytest.raises(T2TError) as error:
        run(campaign(encoder=encoder(**tune)))
    assert message in str(error.value).replace("timm.", "")


def test_what_learns_from_one_label_a_pair_is_not_tuned_on_every_teacher_s(campaign: Callable[..., Campaign]) -> None:
    with pytest.raises(T2TError, match=r"learns from one label a pair, and encoder.tune from every teacher's"):
        campaign(encoder=encoder(), method="conventional-average", rounds={"max": 1})


@pytest.mark.parametrize(
    "other", [{"kind": "video", "model": "x"}, {"kind": "distilled", "name": "small"}, {"kind": "pixels"}]
)
def test_a_kind_that_cannot_be_tuned_is_refused_with_what_can_be_done(
    other: dict[str, Any], campaign: Callable[..., Campaign]
) -> None:
    with pytest.raises(T2TError, match=f"an encoder of kind '{other['kind']}' cannot be tuned.*t2t distill"):
        campaign(encoder={**other, "tune": TUNE})


class Hears(Observer):
    def __init__(self) -> None:
        self.curves: list[list[int]] = []

    def tuned(self, campaign: Campaign, encoder: TunedEncoder) -> None:
        self.curves.append([step for step, _ in encoder.curve])


def test_observers_hear_of_it_and_the_run_history_has_its_curve(campaign: Callable[..., Campaign]) -> None:
    made, heard = campaign(encoder=encoder(), rounds={"max": 1}), Hears()
    tracker, mlflow = told()

    def step(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        if name == "round 0: begin":
            raise Stopped
        return function(*arguments)

    for _ in range(2):  # the second time from the lake, as a history that was deleted is mended
        with pytest.raises(Stopped):
            campaign_loop.run(made, Observers(heard, mlflow), step)
    assert heard.curves == [[0, 2, 4]]
    curves = [points for k, points in tracker.of("log_curve") if k is None]
    assert len(curves) == 2
    assert curves[0] == curves[1]
    assert [at for at, _ in curves[0]] == [0, 2, 4]
    assert {"tuning/PR-AUC validation by step", "tuning/loss", "tuning/tie", "tuning/moved"} == set(curves[0][1][1])


def test_a_plan_counts_the_tuning_and_the_embedding_anew(campaign: Callable[..., Campaign]) -> None:
    made = campaign(encoder=encoder(), rounds={"max": 1})
    samples = len(made.dataset.samples)
    before = plan(made.workspace, made.config, probe=False)
    assert [(work.what, work.left) for work in before.tuning] == [("tuning", 4), ("embedding, tuned", samples)]
    assert {"tuning", "embedding, tuned"} <= set(before.unmeasured)
    shown = plan_json(before)["tuning"]
    assert [row["left"] for row in shown] == [4, samples]
    run_until(made, "tune")
    after = plan(made.workspace, made.config, probe=False)
    assert [(work.what, work.left, work.seconds) for work in after.tuning] == [("tuning", 0, 0.0)]
    longer = made.config.model_copy(
        update={
            "name": "longer",
            "encoder": made.config.encoder.model_copy(update={"tune": TuneConfig(**TUNE | {"steps": 8})}),
        }
    )
    tuning = plan(made.workspace, longer, probe=False).tuning[0]
    assert tuning.measured == "by 1 earlier tuning"
    assert tuning.seconds == pytest.approx(2 * all_tuned(made.ledger)[0].seconds)
    plain = campaign("plain", encoder={**VIT})
    assert plan(plain.workspace, plain.config, probe=False).tuning == []
