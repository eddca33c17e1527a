"""Who vouches for a version: signatures that strangers' tools can verify too."""

from .signatures import Signature, check_signature, sign
from .signer import Signer
from .trust import Trust

__all__ = ["Signature", "Signer", "Trust", "check_signature", "sign"]
