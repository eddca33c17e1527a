"""`hatstand evaluate`: base against adapter, through the engine, stated in the registry."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from registry import Registry
from registry.referrers import EVALUATION, list_referrers
from training.errors import BaseError, DataError, ForgetsTooMuch
from training.evaluating.command import Evaluation, EvaluationOptions, evaluate
from training.evaluating.comparison import Comparison
from training.evaluating.difficulty import Bucket
from training.evaluating.report import Report

from .conftest import Colors

GENEROUS = 1e9  # a random base has no general knowledge to lose


@pytest.fixture(scope="module")
def evaluated(colors: Colors, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path, str]:
    output = tmp_path_factory.mktemp("evaluation")
    console = Console(file=io.StringIO(), width=160)
    [report] = evaluate(
        ["colors@prod"],
        [colors.heldout],
        registry=colors.registry,
        options=EvaluationOptions(
            base=str(colors.base), budget=GENEROUS, buckets=(Bucket("tiny", 1, 3),)
        ),
        output=output,
        console=console,
    )
    assert isinstance(console.file, io.StringIO)
    return report, output, console.file.getvalue()


def test_the_adapter_is_better_than_its_base_at_its_task(
    evaluated: tuple[Report, Path, str],
) -> None:
    everything = evaluated[0].groups[0]
    assert (everything.name, everything.num_rows) == ("all", 6)
    assert everything.adapter.loss < everything.base.loss
    assert everything.adapter.token_accuracy > everything.base.token_accuracy
    assert everything.adapter.exact_match > everything.base.exact_match


def test_answers_of_two_kinds_are_scored_as_labels(evaluated: tuple[Report, Path, str]) -> None:
    found = evaluated[0].groups[0].adapter.classification
    assert found is not None
    assert {name: label.support for name, label in found.labels.items()} == {"blue": 3, "red": 3}
    assert found.accuracy == evaluated[0].groups[0].adapter.exact_match


def test_every_row_has_a_difficulty(evaluated: tuple[Report, Path, str]) -> None:
    assert [(g.name, g.num_rows) for g in evaluated[0].groups] == [("all", 6), ("tiny", 6)]
    assert evaluated[0].metrics["tiny_bleu"] == evaluated[0].metrics["bleu"]


def test_it_is_printed_written_drawn_and_stated(
    evaluated: tuple[Report, Path, str], colors: Colors
) -> None:
    report, output, printed = evaluated
    assert "colors@1 against its base" in printed
    document = json.loads((output / "evaluation.json").read_text())
    assert document == json.loads(json.dumps(report.document()))
    assert (output / "evaluation.png").read_bytes().startswith(b"\x89PNG")
    registry = Registry.open(colors.registry)
    stated = list_referrers(registry, report.digest, EVALUATION)
    found = [metrics_in(registry, json.loads(each.manifest)) for each in stated]
    assert pytest.approx(report.metrics) in found


def metrics_in(registry: Registry, statement: dict[str, Any]) -> dict[str, float]:
    """What a statement says was measured."""
    [layer] = statement["layers"]
    content = registry.blobs.local(layer["digest"], layer["size"]).read_bytes()
    metrics: dict[str, float] = json.loads(content)["metrics"]
    return metrics


def test_an_adapter_over_its_budget_is_named(colors: Colors, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("quartz vow: jump, fjord! " * 8)
    options = EvaluationOptions(base=str(colors.base), budget=0.0, general=text, most_rows=2)
    with pytest.raises(ForgetsTooMuch, match=r"colors@1 forgets .* budget 0%"):
        evaluate(
            ["colors"],
            [colors.heldout],
            registry=colors.registry,
            options=options,
            post=False,
            console=Console(quiet=True),
        )


def test_another_base_is_refused(colors: Colors, embedded_base: Path) -> None:
    options = EvaluationOptions(base=str(embedded_base))
    with pytest.raises(BaseError, match="another base"):
        evaluate(["colors"], [colors.heldout], registry=colors.registry, options=options)


def test_files_and_formats_are_checked_first(colors: Colors, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        evaluate(["colors"], [tmp_path / "none.jsonl"], registry=colors.registry)
    options = EvaluationOptions(base=str(colors.base), data={"format": "alpaca"})
    with pytest.raises(DataError, match=r"heldout\.jsonl:1: there is no column `instruction`"):
        evaluate(["colors"], [colors.heldout], registry=colors.registry, options=options)


def test_versions_are_compared_and_the_base_is_asked_once(
    colors: Colors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    original = Evaluation._answers

    def counting(self: Evaluation, host: Any, version: Any, *rest: Any) -> tuple[str, ...]:
        asked.append("base" if version is None else version.ref)
        return original(self, host, version, *rest)

    monkeypatch.setattr(Evaluation, "_answers", counting)
    console = Console(file=io.StringIO(), width=160)
    options = EvaluationOptions(base=str(colors.base), budget=GENEROUS)
    reports = evaluate(
        ["colors@prod", "colors@1"],
        [colors.heldout],
        registry=colors.registry,
        options=options,
        output=tmp_path,
        post=False,
        console=console,
    )
    assert asked == ["base", "colors@1", "colors@1"]
    assert reports[0].groups == reports[1].groups
    assert list(Comparison(reports).sides) == ["base", "colors@1"]
    document = json.loads((tmp_path / "comparison.json").read_text())
    assert [report["version"] for report in document["reports"]] == [reports[0].digest] * 2
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_a_version_that_fails_leaves_the_results_before_it(
    colors: Colors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Evaluation._ask

    def once(self: Evaluation, *words: Any) -> Any:
        if self.known:
            raise BaseError("the engine did not start")
        return original(self, *words)

    monkeypatch.setattr(Evaluation, "_ask", once)
    console = Console(file=io.StringIO(), width=160)
    rows = tmp_path / "two.jsonl"  # the statement is of these rows
    rows.write_text("".join(colors.heldout.read_text().splitlines(keepends=True)[:2]))
    registry = Registry.open(colors.registry)
    digest = registry.resolve("colors").digest
    before = len(list_referrers(registry, digest, EVALUATION))
    with pytest.raises(BaseError, match="did not start"):
        evaluate(
            ["colors@prod", "colors@1"],
            [rows],
            registry=colors.registry,
            options=EvaluationOptions(base=str(colors.base), budget=GENEROUS),
            output=tmp_path / "out",
            console=console,
        )
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["version"] == digest
    assert len(list_referrers(registry, digest, EVALUATION)) == before + 1
    assert isinstance(console.file, io.StringIO)
    assert "colors@1 against its base" in console.file.getvalue()
