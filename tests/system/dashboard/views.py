"""The tabs besides the live feed: orders, positions, strategies, history.

`make dashboard` runs these tests and writes screenshots to build/dashboard/.
"""

from __future__ import annotations

import json
from typing import Any

from tests.system.dashboard.accessibility import LOOKS
from tests.system.dashboard.browser import Browser
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
            await browser.do("look", **LOOKS["light"])
        await self.assert_console_is_empty(browser)


class AxeViewTests(ViewsTestCase):
    """axe-core finds nothing in any tab."""

    async def audit(self, browser: Browser, state: str) -> None:
        """Assert that no look of the page has a finding."""
        for look, size in LOOKS.items():
            await browser.do("look", **size)
            found = await browser.do("axe")
            self.assertEqual(found, [], f"{state}, {look}:\n{json.dumps(found, indent=1)}")
        await browser.do("look", **LOOKS["light"])

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
