"""`seeds: 3` in a campaign: itself once more with each further seed, and nothing else of it changes."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from t2t.campaign.campaign import Campaign
from t2t.campaign.config import CampaignConfig
from t2t.campaign.entries import read_campaign
from t2t.campaign.find import ledger_of
from t2t.campaign.freeze import read_frozen
from t2t.campaign.observer import Observer
from t2t.campaign.preflight import preflight
from t2t.campaign.seeds import family, seed_ledgers, seeded
from t2t.commands.campaigns import campaigns_json
from t2t.commands.compare import comparison_json, print_comparison
from t2t.commands.page import write_report
from t2t.commands.plan.estimate import plan
from t2t.commands.rounds import print_rounds, rounds_json
from t2t.core.config import parse
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.run import run
from tests.helpers.trackers import told

BASE = {"name": "c", "dataset": "demo", "encoder": {"kind": "pixels"}}
SHORT = ["training.steps=6", "training.evaluate_every=3", "rounds.max=1"]


def config(**changes: object) -> CampaignConfig:
    return parse(CampaignConfig, {**BASE, **changes}, "test")


def test_one_seed_is_written_down_as_it_always_was() -> None:
    assert "seeds" not in config().model_dump(mode="json")
    assert "seeds" not in config(seeds=1).model_dump(mode="json")
    assert config(seeds=3).model_dump(mode="json")["seeds"] == 3


def test_further_seeds_are_campaigns_of_their_own() -> None:
    campaigns = seeded(config(seeds=3, seed=5))
    assert [(one.name, one.seed, one.seeds) for one in campaigns] == [
        ("c", 5, 3),
        ("c-seed-6", 6, 1),
        ("c-seed-7", 7, 1),
    ]
    written = [one.model_dump(mode="json") for one in campaigns]
    assert {key for key in written[1] if written[0][key] != written[1][key]} == {"name", "seed"}


def test_a_plan_says_that_it_is_of_the_first_seed(world: Path, tmp_path: Path) -> None:
    workspace = Workspace(world / "registry", world / "data", tmp_path / "work")
    notes = [
        plan(workspace, read_campaign(workspace, "tiny", None, [f"seeds={seeds}"]), probe=False).notes
        for seeds in (1, 3)
    ]
    assert notes[1][0].startswith("This is the first of 3 seeds.")
    assert notes[1][1:] == notes[0]


def test_a_seed_knows_its_campaign() -> None:
    assert [family(one) for one in seeded(config(seeds=2, seed=4))] == ["c", "c"]
    assert [family(config()), family(config(name="a-seed-3")), family(config(name="-seed-0"[1:]))] == [None, None, None]


@pytest.mark.parametrize("bad", [{"seeds": 0}, {"seeds": True}, {"seeds": "many"}, {"seeds": 2, "name": "n" * 60}])
def test_what_is_no_number_of_seeds_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(T2TError, match="seeds"):
        config(**bad)


def test_a_campaign_runs_with_each_seed_and_its_table_has_them_all(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "t2t")
    workspace = Workspace(world / "registry", world / "data", tmp_path / "work")
    plain = run("tiny", workspace=workspace, name="plain", settings=SHORT, observer=Observer())
    records = run("tiny", workspace=workspace, settings=[*SHORT, "seeds=2"], observer=Observer())
    told_seeds = [line for record in caplog.records if (line := record.getMessage()).startswith("Seed ")]
    assert told_seeds == ["Seed 0, 1 of 2: campaign tiny.", "Seed 1, 2 of 2: campaign tiny-seed-1."]
    # The first seed is what the campaign is without the others.
    assert records[0].weights_sha256 == plain[0].weights_sha256
    ledger = ledger_of(workspace, "tiny")
    ledgers = seed_ledgers(ledger)
    assert {seed: other.layout.name for seed, other in ledgers.items()} == {0: "tiny", 1: "tiny-seed-1"}
    assert read_frozen(ledger)["seeds"] == 2
    assert "seeds" not in read_frozen(ledgers[1])
    assert ledgers[1].records()[0].weights_sha256 != records[0].weights_sha256
    (row,) = rounds_json(workspace, "tiny")
    by_seed = {seed: other.records()[0].test["pr_auc"] for seed, other in ledgers.items()}
    assert row["pr_auc_by_seed"] == {str(seed): value for seed, value in by_seed.items()}
    assert row["pr_auc_mean"] == pytest.approx(sum(by_seed.values()) / 2)
    assert json.dumps(row)
    assert "pr_auc_mean" not in rounds_json(workspace, "plain")[0]
    print_rounds(workspace, "tiny")
    assert "tiny with each seed" in capsys.readouterr().out
    page = write_report(workspace, "tiny", leave_one_out=False).read_text()
    assert "as the mean over seeds; the band goes from the lowest to the highest" in page
    assert '<th scope="col" class="n">seed 1</th>' in page
    assert f'<td class="n">{row["pr_auc_mean"]:.3f}</td>' in page
    assert "over seeds" not in write_report(workspace, "plain", leave_one_out=False).read_text()
    opened = Campaign.open("tiny", workspace, settings=[*SHORT, "seeds=2"])
    for one in seeded(opened.config):
        tracker, observer = told(0)
        observer.opened(Campaign(one, workspace))
        assert tracker.of("open")[0][1]["t2t.seeds_of"] == "tiny"
    # One more seed later; those that are done stay as they are.
    run("tiny", workspace=workspace, settings=[*SHORT, "seeds=3"], observer=Observer())
    assert set(seed_ledgers(ledger)) == {0, 1, 2}
    assert [record.commit for record in ledger.records()] == [record.commit for record in records]
    states = {row["campaign"]: row["state"] for row in campaigns_json(workspace)}
    assert states["tiny-seed-2"].endswith(", a seed of tiny")
    # A campaign that only has such a name is no seed of it.
    run("tiny", workspace=workspace, name="tiny-seed-9", settings=["training.steps=5", *SHORT[2:]], observer=Observer())
    assert set(seed_ledgers(ledger)) == {0, 1, 2}


def test_two_rounds_are_compared_over_all_seeds(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace(world / "registry", world / "data", tmp_path / "work")
    settings = [*SHORT[:2], "rounds.max=2", "rounds.control=false", "gate=always"]
    run("tiny", workspace=workspace, settings=settings, observer=Observer())
    alone = comparison_json(workspace, "tiny", 0, 1, 3)
    assert (alone["seeds"], alone["over_seeds"]) == ([], None)
    run("tiny", workspace=workspace, settings=[*settings, "seeds=2"], observer=Observer())
    found = comparison_json(workspace, "tiny", 1, 0, 3)
    ledgers = seed_ledgers(ledger_of(workspace, "tiny"))
    rounds = {seed: [record.test["pr_auc"] for record in other.records()] for seed, other in ledgers.items()}
    assert [(row["seed"], row["1"], row["0"]) for row in found["seeds"]] == [(k, b, a) for k, (a, b) in rounds.items()]
    over = found["over_seeds"]
    assert over["change"] == pytest.approx(sum(a - b for a, b in rounds.values()) / 2)
    assert over["low"] <= over["change"] <= over["high"]
    print_comparison(workspace, "tiny", 0, 1, 3)
    printed = capsys.readouterr().out
    assert "tiny with each seed" in printed
    assert f"Mean change over 2 seeds: {-over['change']:+.3f} [" in printed


def test_a_campaign_of_the_registry_is_no_seed_of_another(world: Path, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    registry.mkdir()
    for kind in ("datasets", "teachers"):
        (registry / kind).symlink_to(world / "registry" / kind)
    (registry / "campaigns").mkdir()
    for name in ("tiny", "tiny-seed-1"):
        text = (world / "registry" / "campaigns" / "tiny.yaml").read_text()
        (registry / "campaigns" / f"{name}.yaml").write_text(text.replace("name: tiny", f"name: {name}"))
    workspace = Workspace(registry, world / "data", tmp_path / "work")
    opened = Campaign.open("tiny", workspace, settings=["seeds=2"])
    with pytest.raises(T2TError, match="its seed 1 would be run as 'tiny-seed-1', which is a campaign of the registry"):
        preflight(workspace, opened.config)
