"""Events with the fields that filters compare."""

from __future__ import annotations

import json
from typing import Any

from tests.support.journals import event


def update(
    n: int, symbol: str = "SPY", kind: str = "fill", owner: str | None = "bot1-", **data: Any
) -> bytes:
    """Return the frame of event `n` with the fields that filters compare.

    The order's client_order_id begins with `owner`. With None it is null.
    """
    document = json.loads(event(n, event=kind, **data).payload)
    document["data"]["order"] |= {"symbol": symbol, "client_order_id": owner and f"{owner}{n}"}
    return json.dumps(document, separators=(",", ":")).encode()
