from __future__ import annotations

import re
from pathlib import Path

from registry.adapter_config import judge
from registry.errors import ConfigRefused

DOCS = Path(__file__).parents[2] / "docs" / "registry.md"
ON = {"layers_to_transform": [0], "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 2}}


def documented() -> dict[str, str]:
    """Key → accepted or refused, by the table of docs/registry.md."""
    rows = re.findall(
        r"^\| `(\w+)` \| (accepted|refused): [^|]+ \|$", DOCS.read_text(), re.MULTILINE
    )
    return {key: verdict for key, verdict in rows if key not in {"bias", "peft_type", "task_type"}}


def judged(key: str) -> str:
    try:
        judge({"peft_type": "LORA", key: ON.get(key, True)})
    except ConfigRefused as refusal:
        (verdict,) = refusal.verdicts
        why = f"{key} cannot be hot-loaded because"
        return "refused" if verdict.reason.startswith(why) else verdict.reason
    return "accepted"


def test_the_documented_verdicts_are_those_of_the_lint() -> None:
    table = documented()
    table.pop("init_lora_weights")
    assert {key: judged(key) for key in table} == table


def test_every_feature_that_registry_md_names_has_a_verdict() -> None:
    named = {
        "use_rslora",
        "rank_pattern",
        "alpha_pattern",
        "layers_to_transform",
        "lora_bias",
        "eva_config",
        "use_dora",
        "init_lora_weights",
        "kasa_config",
        "use_bdlora",
        "loftq_config",
        "target_parameters",
        "modules_to_save",
        "trainable_token_indices",
    }
    assert named <= set(documented())
