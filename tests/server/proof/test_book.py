"""Proofs that outlast a server."""

from __future__ import annotations

from pathlib import Path

from registry.replay import Proof
from server.proof import ProofBook, engine_digest

DIGEST = "sha256:" + "a" * 64
PROOF = Proof(num_probes=2, num_tokens=9, num_near_ties=1, drift=0.25)


def test_a_proof_is_found_for_the_same_base_and_engine_only(tmp_path: Path) -> None:
    ProofBook(tmp_path, base="b", engine="e").write(DIGEST, PROOF)
    assert ProofBook(tmp_path, engine="e", base="b").find(DIGEST) == PROOF
    assert ProofBook(tmp_path, base="b", engine="e").find(DIGEST.replace("a", "b")) is None
    assert ProofBook(tmp_path, base="b", engine="other").find(DIGEST) is None
    assert ProofBook(tmp_path, base="other", engine="e").find(DIGEST) is None


def test_a_damaged_proof_is_none(tmp_path: Path) -> None:
    book = ProofBook(tmp_path, base="b")
    book.write(DIGEST, PROOF)
    (kept,) = tmp_path.rglob("*.json")
    for damage in (b"", b"[]", b'{"num_probes": 1}', b'{"is": "another"}'):
        kept.write_bytes(damage)
        assert book.find(DIGEST) is None


def test_a_folder_that_cannot_be_written_costs_a_replay_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "proofs").write_text("in the way")
    book = ProofBook(tmp_path / "proofs", base="b")
    book.write(DIGEST, PROOF)
    assert book.find(DIGEST) is None


def test_the_engine_is_its_sources() -> None:
    assert len(engine_digest()) == 64
    assert engine_digest() == engine_digest()
