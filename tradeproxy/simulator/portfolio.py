"""What the simulated account holds: cash, positions, and the prices that they are worth."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from tradeproxy.simulator.orders import Document, Terms, number_text

if TYPE_CHECKING:
    from random import Random

CENT = Decimal("0.01")
OPENING_CASH = Decimal(100_000)


def random_uuid(random: Random) -> str:
    """Make a UUID of version 4 from `random` alone."""
    return str(UUID(int=random.getrandbits(128), version=4))


class Instrument:
    """One symbol: its price, and how much of it the account holds; less than nothing when short."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.asset_id = random_uuid(random)
        self.price = random.randint(1_000, 50_000) * CENT
        self.position = Decimal(0)

    def trade_price(self, terms: Terms) -> Decimal:
        """Move the price by up to a tenth of a percent; return what an order pays, never past its limit."""
        drift = Decimal(self._random.randint(-1000, 1000)) / 1_000_000
        self.price = max((self.price * (1 + drift)).quantize(CENT), CENT)
        if terms.limit_price is None:
            return self.price
        better = min if terms.side == "buy" else max
        return better(self.price, terms.limit_price)

    def intent(self, side: str) -> str:
        """Say what an order of this side does to the position, in Alpaca's words."""
        if side == "buy":
            return "buy_to_close" if self.position < 0 else "buy_to_open"
        return "sell_to_close" if self.position > 0 else "sell_to_open"


class Portfolio:
    """The cash and the instruments of one account. Prices follow from `random` and the order of calls."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._account_id = random_uuid(random)
        self._cash = OPENING_CASH
        self._instruments: dict[str, Instrument] = {}

    def instrument(self, symbol: str) -> Instrument:
        """Return the instrument of a symbol; any symbol exists."""
        if symbol not in self._instruments:
            self._instruments[symbol] = Instrument(self._random)
        return self._instruments[symbol]

    def settle(self, symbol: str, side: str, qty: Decimal, price: Decimal) -> Decimal:
        """Exchange cash for `qty` of a symbol, or the reverse, and return the position that results."""
        instrument = self.instrument(symbol)
        signed = qty if side == "buy" else -qty
        instrument.position += signed
        self._cash -= signed * price
        return instrument.position

    def document(self, created_at: str) -> Document:
        """Describe the account as GET /v2/account does."""
        values = [held.position * held.price for held in self._instruments.values()]
        equity = number_text(self._cash + sum(values))
        return {
            "id": self._account_id,
            "account_number": "PA" + self._account_id.replace("-", "")[:10].upper(),
            "status": "ACTIVE",
            "crypto_status": "ACTIVE",
            "currency": "USD",
            "cash": number_text(self._cash),
            "buying_power": number_text(max(self._cash, Decimal(0))),
            "portfolio_value": equity,
            "equity": equity,
            "last_equity": number_text(OPENING_CASH),
            "long_market_value": number_text(sum((v for v in values if v > 0), Decimal(0))),
            "short_market_value": number_text(sum((v for v in values if v < 0), Decimal(0))),
            "initial_margin": "0",
            "maintenance_margin": "0",
            "multiplier": "1",
            "shorting_enabled": True,
            "trading_blocked": False,
            "transfers_blocked": False,
            "account_blocked": False,
            "trade_suspended_by_user": False,
            "created_at": created_at,
        }
