"""Run in lm-evaluation-harness' own environment: the same tasks by its `hf` model and over HTTP.

`python evaluate.py FOLDER_OF_BASE FOLDER_OF_ADAPTER URL` prints, for the base and for the adapter,
what each model answered to every request, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.tasks import TaskManager

TASKS = Path(__file__).parent / "tasks"
NAMES = ["tiny_choice", "tiny_likelihood", "tiny_rolling", "tiny_generate"]


def evaluate(model: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Metrics by task, and what was answered to each row: log-probabilities, or texts."""
    done = lm_eval.simple_evaluate(
        model=model,
        model_args=arguments,
        tasks=list(NAMES),
        task_manager=TaskManager(include_path=str(TASKS), include_defaults=False),
        batch_size=2,
        bootstrap_iters=0,
    )
    answers = {
        task: [sample["resps"] for sample in samples] for task, samples in done["samples"].items()
    }
    return {"metrics": done["results"], "answers": answers}


def main() -> None:
    base, adapter, url = sys.argv[1:]
    over_http = {
        "base_url": f"{url}/v1/completions",
        "tokenizer": base,
        "num_concurrent": 2,
        "max_length": 512,
    }
    plain = {"pretrained": base, "dtype": "float32", "device": "cpu", "max_length": 511}
    found = {
        "base": {
            "hf": evaluate("hf", plain),
            "http": evaluate("local-completions", {**over_http, "model": "tiny"}),
        },
        "adapter": {
            "hf": evaluate("hf", {**plain, "peft": adapter}),
            "http": evaluate("local-completions", {**over_http, "model": "sql"}),
        },
    }
    print(json.dumps(found, default=str))


if __name__ == "__main__":
    main()
