"""Keys to sign with in tests."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Pair:
    """A key pair, in files."""

    def __init__(self, folder: Path, name: str, password: str | None = None) -> None:
        self.secret = ec.generate_private_key(ec.SECP256R1())
        self.private, self.public = folder / f"{name}.key", folder / f"{name}.pub"
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password is not None:
            encryption = serialization.BestAvailableEncryption(password.encode())
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        self.private.write_bytes(self.secret.private_bytes(pem, pkcs8, encryption))
        info = serialization.PublicFormat.SubjectPublicKeyInfo
        self.public.write_bytes(self.secret.public_key().public_bytes(pem, info))
