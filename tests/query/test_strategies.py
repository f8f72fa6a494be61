"""Tests for tradeproxy.query.strategies."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.query.parsing import parse_or_explain
from tradeproxy.query.strategies import StrategiesRequest, parse_strategies_request


def read(query: bytes) -> StrategiesRequest | str:
    """Return the query as a value, or the line of its error."""
    return parse_or_explain(parse_strategies_request, query)


class StrategiesRequestTests(SynchronousTestCase):
    """The query of `/strategies`."""

    def test_query_without_parameters_asks_for_a_hundred_with_lots(self) -> None:
        """As docs/strategies.md promises."""
        wanted = StrategiesRequest(frozenset(), frozenset(), True, 100, "")
        self.assertEqual(read(b""), wanted)

    def test_every_parameter_has_its_effect(self) -> None:
        """White space around names is ignored. A cursor may name a position."""
        self.assertEqual(
            read(b"strategy=alpha,+beta,&symbols=spy,+BTC/USD&lots=0&limit=7&cursor=alpha%09SPY"),
            StrategiesRequest(
                frozenset(("alpha", "beta")), frozenset(("SPY", "BTCUSD")), False, 7, "alpha\tSPY"
            ),
        )

    def test_wrong_value_is_explained(self) -> None:
        """A page from a wrong position would leave strategies out."""
        for query, line in (
            (b"cursor=%09SPY", "cursor: is not the cursor of a page of strategies"),
            (b"lots=x", "lots: is neither 1 nor 0"),
            (b"limit=0", "limit: is not a number from 1 to "),
        ):
            self.assertTrue(str(read(query)).startswith(line), query)
