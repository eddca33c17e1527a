"""How close answers are to the wanted ones, word by word: exact match and BLEU."""

from __future__ import annotations

from collections.abc import Sequence


def exact_match(answers: Sequence[str], wanted: Sequence[str]) -> float:
    """The share of answers that equal the wanted one but for outer white space."""
    pairs = zip(answers, wanted, strict=True)
    return sum(answer.strip() == want.strip() for answer, want in pairs) / len(wanted)


def bleu(answers: Sequence[str], wanted: Sequence[str]) -> float:
    """Corpus BLEU, 0 to 100, as sacrebleu computes it (4-grams, 13a tokens, exp smoothing)."""
    from sacrebleu.metrics.bleu import BLEU

    stripped = [answer.strip() for answer in answers]
    return float(BLEU().corpus_score(stripped, [[want.strip() for want in wanted]]).score)


def bleu_signature() -> str:
    """How BLEU was computed, in sacrebleu's notation: what makes two scores comparable."""
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU()
    metric.corpus_score(["a"], [["a"]])
    return str(metric.get_signature())
