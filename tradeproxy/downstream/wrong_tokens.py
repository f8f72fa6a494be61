"""Wrong tokens, counted by address: after a few of them, each answer takes a second."""

from __future__ import annotations

from collections.abc import Callable

from tradeproxy.runtime.peer import get_host_key

MAX_WRONG = 10
"""Wrong tokens in WINDOW seconds from one address that are answered at once."""

WINDOW = 60.0
"""Seconds. The count of an address starts over this long after its first wrong token."""

DELAY = 1.0
"""Seconds before the answer to every further wrong token of the address."""

MAX_ADDRESSES = 10_000
"""Addresses that are counted. The one that was counted first is forgotten for another one."""


class WrongTokens:
    """Counts wrong tokens. A right token is never delayed, whatever its address sent before."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        """Create an empty table; `seconds` is a clock that cannot be set."""
        self._seconds = seconds
        self._counts: dict[str, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def record(self, address: str) -> float:
        """Count a wrong token, and return by how many seconds its answer must be delayed.

        Args:
            address: the client's; "" for a UNIX socket, whose clients share one count. So do the
                addresses of one network of IPv6: see `get_host_key`.
        """
        address = get_host_key(address)
        now = self._seconds()
        since, count = self._counts.get(address, (now, 0))
        if now - since >= WINDOW:
            self._counts.pop(address)  # it becomes the newest of the table
            since, count = now, 0
        self._counts[address] = since, count + 1
        if len(self._counts) > MAX_ADDRESSES:
            del self._counts[next(iter(self._counts))]
        return DELAY if count >= MAX_WRONG else 0.0
