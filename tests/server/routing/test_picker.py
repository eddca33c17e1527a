"""The picker of these tests reads and scores as the real one is documented to."""

from __future__ import annotations

from tests.server.routing.picker import LoraInfo, scrape

LABELS = 'max_lora="%d",running_lora_adapters="%s",waiting_lora_adapters="%s"'
SERIES = f"vllm:lora_requests_info{{{LABELS}}} %s"
TEXT = "\n".join(
    [
        "# HELP vllm:lora_requests_info Adapters.",
        "# TYPE vllm:lora_requests_info gauge",
        SERIES % (4, "old", "", "1.7e+09"),
        SERIES % (2, "sql@7,sql", "a", "1.8e+09"),
        (SERIES % (9, "", "", "1.9e+09")).replace("_info{", "_info_created{"),
        "",
    ]
)


def test_the_highest_value_of_exactly_this_name_wins() -> None:
    assert scrape(TEXT) == LoraInfo(2, frozenset({"sql", "sql@7"}), frozenset({"a"}))


def test_scores() -> None:
    roomy = LoraInfo(3, frozenset({"a"}), frozenset({"b"}))
    assert [roomy.score(name) for name in ("a", "b", "c", "A")] == [1.0, 0.8, 0.8, 0.8]
    full = LoraInfo(2, frozenset({"a"}), frozenset({"b"}))
    assert [full.score(name) for name in ("a", "b", "c")] == [1.0, 0.6, 0.0]
