"""Orders with an amount that is no number within the bounds of `wire.amount`.

Nothing is computed of such an order, so its missed events are not found. The log says so once.
"""

from __future__ import annotations

import re

from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.upstream.rest import RestClient
from tradeproxy.wire.quote import MAX_WORD

MAX_REPORTED = 1000
"""Orders that are logged; further ones are left out without a line."""

_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Alpaca's ids of orders: longer than a word of another text that is quoted."""


class UnreadableOrders:
    """Logs each order with an unreadable amount once."""

    def __init__(self, account: str, rest: RestClient) -> None:
        self._log = AccountLogger(self, account)
        self._rest = rest
        self._reported: set[str] = set()

    def report(self, order_id: str, name: str) -> None:
        """Log that the field `name` of an order is unreadable.

        A hostile server may put our credentials into the id.
        """
        if order_id not in self._reported and len(self._reported) < MAX_REPORTED:
            self._reported.add(order_id)
            max_word = len(order_id) if _UUID.fullmatch(order_id) else MAX_WORD
            self._log.warn(
                "order {order}: {field} is no number of at most 40 digits;"
                " what is missing of it is not found",
                order=self._rest.quote(order_id, max_word),
                field=name,
            )
