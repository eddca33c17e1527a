"""Whose signatures count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from registry.errors import InvalidRequest, MissingExtra, Unavailable

if TYPE_CHECKING:
    from model_signing import verifying


@dataclass(frozen=True)
class Identity:
    """A person or job as Sigstore's certificates name it, and who says so (an OpenID issuer)."""

    name: str
    issuer: str


@dataclass(frozen=True)
class Trust:
    """Any one of these is enough: public keys (PEM), certificates of authorities, identities."""

    keys: tuple[Path, ...] = ()
    authorities: tuple[Path, ...] = ()
    identities: tuple[Identity, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.keys or self.authorities or self.identities)

    def verifiers(self) -> Iterator[tuple[str, verifying.Config]]:
        """Who is trusted, and model-signing's configuration to verify their signatures.

        Raises `InvalidRequest` for a key that cannot be read, and `Unavailable` when Sigstore's
        own keys cannot be fetched.
        """
        try:
            from model_signing import verifying
        except ModuleNotFoundError:
            raise MissingExtra("verifying signatures", "signing") from None
        try:
            for key in self.keys:
                verifier = verifying.Config().use_elliptic_key_verifier(public_key=key)
                yield f"key {key.name}", verifier
            if self.authorities:
                verifier = verifying.Config().use_certificate_verifier(
                    certificate_chain=self.authorities
                )
                yield (
                    "a certificate of " + ", ".join(path.name for path in self.authorities),
                    verifier,
                )
        except (OSError, ValueError, TypeError) as failure:
            raise InvalidRequest(f"a trusted key cannot be used: {failure}", param="key") from None
        for identity in self.identities:
            yield identity.name, _sigstore(identity)


def _sigstore(identity: Identity) -> verifying.Config:
    from model_signing import verifying

    try:
        return verifying.Config().use_sigstore_verifier(
            identity=identity.name, oidc_issuer=identity.issuer
        )
    except Exception as failure:  # the network, the cache on the disk, or the signed metadata
        raise Unavailable(
            f"Sigstore's keys cannot be fetched: {failure}", param="identity"
        ) from None
