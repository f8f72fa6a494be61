"""The query of the page about an account's strategies, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from tradeproxy.book.fields import normalize_symbol
from tradeproxy.query.parameters import QueryError, read_limit, read_parameters, read_switch
from tradeproxy.wire.strategy_rule import MAX_STRATEGIES, is_strategy_name

DEFAULT_LIMIT = 100

SEPARATOR = "\t"
"""Between a strategy and a symbol in a cursor; no strategy's name has one."""


@dataclass(frozen=True, slots=True)
class StrategiesRequest:
    """A page of strategies. Empty sets do not restrict."""

    names: frozenset[str]
    symbols: frozenset[str]
    lots: bool
    limit: int
    after: str
    """The last strategy on the page before; "" for the first page. If the page did not have all of
    its positions: SEPARATOR, and the symbol of the last one."""


def parse_strategies_request(query: bytes) -> StrategiesRequest:
    """Parse the query of `/strategies`. Raises QueryError."""
    given = read_parameters(query, ("strategy", "symbols", "lots", "limit", "cursor"))
    limit = read_limit(given, DEFAULT_LIMIT, MAX_STRATEGIES)
    after = given.get("cursor", "")
    if after and not is_strategy_name(after.partition(SEPARATOR)[0]):
        raise QueryError("cursor: is not the cursor of a page of strategies")
    return StrategiesRequest(
        frozenset(_split(given.get("strategy", ""))),
        frozenset(normalize_symbol(symbol) for symbol in _split(given.get("symbols", ""))),
        read_switch({"lots": "1", **given}, "lots"),
        limit,
        after,
    )


def _split(text: str) -> list[str]:
    return [part for part in (part.strip() for part in text.split(",")) if part]
