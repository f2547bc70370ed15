"""A task says what its metric's error and unit are; a loss goes through run, compare and report in its own unit."""

import csv
import io
import json
import math

import numpy as np
import pytest
from studies import BASELINE, record, study_of
from worlds import make_card, make_recipe

from efflab import Metric
from efflab.cards.baseline import load_baseline
from efflab.cli.main import main
from efflab.comparison.compare import rows
from efflab.contracts.classification import Classification
from efflab.contracts.task import Task
from efflab.execution.stages.score import error_at
from efflab.foundation import registry
from efflab.foundation.errors import RequestError
from efflab.recipe.recipe import load_recipe
from efflab.records.quality import rule_of
from efflab.records.samples import pack_scores
from efflab.records.study import load_study, save_study
from efflab.reporting.headlines import headlines
from efflab.reporting.report import write_report
from efflab.run import run_file

TASKS = '''
import math
from typing import ClassVar
import numpy as np
from efflab import Metric
from efflab.cards.baseline import load_baseline
from efflab.tasks.digits_clutter import DigitsClutter

class {name}(DigitsClutter):
    """Digits judged by how likely the model finds the right one."""
    metrics: ClassVar[tuple[Metric, ...]] = (
        {first},
        Metric("accuracy"),
    )

    def scores(self, outputs, targets):
        logits = np.asarray(outputs, dtype=np.float64)
        top = logits.max(axis=1, keepdims=True)
        surprise = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0] - logits[np.arange(len(targets)), targets]
        return np.stack([surprise, logits.argmax(axis=1) == targets], axis=1).astype(np.float32)

    def quality(self, scores):
        return {value}

    def quality_of(self, scores, name):
        return float(scores[:, 1].mean()) if name == "accuracy" else self.quality(scores)
'''
LOSS = ("DigitLoss", 'Metric("loss", lambda loss: loss, "nats")', "float(scores[:, 0].mean(dtype=float))")
PERPLEXITY = ("DigitPerplexity", 'Metric("perplexity", math.log, "nats")', "math.exp(scores[:, 0].mean(dtype=float))")


def in_plugins(folder, monkeypatch, name, first, value):
    """Put a task into a folder of plug-ins, and return the name by which cards know it."""
    file = "".join(f"_{one.lower()}" if one.isupper() else one for one in name).strip("_")
    place = folder / "plugins" / "tasks"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{file}.py").write_text(TASKS.format(name=name, first=first, value=value))
    monkeypatch.setenv("EFFLAB_PLUGINS", str(place.parent))
    registry.sources.cache_clear()
    registry.load.cache_clear()
    return file


def measured(folder, monkeypatch, task):
    """Run a recipe of a card of that task, and return the study's file."""
    name = in_plugins(folder, monkeypatch, *task)
    card = make_card(folder)
    card.write_text(card.read_text().replace("digits_clutter", name).replace(", quality: 0.1", ""))
    recipe = make_recipe(
        folder,
        "half: [{prune_channels: {ratio: 0.5}}]",
        backends="[torch]",
        measure="seeds: [0], batch_sizes: [1], min_runs: 11, min_seconds: 0.001, max_seconds: 0.005, rounds: 5",
    )
    run_file(recipe)
    return folder / ".efflab" / "studies" / "r" / "study.json"


@pytest.mark.parametrize("task", [LOSS, PERPLEXITY])
def test_a_loss_goes_through_run_compare_and_report(in_folder, monkeypatch, capsys, task):
    path = measured(in_folder, monkeypatch, task)
    study = load_study(path)
    for one in study["records"]:
        quality = one["quality"]
        assert quality["unit"] == "nats"
        assert quality["error"] == pytest.approx(quality["value"] if task is LOSS else math.log(quality["value"]))
        assert 0 <= quality["others"]["accuracy"] <= 1
    found = rows(study)
    for row in found:
        assert row.quality.error.low <= row.quality.error.value <= row.quality.error.high
        assert 0 < row.quality.error.high - row.quality.error.low < 1
        assert row.quality.ends.known is (task is LOSS)
        assert row.reason.partition(": ")[0] in ("", "two speeds")  # of a busy machine
    half = next(row for row in found if row.variant == "half")
    base = next(row for row in found if row.role == "baseline")
    better = base.quality.error.value - half.quality.error.value
    assert half.against.difference.value == pytest.approx(better)  # in nats, above 0 is better
    assert half.against.difference.low <= better <= half.against.difference.high
    assert half.against.quality_verdict in ("better", "worse", "within margin", "no difference", "undecided")
    assert half.against.margin == pytest.approx(0.01 * base.quality.error.value)
    capsys.readouterr()

    assert main(["compare", str(path)]) == 0
    told = capsys.readouterr().out
    assert "difference [95 %]" in told
    assert "accuracy" in told.splitlines()[0]
    assert " nats " in told
    assert "points" not in told
    assert f"{base.quality.value:#.3g}" in told
    assert main(["compare", str(path), "--format", "csv", "--where", "error > 1.5"]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(table) == len(found)
    assert float(table[0]["accuracy"]) == pytest.approx(found[0].quality.others["accuracy"])
    assert json.loads(json.dumps(found[0].flat()))["metric"] == ("loss" if task is LOSS else "perplexity")

    written = write_report(study, in_folder / "report")
    page = (in_folder / "report" / "report.md").read_text()
    assert "nats" in page
    assert "points" not in "\n".join(written.headlines)
    assert "test error, nats" in (in_folder / "report" / "frontier.svg").read_text()


def losses(error, scale=1.0, examples=400, phase=0):
    """A record's quality that is a loss in nats, with the losses of its examples."""
    noise = np.random.default_rng(phase).normal(0, 0.2, examples)
    scores = (scale * (error + noise - noise.mean())).astype(np.float32)
    return {
        "metric": "loss", "value": float(scores.mean(dtype=float)), "error": float(scores.mean(dtype=float)),
        "error_rule": "value", "unit": "nats", "scores": pack_scores(scores),
    }  # fmt: skip


def test_a_dense_family_of_losses_above_one_has_a_law_and_shifts(tmp_path):
    records = []
    for number, macs in enumerate((1e5, 4e5, 9e5, 1.6e6, 3.6e6, 6.4e6)):
        role = "baseline" if macs == 3.6e6 else "dense"
        name = BASELINE if role == "baseline" else f"net-{number}"
        made = record(name, macs, 0.2, role=role, latency_ms=macs * 1e-6)
        records.append({**made, "quality": losses(100 * macs**-0.25)})
    thin = {**record("thin", 1.8e6, 0.2, latency_ms=2.0), "quality": losses(100 * (1.8e6 * 1.5) ** -0.25)}
    study = study_of([*records, thin])
    save_study(study, tmp_path / "study.json")
    row = rows(load_study(tmp_path / "study.json"))[-1]
    assert row.quality.error.value > 1
    assert row.shift("macs").shift.value == pytest.approx(1.5, rel=0.02)
    base = 100 * 3.6e6**-0.25
    assert row.against.difference.value == pytest.approx(base - 100 * (1.8e6 * 1.5) ** -0.25, rel=1e-3)
    assert row.against.quality_verdict == "worse"
    assert row.shift("macs").gain.value == pytest.approx(base * 2**0.25 - row.quality.error.value, rel=1e-3)
    assert any(" nats, worse" in one for one in headlines(rows(study)))


def test_a_task_that_says_only_metric_is_a_share():
    class Old(Classification):
        metric = "F score"

    class Older(Classification):
        pass

    class New(Old):
        metrics = (Metric("loss", lambda loss: loss, "nats"), Metric("F1"))

    assert [(one.name, one.error(0.9), one.unit) for one in Old.metrics] == [("F score", pytest.approx(0.1), "points")]
    assert [one.name for one in Older.metrics] == ["accuracy"]
    assert (New.metric, Old.metric, Task.metric) == ("loss", "F score", "accuracy")
    assert [one.name for one in New.metrics] == ["loss", "F1"]


def test_how_an_error_follows_is_known_by_what_it_gives():
    assert rule_of(lambda value: 1 - value) == rule_of(Metric("accuracy").error) == "1 - value"
    assert rule_of(lambda value: value) == "value"
    assert rule_of(math.log) == rule_of(lambda value: 1 / 0) == ""


@pytest.mark.parametrize(
    ("metric", "value", "told"),
    [
        (
            Metric("perplexity"),
            12.5,
            "gives a perplexity of 12.5, whose error is -11.5, and an error is a number from 0 on",
        ),
        (Metric("loss", lambda loss: loss, "nats"), math.nan, "gives a loss of nan, which is no number"),
        (Metric("loss", lambda loss: loss, "nats"), math.inf, "gives a loss of inf, which is no number"),
    ],
)
def test_what_is_no_error_is_refused(metric, value, told):
    with pytest.raises(RequestError, match=told):
        error_at(metric, value, "mine")
    assert error_at(Metric("loss", lambda loss: loss, "nats"), 12.5, "mine") == 12.5


@pytest.mark.parametrize(
    ("part", "what"),
    [
        ({"error": -0.5}, "quality.error must be a number from 0 on"),
        ({"error": "0.5"}, "quality.error must be a number from 0 on"),
        ({"unit": 3}, "quality.error_rule and quality.unit must be words"),
        ({"others": {"F1": "0.5"}}, "quality.others must hold numbers"),
    ],
)
def test_a_damaged_error_is_said(tmp_path, part, what):
    made = record(BASELINE, 1e6, 0.2, role="baseline")
    made["quality"] |= part
    save_study(study_of([made]), tmp_path / "study.json")
    with pytest.raises(RequestError, match=what):
        load_study(tmp_path / "study.json")


def test_a_card_of_a_share_holds_shares_and_that_of_a_loss_any_number(in_folder, monkeypatch):
    card = make_card(in_folder)
    card.write_text(card.read_text().replace("quality: 0.1", "quality: 12.5"))
    with pytest.raises(
        RequestError, match=r"tiny.yaml:\d+: weights\[0\].quality: must be from 0 to 1, since accuracy is a share"
    ):
        load_baseline(card)
    card.write_text(card.read_text().replace("digits_clutter", in_plugins(in_folder, monkeypatch, *LOSS)))
    assert [one.quality for one in load_baseline(card).card.weights] == [12.5, 12.5]


def test_a_search_bounds_a_share_by_fractions_and_a_loss_by_any_number(in_folder, monkeypatch):
    card = make_card(in_folder)
    steps = "search: {minimize: macs, where: [error <= 12.5], steps: [{prune_channels: {choose: {ratio: [0.2, 0.4]}}}]}"
    recipe = in_folder / "r.yaml"
    recipe.write_text(f"name: r\nbaseline: tiny\nmeasure: {{backends: [torch]}}\n{steps}\n")
    with pytest.raises(RequestError, match="'error <= 12.5': error is a fraction from 0 to 1"):
        load_recipe(recipe)
    card.write_text(card.read_text().replace("digits_clutter", in_plugins(in_folder, monkeypatch, *LOSS)))
    assert load_recipe(recipe).search.goal.bounds[0].limit == 12.5
