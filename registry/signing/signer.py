"""Whose signature is made: a key pair's, a certificate's, or a person's through Sigstore."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.errors import InvalidRequest, MissingExtra, Unavailable

if TYPE_CHECKING:
    from model_signing import signing


@dataclass(frozen=True)
class Signer:
    """One of: `key` (a PEM file), `key` with `certificate` and its `chain`, or neither.

    Without a key, Sigstore's public service makes a short-lived one for the identity that
    `identity_token` proves, or that a browser or the CI job's own credentials do.
    """

    key: Path | None = None
    password: str | None = None
    certificate: Path | None = None
    chain: tuple[Path, ...] = ()
    identity_token: str | None = None

    def configure(self) -> signing.Config:
        """model-signing's configuration.

        Raises `InvalidRequest` for a key that cannot be used, `Unavailable`, and `MissingExtra`.
        """
        try:
            from model_signing import signing
        except ModuleNotFoundError:
            raise MissingExtra("signing", "signing") from None
        config = signing.Config()
        try:
            return self._with_signer(config)
        except (OSError, ValueError, TypeError) as failure:  # TypeError: a password too many or few
            raise InvalidRequest(
                f"the signing key cannot be used: {failure}", param="key"
            ) from None

    def _with_signer(self, config: signing.Config) -> signing.Config:
        if self.certificate is not None and self.key is not None:
            return config.use_certificate_signer(
                private_key=self.key,
                signing_certificate=self.certificate,
                certificate_chain=self.chain,
            )
        if self.certificate is not None:
            raise ValueError("a certificate needs the private key that belongs to it")
        if self.key is not None:
            # Bytes, whatever its annotation says: 1.1 hands them to cryptography as they are.
            password: Any = None if self.password is None else self.password.encode()
            return config.use_elliptic_key_signer(private_key=self.key, password=password)
        return self._through_sigstore(config)

    def _through_sigstore(self, config: signing.Config) -> signing.Config:
        try:
            return config.use_sigstore_signer(
                identity_token=self.identity_token,
                use_ambient_credentials=self.identity_token is None,
            )
        except Exception as failure:  # the network, the cache on the disk, or the signed metadata
            raise Unavailable(f"Sigstore does not answer: {failure}", param="identity") from None
