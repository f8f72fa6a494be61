"""The tabs besides the live feed: orders, positions, strategies, history.

`make dashboard` runs these tests and writes screenshots to build/dashboard/.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from tests.system.dashboard.accessibility import LOOKS
from tests.system.dashboard.browser import Browser, start_browser
from tests.system.dashboard.watching import (
    LINK,
    MARKUP,
    ROWS,
    SCREENSHOTS,
    VERDICT,
    DashboardTestCase,
)
from tradeproxy.simulator.simulator import Simulator

TABS = ("live", "orders", "positions", "strategies", "history")
SMALL = {"small telephone": {"width": 320, "height": 700, "scheme": "light"}}

CUT = """[...document.querySelectorAll('[role=tabpanel]:not([hidden]) .plain :is(td, th)')]
  .filter((cell) => {
    const around = cell.closest('.card, .panel').getBoundingClientRect();
    return cell.offsetParent && cell.getBoundingClientRect().right > around.right + 1;
  })
  .map((cell) => cell.textContent)"""
"""Cells of tables that are not wholly inside of their frames."""


def panel(name: str) -> str:
    """Return a script for the panel of a tab."""
    return f"document.querySelector('#panel-{name}')"


def texts(name: str, selector: str) -> str:
    """Return a script that reads the texts of elements in a panel."""
    return f"[...{panel(name)}.querySelectorAll('{selector}')].map((each) => each.textContent)"


def emit(alpaca: Simulator, number: int, kind: str, **order: Any) -> None:
    """Emit an event of an order of 10 shares, of which a partial fill has 4."""
    filled = {"partial_fill": "4", "fill": "10"}.get(kind, "0")
    status = {"fill": "filled", "partial_fill": "partially_filled"}.get(kind, kind)
    at = f"2026-07-24T14:42:{number % 60:02}.{number:06}Z"
    fields = {
        "id": f"order-{number}",
        "client_order_id": f"pairs-{number}",
        "symbol": "SPY",
        "side": "buy",
        "qty": "10",
        "filled_qty": filled,
        "limit_price": "5",
        "type": "limit",
        "status": status,
        "submitted_at": at,
        **order,
    }
    data = {"event": kind, "at": at, "order": fields}
    if filled != "0":
        own = {"partial_fill": "4", "fill": "6"}[kind]
        data |= {"price": "5.1", "qty": own, "timestamp": at, "execution_id": f"x{number}"}
    alpaca.emit(data)


class ViewsTestCase(DashboardTestCase):
    """A page whose tabs are chosen."""

    async def choose(self, browser: Browser, name: str) -> None:
        """Choose a tab, and wait until there is an answer."""
        await browser.do("click", at=f"#tab-{name}")
        await browser.until(f"!{panel(name)}.hidden")

    async def audit(self, browser: Browser, state: str) -> None:
        """Assert that no look of the page has a finding of axe-core's."""
        for look, size in LOOKS.items():
            await browser.do("look", **size)
            found = await browser.do("axe")
            self.assertEqual(found, [], f"{state}, {look}:\n{json.dumps(found, indent=1)}")
        await browser.do("look", **LOOKS["light"])

    async def open_with_orders(self, **environment: str) -> tuple[Simulator, Browser]:
        """Start the proxy, emit the life of an order and an open one, and open the dashboard."""
        alpaca = await self.simulate()
        await self.proxy(**environment)
        await alpaca.when_listening()
        browser = await self.open_dashboard()
        await browser.until(f"{LINK} === 'connected'")
        for number, kind in enumerate(("new", "partial_fill", "fill")):
            emit(alpaca, number, kind, id="whole", client_order_id="pairs-1")
        emit(alpaca, 3, "new", id="open", client_order_id=MARKUP, symbol="<b>X</b>")
        await browser.until(f"{ROWS}.length === 4")
        return alpaca, browser


class DemoViewTests(ViewsTestCase):
    """The tabs of `make demo`."""

    async def test_every_tab_fits_every_screen(self) -> None:
        """Screenshots are written: light, dark, and two telephones."""
        await self.demo()
        browser = await self.open_dashboard()
        await browser.until(f"{VERDICT} === 'all is well' && {ROWS}.length >= 40")
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        for name in TABS:
            await self.choose(browser, name)
            if name in ("live", "orders", "history"):
                await browser.until(f"{panel(name)}.querySelector('tr.entry')")
                await browser.do("click", at=f"#panel-{name} tr.entry .symbol")
                await browser.until(f"{panel(name)}.querySelector('.life svg')")
            if name == "strategies":
                await browser.until(f"{panel(name)}.querySelector('.card table')")
            for look, size in (LOOKS | SMALL).items():
                path = str(SCREENSHOTS / f"{name}-{look.replace(' ', '-')}.png")
                await browser.do("picture", path=path, **size)
                wide = "document.documentElement.scrollWidth - innerWidth"
                self.assertLessEqual(await browser.do("evaluate", text=wide), 0, (name, look))
                self.assertEqual(await browser.do("evaluate", text=CUT), [], (name, look))
            await browser.do("look", **LOOKS["light"])
        await self.assert_console_is_empty(browser)


class OrderTests(ViewsTestCase):
    """The life of an order."""

    async def test_click_shows_the_life_and_a_second_one_the_json(self) -> None:
        """From the live feed: partial fills are growing bars; keyboard and markup included."""
        _, browser = await self.open_with_orders()
        row = f"{ROWS}.find((row) => row.textContent.includes('pairs-1'))"
        await browser.do("evaluate", text=f"({row}).click()")
        await browser.until("document.querySelectorAll('#rows .life rect').length === 2")
        bars = "[...document.querySelectorAll('#rows .life rect')]"
        heights = f"{bars}.map((bar) => Number(bar.getAttribute('height')))"
        part, whole = await browser.do("evaluate", text=heights)
        self.assertAlmostEqual(part / whole, 0.4)
        said = await browser.text("#rows .life")
        self.assertIn("buy 10 SPY · limit 5", said)
        self.assertIn("6 at 5.1 · filled 10 of 10", said)
        await browser.do("click", at="#rows .details button")
        shown = json.loads(await browser.text("#rows .details pre"))
        self.assertEqual(shown["data"]["order"]["id"], "whole")
        await browser.do("click", at="#rows tr.entry:first-child .symbol")
        await browser.until("document.querySelector('#rows .life').innerText.includes('<b>X</b>')")
        await self.assert_console_is_empty(browser)


class TabTests(ViewsTestCase):
    """Choosing a tab, and what it asks."""

    async def test_arrow_keys_and_the_url_choose_a_tab(self) -> None:
        """The tabs are one tab stop. A link keeps the tab."""
        await self.simulate()
        await self.proxy()
        browser = await self.open_dashboard("/#positions")
        await browser.until(f"!{panel('positions')}.hidden && {LINK} === 'connected'")
        stops = (
            "[...document.querySelectorAll('#tabs *')].filter((tab) => tab.tabIndex >= 0).length"
        )
        for key, name in (
            *(("ArrowRight", "strategies"), ("End", "history"), ("ArrowRight", "live")),
            *(("ArrowLeft", "history"), ("Home", "live"), ("ArrowRight", "orders")),
        ):
            at = "#tabs [aria-selected=true]"
            await browser.do("press", at=at, key=key)
            panels = "[...document.querySelectorAll('[role=tabpanel]')]"
            shown = f"{panels}.filter((each) => !each.hidden).map(({{ id }}) => id)"
            self.assertEqual(await browser.do("evaluate", text=shown), [f"panel-{name}"], key)
            self.assertEqual(
                await browser.do("evaluate", text="document.activeElement.id"), f"tab-{name}"
            )
            self.assertEqual(await browser.do("evaluate", text=stops), 1)
        self.assertEqual(await browser.do("evaluate", text="location.hash"), "#orders")
        await self.assert_console_is_empty(browser)

    async def test_orders_are_filtered_and_kept_up_to_date(self) -> None:
        """An event changes the list; rows that are open stay so."""
        alpaca, browser = await self.open_with_orders()
        await self.choose(browser, "orders")
        ids = texts("orders", "tr.entry .order")
        await browser.until(f"{ids}.join() === {json.dumps(MARKUP)}")
        await browser.do("click", at="#panel-orders tr.entry .symbol")
        emit(alpaca, 4, "new", id="late", client_order_id="late-1", symbol="TSLA")
        await browser.until(f"{ids}.length === 2")
        self.assertEqual(
            await browser.do("evaluate", text=f"{texts('orders', '.details')}.length"), 1
        )
        await browser.do("choose", at="#panel-orders [name=status]", text="closed")
        await browser.until(f"{ids}.join() === 'pairs-1'")
        await browser.do("choose", at="#panel-orders [name=status]", text="all")
        await browser.do("fill", at="#panel-orders [name=symbol]", text="tsla")
        await browser.until(f"{ids}.join() === 'late-1'")
        await self.assert_console_is_empty(browser)

    async def test_history_searches_the_journal(self) -> None:
        """More than the page has: by symbol, kind, day and id; "300 of 350", and older ones."""
        alpaca, browser = await self.open_with_orders()
        for number in range(4, 350):
            emit(alpaca, number, "new", symbol="TSLA", client_order_id=f"grid-{number}")
        await browser.until(f"{ROWS}.length >= 300")
        await self.choose(browser, "history")
        said = f"{panel('history')}.querySelector('.summary').textContent"
        await browser.until(f"{said} === '300 of 350'")
        await browser.do("click", at="#panel-history .more")
        await browser.until(f"{said} === '350 of 350'")
        form = "#panel-history form "
        await browser.do("choose", at=f"{form}[name=kind]", text="fill")
        await browser.until(f"{said} === '1 of 1'")
        await browser.do("choose", at=f"{form}[name=kind]", text="")
        for name, text, found in (
            *(("symbol", "tsla", "300 of 346"), ("prefix", "grid-1", "110 of 110")),
            *(("order_id", "order-149", "1 of 1"), ("day", "2026-07-23", "0 of 0")),
            ("day", "2026-07-24", "1 of 1"),
        ):
            await browser.do("fill", at=f"{form}[name={name}]", text=text)
            await browser.do("click", at=f"{form}button")
            await browser.until(f"{said} === {json.dumps(found)}")
        await browser.do("fill", at=f"{form}[name=prefix]", text="x" * 300)
        await browser.do("click", at=f"{form}button")
        nothing = f"{panel('history')}.querySelector('.nothing').textContent"
        await browser.until(f"{nothing}.startsWith('client_order_id_prefix: is not')")
        await self.assert_console_is_empty(browser, "400 (Bad Request)")

    async def test_token_of_the_page_is_used(self) -> None:
        """In a header, never in a URL."""
        await self.simulate()
        await self.proxy(PROXY_TOKENS="a-token-of-the-desk")
        browser = await self.open_dashboard("/#orders")
        await browser.until("document.querySelector('#ask').open")
        await browser.do("fill", at="#token", text="a-token-of-the-desk")
        await browser.do("click", at="#token-form button")
        await browser.until(f"{panel('orders')}.innerText.includes('No order fits.')")
        requests = await browser.do("requests")
        self.assertTrue([url for url in requests if "/orders?" in url])
        self.assertEqual([url for url in requests if "token" in url], [])

    async def open_positions(self) -> Browser:
        """Open the tab of positions, where the page gets ANSWERS instead of the proxy's."""
        await self.simulate()
        await self.proxy()
        browser = await start_browser(self.make_directory())
        self.addCleanup(lambda: Deferred.fromCoroutine(browser.close()))
        await browser.do("prepare", text=f"const ANSWERS = {json.dumps(ANSWERS)};{ANSWER}")
        await browser.do("open", url=f"http://localhost:{self.port}/#positions")
        return browser

    async def test_differences_and_flat_accounts_are_marked(self) -> None:
        """They are what a person has to look at."""
        browser = await self.open_positions()
        await browser.until(f"{texts('positions', '.difference')}.length === 1")
        self.assertIn(MARKUP, await browser.text("#panel-positions .difference"))
        self.assertIn("1 difference to Alpaca's", await browser.text("#panel-positions .summary"))
        await self.choose(browser, "strategies")
        await browser.until(f"{texts('strategies', '.badge')}.join() === 'account is flat'")
        self.assertIn(MARKUP, await browser.text("#panel-strategies h2"))
        self.assertIn("AAPL: the account has 20", await browser.text("#panel-strategies .remarks"))
        await self.audit(browser, "marks")
        await self.assert_console_is_empty(browser)

    async def test_long_amounts_are_not_cut(self) -> None:
        """Those of crypto have nine decimals. The cost was outside of a small telephone."""
        browser = await self.open_positions()
        for name in ("positions", "strategies"):
            await self.choose(browser, name)
            await browser.until(f"{panel(name)}.innerText.includes('BTCUSD')")
            for look, size in (LOOKS | SMALL).items():
                path = str(SCREENSHOTS / f"long-{name}-{look.replace(' ', '-')}.png")
                await browser.do("picture", path=path, **size)
                self.assertEqual(await browser.do("evaluate", text=CUT), [], (name, look))


POSITION = {"symbol": "AAPL", "side": "long", "qty": "20", "avg_entry_price": "5.123456789"}
CRYPTO = {
    "symbol": "BTCUSD",
    "side": "short",
    "qty": "-10.123456789",
    "avg_entry_price": "105312.562345678",
    "cost_basis": "-1066127.169123456",
}
GAINS = {"realized_pl": "-10531.25", "realized_intraday_pl": "-10531.25", "fees": "0", "fills": 12}
SUMS = {"realized_pl": "-1", "realized_intraday_pl": "0", "fees": "0", "fills": 2}
ANSWERS = {
    "positions": {
        "account": "paper",
        "complete": True,
        "positions": [
            POSITION | {"cost_basis": "102", "difference": f"{MARKUP} differs"},
            CRYPTO | {"difference": None},
        ],
    },
    "strategies": {
        "date": "2026-07-24",
        "more": False,
        "notes": [],
        "differences": [{"symbol": "AAPL", "account_qty": "20", "strategies_qty": "10"}],
        "strategies": [
            SUMS
            | {
                "name": MARKUP,
                "line": [["2026-07-24T14:00:00Z", "-2"], ["2026-07-24T15:00:00Z", "-1"]],
                "positions": [
                    SUMS | POSITION | {"account_flat": True},
                    GAINS | CRYPTO | {"account_flat": False},
                ],
            }
        ],
    },
}
ANSWER = """
const { fetch: fetchOthers } = globalThis;
globalThis.fetch = async (url, ...rest) => {
  const answer = ANSWERS[String(url).match(/(\\w+)\\?/)?.[1]];
  return answer ? new Response(JSON.stringify(answer)) : fetchOthers(url, ...rest);
};
"""
"""What the page gets instead of the proxy's answers."""


class AxeViewTests(ViewsTestCase):
    """axe-core finds nothing in any tab."""

    timeout = 400

    async def test_no_findings_in_any_tab(self) -> None:
        """With orders, their lives, a position, a strategy and a search."""
        _, browser = await self.open_with_orders()
        for name in TABS[1:]:
            await self.choose(browser, name)
            if name == "orders":
                await browser.do("choose", at="#panel-orders [name=status]", text="all")
            if name in ("orders", "history"):
                await browser.until(f"{panel(name)}.querySelectorAll('tr.entry').length >= 2")
                await browser.do("click", at=f"#panel-{name} tr.entry:last-child .symbol")
                await browser.until(f"{panel(name)}.querySelector('.life svg')")
                await browser.do("click", at=f"#panel-{name} .details button")
            if name == "positions":
                await browser.until(f"{panel(name)}.querySelector('td.qty')")
            if name == "strategies":
                await browser.until(f"{panel(name)}.querySelector('.card table')")
            await self.audit(browser, name)
        await self.assert_console_is_empty(browser)

    async def test_no_findings_without_book(self) -> None:
        """Every tab says in one sentence why it is empty."""
        await self.simulate()
        await self.proxy(PROXY_BOOK="0")
        browser = await self.open_dashboard()
        await browser.until(f"{LINK} === 'connected'")
        for name in TABS[1:]:
            await self.choose(browser, name)
            said = f"{panel(name)}.querySelector('.nothing').textContent"
            await browser.until(f"{said}.includes('PROXY_BOOK=0')")
        await self.audit(browser, "no book")
        await self.assert_console_is_empty(browser, "404 (Not Found)")
