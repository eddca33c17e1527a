"""Signatures as statements about a version, so that its identity stays what it is.

Each is a Sigstore bundle (DSSE around an in-toto statement) as model-signing makes it: beside a
pulled folder, `model_signing verify` accepts it, without this registry.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.errors import SignatureInvalid, SignatureMissing, Unavailable
from registry.opening import AnyRegistry
from registry.statements import state, statements
from registry.versions import Version

from .signer import Signer
from .trust import Trust

if TYPE_CHECKING:
    from model_signing import verifying

logger = logging.getLogger(__name__)

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_OTHER_FILES = "Signature mismatch"  # what model-signing says at length
_MOST = 64  # signatures of one version that are looked at


@dataclass(frozen=True)
class Signature:
    """A signature that was verified: who made it, and the referrer that holds it."""

    by: str
    digest: str


def sign(registry: AnyRegistry, version: Version, signer: Signer) -> str:
    """Sign a version and attach the signature; returns the referrer's digest.

    Raises `InvalidRequest` for a key that cannot be used, `Unavailable` when Sigstore does not
    answer, and `MissingExtra`.
    """
    config = signer.configure()  # before what needs the extra: it says which
    from .covered import CoveredFiles

    config.set_hashing_config(CoveredFiles(version))
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle.json"
        try:
            config.sign(Path(version.name), bundle)
        except Exception as failure:  # with a key nothing fails any more: it is Sigstore's service
            raise Unavailable(f"{version.ref} could not be signed: {failure}") from failure
        content = json.loads(bundle.read_bytes())
    return state(registry, version, BUNDLE_TYPE, content)


def check_signature(registry: AnyRegistry, version: Version, trust: Trust) -> Signature:
    """The first signature of a version that somebody trusted made.

    Raises `SignatureMissing` when there is none at all, and `SignatureInvalid` when none counts.
    """
    found = statements(registry, version, BUNDLE_TYPE)[:_MOST]
    if not found:
        raise SignatureMissing(
            f"{version.ref} is not signed: `registry sign {version.ref} --key KEY` does it",
            param="signature",
        )
    reasons: list[str] = []
    for who, verifier in trust.verifiers():
        for statement in found:
            reason = _objection(verifier, version, statement.content)
            if reason is None:
                return Signature(who, statement.digest)
            reasons.append(f"{who}: {reason}")
    raise SignatureInvalid(
        f"none of the {len(found)} signatures of {version.ref} is of somebody trusted for exactly "
        f"these files ({'; '.join(reasons)[:500]})",
        param="signature",
    )


def _objection(
    verifier: verifying.Config, version: Version, bundle: Mapping[str, Any]
) -> str | None:
    """What speaks against a signature, or None."""
    from .covered import CoveredFiles

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle.json"
        path.write_text(json.dumps(bundle))
        try:
            verifier.set_hashing_config(CoveredFiles(version)).verify(Path(version.name), path)
        except Exception as failure:  # a stranger's bundle may break any line of its reader
            reason = str(failure) or type(failure).__name__
            return "it is for other files" if reason.startswith(_OTHER_FILES) else reason
    return None
