"""The dashboard in Chromium, against the proxy and a simulated Alpaca.

`make dashboard` runs these tests and writes screenshots to build/dashboard/.

"""

from __future__ import annotations

import json
from random import Random
from typing import Any
from urllib.parse import quote

import treq
from treq.client import HTTPClient
from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred
from twisted.web.client import Agent

from tests.support.frames import AUTH
from tests.support.processes import SOURCES, free_port
from tests.support.sockets import SocketTestCase
from tests.system.dashboard.browser import Browser, start_browser
from tradeproxy.simulator.demo import OrderFlow
from tradeproxy.simulator.simulator import Simulator

reactor: Any = chosen

SCREENSHOTS = SOURCES / "build/dashboard"
SIZES = {"light": (1360, 850), "dark": (1360, 850), "telephone": (390, 844)}

ROWS = "[...document.querySelectorAll('#rows tr.entry')]"
IDS = f"{ROWS}.map((row) => row.entry.id).reverse()"
NOTES = "[...document.querySelectorAll('#rows tr.note .said')].map((cell) => cell.textContent)"
VERDICT = "document.querySelector('#verdict').textContent"
LINK = "document.querySelector('#link').textContent"
CARD = "article[data-account=paper]"
CARD_TEXT = f"document.querySelector('{CARD}').innerText"
MEASURES = """(() => {
  const whole = [
    ...document.querySelectorAll('.entry :is(.event, .event .badge, .symbol, .side, .qty, .price)'),
    ...document.querySelectorAll('#clients .badge'),
  ];
  const last = [...document.querySelectorAll('#feed tr > :last-child')];
  const ends = last.map((cell) => cell.getBoundingClientRect().right);
  return {
    beside: document.documentElement.scrollWidth - innerWidth,
    cut: whole
      .filter((cell) => {
        const { left, right, width } = cell.getBoundingClientRect();
        const isInside = left >= 0 && right <= innerWidth && width > 0;
        return cell.scrollWidth > cell.clientWidth || !isInside;
      })
      .map((cell) => cell.textContent),
    ends: [...new Set(ends.map(Math.round))],
  };
})()"""
MARKUP = "<img src=x onerror=alert(1)>"


def column(name: str) -> str:
    """Return a script that reads the texts of a column."""
    return f"{ROWS}.map((row) => row.querySelector('.{name}').textContent)"


class DashboardTestCase(SocketTestCase):
    """A browser and the proxy."""

    timeout = 180

    async def open_dashboard(self, path: str = "/") -> Browser:
        """Open the dashboard; the browser is closed at the end of the test."""
        browser = await start_browser(self.make_directory())
        self.addCleanup(lambda: Deferred.fromCoroutine(browser.close()))
        await browser.do("open", url=f"http://localhost:{self.port}{path}")
        return browser

    async def simulate_with_live_down(self) -> Simulator:
        """Run a proxy with the simulated account and another one, whose Alpaca is away."""
        alpaca = await self.simulate()
        await self.proxy(
            ALPACA_LIVE_API_KEY="x",
            ALPACA_LIVE_SECRET_KEY="x",
            ALPACA_LIVE_URL="http://127.0.0.1:1",
        )
        await alpaca.when_listening()
        return alpaca

    async def proxy_again(self) -> None:
        """Start another proxy on the port of the one that has ended."""
        again = self.command(
            *("twistd", "-n", "tradeproxy"),
            ALPACA_API_KEY="PKTEST",
            ALPACA_SECRET_KEY="test-secret",
            ALPACA_URL=f"http://127.0.0.1:{self.alpaca_port}",
            PROXY_PORT=str(self.port),
        )
        await again.says("is streaming")

    async def demo(self) -> str:
        """Run `twistd -n tradeproxy --demo`, and return the URL of its Alpaca."""
        self.port = free_port(following=2)
        demo = self.command("twistd", "-n", "tradeproxy", "--demo", "--port", str(self.port))
        await demo.says("is streaming")
        return f"http://127.0.0.1:{self.port + 1}"

    async def fault(self, alpaca: str, **fault: Any) -> None:
        """Inject a fault into the simulated Alpaca."""
        answer = await HTTPClient(Agent(reactor)).post(f"{alpaca}/simulator/fault", json=fault)
        await treq.content(answer)
        self.assertLess(answer.code, 300)

    async def assert_console_is_empty(self, browser: Browser, *expected: str) -> None:
        """Assert that the browser's console has only messages with an `expected` text."""
        messages = await browser.do("console")
        unexpected = [line for line in messages if not any(text in line for text in expected)]
        self.assertEqual(unexpected, [])


class DemoDashboardTests(DashboardTestCase):
    """The dashboard of `make demo`."""

    async def test_dashboard_shows_account_feed_and_clients(self) -> None:
        """Screenshots are written, and the page fits its window."""
        await self.demo()
        browser = await self.open_dashboard()
        await browser.until(
            f"{VERDICT} === 'all is well' && {LINK} === 'connected' && {ROWS}.length >= 20"
        )
        await self.connect(
            "/trade-updates-paper?client_name=bot1", AUTH, headers={"User-Agent": "desk/1.0"}
        )
        await browser.until(f"/Clients\\s+1\\b/.test({CARD_TEXT})")
        card = await browser.text(CARD)
        self.assertRegex(card, r"streaming for \d+ s")
        self.assertRegex(card, r"Last event\s+\d+ s ago")
        self.assertRegex(card, r"Gaps\s+none")
        self.assertRegex(card, r"Clients\s+1\b")
        clients = await browser.text("#clients")
        self.assertIn("1 connected, not counted: 2 streams of dashboards", clients)
        self.assertNotIn("HeadlessChrome", clients)
        self.assertRegex(clients, r"bot1\s+up to date\s+127\.0\.0\.1:\d+ · paper · WebSocket")
        self.assertIn("up to date", clients)
        bars = (
            "[...document.querySelectorAll('figure rect')]"
            ".filter((bar) => bar.getAttribute('height') > 0)"
        )
        self.assertGreaterEqual(await browser.do("evaluate", text=f"{bars}.length"), 2)
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        for name, (width, height) in SIZES.items():
            scheme = "dark" if name == "dark" else "light"
            path = str(SCREENSHOTS / f"{name}.png")
            await browser.do("picture", path=path, width=width, height=height, scheme=scheme)
            wide = await browser.do(
                "evaluate", text="document.documentElement.scrollWidth - innerWidth"
            )
            self.assertLessEqual(wide, 0, f"{name}: the page is wider than its window")
        await self.assert_console_is_empty(browser)

    async def test_filters_pause_and_json_work(self) -> None:
        """Filtered rows, new events during a pause, and the JSON below a row."""
        await self.demo()
        browser = await self.open_dashboard()
        await browser.until(f"{column('event')}.includes('fill')")
        symbol = (await browser.do("evaluate", text=column("symbol")))[0]
        await browser.do("fill", at="[name=symbol]", text=symbol.lower())
        self.assertEqual(set(await browser.do("evaluate", text=column("symbol"))), {symbol})
        await browser.do("fill", at="[name=symbol]", text="")
        await browser.do("choose", at="[name=event]", text="fill")
        self.assertEqual(set(await browser.do("evaluate", text=column("event"))), {"fill"})
        order = (await browser.do("evaluate", text=column("order")))[0]
        await browser.do("choose", at="[name=event]", text="")
        await browser.do("fill", at="[name=order]", text=order)
        self.assertEqual(set(await browser.do("evaluate", text=column("order"))), {order})
        await browser.do("fill", at="[name=order]", text="no such order")
        self.assertIn("Nothing of what came fits the filter", await browser.text("#feed"))
        await browser.do("fill", at="[name=order]", text="")

        await browser.do("click", at="#pause")
        before = await browser.do("evaluate", text=IDS)
        await browser.until(
            "/Resume \\([3-9] new\\)/.test(document.querySelector('#pause').textContent)"
        )
        self.assertEqual(await browser.do("evaluate", text=IDS), before)
        await browser.do("click", at="#rows tr.entry .symbol")
        await browser.do("click", at="#rows tr.details button")
        shown = json.loads(await browser.text("#rows tr.details pre"))
        self.assertEqual(
            (shown["stream"], shown["data"]["event_id"]), ("trade_updates", before[-1])
        )
        await browser.do("click", at="#rows tr.entry .symbol")
        self.assertFalse(
            await browser.do("evaluate", text="!!document.querySelector('#rows tr.details')")
        )
        await browser.do("click", at="#pause")
        after = await browser.do("evaluate", text=IDS)
        self.assertEqual(after[: len(before)], before)
        self.assertGreaterEqual(len(after), len(before) + 3)
        await self.assert_console_is_empty(browser)

    async def test_outage_shows_reason(self) -> None:
        """The verdict has the reason, and the page stays connected.

        After a reload the list has the outage again, as the account's first message does.
        """
        alpaca = await self.demo()
        browser = await self.open_dashboard()
        await browser.until(f"{VERDICT} === 'all is well' && {ROWS}.length >= 3")
        await self.fault(alpaca, kind="refuse", count=5)
        await self.fault(alpaca, kind="reset")
        await browser.until(f"{VERDICT}.startsWith('paper: ') && document.title.includes('paper')")
        self.assertRegex(await browser.text(CARD), r"down for \d+ s")
        notes = await browser.do("evaluate", text=NOTES)
        self.assertIn("Alpaca's stream is down", notes[0])
        self.assertEqual(
            await browser.do("evaluate", text=LINK), "connected", "the page itself stays connected"
        )
        await browser.do("open", url=f"http://localhost:{self.port}/")
        reloaded = 'note.startsWith("Alpaca\'s stream is down; latest reason: ")'
        await browser.until(f"{NOTES}.some((note) => {reloaded})")
        await self.assert_console_is_empty(browser)


class RestartDashboardTests(DashboardTestCase):
    """The proxy restarts; the simulated Alpaca keeps running."""

    async def test_feed_is_complete_after_outage_and_restart(self) -> None:
        """First Alpaca's stream is lost, then the proxy restarts, while orders continue."""
        alpaca = await self.simulate()
        proxy = await self.proxy()
        await alpaca.when_listening()
        flow = OrderFlow(alpaca, reactor, Random(1))
        flow.startService()
        self.addCleanup(flow.stopService)
        browser = await self.open_dashboard()
        await browser.until(f"{ROWS}.length >= 5")
        await self.fault(f"http://127.0.0.1:{self.alpaca_port}", kind="reset")
        await browser.until(f"{NOTES}.some((note) => note.startsWith('gap recovered'))")
        await browser.until(f"{VERDICT} === 'all is well' && {LINK} === 'connected'")
        # The card follows the page's next request for the status.
        await browser.until(f"/Reconnects\\s+1\\b/.test({CARD_TEXT})")
        card = await browser.text(CARD)
        self.assertRegex(card, r"Gaps\s+1, all recovered")

        await proxy.stop()
        await browser.until(f"{LINK}.startsWith('not connected')")
        await alpaca.when_gone()
        alpaca.apply(alpaca.exchange.burst(5))
        await self.proxy_again()
        await browser.until(f"{LINK} === 'connected' && {VERDICT} === 'all is well'")
        flow.stopService()
        emitted = self.ids(alpaca)
        await browser.until(f"{IDS}.includes({json.dumps(emitted[-1])})")
        shown = await browser.do("evaluate", text=IDS)
        self.assertEqual(shown, self.ids(alpaca)[: len(shown)])
        await self.assert_console_is_empty(
            browser, "ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET"
        )

    def ids(self, alpaca: Simulator) -> list[str]:
        """Return the ids of all events at Alpaca."""
        return [
            json.loads(record.payload)["data"]["event_id"] for record in alpaca.history.last(1000)
        ]

    async def test_markup_is_displayed_as_text(self) -> None:
        """In every field of an order, an event or a client."""
        alpaca = await self.simulate()
        await self.proxy()
        await alpaca.when_listening()
        await self.connect(
            f"/trade-updates-paper?client_name={quote(f'{MARKUP}name')}",
            AUTH,
            headers={"User-Agent": f"{MARKUP}<b>bot</b>"},
        )
        browser = await self.open_dashboard()
        await browser.until(f"{LINK} === 'connected'")
        order = {
            "id": "1",
            "client_order_id": MARKUP,
            "symbol": "<b>SPY</b>",
            "side": MARKUP,
            "qty": MARKUP,
        }
        alpaca.emit(
            {"event": f"{MARKUP}!", "price": "<i>1</i>", "order": {**order, "status": MARKUP}}
        )
        alpaca.emit(
            {"event": "new", "order": {"symbol": ["<b>"], "legs": [MARKUP, None], "qty": {}}}
        )
        alpaca.emit({"event": "fill", "price": float("nan"), "order": {"id": "1"}})
        await browser.until(f"{ROWS}.length === 3")
        first = "#rows tr.entry:last-child"
        expected = {"symbol": "<b>SPY</b>", "order": MARKUP, "qty": MARKUP, "price": "<i>1</i>"}
        for name, text in expected.items():
            self.assertEqual(await browser.text(f"{first} .{name}"), text)
        await browser.do("click", at=f"{first} .symbol")
        await browser.do("click", at="#rows tr.details button")
        self.assertIn(MARKUP, await browser.text("#rows tr.details pre"))
        await browser.until(
            f"document.querySelector('#clients').innerText.includes({json.dumps(MARKUP)})"
        )
        self.assertIn(f"{MARKUP}name", await browser.text("#clients"))
        created = await browser.do(
            "evaluate", text="document.querySelectorAll('main :is(img, b, i)').length"
        )
        self.assertEqual(created, 0)
        await self.assert_console_is_empty(browser)


class LayoutTests(DashboardTestCase):
    """Two accounts, one of them down, and events with long values."""

    async def test_long_values_keep_layout(self) -> None:
        """At every window width: symbols, sides, quantities, prices and events are complete.

        On a telephone BTC/USDT was "B…", and order_cancel_rejected was cut at every width. Rows end
        together, and nothing overflows. A client with a long name had "slow, 3,419 behi…".
        """
        alpaca = await self.simulate_with_live_down()
        browser = await self.open_dashboard()
        await browser.until(f"{LINK} === 'connected'")
        orders = [
            ("SPY", "0.123456789", "order_cancel_rejected", "12345.678901"),
            ("AAPL260116C00250000", "0.123456789", "order_replace_rejected", "12345.678901"),
            ("BTC/USDT", "0.123456789", "partial_fill", "105234.25"),
            ("1000SHIB/USDT", "123456789.123456789", "pending_replace", "0.000000012345"),
        ]
        for symbol, quantity, event, price in orders:
            order = {
                "id": symbol,
                "symbol": symbol,
                "side": "sell",
                "qty": quantity,
                "limit_price": price,
                "client_order_id": "bot-" * 30,
            }
            part = {"price": price, "qty": "0.000123456"} if event == "partial_fill" else {}
            alpaca.emit({"event": event, "order": order} | part)
        strikes = (("P00600000", "buy"), ("P00610000", "sell"), ("C00690000", "sell"))
        legs = [{"symbol": f"SPY260116{strike}", "side": side} for strike, side in strikes]
        spread = {"id": "spread", "symbol": "", "side": "", "qty": "2", "legs": legs}
        alpaca.emit({"event": "new", "order": spread | {"limit_price": "0.6"}})
        await browser.until(f"{ROWS}.length === {len(orders) + 1}")
        await browser.do("click", at="#rows tr.entry .symbol")
        await self.connect(f"/trade-updates-paper?client_name={'nightly-' * 8}", AUTH)
        await browser.until("document.querySelector('#clients .badge')")
        for width in (1900, 1360, 1240, 1100, 1000, 951, 800, 390, 320):
            await browser.do("size", width=width, height=900)
            found = await browser.do("evaluate", text=MEASURES)
            self.assertLessEqual(found["beside"], 0, width)
            self.assertEqual(found["cut"], [], width)
            if width > 950:  # below that, the rows are not a table
                self.assertEqual(len(found["ends"]), 1, (width, found["ends"]))
        await self.assert_console_is_empty(browser)

    async def test_plain_row_has_one_line(self) -> None:
        """Columns have room for usual values; the only account takes none, although it is there."""
        alpaca = await self.simulate()
        await self.proxy()
        await alpaca.when_listening()
        browser = await self.open_dashboard()
        await browser.until(f"{LINK} === 'connected'")
        for symbol, price in (("SPY", "668.05"), ("BTC/USDT", "105234.25"), ("BRK.B", "1")):
            order = {"id": symbol, "symbol": symbol, "side": "sell", "qty": "10"}
            alpaca.emit({"event": "new", "order": order | {"limit_price": price}})
            alpaca.emit({"event": "partial_fill", "price": price, "order": order})
        await browser.until(f"{ROWS}.length === 6")
        heights = f"{ROWS}.map((row) => row.getBoundingClientRect().height)"
        for width in (1900, 1360, 1000, 951):
            await browser.do("size", width=width, height=900)
            self.assertLess(max(await browser.do("evaluate", text=heights)), 40, width)


class DashboardTokenTests(DashboardTestCase):
    """With PROXY_TOKENS set."""

    async def test_token_is_asked_for_and_never_in_a_url(self) -> None:
        """After a wrong token the page asks again; the token is stored for the tab only."""
        alpaca = await self.simulate()
        await self.proxy(PROXY_TOKENS="a-token-of-the-desk")
        browser = await self.open_dashboard()
        for token in ("not-the-token", "a-token-of-the-desk"):
            await browser.until("document.querySelector('#ask').open")
            await browser.do("fill", at="#token", text=token)
            await browser.do("click", at="#token-form button")
            if token == "not-the-token":
                await browser.until(
                    "document.querySelector('#ask').innerText.includes('was refused')"
                )
        await browser.until(f"{LINK} === 'connected' && {VERDICT} === 'all is well'")
        alpaca.emit({"event": "new", "order": {"id": "1", "symbol": "SPY"}})
        await browser.until(f"{ROWS}.length === 1")
        requests = await browser.do("requests")
        self.assertTrue([url for url in requests if url.startswith("ws://")])
        self.assertEqual([url for url in requests if "token" in url], [])
        kept = await browser.do(
            "evaluate", text="JSON.stringify({...localStorage}) + document.cookie"
        )
        self.assertEqual(kept, "{}")
        await self.assert_console_is_empty(browser, "401 (Unauthorized)")
