"""Pings that Autobahn sends by itself, at any date of the machine."""

from __future__ import annotations

import os
from typing import Any

PING_SIZE = 12
"""Bytes of a ping: Autobahn reads so many from the pong."""


class AutoPingMixin:
    """Sends pings with random bytes. List it before the Autobahn protocol.

    Autobahn puts the date into each ping, as a number that cannot be negative. Before 1970 an
    error ended the pings of a connection, and a dead peer was never found.
    """

    def _sendAutoPing(self) -> None:
        autobahn: Any = self
        autobahn.autoPingPendingCall = None
        autobahn.autoPingPending = os.urandom(PING_SIZE)
        autobahn.sendPing(autobahn.autoPingPending)
        if autobahn.autoPingTimeout:
            timer = autobahn.factory._batched_timer  # noqa: SLF001  # Autobahn's
            autobahn.autoPingTimeoutCall = timer.call_later(
                autobahn.autoPingTimeout, autobahn.onAutoPingTimeout
            )
