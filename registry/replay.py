"""Replaying a receipt: does an adapter answer, where it serves, as it did when it was trained?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .errors import BaseMismatch, ReceiptMismatch, ReceiptMissing, TemplateMismatch
from .hats import Hat
from .lock import Lock
from .receipts import RECEIPT_FILE, Probe, Receipt
from .validation import first_difference
from .versions import Version

# How far below the highest logit a recorded token may lie and still be chosen by a computation that
# rounds elsewhere. bfloat16 logits between 16 and 32 are 0.125 apart; four such steps are allowed.
_TIE: Mapping[str, float] = {"float32": 0.05}
_COARSE_TIE = 0.5


@dataclass(frozen=True)
class Step:
    """One greedily chosen token, and the log-probabilities of the likeliest ones."""

    token_id: int
    logprobs: Mapping[int, float]


class Host(Protocol):
    """A base that serves adapters: the one place where their behaviour can be seen."""

    @property
    def fingerprint(self) -> str:
        """The base's."""
        ...

    @property
    def activations(self) -> str:
        """The dtype that it computes in."""
        ...

    def prompt_ids(self, hat: Hat, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """A conversation's prompt as requests for a version with that hat get it."""
        ...

    def greedy(self, version: Version, prompt: Sequence[int], num_tokens: int) -> list[Step]:
        """That many tokens after `prompt`, the end-of-sequence token among them."""
        ...


class Source(Protocol):
    """What a replay needs of a registry."""

    def files(self, version: Version) -> Mapping[str, Path]: ...

    def lock(self, version: Version) -> Lock: ...

    def hat(self, version: Version) -> Hat: ...


@dataclass(frozen=True)
class Proof:
    """A receipt that was kept. `drift` is the largest error of a difference of log-probabilities.

    At `num_near_ties` places another token was chosen that training had within rounding of its own.
    """

    num_probes: int
    num_tokens: int
    num_near_ties: int
    drift: float


def replay(registry: Source, version: Version, host: Host) -> Proof:
    """Ask a version's probes again; raises what speaks against it.

    `BaseMismatch`, `ReceiptMissing`, `TemplateMismatch` (a prompt renders to other tokens), or
    `ReceiptMismatch`, which names the probe and the first differing token.
    """
    lock, hat = registry.lock(version), registry.hat(version)
    if lock.base.fingerprint != host.fingerprint:
        raise BaseMismatch(
            f"{version.ref} was trained on {lock.base.name} ({lock.base.fingerprint[:19]}…), which "
            f"is not the base here ({host.fingerprint[:19]}…)",
            param="base",
        )
    path = registry.files(version).get(RECEIPT_FILE)
    if path is None:
        raise ReceiptMissing(
            f"{version.ref} came without {RECEIPT_FILE}: there is nothing to replay"
        )
    receipt = Receipt.from_bytes(path.read_bytes())
    check_rendering(version.ref, lock, hat, host)
    tie = max(_tie(receipt.activations), _tie(host.activations))
    proofs = []
    for number, probe in enumerate(receipt.probes, start=1):
        if lock.golden:  # without, the template's text depends on the day
            found = host.prompt_ids(hat, probe.messages)
            _check_ids(f"probe {number} of {version.ref}", probe.prompt_token_ids, found)
        proofs.append(_replay_probe(number, probe, version, host, tie))
    return Proof(
        num_probes=len(proofs),
        num_tokens=sum(proof.num_tokens for proof in proofs),
        num_near_ties=sum(proof.num_near_ties for proof in proofs),
        drift=max(proof.drift for proof in proofs),
    )


class Renders(Protocol):
    """The part of a host that the rendered-template lock needs."""

    def prompt_ids(self, hat: Hat, messages: Sequence[Mapping[str, Any]]) -> list[int]: ...


def check_rendering(label: str, lock: Lock, hat: Hat, host: Renders) -> None:
    """Refuse a hat that renders the lock's golden prompts otherwise (`TemplateMismatch`)."""
    for golden in lock.golden:
        found = host.prompt_ids(hat, golden.messages)
        _check_ids(label, golden.token_ids, found)


def _check_ids(label: str, wanted: Sequence[int], found: Sequence[int]) -> None:
    if tuple(wanted) == tuple(found):
        return
    place = first_difference(wanted, found)
    raise TemplateMismatch(
        f"{label}: its prompt renders to {len(found)} tokens, in training to {len(wanted)}; the "
        f"first difference is at token {place} ({_at(found, place)} instead of "
        f"{_at(wanted, place)}). Template, system prompt or tokenizer changed since.",
        param="chat_template",
    )


def _at(token_ids: Sequence[int], place: int) -> str:
    return str(token_ids[place]) if place < len(token_ids) else "none"


def _replay_probe(number: int, probe: Probe, version: Version, host: Host, tie: float) -> Proof:
    """After a near tie go on from the recorded token, so that the rest is compared as well."""
    position, near_ties, drift = 0, 0, 0.0
    while position < len(probe.token_ids):
        prompt = (*probe.prompt_token_ids, *probe.token_ids[:position])
        for step in host.greedy(version, prompt, len(probe.token_ids) - position) or [_NOTHING]:
            drift = max(drift, _drift(probe, position, step))
            is_other = step.token_id != probe.token_ids[position]
            if is_other and not _is_tie(probe, position, step.token_id, tie):
                raise _mismatch(number, probe, position, step, version)
            position += 1
            if is_other:
                near_ties += 1
                break
    return Proof(1, len(probe.token_ids), near_ties, drift)


_NOTHING = Step(-1, {})  # chosen by a host that stops early


def _is_tie(probe: Probe, position: int, token_id: int, tie: float) -> bool:
    behind = probe.behind(position, token_id)
    return behind is not None and behind <= tie


def _drift(probe: Probe, position: int, step: Step) -> float:
    """The largest error among the differences to the recorded token, of the tokens both list."""
    chosen = probe.token_ids[position]
    recorded = dict(zip(probe.top_token_ids[position], probe.top_logits[position], strict=True))
    if chosen not in recorded or chosen not in step.logprobs:
        return 0.0
    return max(
        abs((recorded[each] - recorded[chosen]) - (step.logprobs[each] - step.logprobs[chosen]))
        for each in recorded.keys() & step.logprobs.keys()
    )


def _mismatch(
    number: int, probe: Probe, position: int, step: Step, version: Version
) -> ReceiptMismatch:
    behind = probe.behind(position, step.token_id)
    how = "not among the likeliest then" if behind is None else f"{behind:.2f} below it then"
    return ReceiptMismatch(
        f"{version.ref} does not answer as in training: probe {number}, token {position} of "
        f"{len(probe.token_ids)} is {step.token_id} instead of {probe.token_ids[position]} ({how})",
        param=f"probes.{number - 1}.token_ids.{position}",
    )


def _tie(activations: str) -> float:
    return _TIE.get(activations, _COARSE_TIE)
