"""The cash, positions and prices of the simulated account."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from tradeproxy.simulator.clock import random_uuid
from tradeproxy.simulator.errors import unprocessable
from tradeproxy.simulator.orders import Document, OrderRequest, number_text

if TYPE_CHECKING:
    from random import Random

CENT = Decimal("0.01")
OPENING_CASH = Decimal(100_000)

MOST_INSTRUMENTS = 20_000
"""The maximum of symbols; Alpaca has fewer."""


class Instrument:
    """One symbol: its price, and the account's position, which is negative if short."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.asset_id = random_uuid(random)
        self.price = random.randint(1_000, 50_000) * CENT
        self.position = Decimal(0)

    def trade_price(self, request: OrderRequest) -> Decimal:
        """Move the price by up to 0.1 %; return the trade's price, never beyond its limit."""
        drift = Decimal(self._random.randint(-1000, 1000)) / 1_000_000
        self.price = max((self.price * (1 + drift)).quantize(CENT), CENT)
        if request.limit_price is None:
            return self.price
        choose_better = min if request.side == "buy" else max
        return choose_better(self.price, request.limit_price)


class Portfolio:
    """The cash and instruments of one account.

    `random` and the sequence of calls fix all prices.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self.account_id = random_uuid(random)
        self._cash = OPENING_CASH
        self._instruments: dict[str, Instrument] = {}

    def instrument(self, symbol: str) -> Instrument:
        """Return the instrument of a symbol, and create it if it is new.

        Raises ApiError for a new symbol beyond MOST_INSTRUMENTS.
        """
        if symbol not in self._instruments:
            if len(self._instruments) >= MOST_INSTRUMENTS:
                raise unprocessable("symbol is not known")
            self._instruments[symbol] = Instrument(self._random)
        return self._instruments[symbol]

    def settle(self, symbol: str, side: str, qty: Decimal, price: Decimal) -> Decimal:
        """Settle a trade, and return the new position.

        Args:
            symbol: The symbol.
            side: `buy` or `sell`.
            qty: The quantity, positive.
            price: The price of one unit, in USD.
        """
        instrument = self.instrument(symbol)
        signed = qty if side == "buy" else -qty
        instrument.position += signed
        self._cash -= signed * price
        return instrument.position

    def document(self) -> Document:
        """Return the main fields of GET /v2/account."""
        positions_value = sum(
            instrument.position * instrument.price for instrument in self._instruments.values()
        )
        return {
            "id": self.account_id,
            "account_number": "PA" + self.account_id.replace("-", "")[:10].upper(),
            "status": "ACTIVE",
            "currency": "USD",
            "cash": number_text(self._cash),
            "buying_power": number_text(max(self._cash, Decimal(0))),
            "equity": number_text(self._cash + positions_value),
        }
