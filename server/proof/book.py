"""What was proven on this machine, so that a restart need not replay every receipt again.

Kept beside the server and not in the registry: a proof says what these kernels on this machine
round to, and a server's key need not be good for writing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from pathlib import Path

from registry.canonical import canonical_json
from registry.replay import Proof


def engine_digest() -> str:
    """The sha256 of the server's own sources: another engine proves anew."""
    sha256 = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        sha256.update(path.read_bytes())
    return sha256.hexdigest()


class ProofBook:
    """Proofs by version, under what they hold for: base, engine, device, precision."""

    def __init__(self, folder: Path, **held_for: str) -> None:
        context = hashlib.sha256(canonical_json(held_for)).hexdigest()[:16]
        self._folder = folder / context

    def find(self, digest: str) -> Proof | None:
        """The proof of a version, or None; a damaged one counts as none."""
        try:
            return Proof(**json.loads(self._path(digest).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, digest: str, proof: Proof) -> None:
        """Remember a proof; where that fails, it is replayed again after the next start."""
        path = self._path(digest)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(canonical_json(dataclasses.asdict(proof)))
            partial.replace(path)

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest.removeprefix('sha256:')}.json"
