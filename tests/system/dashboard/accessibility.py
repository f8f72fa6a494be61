"""The dashboard with a keyboard, and what axe-core finds in each state of the page."""

from __future__ import annotations

import json
from typing import Any

from tests.support.frames import AUTH
from tests.system.dashboard.browser import Browser
from tests.system.dashboard.watching import CARD, LINK, ROWS, VERDICT, DashboardTestCase
from tradeproxy.simulator.simulator import Simulator

STOPS = """(() => {
  const all = document.querySelectorAll("#feed .scroll, #feed .scroll *");
  return [...all].filter((element) => element.tabIndex >= 0).length;
})()"""
FOCUS = f"{ROWS}.indexOf(document.activeElement)"
OPEN = "document.querySelectorAll('#rows tr.details').length"
KINDS = (
    *("new", "fill", "partial_fill", "canceled", "expired", "replaced", "rejected", "pending_new"),
    *("order_cancel_rejected", "order_replace_rejected", "trade_bust", "an_event_of_the_future"),
)
LOOKS = {
    "light": {"width": 1360, "height": 850, "scheme": "light"},
    "dark": {"width": 1360, "height": 850, "scheme": "dark"},
    "telephone": {"width": 390, "height": 844, "scheme": "light"},
    "dark telephone": {"width": 390, "height": 844, "scheme": "dark"},
}


class KeyboardTests(DashboardTestCase):
    """The table without a mouse."""

    async def test_table_is_one_tab_stop_with_arrow_keys(self) -> None:
        """It had 300 tab stops before the clients, and Space scrolled instead of opening a row."""
        alpaca = await self.simulate()
        await self.proxy()
        await alpaca.when_listening()
        browser = await self.open_dashboard()
        await browser.until(f"{LINK} === 'connected'")
        for number in range(5):
            emit(alpaca, "new", id=f"order-{number}")
        await browser.until(f"{ROWS}.length === 5")
        self.assertEqual(await browser.do("evaluate", text=STOPS), 1)
        await browser.do("press", at="#download", key="Tab")
        self.assertEqual(await self.focus(browser), 0)
        for key, row in (
            *(("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1), ("End", 4), ("ArrowDown", 4)),
            *(("Home", 0), ("ArrowUp", 0), ("ArrowDown", 1)),
        ):
            await browser.do("press", key=key)
            self.assertEqual(await self.focus(browser), row, key)
        for key, shown in (
            *((" ", 1), (" ", 0), ("Enter", 1), ("Enter", 0)),
            *(("ArrowRight", 1), ("ArrowRight", 1), ("ArrowLeft", 0), ("ArrowLeft", 0)),
        ):
            await browser.do("press", key=key)
            self.assertEqual(await browser.do("evaluate", text=OPEN), shown, key)
        await browser.do("press", key=" ")
        await browser.do("press", key="ArrowDown")
        self.assertEqual(await self.focus(browser), 2, "the details are no row of their own")
        emit(alpaca, "new", id="order-5")
        await browser.until(f"{ROWS}.length === 6")
        self.assertEqual(await self.focus(browser), 3, "the focus stays on its event")
        self.assertEqual(await browser.do("evaluate", text=STOPS), 2, "a row, and a JSON button")
        await browser.do("press", key="Tab")
        self.assertEqual(await self.focus(browser), -1)
        await self.assert_console_is_empty(browser)

    async def focus(self, browser: Browser) -> int:
        """Return the index of the row that has the focus."""
        row: int = await browser.do("evaluate", text=FOCUS)
        return row


class AxeTests(DashboardTestCase):
    """axe-core finds nothing: roles, names, contrast, scrollable regions."""

    timeout = 400

    async def audit(self, browser: Browser, state: str) -> None:
        """Assert that no look of the page has a finding."""
        for look, size in LOOKS.items():
            await browser.do("look", **size)
            found = await browser.do("axe")
            self.assertEqual(found, [], f"{state}, {look}:\n{json.dumps(found, indent=1)}")

    async def test_no_findings_while_streaming(self) -> None:
        """An empty page; then every kind of event, JSON, a late event, a pause and a filter."""
        alpaca = await self.simulate()
        await self.proxy()
        await alpaca.when_listening()
        browser = await self.open_dashboard()
        await browser.until(f"{LINK} === 'connected'")
        await self.audit(browser, "empty")
        for kind in KINDS:
            emit(alpaca, kind, id=kind, symbol="AAPL260116C00250000", side="sell")
            emit(alpaca, kind, id=f"{kind}-2", symbol="BTC/USD", side="buy")
        legs = [{"symbol": "SPY260116C00650000", "side": side} for side in ("buy", "sell")]
        emit(alpaca, "fill", id="legs", symbol="", side="", legs=legs)
        await self.connect("/trade-updates-paper?client_name=bot1", AUTH)
        await browser.until(f"{ROWS}.length === {2 * len(KINDS) + 1}")
        await browser.until("document.querySelector('#clients').innerText.includes('bot1')")
        await self.audit(browser, "events")
        await browser.do("click", at="button[popovertarget=settings]")
        await self.audit(browser, "settings")
        await browser.do("press", key="Escape")
        await browser.do("click", at="#rows tr.entry .symbol")
        await browser.until("document.querySelector('#rows .life').innerText !== '…'")
        await browser.do("click", at="#rows .details button")
        await self.audit(browser, "details")
        await browser.do("click", at="#pause")
        await self.audit(browser, "paused")
        await browser.do("fill", at="[name=symbol]", text="no such symbol")
        await self.audit(browser, "filtered")

    async def test_no_findings_in_outage(self) -> None:
        """One account is down, the other has had a gap."""
        await self.simulate_with_live_down()
        browser = await self.open_dashboard()
        await self.fault(f"http://127.0.0.1:{self.alpaca_port}", kind="reset")
        await browser.until(f"document.querySelector('{CARD}').innerText.includes('recovered')")
        await browser.until(f"{VERDICT}.startsWith('live: ')")
        await browser.do("click", at=f"{CARD} summary")
        await self.audit(browser, "outage")

    async def test_no_findings_with_six_accounts_and_on_help_page(self) -> None:
        """The accounts are compact rows, all in trouble; the help page has a marked reason."""
        refused: dict[str, str] = {}
        for name in ("LIVE", "A", "B", "C", "D"):
            refused |= {
                f"ALPACA_{name}_API_KEY": f"PK{name}",
                f"ALPACA_{name}_SECRET_KEY": "test-secret",
                f"ALPACA_{name}_URL": "http://127.0.0.1:1",
            }
        await self.simulate()
        await self.proxy(**refused)
        browser = await self.open_dashboard()
        await browser.until("document.querySelectorAll('article').length === 6")
        await browser.until(f"{VERDICT}.includes('in trouble')")
        await self.audit(browser, "six accounts")
        await browser.do("open", url=f"http://localhost:{self.port}/dashboard/help.html#network")
        await browser.until("!!document.querySelector('.chosen')")
        await self.audit(browser, "help")

    async def test_no_findings_without_contact(self) -> None:
        """The proxy is gone, and with it the colours of a current state."""
        alpaca = await self.simulate()
        proxy = await self.proxy()
        await alpaca.when_listening()
        browser = await self.open_dashboard()
        emit(alpaca, "fill")
        await browser.until(f"{VERDICT} === 'all is well' && {ROWS}.length === 1")
        await proxy.stop()
        await browser.until(f"{VERDICT}.startsWith('no contact')")
        await self.audit(browser, "no contact")

    async def test_no_findings_while_asking_for_token(self) -> None:
        """The dialog is open, for the first and for another token."""
        await self.simulate()
        await self.proxy(PROXY_TOKENS="a-token-of-the-desk")
        browser = await self.open_dashboard()
        await browser.until("document.querySelector('#ask').open")
        await self.audit(browser, "token")


def emit(alpaca: Simulator, kind: str, **order: Any) -> None:
    """Emit an event of an order that has all the fields which the feed shows."""
    fields = {"symbol": "SPY", "side": "buy", "qty": "1", "client_order_id": "pairs-1", **order}
    alpaca.emit({"event": kind, "price": "12.5", "order": {**fields, "status": kind}})
