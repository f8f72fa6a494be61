"""Tests for tradeproxy.downstream.filters, and for what its filters share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support import frames as alpaca
from tests.support.filtered import update
from tests.support.frames import NOT_JSON
from tests.support.journals import memory_journal
from tradeproxy.downstream import encoder
from tradeproxy.downstream.admission import Rejection
from tradeproxy.downstream.filters import (
    MAX_LIST_ITEMS,
    NAMES,
    EventTraits,
    Filter,
    get_traits,
    read_filter,
    read_traits,
)
from tradeproxy.downstream.query import (
    HistoryQuery,
    SubscribeOptions,
    parse_history_query,
    parse_subscribe_options,
)
from tradeproxy.downstream.subscription import POSITION_INTERVAL
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Batch, Row
from tradeproxy.wire.frame import Recovered, with_mark

NOW = 1_800_000_000.0
TEXT = st.text(st.characters(codec="utf-8"))


class ReadingTests(SynchronousTestCase):
    """The query of a URL."""

    def read(self, query: str) -> Filter | Rejection | None:
        """Return what both kinds of request make of a query."""
        wishes, span = (
            parse_subscribe_options(query.encode(), NOW),
            parse_history_query(query.encode(), None, NOW),
        )
        both = [
            read.filter if isinstance(read, (SubscribeOptions, HistoryQuery)) else read
            for read in (wishes, span)
        ]
        self.assertEqual(*both)
        return both[0]

    def test_nothing_is_filtered_by_default(self) -> None:
        """Nor by what is not for us."""
        for query in ("", "x=AAPL", "replay=5"):
            self.assertIsNone(self.read(query), query)

    def test_each_parameter_has_its_form(self) -> None:
        """Lists with commas, in any case and coding; a prefix as it is."""
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
            "client_order_id_prefix=Bot%2B1,%2F%25:": Filter(client_order_id_prefix="Bot+1,/%:"),
            "events=new&replay=5&symbols=SPY&client_order_id_prefix=x": Filter(
                frozenset({"SPY"}), frozenset({"new"}), "x"
            ),
        }.items():
            self.assertEqual(self.read(query), expected, query)

    def test_each_mistake_names_its_parameter(self) -> None:
        """One line says which one, and what it should be."""
        no_symbols = "symbols: is not a list with commas and no blanks, such as AAPL,BTC/USD"
        no_events = "events: is not a list with commas and no blanks, such as fill,partial_fill"
        no_prefix = "client_order_id_prefix: is not 1 to 128 printable ASCII characters without blanks (%2B is a +)"
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
            "symbols="
            + ",".join(f"S{n}" for n in range(101)): "symbols: has more than 100 items",
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
            "client_order_id_prefix=a&client_order_id_prefix=b": "client_order_id_prefix: is given twice",
            "client_order_id_prefix=bot+1": no_prefix,
            "client_order_id_prefix=%0A": no_prefix,
            "client_order_id_prefix=%E2%82%AC": no_prefix,
            "client_order_id_prefix=" + "x" * 129: no_prefix,
            "client_order_id=bot1": (
                "client_order_id: there is no such parameter; the nearest is client_order_id_prefix"
            ),
        }.items():
            self.assertEqual(self.read(query), Rejection(400, line), query)

    @settings(deadline=None, derandomize=True)
    @given(st.dictionaries(st.sampled_from(["symbols", "events", "client_order_id_prefix"]), TEXT))
    def test_never_fails(self, given: dict[str, str]) -> None:
        """Whatever is asked is a filter, or is refused with a line that names a parameter."""
        try:
            self.assertEqual(read_filter(given) is None, not given)
        except ValueError as unclear:
            self.assertIn(str(unclear).partition(":")[0], given)


class MatchTests(SynchronousTestCase):
    """What an event says, held against what a client wants."""

    def test_what_alpaca_sends_is_understood(self) -> None:
        """Its captures: a stock, a pair, and an order of two options, which has no symbol itself."""
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

    def test_all_must_match(self) -> None:
        """Each of them by itself; an empty one is not asked about."""
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

    def test_case_and_slash_make_no_difference(self) -> None:
        """Neither in a symbol nor in the name of an event."""
        pair, kind = Filter(frozenset({"BTCUSD"})), Filter(events=frozenset({"fill"}))
        for symbol in ("BTC/USD", "btcusd", "BTCUSD"):
            self.assertTrue(pair.matches(read_traits(update(1, symbol=symbol))))
        self.assertTrue(kind.matches(read_traits(update(1, kind="FILL"))))

    def test_an_option_is_not_its_underlying(self) -> None:
        """And any leg of an order will do."""
        traits = read_traits(alpaca.MULTI_LEG_FILL)
        self.assertTrue(Filter(frozenset({"AAPL250321C00380000"})).matches(traits))
        self.assertFalse(Filter(frozenset({"AAPL"})).matches(traits))
        self.assertTrue(Filter(client_order_id_prefix="e868fb88").matches(traits))

    def test_legs_without_an_order_of_their_own_count(self) -> None:
        """A multi-leg fill names each execution beside the order."""
        data = {
            "event": "fill",
            "order": {"symbol": "", "legs": None},
            "legs": [{"symbol": "a"}, {"symbol": "b"}],
        }
        traits = read_traits(json.dumps({"data": data}).encode())
        self.assertTrue(Filter(frozenset({"B"})).matches(traits))
        self.assertFalse(Filter(frozenset({"C"})).matches(traits))

    def test_what_says_nothing_is_not_held_back(self) -> None:
        """An event is held back for what it says; what we don't understand is never hidden."""
        strict = Filter(frozenset({"SPY"}), frozenset({"fill"}), "bot1-")
        documents: list[Any] = [None, [], "x", 1, {}, {"data": None}, {"data": []}, {"data": {}}]
        orders: list[Any] = [None, [], "x", {}, {"symbol": None}, {"symbol": ["X"]}, {"legs": "x"}]
        for order in (*orders, {"legs": [None, 1]}):
            documents.append({"data": {"order": order, "event": ["new"], "legs": order}})
        payloads = [json.dumps(document).encode() for document in documents]
        for payload in (*payloads, *NOT_JSON.values(), b"1" * 10_000, b"\xff"):
            self.assertTrue(strict.matches(read_traits(payload)), payload[:100])

    def test_a_number_may_have_any_length(self) -> None:
        """It does not hide what is beside it."""
        payload = b'{"data":{"x":%s,"event":"new","order":{"symbol":"SPY"}}}' % (b"1" * 10_000)
        self.assertFalse(Filter(events=frozenset({"fill"})).matches(read_traits(payload)))

    def test_a_mark_changes_nothing(self) -> None:
        """Recovered events are matched as the others are, and so are kinds that are new."""
        for mark in Recovered:
            self.assertEqual(read_traits(with_mark(update(1), mark)), read_traits(update(1)))
        kind = Filter(events=frozenset({"margin_call"}))
        self.assertTrue(kind.matches(read_traits(update(1, kind="margin_call"))))
        self.assertFalse(kind.matches(read_traits(update(1, kind="margin_calm"))))


class DocumentTests(SynchronousTestCase):
    """What docs/protocol.md says of filters."""

    def test_has_the_names_and_numbers_of_the_code(self) -> None:
        """The parameters, the limits, and how often a place is told."""
        text = (Path(__file__).parents[2] / "docs/protocol.md").read_text(encoding="utf-8")
        section = text.partition("\n## Filters\n")[2].partition("\n## ")[0]
        for name in NAMES:
            self.assertIn(f"`{name}=", section)
        self.assertIn(f"Lists have {MAX_LIST_ITEMS} names at most", section)
        self.assertIn(f"nothing has been sent for {POSITION_INTERVAL} s", text)


class SharingTests(SynchronousTestCase):
    """What is done for many clients is done once."""

    def setUp(self) -> None:
        clock = Clock()
        self.account = Account("paper", memory_journal(clock), clock)
        self.plain = encoder.plain_encoder(lambda payload: b"<%s>" % payload)
        self.burst = Batch((Row(1, update(1, "SPY")), Row(2, update(2, "AAPL"))))

    def test_without_a_filter_nothing_is_parsed(self) -> None:
        """Only the frames are made of a burst."""
        self.plain.encode(self.burst, self.account)
        self.assertEqual(list(self.burst.encoded), [self.plain])

    def test_an_event_is_parsed_once_for_all_filters(self) -> None:
        """Whatever they are."""
        traits = get_traits(self.burst)
        for symbol in ("SPY", "AAPL", "QQQ"):
            self.plain.with_filter(Filter(frozenset({symbol}))).encode(self.burst, self.account)
        self.assertIs(get_traits(self.burst), traits)

    def test_equal_filters_share_their_frames(self) -> None:
        """The same bytes, in whatever order the symbols were named."""
        one = self.plain.with_filter(read_filter({"symbols": "SPY,QQQ"}))
        other = self.plain.with_filter(read_filter({"symbols": "qqq,spy"}))
        self.assertIs(one, other)
        made = one.encode(self.burst, self.account)
        self.assertEqual(made, b"<%s>" % update(1, "SPY"))
        self.assertIs(other.encode(self.burst, self.account), made)

    def test_other_filters_have_other_frames(self) -> None:
        """It may be nothing; without a filter it is all of it."""
        nothing = self.plain.with_filter(Filter(frozenset({"QQQ"})))
        self.assertEqual(nothing.encode(self.burst, self.account), b"")
        self.assertIs(self.plain.with_filter(None), self.plain)

    def test_a_hole_has_no_frames(self) -> None:
        """Nobody can tell what was there."""
        burst = Batch((Row(1, update(1, "AAPL")), Row(2, None)))
        self.assertIsNone(
            self.plain.with_filter(Filter(frozenset({"QQQ"}))).encode(burst, self.account)
        )
