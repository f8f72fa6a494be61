"""The signature of a message, as Standard Webhooks defines it (version 1.0.0, symmetric keys)."""

from __future__ import annotations

import base64
import hashlib
import hmac

from tradeproxy.wire.credentials import Secret


def sign(
    secret: Secret | None, message_id: str, timestamp: int, body: bytes
) -> tuple[tuple[str, str], ...]:
    """Return the header with the signature; none without a secret.

    Args:
        secret: `whsec_` and the base64 of the key, or the base64 alone.
        message_id: has no dot.
        timestamp: of the attempt; Unix time in seconds.
        body: as it is sent.
    """
    if secret is None:
        return ()
    key = base64.b64decode(secret.reveal().removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return (("webhook-signature", f"v1,{digest}"),)
