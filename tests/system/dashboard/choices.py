"""What the reader of the dashboard chooses: settings, filters, a download."""

from __future__ import annotations

from tests.system.dashboard.accessibility import emit
from tests.system.dashboard.browser import Browser
from tests.system.dashboard.watching import LINK, ROWS, DashboardTestCase, column
from tradeproxy.simulator.simulator import Simulator

SETTINGS = "button[popovertarget=settings]"
AT = "2026-07-24T18:42:50.132734Z"


class ChoicesTestCase(DashboardTestCase):
    """A page with some events."""

    async def open_with(
        self, *orders: dict[str, str], path: str = "/"
    ) -> tuple[Simulator, Browser]:
        """Start the proxy, emit a fill of each order, and open the dashboard."""
        alpaca = await self.simulate()
        await self.proxy()
        await alpaca.when_listening()
        browser = await self.open_dashboard(path)
        await browser.until(f"{LINK} === 'connected'")
        for number, order in enumerate(orders):
            emit(alpaca, "fill", **{"id": f"order-{number}", **order})
        return alpaca, browser


class SettingsTests(ChoicesTestCase):
    """The settings stay in this browser."""

    async def test_time_zone_is_chosen_and_kept(self) -> None:
        """A trader compares with the exchange's clock, an operator with the log's."""
        alpaca, browser = await self.open_with()
        alpaca.emit({"event": "new", "at": AT, "order": {"id": "1", "symbol": "SPY"}})
        await browser.until(f"{ROWS}.length === 1")
        for zone, time, name in (
            ("America/New_York", "07-24 14:42:50", r"Time \(E[DS]T\)"),
            ("UTC", "07-24 18:42:50", r"Time \(UTC\)"),
        ):
            await browser.do("click", at=SETTINGS)
            await browser.do("choose", at="[name=zone]", text=zone)
            await browser.do("press", key="Escape")
            self.assertEqual(await browser.do("evaluate", text=column("time")), [time])
            self.assertRegex(await browser.text("#time-title"), name)
        await browser.do("open", url=f"http://localhost:{self.port}/")
        await browser.until(f"{ROWS}.length === 1")
        self.assertEqual(await browser.do("evaluate", text=column("time")), ["07-24 18:42:50"])
        self.assertEqual(await browser.text("#time-title"), "Time (UTC)")
        await self.assert_console_is_empty(browser)


class FilterTests(ChoicesTestCase):
    """The filters of the feed."""

    ORDERS = (
        {"symbol": "SPY", "client_order_id": "pairs-1"},
        {"symbol": "SPY260116C00650000", "client_order_id": "hedge-1"},
        {"symbol": "BTC/USD", "client_order_id": "PAIRS-2"},
    )

    async def test_part_of_symbol_or_order_is_found(self) -> None:
        """Only the beginning was: the expiry of an option, or `/USD`, found nothing."""
        _, browser = await self.open_with(*self.ORDERS)
        await browser.until(f"{ROWS}.length === 3")
        spy, option, btc = (order["symbol"] for order in self.ORDERS)
        for name, text, found in (
            *(("symbol", "260116", [option]), ("symbol", "usd", [btc])),
            *(("symbol", "btcusd", [btc]), ("symbol", "/usd, 65000", [btc, option])),
            *(("symbol", "spy", [option, spy]), ("order", "pairs", [btc, spy])),
            *(("order", "-1", [option, spy]), ("order", "x", [])),
        ):
            await browser.do("fill", at=f"[name={name}]", text=text)
            shown = await browser.do("evaluate", text=column("symbol"))
            self.assertEqual(shown, found, text)
            await browser.do("fill", at=f"[name={name}]", text="")

    async def test_filters_are_in_url_and_clear_removes_them(self) -> None:
        """A link shows the same rows to somebody else; a reload keeps them."""
        _, browser = await self.open_with(*self.ORDERS, path="/?symbol=spy&order=hedge&other=1")
        await browser.until(f"{ROWS}.length === 1")
        self.assertEqual(await browser.do("evaluate", text=column("order")), ["hedge-1"])
        await browser.do("fill", at="[name=order]", text="pairs & co")
        await browser.do("choose", at="[name=event]", text="fill")
        await browser.until(
            "location.search === '?symbol=spy&order=pairs+%26+co&other=1&event=fill'"
        )
        await browser.do("open", url=await browser.do("evaluate", text="location.href"))
        await browser.until("document.querySelector('#nothing').textContent.includes('filter')")
        values = "[...document.querySelector('#filters')].map((field) => field.value).join('|')"
        self.assertEqual(await browser.do("evaluate", text=values), "|spy|fill|pairs & co|")
        await browser.do("click", at="#clear")
        self.assertEqual(len(await browser.do("evaluate", text=column("order"))), 3)
        focus = await browser.do("evaluate", text="document.activeElement.name")
        self.assertEqual(focus, "symbol")
        await browser.until("location.search === '?other=1'")
        self.assertTrue(
            await browser.do("evaluate", text="document.querySelector('#clear').hidden")
        )
        await self.assert_console_is_empty(browser)

    async def test_url_of_unknown_account_or_kind_shows_nothing(self) -> None:
        """The fields show why; a kind that comes later is offered once."""
        alpaca, browser = await self.open_with(*self.ORDERS, path="/?account=gone&event=a_new_kind")
        await browser.until("document.querySelector('#nothing').textContent.includes('filter')")
        self.assertFalse(
            await browser.do("evaluate", text="document.querySelector('[name=account]').hidden")
        )
        emit(alpaca, "a_new_kind")
        await browser.do("choose", at="[name=account]", text="")
        await browser.until(f"{ROWS}.length === 1")
        kinds = "[...document.querySelectorAll('[name=event] option')].map((o) => o.value)"
        self.assertEqual((await browser.do("evaluate", text=kinds)).count("a_new_kind"), 1)
