"""The receipt: what the saved adapter answers, so that serving can prove it answers the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .examples import Example
from .generation import Generator
from .rendering import Renderer

RECEIPT_FILE = "receipt.json"
NUM_PROBES = 2
NUM_CANDIDATES = 4 * NUM_PROBES
MAX_TOKENS = 24
TOP_K = 5


def make_receipt(
    candidates: Sequence[Example], renderer: Renderer, generator: Generator
) -> dict[str, Any]:
    """Greedy token ids for the most decisive candidates, with the `TOP_K` highest logits at each.

    `generator` holds the adapter as saved, reloaded onto the NF4 base. Each prompt runs alone and
    without padding. Logits let a server that computes in another order tell rounding (a close
    second token) from a real difference.
    """
    probes = _decisive(candidates, renderer, generator)
    return {
        "format": 1,
        "how": "greedy, one prompt at a time, transformers + peft over the NF4 base; the adapter "
        f"as saved, in bfloat16; of {len(candidates)} prompts those with the largest margins",
        "activations": str(generator.model.dtype).removeprefix("torch."),
        "probes": [_probe(example, renderer, generator) for example in probes],
    }


def write_receipt(receipt: dict[str, Any], folder: Path) -> None:
    """Write `receipt.json`."""
    text = json.dumps(receipt, indent=1, ensure_ascii=False) + "\n"
    (folder / RECEIPT_FILE).write_text(text, encoding="utf-8")


def _decisive(
    candidates: Sequence[Example], renderer: Renderer, generator: Generator
) -> list[Example]:
    """Those whose answers' least sure token leads the runner-up by most, in their order.

    Where two tokens lie within rounding of each other, which of them comes out says nothing of
    whether the adapter is served as it was trained.
    """
    margins = generator.margins([renderer.prompt_ids(each.prompt) for each in candidates])
    ranked = sorted(range(len(candidates)), key=lambda place: -margins[place])
    return [candidates[place] for place in sorted(ranked[:NUM_PROBES])]


def _probe(example: Example, renderer: Renderer, generator: Generator) -> dict[str, Any]:
    prompt = renderer.prompt_ids(example.prompt)
    token_ids, logits = generator.trace(prompt)
    values, indices = logits.topk(min(TOP_K, logits.shape[-1]), dim=-1)  # [new tokens, k]
    return {
        "messages": list(example.prompt),
        "prompt_token_ids": prompt,
        "token_ids": token_ids,
        "text": generator.tokenizer.decode(token_ids, skip_special_tokens=True),
        "top_token_ids": indices.tolist(),
        "top_logits": [[round(value, 4) for value in row] for row in values.tolist()],
    }
