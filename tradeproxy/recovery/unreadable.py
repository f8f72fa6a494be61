"""Orders with an amount that is no number within the bounds of `wire.amount`.

Nothing is computed of such an order, so its missed events are not found. The log says so once.
"""

from __future__ import annotations

from twisted.logger import Logger

MAX_REPORTED = 1000
"""Orders that are logged; further ones are left out without a line."""


class UnreadableOrders:
    """Logs each order with an unreadable amount once."""

    _log = Logger()

    def __init__(self, account: str) -> None:
        self._account = account
        self._reported: set[str] = set()

    def report(self, order_id: str, name: str) -> None:
        """Log that the field `name` of an order is unreadable."""
        if order_id not in self._reported and len(self._reported) < MAX_REPORTED:
            self._reported.add(order_id)
            self._log.warn(
                "{account}: order {order!r}: {field} is no number of at most 40 digits;"
                " what is missing of it is not found",
                account=self._account,
                order=order_id,
                field=name,
            )
