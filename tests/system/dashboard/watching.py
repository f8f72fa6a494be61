"""The dashboard as somebody watches it: in Chromium, against the proxy and an embedded Alpaca.

`make dashboard` runs it, and leaves pictures in build/dashboard/.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

import treq
from treq.client import HTTPClient
from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred
from twisted.web.client import Agent

from tests.support.processes import SOURCES, free_port
from tests.support.sockets import SocketTestCase
from tests.system.dashboard.browser import Browser, begin
from tradeproxy.simulator.service import OrderFlow, Simulator

reactor: Any = chosen

PICTURES = SOURCES / "build/dashboard"
SIZES = {"light": (1360, 850), "dark": (1360, 850), "telephone": (390, 844)}

ROWS = "[...document.querySelectorAll('#rows tr.entry')]"
IDS = f"{ROWS}.map((row) => row.entry.id).reverse()"
NOTES = "[...document.querySelectorAll('#rows tr.note .said')].map((cell) => cell.textContent)"
VERDICT = "document.querySelector('#verdict').textContent"
LINK = "document.querySelector('#link').textContent"
CARD = "article[data-account=paper]"
MEASURES = """(() => {
  const symbols = [...document.querySelectorAll('td.symbol')];
  const last = [...document.querySelectorAll('tr > :last-child')];
  const ends = last.map((cell) => cell.getBoundingClientRect().right);
  return {
    beside: document.documentElement.scrollWidth - innerWidth,
    cut: symbols.filter((cell) => cell.scrollWidth > cell.clientWidth).map((cell) => cell.textContent),
    ends: [...new Set(ends.map(Math.round))],
  };
})()"""
MARKUP = "<img src=x onerror=alert(1)>"


def column(name: str) -> str:
    """Return the script that reads the texts of a column."""
    return f"{ROWS}.map((row) => row.querySelector('.{name}').textContent)"


class DashboardTestCase(SocketTestCase):
    """A browser beside the proxy."""

    timeout = 180

    async def watch(self, path: str = "/") -> Browser:
        """Open the dashboard; the browser is ended with the test."""
        browser = await begin(self.make_directory())
        self.addCleanup(lambda: Deferred.fromCoroutine(browser.finish()))
        await browser.do("open", url=f"http://localhost:{self.port}{path}")
        return browser

    async def demo(self) -> str:
        """Run `twistd -n tradeproxy --demo`, and return the URL of its Alpaca."""
        self.port = free_port(following=1)
        demo = self.command("twistd", "-n", "tradeproxy", "--demo", "--port", str(self.port))
        await demo.says("is streaming")
        return f"http://127.0.0.1:{self.port + 1}"

    async def fault(self, alpaca: str, **fault: Any) -> None:
        """Let something go wrong at an Alpaca."""
        answer = await HTTPClient(Agent(reactor)).post(f"{alpaca}/simulator/fault", json=fault)
        await treq.content(answer)
        self.assertLess(answer.code, 300)

    async def assert_no_complaints(self, browser: Browser, *expected: str) -> None:
        """See that the console has nothing but what the browser says of a server that was not there."""
        complaints = await browser.do("console")
        unexpected = [line for line in complaints if not any(text in line for text in expected)]
        self.assertEqual(unexpected, [])


class DemoTests(DashboardTestCase):
    """Against `make demo`."""

    async def test_shows_what_there_is(self) -> None:
        """The account, the feed, the clients; and pictures of them."""
        await self.demo()
        browser = await self.watch()
        await browser.until(
            f"{VERDICT} === 'all is well' && {LINK} === 'connected' && {ROWS}.length >= 20"
        )
        card = await browser.text(CARD)
        self.assertRegex(card, r"streaming for \d+ s")
        self.assertRegex(card, r"Last event\s+\d+ s ago")
        self.assertRegex(card, r"Gaps\s+none")
        self.assertRegex(card, r"Clients\s+1\b")
        clients = await browser.text("#clients")
        self.assertIn("1 connected", clients)
        self.assertIn("HeadlessChrome", clients)
        self.assertIn("up to date", clients)
        bars = "[...document.querySelectorAll('figure rect')].filter((bar) => bar.getAttribute('height') > 0)"
        self.assertGreaterEqual(await browser.do("evaluate", text=f"{bars}.length"), 2)
        PICTURES.mkdir(parents=True, exist_ok=True)
        for name, (width, height) in SIZES.items():
            scheme = "dark" if name == "dark" else "light"
            path = str(PICTURES / f"{name}.png")
            await browser.do("picture", path=path, width=width, height=height, scheme=scheme)
            wide = await browser.do(
                "evaluate", text="document.documentElement.scrollWidth - innerWidth"
            )
            self.assertLessEqual(wide, 0, f"{name}: the page is wider than its window")
        await self.assert_no_complaints(browser)

    async def test_filters_pauses_and_opens_an_event(self) -> None:
        """What the filters leave, what waits while it is paused, and the JSON behind a row."""
        await self.demo()
        browser = await self.watch()
        await browser.until(f"{column('event')}.includes('fill')")
        symbol = (await browser.do("evaluate", text=column("symbol")))[0]
        await browser.do("fill", at="[name=symbol]", text=symbol.lower())
        self.assertEqual(set(await browser.do("evaluate", text=column("symbol"))), {symbol})
        await browser.do("fill", at="[name=symbol]", text="")
        await browser.do("choose", at="[name=event]", text="fill")
        self.assertEqual(set(await browser.do("evaluate", text=column("event"))), {"fill"})
        order = (await browser.do("evaluate", text=column("order")))[0]
        await browser.do("choose", at="[name=event]", text="")
        await browser.do("fill", at="[name=prefix]", text=order[:9])
        self.assertEqual(set(await browser.do("evaluate", text=column("order"))), {order})
        await browser.do("fill", at="[name=prefix]", text="no such order")
        self.assertIn("Nothing of what came fits the filter", await browser.text("#feed"))
        await browser.do("fill", at="[name=prefix]", text="")

        await browser.do("click", at="#pause")
        before = await browser.do("evaluate", text=IDS)
        await browser.until(
            "/Resume \\([3-9] new\\)/.test(document.querySelector('#pause').textContent)"
        )
        self.assertEqual(await browser.do("evaluate", text=IDS), before)
        await browser.do("click", at="#rows tr.entry .symbol")
        shown = json.loads(await browser.text("#rows tr.json pre"))
        self.assertEqual(
            (shown["stream"], shown["data"]["event_id"]), ("trade_updates", before[-1])
        )
        await browser.do("click", at="#rows tr.entry .symbol")
        self.assertFalse(
            await browser.do("evaluate", text="!!document.querySelector('#rows tr.json')")
        )
        await browser.do("click", at="#pause")
        after = await browser.do("evaluate", text=IDS)
        self.assertEqual(after[: len(before)], before)
        self.assertGreaterEqual(len(after), len(before) + 3)
        await self.assert_no_complaints(browser)

    async def test_tells_when_alpaca_is_down_and_back(self) -> None:
        """The reason at once, and then what became of the gap."""
        alpaca = await self.demo()
        browser = await self.watch()
        await browser.until(f"{VERDICT} === 'all is well' && {ROWS}.length >= 3")
        await self.fault(alpaca, kind="refuse", count=1)
        await self.fault(alpaca, kind="reset")
        await browser.until(f"{VERDICT}.startsWith('paper: ') && document.title.includes('paper')")
        self.assertRegex(await browser.text(CARD), r"down for \d+ s")
        notes = await browser.do("evaluate", text=NOTES)
        self.assertIn("Alpaca's stream is down", notes[0])
        self.assertEqual(
            await browser.do("evaluate", text=LINK), "connected", "the page itself stays connected"
        )
        await self.assert_no_complaints(browser)


class RestartTests(DashboardTestCase):
    """Against the proxy alone, beside an Alpaca that outlives it."""

    async def test_comes_back_without_a_hole(self) -> None:
        """Alpaca's stream is lost and returns, then the proxy stops and starts again, while orders go on."""
        alpaca = await self.simulate()
        proxy = await self.proxy()
        await alpaca.when_listening()
        flow = OrderFlow(alpaca, reactor, Random(1))
        flow.startService()
        self.addCleanup(flow.stopService)
        browser = await self.watch()
        await browser.until(f"{ROWS}.length >= 5")
        await self.fault(f"http://127.0.0.1:{self.alpaca_port}", kind="reset")
        await browser.until(f"{NOTES}.some((note) => note.startsWith('gap recovered'))")
        await browser.until(f"{VERDICT} === 'all is well' && {LINK} === 'connected'")
        card = await browser.text(CARD)
        self.assertRegex(card, r"Reconnects\s+1\b")
        self.assertRegex(card, r"Gaps\s+1, all recovered")

        await proxy.stop()
        await browser.until(f"{LINK}.startsWith('not connected')")
        await alpaca.when_gone()
        alpaca.apply(alpaca.exchange.burst(5))
        again = self.command(
            *("twistd", "-n", "tradeproxy"),
            ALPACA_API_KEY="PKTEST",
            ALPACA_SECRET_KEY="test-secret",
            ALPACA_URL=f"http://127.0.0.1:{self.alpaca_port}",
            PROXY_PORT=str(self.port),
        )
        await again.says("is streaming")
        await browser.until(f"{LINK} === 'connected' && {VERDICT} === 'all is well'")
        flow.stopService()
        happened = self.ids(alpaca)
        await browser.until(f"{IDS}.includes({json.dumps(happened[-1])})")
        shown = await browser.do("evaluate", text=IDS)
        self.assertEqual(shown, self.ids(alpaca)[: len(shown)])
        await self.assert_no_complaints(browser, "ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET")

    def ids(self, alpaca: Simulator) -> list[str]:
        """Return all that has happened at Alpaca."""
        return [
            json.loads(record.payload)["data"]["event_id"] for record in alpaca.history.last(1000)
        ]

    async def test_markup_is_text(self) -> None:
        """In whatever an order, an event or a client says."""
        alpaca = await self.simulate()
        await self.proxy()
        await alpaca.when_listening()
        await self.connect(headers={"User-Agent": f"{MARKUP}<b>bot</b>"})
        browser = await self.watch()
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
        await browser.until(f"{ROWS}.length === 2")
        first = "#rows tr.entry:last-child"
        said = {"symbol": "<b>SPY</b>", "order": MARKUP, "qty": MARKUP, "price": "<i>1</i>"}
        for name, text in said.items():
            self.assertEqual(await browser.text(f"{first} .{name}"), text)
        await browser.do("click", at=f"{first} .symbol")
        self.assertIn(MARKUP, await browser.text("#rows tr.json pre"))
        await browser.until(
            f"document.querySelector('#clients').innerText.includes({json.dumps(MARKUP)})"
        )
        made = await browser.do(
            "evaluate", text="document.querySelectorAll('main :is(img, b, i)').length"
        )
        self.assertEqual(made, 0)
        await self.assert_no_complaints(browser)


class RoomTests(DashboardTestCase):
    """Two accounts, one of them down, and events that are longer than most."""

    async def test_an_options_symbol_is_whole_and_every_row_ends_where_the_others_do(self) -> None:
        """At every width of the window, also with an event opened, and nothing beside the page."""
        alpaca = await self.simulate()
        await self.proxy(
            ALPACA_LIVE_API_KEY="x",
            ALPACA_LIVE_SECRET_KEY="x",
            ALPACA_LIVE_URL="http://127.0.0.1:1",
        )
        await alpaca.when_listening()
        browser = await self.watch()
        await browser.until(f"{LINK} === 'connected'")
        symbols = ["SPY", "AAPL260116C00250000"]
        for symbol in symbols:
            order = {
                "id": symbol,
                "symbol": symbol,
                "qty": "0.123456789",
                "client_order_id": "bot-" * 30,
            }
            alpaca.emit(
                {"event": "order_replace_rejected", "price": "12345.678901", "order": order}
            )
        await browser.until(f"{ROWS}.length === 2")
        await browser.do("click", at="#rows tr.entry .symbol")
        for width in (1900, 1360, 1240, 1000, 900, 800, 390, 360):
            await browser.do("size", width=width, height=900)
            found = await browser.do("evaluate", text=MEASURES)
            self.assertLessEqual(found["beside"], 0, width)
            self.assertEqual(found["cut"], [], width)
            if width > 760:  # else it is no table
                self.assertEqual(len(found["ends"]), 1, (width, found["ends"]))
        await self.assert_no_complaints(browser)


class TokenTests(DashboardTestCase):
    """With PROXY_TOKENS set."""

    async def test_asks_for_a_token_and_keeps_it_out_of_every_address(self) -> None:
        """A wrong one is asked for again; the right one is forgotten with the tab."""
        alpaca = await self.simulate()
        await self.proxy(PROXY_TOKENS="a-token-of-the-desk")
        browser = await self.watch()
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
        await self.assert_no_complaints(browser, "401 (Unauthorized)")
