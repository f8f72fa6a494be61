"""A client that resumes after a disconnect.

`Client` is for Twisted, `tradeproxy.client.aio.Client` for asyncio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tradeproxy.client.base import RefusedError, StateError
from tradeproxy.client.resume import PositionLostError, Update
from tradeproxy.client.snapshot import AccountSnapshot

if TYPE_CHECKING:
    from tradeproxy.client.tx import TwistedClient as Client

__all__ = ["AccountSnapshot", "Client", "PositionLostError", "RefusedError", "StateError", "Update"]


def __getattr__(name: str) -> Any:
    # Imported on demand: an asyncio program must not load Autobahn's Twisted half.
    # Autobahn allows only one of Twisted and asyncio per process.
    if name == "Client":
        from tradeproxy.client.tx import TwistedClient

        return TwistedClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
