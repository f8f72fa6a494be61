"""Tests for tradeproxy.query.filters, and for what clients with equal filters share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.query.parsing import parse_or_explain
from tests.support import frames as alpaca
from tests.support.filtered import update
from tests.support.frames import NOT_JSON
from tests.support.journals import memory_journal
from tests.support.properties import examples
from tradeproxy.downstream import encoder
from tradeproxy.downstream.subscription import POSITION_INTERVAL
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Batch, Row
from tradeproxy.query.filters import (
    MAX_LIST_ITEMS,
    NAMES,
    EventTraits,
    Filter,
    get_traits,
    read_filter,
    read_traits,
)
from tradeproxy.query.parameters import QueryError
from tradeproxy.query.stream import (
    HistoryQuery,
    SubscribeOptions,
    parse_history_query,
    parse_subscribe_options,
)
from tradeproxy.wire.frame import Recovered, with_mark

NOW = 1_800_000_000.0
TEXT = st.text(st.characters(codec="utf-8"))


class FilterQueryTests(SynchronousTestCase):
    """The filter parameters in the query of a URL."""

    def read(self, query: str) -> Filter | str | None:
        """Return the filter or the error, which both kinds of query must agree on."""
        options = parse_or_explain(parse_subscribe_options, query.encode(), NOW)
        history = parse_or_explain(parse_history_query, query.encode(), None, NOW)
        both = [
            read.filter if isinstance(read, (SubscribeOptions, HistoryQuery)) else read
            for read in (options, history)
        ]
        self.assertEqual(*both)
        return both[0]

    def test_query_without_filter_parameters_has_no_filter(self) -> None:
        """Unknown parameters make no filter."""
        for query in ("", "x=AAPL", "replay=5"):
            self.assertIsNone(self.read(query), query)

    def test_query_valid_parameters_are_parsed(self) -> None:
        """Lists have commas and any case and escaping; a prefix is taken as it is."""
        for query, expected in {
            "symbols=AAPL,SPY": Filter(symbols=frozenset({"AAPL", "SPY"})),
            "symbols=aapl%2Cspy,AAPL": Filter(symbols=frozenset({"AAPL", "SPY"})),
            "symbols=BTC/USD,eth%2Fusd": Filter(symbols=frozenset({"BTCUSD", "ETHUSD"})),
            "symbols=BRK.B,AAPL250321P00200000": Filter(
                symbols=frozenset({"BRK.B", "AAPL250321P00200000"})
            ),
            "events=fill,Partial_Fill": Filter(events=frozenset({"fill", "partial_fill"})),
            "events=margin_call": Filter(events=frozenset({"margin_call"})),
            "client_order_id_prefix=bot1-": Filter(client_order_id_prefix="bot1-"),
            "client_order_id_prefix=my+bot%20": Filter(client_order_id_prefix="my bot "),
            "client_order_id_prefix=Bot%2B1,%2F%25:": Filter(client_order_id_prefix="Bot+1,/%:"),
            "events=new&replay=5&symbols=SPY&client_order_id_prefix=x": Filter(
                frozenset({"SPY"}), frozenset({"new"}), "x"
            ),
        }.items():
            self.assertEqual(self.read(query), expected, query)

    def test_query_invalid_parameter_is_rejected_with_its_name(self) -> None:
        """One line names the parameter and its valid values."""
        no_symbols = "symbols: is not a list with commas and no blanks, such as AAPL,BTC/USD"
        no_events = "events: is not a list with commas and no blanks, such as fill,partial_fill"
        no_prefix = (
            "client_order_id_prefix: is not 1 to 128 printable ASCII characters (%2B is a +)"
        )
        for query, line in {
            "symbols=": "symbols: is empty",
            "symbols": "symbols: is empty",
            "symbols=AAPL&symbols=SPY": "symbols: is given twice",
            "symbols=AAPL,": no_symbols,
            "symbols=,": no_symbols,
            "symbols=AAPL,+SPY": no_symbols,
            "symbols=AAPL;SPY": no_symbols,
            "symbols=%00": no_symbols,
            "symbols=%C3%84": no_symbols,
            "symbols=%ff": no_symbols,
            "symbols=*": no_symbols,
            "symbols=" + "A" * 33: no_symbols,
            "symbols=" + ",".join(f"S{n}" for n in range(101)): "symbols: has more than 100 items",
            "symbol=AAPL": "symbol: there is no such parameter; the nearest is symbols",
            "events=": "events: is empty",
            "events=fill&events=new": "events: is given twice",
            "events=fill,,new": no_events,
            "events=partial-fill": no_events,
            "events=fill,cancelled": "events: there is no cancelled; the nearest is canceled",
            "events=Filled": "events: there is no filled; the nearest is fill",
            "events=" + ",".join(f"e{n}" for n in range(101)): "events: has more than 100 items",
            "event=fill": "event: there is no such parameter; the nearest is events",
            "client_order_id_prefix=": "client_order_id_prefix: is empty",
            "client_order_id_prefix=a&client_order_id_prefix=b": (
                "client_order_id_prefix: is given twice"
            ),
            "client_order_id_prefix=bot%091": no_prefix,
            "client_order_id_prefix=%0A": no_prefix,
            "client_order_id_prefix=%E2%82%AC": no_prefix,
            "client_order_id_prefix=" + "x" * 129: no_prefix,
            "client_order_id=bot1": (
                "client_order_id: there is no such parameter; the nearest is client_order_id_prefix"
            ),
        }.items():
            self.assertEqual(self.read(query), line, query)

    def test_query_list_of_100_items_is_accepted(self) -> None:
        """Items that are equal count once."""
        names = ",".join(f"S{n}" for n in range(100))
        for query in (f"symbols={names}", f"symbols={names},S0", f"events={names}"):
            found = self.read(query)
            assert isinstance(found, Filter), found
            self.assertEqual(len(found.symbols | found.events), 100)

    def test_query_ten_unknown_events_are_looked_up(self) -> None:
        """Each takes 0.2 ms. A misspelt one behind ten others, by the alphabet, is accepted."""
        unknown = [f"a{n}" for n in range(10)]
        line = "events: there is no cancelled; the nearest is canceled"
        found = self.read(f"events=cancelled,{','.join(unknown[:9])}")
        self.assertEqual(found, line)
        accepted = Filter(events=frozenset({"cancelled", *unknown}))
        self.assertEqual(self.read(f"events=cancelled,{','.join(unknown)}"), accepted)

    @examples()
    @given(st.dictionaries(st.sampled_from(["symbols", "events", "client_order_id_prefix"]), TEXT))
    def test_read_filter_any_text_returns_or_raises_query_error(
        self, given: dict[str, str]
    ) -> None:
        """Any text is a filter, or an error whose text names a parameter."""
        try:
            self.assertEqual(read_filter(given) is None, not given)
        except QueryError as error:
            self.assertIn(str(error).partition(":")[0], given)


class FilterMatchTests(SynchronousTestCase):
    """Events are compared with a filter."""

    def test_read_traits_captured_events_are_complete(self) -> None:
        """The captures have a stock, a pair, and an order of two options without a symbol."""
        self.assertEqual(
            read_traits(alpaca.PENDING_NEW),
            EventTraits(
                frozenset({"SPY"}), "pending_new", ("manual/hitl-gate/v1:SANITIZED0000000000001",)
            ),
        )
        crypto, legs = read_traits(alpaca.CRYPTO_FILL), read_traits(alpaca.MULTI_LEG_FILL)
        assert crypto is not None
        assert legs is not None
        self.assertEqual(crypto.symbols, {"BTCUSD"})
        self.assertEqual(legs.symbols, {"AAPL250321P00200000", "AAPL250321C00380000"})
        self.assertEqual(len(legs.client_order_ids), 3)
        for payload in alpaca.TRADE_UPDATES:
            traits = read_traits(payload)
            assert traits is not None
            self.assertTrue(traits.symbols, payload)
            self.assertTrue(traits.event, payload)

    def test_matches_requires_every_criterion(self) -> None:
        """An empty criterion matches every event."""
        for wanted, owner, is_wanted in (
            (Filter(), "bot1-", True),
            (Filter(frozenset({"SPY"})), "bot1-", True),
            (Filter(frozenset({"SPYG", "SP"})), "bot1-", False),
            (Filter(events=frozenset({"fill"})), "bot1-", True),
            (Filter(events=frozenset({"partial_fill"})), "bot1-", False),
            (Filter(client_order_id_prefix="bot1-"), "bot1-", True),
            (Filter(client_order_id_prefix="bot1-"), "bot10-", False),
            (Filter(client_order_id_prefix="bot1-"), "Bot1-", False),
            (Filter(client_order_id_prefix="bot1-"), "my-bot1-", False),
            (Filter(frozenset({"SPY"}), frozenset({"fill"}), "bot1-"), "bot1-", True),
            (Filter(frozenset({"SPY"}), frozenset({"fill"}), "bot1-"), "bot2-", False),
            (Filter(frozenset({"AAPL"}), frozenset({"fill"}), "bot1-"), "bot1-", False),
        ):
            self.assertEqual(
                wanted.matches(read_traits(update(1, owner=owner))), is_wanted, (wanted, owner)
            )

    def test_matches_ignores_case_and_slash(self) -> None:
        """This holds for symbols and for kinds of event."""
        pair, kind = Filter(frozenset({"BTCUSD"})), Filter(events=frozenset({"fill"}))
        for symbol in ("BTC/USD", "btcusd", "BTCUSD"):
            self.assertTrue(pair.matches(read_traits(update(1, symbol=symbol))))
        self.assertTrue(kind.matches(read_traits(update(1, kind="FILL"))))

    def test_matches_any_leg_but_not_the_underlying(self) -> None:
        """An option matches by its own symbol only. One matching leg of an order suffices."""
        traits = read_traits(alpaca.MULTI_LEG_FILL)
        self.assertTrue(Filter(frozenset({"AAPL250321C00380000"})).matches(traits))
        self.assertFalse(Filter(frozenset({"AAPL"})).matches(traits))
        self.assertTrue(Filter(client_order_id_prefix="e868fb88").matches(traits))

    def test_matches_legs_beside_the_order(self) -> None:
        """A multi-leg fill names each execution beside the order."""
        data = {
            "event": "fill",
            "order": {"symbol": "", "legs": None},
            "legs": [{"symbol": "a"}, {"symbol": "b"}],
        }
        traits = read_traits(json.dumps({"data": data}).encode())
        self.assertTrue(Filter(frozenset({"B"})).matches(traits))
        self.assertFalse(Filter(frozenset({"C"})).matches(traits))

    def test_matches_event_without_the_field(self) -> None:
        """A filter drops an event only if the field is present and does not match."""
        strict = Filter(frozenset({"SPY"}), frozenset({"fill"}), "bot1-")
        documents: list[Any] = [None, [], "x", 1, {}, {"data": None}, {"data": []}, {"data": {}}]
        orders: list[Any] = [None, [], "x", {}, {"symbol": None}, {"symbol": ["X"]}, {"legs": "x"}]
        for order in (*orders, {"legs": [None, 1]}):
            documents.append({"data": {"order": order, "event": ["new"], "legs": order}})
        payloads = [json.dumps(document).encode() for document in documents]
        for payload in (*payloads, *NOT_JSON.values(), b"1" * 10_000, b"\xff"):
            self.assertTrue(strict.matches(read_traits(payload)), payload[:100])

    def test_read_traits_very_long_number_is_read(self) -> None:
        """A long number does not hide the fields beside it."""
        payload = b'{"data":{"x":%s,"event":"new","order":{"symbol":"SPY"}}}' % (b"1" * 10_000)
        self.assertFalse(Filter(events=frozenset({"fill"})).matches(read_traits(payload)))

    def test_matches_ignores_the_recovered_mark(self) -> None:
        """Recovered events and unknown kinds of event match like all others."""
        for mark in Recovered:
            self.assertEqual(read_traits(with_mark(update(1), mark)), read_traits(update(1)))
        kind = Filter(events=frozenset({"margin_call"}))
        self.assertTrue(kind.matches(read_traits(update(1, kind="margin_call"))))
        self.assertFalse(kind.matches(read_traits(update(1, kind="margin_calm"))))


class FilterDocumentTests(SynchronousTestCase):
    """The section about filters in docs/protocol.md."""

    def test_document_names_parameters_and_limits(self) -> None:
        """It has the parameters, the limits and the interval of position frames."""
        text = (Path(__file__).parents[2] / "docs/protocol.md").read_text(encoding="utf-8")
        section = text.partition("\n## Filters\n")[2].partition("\n## ")[0]
        for name in NAMES:
            self.assertIn(f"`{name}=", section)
        self.assertIn(f"Lists have {MAX_LIST_ITEMS} names at most", section)
        self.assertIn(f"nothing has been sent for {POSITION_INTERVAL} s", text)


class FilterSharingTests(SynchronousTestCase):
    """Work that many clients need is done once."""

    def setUp(self) -> None:
        clock = Clock()
        self.account = Account("paper", memory_journal(clock), clock)
        self.plain = encoder.FrameEncoder(lambda payload: b"<%s>" % payload)
        self.batch = Batch((Row(1, update(1, "SPY")), Row(2, update(2, "AAPL"))))

    def test_encode_without_filter_parses_nothing(self) -> None:
        """The batch caches only its encoded bytes."""
        self.plain.encode(self.batch, self.account)
        self.assertEqual(list(self.batch.encoded), [self.plain])

    def test_encode_several_filters_parse_each_event_once(self) -> None:
        """All filters share the traits of a batch."""
        traits = get_traits(self.batch)
        for symbol in ("SPY", "AAPL", "QQQ"):
            self.plain.with_filter(Filter(frozenset({symbol}))).encode(self.batch, self.account)
        self.assertIs(get_traits(self.batch), traits)

    def test_equal_filters_share_encoded_bytes(self) -> None:
        """The order and case of the symbols make no difference."""
        filters = [read_filter({"symbols": symbols}) for symbols in ("SPY,QQQ", "qqq,spy")]
        one, other = (self.plain.with_filter(each) for each in filters if each is not None)
        self.assertIs(one, other)
        made = one.encode(self.batch, self.account)
        self.assertEqual(made, b"<%s>" % update(1, "SPY"))
        self.assertIs(other.encode(self.batch, self.account), made)

    def test_filter_without_match_encodes_to_empty_bytes(self) -> None:
        """Its clients get no frame of the batch."""
        nothing = self.plain.with_filter(Filter(frozenset({"QQQ"})))
        self.assertEqual(nothing.encode(self.batch, self.account), b"")

    def test_encode_with_filter_batch_with_hole_returns_none(self) -> None:
        """The events of a hole are unknown, so they may match."""
        batch = Batch((Row(1, update(1, "AAPL")), Row(2, None)))
        self.assertIsNone(
            self.plain.with_filter(Filter(frozenset({"QQQ"}))).encode(batch, self.account)
        )
