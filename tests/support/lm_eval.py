"""lm-evaluation-harness' `local-completions` on the wire, without its 400 MB of dependencies.

The request and the reading of its answer are those of `lm_eval.models.openai_completions` 0.4.13
(`_create_payload` without `generate`, and `parse_logprobs`).
"""

from __future__ import annotations

import openai


def loglikelihood(
    client: openai.OpenAI, model: str, context: list[int], continuation: list[int]
) -> tuple[float, bool]:
    """How probable the continuation is, and whether greedy decoding would say it."""
    out = client.completions.create(
        model=model,
        prompt=context + continuation,
        temperature=0,
        max_tokens=1,
        logprobs=1,
        seed=1234,
        echo=True,
    )
    [choice] = out.choices
    assert choice.logprobs is not None
    scored = slice(len(context), -1)
    values = (choice.logprobs.token_logprobs or [])[scored]
    alternatives = (choice.logprobs.top_logprobs or [])[scored]
    is_greedy = all(
        value == max(top.values()) for value, top in zip(values, alternatives, strict=True)
    )
    return sum(values), is_greedy
