"""The cash, positions and prices of the simulated account."""

from __future__ import annotations

import re
from decimal import Context, Decimal
from random import Random

from tradeproxy.simulator.clock import random_uuid
from tradeproxy.simulator.errors import ApiError, unprocessable
from tradeproxy.simulator.orders import (
    LONGEST_TEXT,
    Document,
    OrderRequest,
    asset_class,
    number_text,
)

CENT = Decimal("0.01")
OPENING_CASH = Decimal(100_000)

_FRACTION, _WIDE = Decimal("1e-9"), Context(prec=60)
_SYMBOL = re.compile(r"[A-Z0-9.]{1,21}(?:/[A-Z0-9]{1,10})?")

MOST_INSTRUMENTS = 20_000
"""The maximum of symbols; Alpaca has fewer."""


class Instrument:
    """One symbol: its price, and the account's position, which is negative if short.

    `entry_price` is the average price at which the position was opened, in USD.
    """

    def __init__(self, symbol: str, random: Random) -> None:
        self.symbol = symbol
        self._random = random
        self.asset_id = random_uuid(random)
        self.price = random.randint(1_000, 50_000) * CENT
        self.position = Decimal(0)
        self.entry_price = Decimal(0)

    def trade(self, qty: Decimal, price: Decimal) -> None:
        """Change the position by `qty`, negative for a sale, at a price of `price`."""
        held, self.position = self.position, self.position + qty
        if held * qty >= 0:  # it is opened or grows
            self.entry_price = (held * self.entry_price + qty * price) / self.position
        elif held * self.position < 0:  # it is turned from long to short, or back
            self.entry_price = price

    def find_intent(self, side: str) -> str:
        """Return the `position_intent` of an order of `side`: whether it opens or closes."""
        closes = self.position < 0 if side == "buy" else self.position > 0
        return f"{side}_to_{'close' if closes else 'open'}"

    def matches(self, name: str) -> bool:
        """Whether `name` is this symbol, with or without its slash, or the asset's id."""
        return name in (self.symbol, _joined(self.symbol), self.asset_id)

    def asset(self) -> Document:
        """Return the symbol as GET /v2/assets does."""
        is_crypto = asset_class(self.symbol) == "crypto"
        return {
            "id": self.asset_id,
            "class": asset_class(self.symbol),
            "exchange": self._exchange,
            "symbol": self.symbol,
            "name": self.symbol,
            "status": "active",
            "tradable": True,
            "marginable": not is_crypto,
            "shortable": not is_crypto,
            "easy_to_borrow": not is_crypto,
            "fractionable": True,
            "maintenance_margin_requirement": 100 if is_crypto else 30,
            "attributes": [],
        }

    def open_position(self) -> Document:
        """Return the position as GET /v2/positions does; the day begins at the entry price."""
        cost, value = self.position * self.entry_price, self.position * self.price
        gain, change = value - cost, self.price / self.entry_price - 1
        gain_part = gain / abs(cost)
        return {
            "asset_id": self.asset_id,
            "symbol": _joined(self.symbol),
            "exchange": self._exchange,
            "asset_class": asset_class(self.symbol),
            "asset_marginable": asset_class(self.symbol) != "crypto",
            "qty": number_text(self.position),
            "qty_available": number_text(self.position),
            "avg_entry_price": _rounded(self.entry_price),
            "side": "long" if self.position > 0 else "short",
            "market_value": _rounded(value),
            "cost_basis": _rounded(cost),
            "unrealized_pl": _rounded(gain),
            "unrealized_plpc": _rounded(gain_part),
            "unrealized_intraday_pl": _rounded(gain),
            "unrealized_intraday_plpc": _rounded(gain_part),
            "current_price": number_text(self.price),
            "lastday_price": _rounded(self.entry_price),
            "change_today": _rounded(change),
        }

    @property
    def _exchange(self) -> str:
        return "CRYPTO" if asset_class(self.symbol) == "crypto" else "NASDAQ"

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
        """A UUID. A new value simulates another account with the same orders."""
        self._cash = OPENING_CASH
        self._instruments: dict[str, Instrument] = {}

    def instrument(self, symbol: str) -> Instrument:
        """Return the instrument of a symbol, and create it if it is new.

        Raises ApiError for a new symbol beyond MOST_INSTRUMENTS.
        """
        if symbol not in self._instruments:
            if len(self._instruments) >= MOST_INSTRUMENTS:
                raise unprocessable("symbol is not known")
            self._instruments[symbol] = Instrument(symbol, self._random)
        return self._instruments[symbol]

    def settle(self, symbol: str, side: str, qty: Decimal, price: Decimal) -> Decimal:
        """Settle a trade, and return the new position.

        The side is `buy` or `sell`, the quantity is positive, and the price is in USD.
        """
        instrument = self.instrument(symbol)
        signed = qty if side == "buy" else -qty
        instrument.trade(signed, price)
        self._cash -= signed * price
        return instrument.position

    def find_asset(self, name: str) -> Instrument:
        """Return the instrument of a symbol or of an asset's id.

        Any text that can be a symbol is one. Raises ApiError for other text.
        """
        for instrument in self._instruments.values():
            if instrument.matches(name):
                return instrument
        if _SYMBOL.fullmatch(name) is None:
            raise ApiError(404, 40410000, f"asset not found for {name[:LONGEST_TEXT]}")
        return self.instrument(name)

    def find_position(self, name: str) -> Instrument:
        """Return the instrument of an open position, by symbol or asset id. Raises ApiError."""
        for instrument in self.positions():
            if instrument.matches(name):
                return instrument
        raise ApiError(404, 40410000, "position does not exist")

    def assets(self) -> list[Instrument]:
        """List every instrument that was ever named, by symbol."""
        return sorted(self._instruments.values(), key=lambda instrument: instrument.symbol)

    def positions(self) -> list[Instrument]:
        """List the instruments with an open position, by symbol."""
        return [instrument for instrument in self.assets() if instrument.position]

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


def _rounded(number: Decimal) -> str | None:
    return number_text(number.quantize(_FRACTION, context=_WIDE))


def _joined(symbol: str) -> str:
    """Return a symbol as Alpaca's positions have it: BTCUSD for BTC/USD."""
    return symbol.replace("/", "")
