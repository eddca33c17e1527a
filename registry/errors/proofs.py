"""Versions that lack what vouches for them, or that it does not fit."""

from __future__ import annotations

from .root import RegistryError


class SignatureMissing(RegistryError):
    """A version must be signed here, and is not."""

    status = 403
    code = "signature_missing"


class SignatureInvalid(RegistryError):
    """None of a version's signatures is of somebody trusted for exactly its files."""

    status = 403
    code = "signature_invalid"


class ReceiptMissing(RegistryError):
    """A receipt is needed, and the version came without one."""

    status = 409
    code = "receipt_missing"


class ReceiptMismatch(RegistryError):
    """The adapter does not answer as it did in training; `param` names the probe and the token."""

    status = 409
    code = "receipt_mismatch"
