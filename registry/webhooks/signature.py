"""How a receiver knows that a delivery is ours and new: HMAC-SHA256 over time and body.

The header is Stripe's shape: `t=<Unix seconds>,v1=<hex>`, over `<t>.<body>`.
"""

from __future__ import annotations

import hashlib
import hmac

HEADER = "x-hatstand-signature"
TOLERANCE = 300.0  # seconds that a delivery may be old


def sign(secret: str, body: bytes, at: int) -> str:
    """The header's value for a body that is sent at that Unix time."""
    return f"t={at},v1={_mac(secret, body, at)}"


def is_signed(secret: str, body: bytes, header: str, now: float) -> bool:
    """Whether the header is right for the body, and not older than TOLERANCE."""
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    at = parts.get("t", "")
    if not (at.isascii() and at.isdigit()) or len(at) > 12 or abs(now - int(at)) > TOLERANCE:
        return False
    return hmac.compare_digest(_mac(secret, body, int(at)), parts.get("v1", ""))


def _mac(secret: str, body: bytes, at: int) -> str:
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
