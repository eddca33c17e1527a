"""Scores against their definitions."""

from __future__ import annotations

import math

import pytest

from training.evaluating.forgetting import Forgetting
from training.evaluating.labels import classify, find_labels
from training.evaluating.likelihood import Likelihood, total
from training.evaluating.words import bleu, bleu_signature, exact_match


def test_classification_by_hand() -> None:
    wanted = ["pos", "pos", "pos", "neg", "neg"]
    answers = ["pos", "pos ", "neg", "neg", "maybe"]
    found = classify(answers, wanted, ["neg", "pos"])
    assert found.accuracy == 3 / 5
    assert found.labels["pos"].precision == 1.0  # said twice, right twice
    assert found.labels["pos"].recall == pytest.approx(2 / 3)
    assert found.labels["pos"].f1 == pytest.approx(0.8)
    assert found.labels["neg"].precision == 1 / 2
    assert found.labels["neg"].recall == 1 / 2  # "maybe" is no label, and wrong
    assert found.precision == pytest.approx(0.75)
    assert found.f1 == pytest.approx((0.8 + 0.5) / 2)


def test_a_label_never_said_has_precision_zero() -> None:
    found = classify(["pos", "pos"], ["pos", "neg"], ["neg", "pos"])
    assert (found.labels["neg"].precision, found.labels["neg"].f1) == (0.0, 0.0)


def test_what_looks_like_labels() -> None:
    assert find_labels(["yes", "no", "yes", "no "]) == ("no", "yes")
    assert find_labels(["SELECT 1", "SELECT 2", "SELECT 3"]) is None
    assert find_labels(["same", "same"]) is None


def test_exact_match_ignores_outer_white_space_only() -> None:
    assert exact_match([" a b\n", "a  b"], ["a b", "a b"]) == 0.5


def test_bleu_is_sacrebleus() -> None:
    import sacrebleu

    wanted = ["SELECT name FROM customers WHERE age > 30", "SELECT COUNT(*) FROM orders"]
    answers = ["SELECT name FROM customers WHERE age < 30", "SELECT COUNT(id) FROM orders"]
    assert bleu(wanted, wanted) == pytest.approx(100)
    assert bleu(answers, wanted) == pytest.approx(sacrebleu.corpus_bleu(answers, [wanted]).score)
    assert 0 < bleu(answers, wanted) < 100
    assert "tok:13a" in bleu_signature()


def test_perplexity_weighs_tokens_alike() -> None:
    parts = [Likelihood(4.0, 2, 1), Likelihood(1.0, 3, 2)]
    assert total(parts).loss == 1.0
    assert total(parts).perplexity == pytest.approx(math.e)
    assert total(parts).accuracy == 3 / 5
    assert Likelihood(1e6, 1, 0).perplexity == math.inf


def test_the_budget_is_on_the_rise_of_perplexity() -> None:
    base, adapter = Likelihood(2.0, 1, 0), Likelihood(2.0 + math.log(1.1), 1, 0)
    assert Forgetting(base, adapter, 0.2).rise == pytest.approx(0.1)
    assert Forgetting(base, adapter, 0.2).is_kept
    assert not Forgetting(base, adapter, 0.05).is_kept
    assert Forgetting(base, base, 0.0).is_kept
