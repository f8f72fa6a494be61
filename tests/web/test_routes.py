"""Tests for tradeproxy.web.routes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.properties import examples
from tradeproxy.downstream.session import ProtocolMode
from tradeproxy.web.routes import (
    AssetRoute,
    PageRoute,
    SseRoute,
    StatePage,
    StateRoute,
    StreamRoute,
    find_path,
    route,
)

ORIGINAL, ALPACA = ProtocolMode.ORIGINAL, ProtocolMode.ALPACA


class RouteTests(SynchronousTestCase):
    """The routes of paths."""

    def test_stream_path_is_stream_route(self) -> None:
        """Long and short paths, in both protocol modes, with any number of slashes."""
        table = {
            b"/trade-updates-paper": StreamRoute("paper", ORIGINAL),
            b"/trade-updates-live": StreamRoute("live", ORIGINAL),
            b"/trade-updates-my_fund_2": StreamRoute("my_fund_2", ORIGINAL),
            b"/paper": StreamRoute("paper", ORIGINAL),
            b"/live": StreamRoute("live", ORIGINAL),
            b"/my_fund_2": StreamRoute("my_fund_2", ORIGINAL),
            b"/7": StreamRoute("7", ORIGINAL),
            b"/" + b"a" * 64: StreamRoute("a" * 64, ORIGINAL),
            b"/trade-updates-paper/": StreamRoute("paper", ORIGINAL),
            b"//trade-updates-paper//": StreamRoute("paper", ORIGINAL),
            b"/paper/": StreamRoute("paper", ORIGINAL),
            b"/trade-updates-paper/stream": StreamRoute("paper", ALPACA),
            b"/trade-updates-paper/stream/": StreamRoute("paper", ALPACA),
            b"/trade-updates-paper//stream/": StreamRoute("paper", ALPACA),
            b"/trade-updates-paper///stream///": StreamRoute("paper", ALPACA),
            b"//paper//stream//": StreamRoute("paper", ALPACA),
            b"/live/stream": StreamRoute("live", ALPACA),
            b"/stream/stream": StreamRoute("stream", ALPACA),  # a valid account name
        }
        for path, destination in table.items():
            self.assertEqual(route(path), destination, path)

    def test_events_path_is_sse_route(self) -> None:
        """It is below both paths of an account, where Alpaca's SDKs request it."""
        table = {
            b"/trade-updates-paper/v2/events/trades": SseRoute("paper"),
            b"/paper/v2/events/trades": SseRoute("paper"),
            b"//paper//v2/events/trades/": SseRoute("paper"),
            b"/stream/v2/events/trades": SseRoute("stream"),  # a valid account name
        }
        for path, destination in table.items():
            self.assertEqual(route(path), destination, path)

    def test_state_path_is_state_route(self) -> None:
        """It is below both paths of an account. An order's id is one segment."""
        table = {
            b"/trade-updates-paper/state": StateRoute("paper", StatePage.STATE),
            b"/trade-updates-paper/stream/state": StateRoute("paper", StatePage.STATE),
            b"/paper/orders": StateRoute("paper", StatePage.ORDERS),
            b"//paper//stream//orders//": StateRoute("paper", StatePage.ORDERS),
            b"/paper/orders/61e69015-8549": StateRoute("paper", StatePage.ORDERS, "61e69015-8549"),
            b"/live/positions": StateRoute("live", StatePage.POSITIONS),
            b"/live/events": StateRoute("live", StatePage.EVENTS),
            b"/stream/state": StateRoute("stream", StatePage.STATE),  # a valid account name
            b"/state/state": StateRoute("state", StatePage.STATE),
            b"/orders": StreamRoute("orders", ORIGINAL),
            b"/trade-updates-v2/orders": StateRoute("v2", StatePage.ORDERS),
            b"/v2/orders": None,
            b"/v1beta1/events": None,
            b"/paper/state/1": None,
            b"/paper/orders/1/2": None,
            b"/paper/orders/a%2Fb": None,
            b"/paper/orders/" + b"x" * 129: None,
            b"/paper/v2/orders": None,  # for the REST proxy
            b"/dashboard/state": None,
        }
        for path, destination in table.items():
            self.assertEqual(route(path), destination, path)

    def test_health_path_is_page_route(self) -> None:
        """With or without slashes at the end."""
        table = {
            b"/healthz": PageRoute.HEALTHZ,
            b"/healthz/": PageRoute.HEALTHZ,
            b"//healthz": PageRoute.HEALTHZ,
            b"/readyz": PageRoute.READYZ,
            b"/readyz//": PageRoute.READYZ,
            b"/metrics/": PageRoute.METRICS,
        }
        for path, page in table.items():
            self.assertEqual(route(path), page, path)

    def test_dashboard_path_is_asset_route(self) -> None:
        """The page is at the root; its files are at paths that no account can have."""
        table = {
            b"/": AssetRoute("index.html"),
            b"///": AssetRoute("index.html"),
            b"/dashboard/main.js": AssetRoute("main.js"),
            b"/status.json": PageRoute.STATUS,
            b"/dashboard": PageRoute.DASHBOARD,
            b"/dashboard/": PageRoute.DASHBOARD,
            b"/dashboard/stream": None,
            b"/dashboard/../settings.py": None,
            b"/dashboard/.env": None,
        }
        for path, destination in table.items():
            self.assertEqual(route(path), destination, path)

    def test_reserved_name_is_no_account(self) -> None:
        """A reserved name is, or may become, a page."""
        for name in (b"healthz", b"readyz", b"metrics", b"dashboard"):
            for path in (
                b"/trade-updates-" + name,
                b"/" + name + b"/stream",
                b"/trade-updates-" + name + b"/stream",
                b"/" + name + b"/v2/events/trades",
            ):
                self.assertIsNone(route(path), path)
        self.assertNotIsInstance(route(b"/metrics"), StreamRoute)

    def test_other_path_is_none(self) -> None:
        """Unknown forms, upper case, escapes, queries and deeper paths do not match."""
        for path in (
            b"",
            b"trade-updates-paper",
            b"/trade-updates-",
            b"/trade-updates-/stream",
            b"/trade-updates-PAPER",
            b"/Trade-Updates-paper",
            b"/PAPER",
            b"/paper/STREAM",
            b"/HEALTHZ",
            b"/trade_updates-paper",
            b"/trade-updates-paper-2",
            b"/trade-updates-pa.per",
            b"/trade-updates-paper?since_id=1",
            b"/paper?",
            b"/paper#x",
            b"/paper;x",
            b"/pap%65r",
            b"/trade-updates-paper%2Fstream",
            b"/%2e%2e/paper",
            b"/../paper",
            b"/./paper",
            b"/paper/..",
            b"/paper/streams",
            b"/paper/stream/stream",
            b"/stream/paper/x",
            b"/v2/orders",
            b"/v2/events/trades",
            b"/paper/v2/events",
            b"/paper/v2/events/trades/x",
            b"/paper/stream/v2/events/trades",
            b"/paper/v1/events/trades",
            b"/healthz/stream",
            b"/stream",
            b"/stream/",
            b"/healthz/x",
            b"/favicon.ico",
            b"/paper\n",
            b"/paper\x00",
            b"/pap\xc3\xa9r",
            b"/\xff",
            b"*",
        ):
            self.assertIsNone(route(path), path)

    @examples()
    @given(st.binary() | st.binary().map(lambda tail: b"/trade-updates-" + tail))
    def test_any_bytes_are_a_valid_route_or_none(self, path: bytes) -> None:
        """A request line may have any bytes."""
        destination = route(path)
        if isinstance(destination, (StreamRoute, SseRoute)):
            self.assertRegex(destination.account, r"\A[a-z0-9_]+\Z")
        elif isinstance(destination, AssetRoute):
            self.assertRegex(destination.name, r"\A[a-z]+\.[a-z]+\Z")
        else:
            self.assertIn(destination, (None, *PageRoute))

    def test_account_paths_lead_to_the_account(self) -> None:
        """The announced paths are those of the documentation."""
        own = "/trade-updates-paper"
        alpacas, events = f"{own}/stream", f"{own}/v2/events/trades"
        self.assertEqual(find_path("paper"), own)
        self.assertEqual(find_path("paper", "/stream"), alpacas)
        self.assertEqual(route(own.encode()), StreamRoute("paper", ORIGINAL))
        self.assertEqual(route(alpacas.encode()), StreamRoute("paper", ALPACA))
        self.assertEqual(route(events.encode()), SseRoute("paper"))
