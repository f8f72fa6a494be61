"""Alpaca's trading API: orders, positions, assets, the account, the clock and the calendar."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeAlias

from tradeproxy.simulator.activities import (
    list_activities,
    moment,
    parse_activity_query,
    whole_number,
)
from tradeproxy.simulator.errors import ApiError, unprocessable
from tradeproxy.simulator.exchange import ExchangeResult
from tradeproxy.simulator.market import list_days, read_clock
from tradeproxy.simulator.orders import (
    SIDES,
    Document,
    Order,
    choice,
    parse_order,
    parse_replacement,
    read_number,
)
from tradeproxy.simulator.simulator import Simulator

DEFAULT_LIMIT, LARGEST_LIMIT = 50, 500
"""The default and the maximum number of orders in GET /v2/orders."""

HttpResponse: TypeAlias = tuple[int, Any]
"""An HTTP status and a JSON value; None for no body."""

Query: TypeAlias = dict[str, str]
"""The parameters of a request's URL."""


class TradingApi:
    """The requests to one account below /v2/, apart from its events."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._exchange = simulator.exchange
        self._portfolio = simulator.exchange.portfolio

    def respond(
        self, method: bytes, path: list[str], query: Query, read_body: Callable[[], Any]
    ) -> HttpResponse:
        """Respond to a request. Raises ApiError, with 404 for an unknown path.

        `path` has the decoded segments after /v2/. `read_body` returns the body's JSON value, or
        raises ApiError.
        """
        match path:
            case ["orders" | "orders:by_client_order_id", *_]:
                response = self._respond_to_orders(method, path, query, read_body)
            case ["positions", *name]:
                response = self._respond_to_positions(method, "/".join(name), query)
            case _ if method == b"GET":
                response = self._describe(path, query)
            case _:
                response = None
        if response is None:
            raise ApiError(404, 40410000, "endpoint not found.")
        return response

    def _respond_to_orders(
        self, method: bytes, path: list[str], query: Query, read_body: Callable[[], Any]
    ) -> HttpResponse | None:
        match method, path:
            case b"GET", ["orders"]:
                return self._list_orders(query)
            case b"POST", ["orders"]:
                return self._apply(self._exchange.submit(parse_order(read_body())))
            case b"DELETE", ["orders"]:
                canceled = self._simulator.apply(self._exchange.cancel_all())
                return 207, [{"id": order.id, "status": 200} for order in canceled]
            case b"GET", ["orders:by_client_order_id"]:
                name = query.get("client_order_id", "")
                return 200, self._exchange.order_by_client_id(name).document()
            case b"GET", ["orders", order_id]:
                return 200, self._exchange.order(order_id).document()
            case b"PATCH", ["orders", order_id]:
                return self._apply(self._exchange.replace(order_id, parse_replacement(read_body())))
            case b"DELETE", ["orders", order_id]:
                self._simulator.apply(self._exchange.cancel(order_id))
                return 204, None
        return None

    def _respond_to_positions(self, method: bytes, name: str, query: Query) -> HttpResponse | None:
        match method, name:
            case b"GET", "":
                return 200, [held.open_position() for held in self._portfolio.positions()]
            case b"GET", _:
                return 200, self._portfolio.find_position(name).open_position()
            case b"DELETE", "":
                return self._close_all(query)
            case b"DELETE", _:
                return self._apply(self._exchange.close_position(name, self._part(name, query)))
        return None

    def _describe(self, path: list[str], query: Query) -> HttpResponse | None:
        match path:
            case ["account"]:
                return 200, self._portfolio.document()
            case ["account", "activities"]:
                return 200, self._list_activities(query)
            case ["account", "activities", activity_type]:
                return 200, self._list_activities(query | {"activity_types": activity_type})
            case ["assets"]:
                return 200, self._list_assets(query)
            case ["assets", *name]:
                return 200, self._portfolio.find_asset("/".join(name)).asset()
            case ["clock"]:
                return 200, read_clock(self._simulator.wall_clock())
            case ["calendar"]:
                return 200, list_days(query, self._simulator.wall_clock())
        return None

    def _apply(self, result: ExchangeResult) -> HttpResponse:
        order = self._simulator.apply(result)[0]
        return 200, order.document()

    def _list_orders(self, query: Query) -> HttpResponse:
        fields = {"status": "open", "direction": "desc", "limit": str(DEFAULT_LIMIT)} | query
        limit = whole_number(fields, "limit", LARGEST_LIMIT)
        orders = self._exchange.orders(
            choice(fields, "status", ("open", "closed", "all")),
            newest_first=choice(fields, "direction", ("asc", "desc")) == "desc",
            after=moment(fields, "after"),
            until=moment(fields, "until"),
        )
        return 200, [order.document() for order in _select(orders, fields)[:limit]]

    def _list_activities(self, query: Query) -> list[Document]:
        return list_activities(self._simulator.executions(), parse_activity_query(query))

    def _list_assets(self, query: Query) -> list[Document]:
        wanted = {
            "status": query.get("status", "active"),
            "class": query.get("asset_class"),
            "exchange": query.get("exchange"),
        }
        assets = [instrument.asset() for instrument in self._portfolio.assets()]
        return [
            asset
            for asset in assets
            if all(value in (None, asset[name]) for name, value in wanted.items())
        ]

    def _part(self, name: str, query: Query) -> Decimal | None:
        """Return the quantity to close: `qty`, or a `percentage` of the position."""
        percentage = read_number(query, "percentage")
        if percentage is None:
            return read_number(query, "qty")
        if "qty" in query or percentage > 100:
            raise unprocessable("percentage must be <= 100, without qty")
        return abs(self._portfolio.find_position(name).position) * percentage / 100

    def _close_all(self, query: Query) -> HttpResponse:
        if query.get("cancel_orders", "").lower() == "true":
            self._simulator.apply(self._exchange.cancel_all())
        closed = []
        for held in self._portfolio.positions():
            _, order = self._apply(self._exchange.close_position(held.symbol))
            closed.append({"symbol": order["symbol"], "status": 200, "body": order})
        return 207, closed


def _select(orders: list[Order], fields: Query) -> list[Order]:
    """Return the orders of the wanted `symbols`, separated by commas, and of the wanted `side`."""
    if "symbols" in fields:
        symbols = {symbol.strip().upper() for symbol in fields["symbols"].split(",")}
        orders = [order for order in orders if order.request.symbol in symbols]
    if "side" in fields:
        side = choice(fields, "side", SIDES)
        orders = [order for order in orders if order.request.side == side]
    return orders
