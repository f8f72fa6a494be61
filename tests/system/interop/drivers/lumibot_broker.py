"""lumibot: its Alpaca broker, whose stream is alpaca-py's."""
# mypy: ignore-errors

from lumibot.entities import Asset, Order
from printing import show

# snippet:
from alpaca.trading.stream import TradingStream
from lumibot.brokers import Alpaca


class ProxiedAlpaca(Alpaca):
    def _get_stream_object(self):
        return TradingStream("any", "any", url_override="ws://localhost:8099/trade-updates-paper")


# snippet end


class WatchedAlpaca(ProxiedAlpaca):
    """Follows every order as if a strategy of its own had placed it; prints what lumibot has seen to."""

    def get_tracked_order(self, identifier, use_placeholders=False):
        """Return the order; unknown ones become known."""
        order = super().get_tracked_order(identifier, use_placeholders)
        if order is None:
            order = Order(
                "interop", asset=Asset("SPY"), quantity=2, side="buy", identifier=identifier
            )
            self._unprocessed_orders.append(order)
        return order

    def _process_trade_event(self, stored_order, type_event, *arguments, **named):
        super()._process_trade_event(stored_order, type_event, *arguments, **named)
        show(type_event, stored_order.identifier)


broker = WatchedAlpaca(
    {"API_KEY": "any", "API_SECRET": "any", "PAPER": True}, start_orders_thread=False
)
broker._stop_event.wait()
