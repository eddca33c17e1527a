from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from registry import BaseRecord, Hat, Lock, Registry, Version
from registry.errors import (
    BaseMismatch,
    InvalidReceipt,
    MissingExtra,
    ReceiptMismatch,
    ReceiptMissing,
    RegistryError,
    TemplateMismatch,
)
from registry.hosts import open_host
from registry.lock import GoldenPrompt
from registry.receipts import Receipt
from registry.replay import Step, replay
from tests.registry.making import make_adapter

QUESTION = ({"role": "user", "content": "hi"},)
ANSWER = (5, 6, 7, 2)


def receipt(**changes: Any) -> dict[str, Any]:
    """Two probes that rendered to [1, 2]; at each place 9 was half a logit behind, 8 far behind."""
    probe = {
        "messages": list(QUESTION),
        "prompt_token_ids": [1, 2],
        "token_ids": list(ANSWER),
        "text": "",
        "top_token_ids": [[token, 9, 8] for token in ANSWER],
        "top_logits": [[10.0, 9.5, 3.0]] * len(ANSWER),
    }
    return {"format": 1, "activations": "bfloat16", "probes": [probe, probe], **changes}


class FakeHost:
    """Answers `answer` after [1, 2], whichever part of it the prompt holds already."""

    activations = "bfloat16"

    def __init__(self, base: BaseRecord, answer: Sequence[int] = ANSWER) -> None:
        self.fingerprint = base.fingerprint
        self.answer = answer
        self.prompt = [1, 2]
        self.calls: list[tuple[tuple[int, ...], int]] = []

    def prompt_ids(self, _hat: Hat, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        assert tuple(messages) == QUESTION
        return self.prompt

    def greedy(self, _version: Version, prompt: Sequence[int], num_tokens: int) -> list[Step]:
        self.calls.append((tuple(prompt), num_tokens))
        rest = self.answer[len(prompt) - 2 :][:num_tokens]
        return [Step(token, {token: -0.1, ANSWER[0]: -0.1, 9: -0.7}) for token in rest]


@pytest.fixture
def version(registry: Registry, base: BaseRecord, tmp_path: Path) -> Version:
    folder = make_adapter(tmp_path / "a")
    (folder / "receipt.json").write_text(json.dumps(receipt()))
    Lock(
        base=base,
        adapter_dtype="float32",
        rank=4,
        target_modules=("q_proj",),
        golden=(GoldenPrompt(messages=QUESTION, token_ids=(1, 2)),),
    ).write(folder)
    return registry.push(folder, "sql")


def test_a_kept_receipt_is_a_proof(registry: Registry, version: Version, base: BaseRecord) -> None:
    host = FakeHost(base)
    proof = replay(registry, version, host)
    assert (proof.num_probes, proof.num_tokens, proof.num_near_ties) == (2, 8, 0)
    assert proof.drift == pytest.approx(0.1)  # 0.5 behind then, 0.6 now
    assert host.calls == [((1, 2), 4)] * 2


def test_a_mismatch_names_probe_and_first_differing_token(
    registry: Registry, version: Version, base: BaseRecord
) -> None:
    with pytest.raises(ReceiptMismatch, match="probe 1, token 2 of 4 is 8 instead of 7") as failure:
        replay(registry, version, FakeHost(base, (5, 6, 8, 3)))
    assert failure.value.param == "probes.0.token_ids.2"
    with pytest.raises(ReceiptMismatch, match=r"11 instead of 7 .not among the likeliest"):
        replay(registry, version, FakeHost(base, (5, 6, 11, 3)))
    with pytest.raises(ReceiptMismatch, match="token 3 of 4"):
        replay(registry, version, FakeHost(base, ANSWER[:3]))


def test_after_a_near_tie_the_rest_is_compared_too(
    registry: Registry, version: Version, base: BaseRecord
) -> None:
    host = FakeHost(base, (5, 9, 7, 2))
    assert replay(registry, version, host).num_near_ties == 2
    assert host.calls[:2] == [((1, 2), 4), ((1, 2, 5, 6), 2)]
    with pytest.raises(ReceiptMismatch, match="token 3 of 4 is 8"):
        replay(registry, version, FakeHost(base, (5, 9, 7, 8)))


def test_what_rounds_little_is_allowed_little(
    registry: Registry, base: BaseRecord, tmp_path: Path
) -> None:
    folder = make_adapter(tmp_path / "b", lock=base)
    (folder / "receipt.json").write_text(json.dumps(receipt(activations="float32")))
    version = registry.push(folder, "exact")
    host = FakeHost(base, (5, 9, 7, 2))
    assert replay(registry, version, host).num_near_ties == 2  # the host is the coarser one
    host.activations = "float32"
    with pytest.raises(ReceiptMismatch, match=r"0\.50 below"):
        replay(registry, version, host)


def test_a_prompt_that_renders_otherwise_is_refused(
    registry: Registry, version: Version, base: BaseRecord
) -> None:
    host = FakeHost(base)
    host.prompt = [1, 3]
    with pytest.raises(TemplateMismatch, match=r"token 1 \(3 instead of 2\)"):
        replay(registry, version, host)
    host.prompt = [1]
    with pytest.raises(TemplateMismatch, match=r"token 1 \(none instead of 2\)"):
        replay(registry, version, host)
    assert host.calls == []


def test_without_golden_prompts_the_day_may_change_the_prompt(
    registry: Registry, base: BaseRecord, tmp_path: Path
) -> None:
    folder = make_adapter(tmp_path / "b", lock=base)
    (folder / "receipt.json").write_text(json.dumps(receipt()))
    host = FakeHost(base)
    host.prompt = [4, 4]
    assert replay(registry, registry.push(folder, "dated"), host).num_probes == 2


def test_another_base_and_a_missing_receipt_are_said(
    registry: Registry, version: Version, base: BaseRecord, adapter: Path
) -> None:
    host = FakeHost(base)
    plain = registry.push(adapter, "plain")
    with pytest.raises(ReceiptMissing, match="plain@1 came without"):
        replay(registry, plain, host)
    host.fingerprint = "sha256:" + "0" * 64
    with pytest.raises(BaseMismatch, match="tiny-base"):
        replay(registry, version, host)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"probes": []}, "probes"),
        ({"activations": 3}, "activations"),
        ({"when": "now"}, "unknown key 'when'"),
        ({"probes": [{**receipt()["probes"][0], "top_logits": [[1.0]]}]}, "as many"),
        ({"probes": [{**receipt()["probes"][0], "token_ids": []}]}, "token_ids"),
    ],
)
def test_a_wrong_receipt_is_refused_at_push(
    registry: Registry, adapter: Path, changes: dict[str, Any], reason: str
) -> None:
    (adapter / "receipt.json").write_text(json.dumps(receipt(**changes)))
    with pytest.raises(InvalidReceipt, match=reason):
        registry.push(adapter, "sql")
    (adapter / "receipt.json").write_text("[")
    with pytest.raises(InvalidReceipt, match="not JSON"):
        registry.push(adapter, "sql")
    assert registry.adapters() == []


def test_how_far_a_token_was_behind() -> None:
    (probe, _) = Receipt.from_bytes(json.dumps(receipt()).encode()).probes
    assert probe.behind(0, 5) == 0
    assert probe.behind(0, 9) == 0.5
    assert probe.behind(0, 4) is None


def test_the_margin_is_that_of_the_least_sure_token() -> None:
    (probe, _) = Receipt.from_bytes(json.dumps(receipt()).encode()).probes
    assert probe.margin == 0.5
    logits = ((10.0, 9.5), (8.0, 7.75), (9.0, 3.0), (4.0, 2.0))
    tokens = tuple((token, 9) for token in ANSWER)
    changed = probe.model_copy(update={"top_logits": logits, "top_token_ids": tokens})
    assert changed.margin == 0.25


def test_without_an_engine_the_install_command_is_named(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.hosts.GROUP", "nobody.offers.this")
    with pytest.raises(MissingExtra, match=r"pip install 'hatstand\[server\]'") as failure:
        open_host(registry, "tiny")
    assert isinstance(failure.value, RegistryError)
