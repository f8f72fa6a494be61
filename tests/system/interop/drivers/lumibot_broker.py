from lumibot.entities import Asset, Order
from proxied_lumibot import ProxiedAlpaca


class WatchedAlpaca(ProxiedAlpaca):
    """Tracks every order as if a strategy had placed it, and prints the processed events."""

    def get_tracked_order(self, identifier, use_placeholders=False):
        """Return the order; an unknown order is added to the tracked ones."""
        order = super().get_tracked_order(identifier, use_placeholders)
        if order is None:
            order = Order(
                "interop", asset=Asset("SPY"), quantity=2, side="buy", identifier=identifier
            )
            self._unprocessed_orders.append(order)
        return order

    def _process_trade_event(self, stored_order, type_event, *arguments, **named):
        super()._process_trade_event(stored_order, type_event, *arguments, **named)
        print(f"{type_event} {stored_order.identifier}\n", end="")


broker = WatchedAlpaca(
    {"API_KEY": "any", "API_SECRET": "any", "PAPER": True}, start_orders_thread=False
)
broker._stop_event.wait()
